"""A client of one Redis server for commands, without redis-py.

Loading redis-py takes longer than most commands run. The methods needed by commands have the names they have in
redis-py's client; replies are read within the same limits as those of links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import hiredis

from rdnscache.redis_url import Host, RedisUrl
from rdnscache.store.connection import Connection


class _Commands:
    """Commands to a server, under the names of redis-py's methods."""

    def execute_command(self, *command: Any) -> Any:
        raise NotImplementedError

    def dbsize(self) -> Any:
        return self.execute_command("DBSIZE")

    def delete(self, *keys: Any) -> Any:
        return self.execute_command("DEL", *keys)

    def eval(self, script: str, keys: int, *told: Any) -> Any:
        return self.execute_command("EVAL", script, keys, *told)

    def exists(self, key: Any) -> Any:
        return self.execute_command("EXISTS", key)

    def getrange(self, key: Any, start: int, end: int) -> Any:
        return self.execute_command("GETRANGE", key, start, end)

    def hdel(self, key: Any, field: Any) -> Any:
        return self.execute_command("HDEL", key, field)

    def hmget(self, key: Any, *fields: Any) -> Any:
        return self.execute_command("HMGET", key, *fields)

    def publish(self, channel: Any, message: Any) -> Any:
        return self.execute_command("PUBLISH", channel, message)

    def pttl(self, key: Any) -> Any:
        return self.execute_command("PTTL", key)

    def pexpire(self, key: Any, milliseconds: int) -> Any:
        return self.execute_command("PEXPIRE", key, milliseconds)

    def set(self, key: Any, value: Any, nx: bool = False, ex: int | None = None, px: int | None = None) -> Any:
        expiry = (() if ex is None else ("EX", ex)) + (() if px is None else ("PX", px))
        return self.execute_command("SET", key, value, *expiry, *(("NX",) if nx else ()))

    def zrevrange(self, key: Any, start: int, end: int, withscores: bool) -> Any:
        """Members and scores in turn; `withscores` must be true."""
        return self.execute_command("ZREVRANGE", key, start, end, "WITHSCORES")

    def zscore(self, key: Any, member: Any) -> Any:
        return self.execute_command("ZSCORE", key, member)

    def zrem(self, key: Any, member: Any) -> Any:
        return self.execute_command("ZREM", key, member)


class Direct(_Commands):
    """A server; its connections are kept for later commands. Every method raises StoreDown and hiredis.ReplyError."""

    def __init__(self, url: RedisUrl, timeout: float, find: Callable[[], Host | None] = lambda: None) -> None:
        self._url = url
        self._timeout = timeout
        #: Returns its current address, or None for that of the URL.
        self._find = find
        self._kept: list[Connection] = []

    @property
    def connection_pool(self) -> Direct:
        return self

    def get_connection(self) -> Connection:
        while self._kept:
            connection = self._kept.pop()
            if connection.idle:
                return connection
            connection.disconnect()
        return Connection(self._url, self._timeout, self._find())

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next command, unless it is closed."""
        if not connection.closed:
            self._kept.append(connection)

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """The replies to commands, errors among them."""
        connection = self.get_connection()
        try:
            told = connection.ask(commands)
        except BaseException:
            connection.disconnect()
            raise
        self.release(connection)
        return told

    def execute_command(self, *command: Any) -> Any:
        (told,) = self.ask(command)
        if isinstance(told, hiredis.ReplyError):
            raise told
        return told

    def info(self, section: str) -> dict[str, Any]:
        lines = (line.partition(":") for line in self.execute_command("INFO", section).decode().splitlines())
        return {name: int(told) if told.isdecimal() else told for name, _, told in lines}

    def pipeline(self, transaction: bool = False) -> DirectPipeline:
        return DirectPipeline(self)


class DirectPipeline(_Commands):
    """Commands that are sent together."""

    def __init__(self, server: Direct) -> None:
        self._server = server
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> Any:
        self._commands.append(command)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, self._commands = self._commands, []
        told = self._server.ask(*commands) if commands else []
        for each in told:
            if raise_on_error and isinstance(each, hiredis.ReplyError):
                raise each
        return told


class DirectLine:
    """One connection to a server, with the methods of `redis_py.Line`, which is one to a cluster's server."""

    def __init__(self, server: Direct) -> None:
        self._server = server

    def __enter__(self) -> DirectLine:
        self._connection = self._server.get_connection()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self._connection.disconnect()
        self._server.release(self._connection)

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        return self._connection.ask(commands)

    def send(self, command: Sequence[Any]) -> None:
        """Send a command without waiting for the reply."""
        self._connection.send_command(*command)

    def send_packed(self, commands: bytes) -> None:
        """The same with commands that are packed already; see `connection.packed`."""
        self._connection.send_packed(commands)

    def replies(self, count: int) -> list[Any]:
        """The next replies."""
        return self._connection.replies(count)

    def receive(self) -> Any:
        """The next reply; an error is returned, not raised."""
        return self._connection.receive()
