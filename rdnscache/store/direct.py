"""One Redis server without TLS, as commands use it: over a socket of their own, without redis-py.

Loading redis-py takes longer than most commands do. What is here has the names that redis-py's client has, as far as
commands need them; replies are read within the same bounds as a link's.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import hiredis

from rdnscache.errors import StoreDown
from rdnscache.redis_url import RedisUrl
from rdnscache.store.resp import MORE, Reader

#: Octets that are taken at once.
ROOM = 1 << 18


class DirectConnection:
    """A connection that has said who we are. Every method raises StoreDown when it is lost."""

    def __init__(self, url: RedisUrl, timeout: float) -> None:
        self._timeout = timeout
        self._reader = Reader()
        self._sock = _open(url, timeout)
        try:
            login = ("default", *url.login.credentials())[-2:] if url.login.given else ()
            self._agreed("HELLO", 3, *(("AUTH", *login) if login else ()))
            if url.db:
                self._agreed("SELECT", url.db)
        except BaseException:
            self.disconnect()
            raise

    @property
    def idle(self) -> bool:
        """Whether it is as it should be between two commands: a server that has closed it, or says more, is heard."""
        return not select.select([self._sock], [], [], 0)[0]

    def send_command(self, *command: Any) -> None:
        try:
            self._sock.settimeout(self._timeout)
            self._sock.sendall(packed([command]))
        except OSError as error:
            raise self._lost(error) from None

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to commands that are sent together; errors stand in their places."""
        try:
            self._sock.settimeout(self._timeout)
            self._sock.sendall(packed(commands))
            return [self._reply() for _ in commands]
        except (OSError, ValueError) as error:
            raise self._lost(error) from None

    def receive(self) -> Any:
        """The next reply; an error is one as well."""
        try:
            return self._reply()
        except (OSError, ValueError) as error:
            raise self._lost(error) from None

    def disconnect(self) -> None:
        self._sock.close()

    def _agreed(self, *command: Any) -> None:
        (told,) = self.ask([command])
        if isinstance(told, Exception):
            raise told

    def _reply(self) -> Any:
        while (value := self._reader.gets()) is MORE:
            data = self._sock.recv(ROOM)
            if not data:
                raise ConnectionError("the connection was closed by the server")
            self._reader.feed(data)
        return value

    def _lost(self, error: Exception) -> StoreDown:
        self.disconnect()
        return StoreDown(f"no answer for {self._timeout:g} s" if isinstance(error, TimeoutError) else _words(error))


def _open(url: RedisUrl, timeout: float) -> socket.socket:
    where = url.socket or "{}:{}".format(*url.hosts[0])
    try:
        if not url.socket:
            sock = socket.create_connection(url.hosts[0], timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(url.socket)
        except BaseException:
            sock.close()
            raise
        return sock
    except OSError as error:
        raise StoreDown(f"nothing can be reached at {where}: {_words(error)}") from None


def _words(error: Exception) -> str:
    told = os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else str(error)
    return told or type(error).__name__


def packed(commands: Sequence[Sequence[Any]]) -> bytes:
    """Commands as they are sent."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for part in command:
            raw = part if isinstance(part, bytes) else str(part).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


class _Commands:
    """What commands say to a server, by the names that redis-py has for it."""

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
        """Members with scores, in pairs; it is not asked for without."""
        return self.execute_command("ZREVRANGE", key, start, end, "WITHSCORES")

    def zscore(self, key: Any, member: Any) -> Any:
        return self.execute_command("ZSCORE", key, member)

    def zrem(self, key: Any, member: Any) -> Any:
        return self.execute_command("ZREM", key, member)


class Direct(_Commands):
    """A server; its connections are kept for the next command. Every method raises StoreDown, hiredis.ReplyError."""

    def __init__(self, url: RedisUrl, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._kept: list[DirectConnection] = []

    @property
    def connection_pool(self) -> Direct:
        return self

    def get_connection(self) -> DirectConnection:
        while self._kept:
            connection = self._kept.pop()
            if connection.idle:
                return connection
            connection.disconnect()
        return DirectConnection(self._url, self._timeout)

    def release(self, connection: DirectConnection) -> None:
        """Take one back that is as it was; one that is not was disconnected."""
        if connection._sock.fileno() >= 0:
            self._kept.append(connection)

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """The replies to commands; errors stand in their places."""
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
    """One connection of a server, as `connect.Line` is one of a redis-py client."""

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
        """Ask, without waiting for the reply."""
        self._connection.send_command(*command)

    def receive(self) -> Any:
        """The next reply; an error is one as well."""
        return self._connection.receive()
