"""One connection to a Redis server: opened, over TLS if wanted, authenticated, and switched to RESP3.

Links take over its socket; commands of people use it directly. redis-py is not needed for it: loading that takes 26 MB
and most of the time in which a worker starts.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.redis_url import Host, Login, RedisUrl
from rdnscache.store.resp import MORE, Reader

#: Octets read at once.
ROOM = 1 << 18


class Connection:
    """An authenticated connection. `timeout`, in seconds, holds for each step of opening it and for each reply.

    `host` replaces the first host of the URL, `login` the server's login (sentinels have their own). Every method
    raises StoreDown if the connection is lost. Opening also raises the `ReplyError` of a server that refuses the login,
    and ValueError if the password, a certificate or a key cannot be used.
    """

    def __init__(
        self, url: RedisUrl, timeout: float, host: Host | None = None, name: str = "", login: Login | None = None
    ) -> None:
        self._timeout = timeout
        self._reader = Reader()
        said = ("HELLO", "3", *_auth(url.login if login is None else login), *(("SETNAME", name) if name else ()))
        self._sock = _open(url, host, timeout)
        try:
            for reply in self.ask([said, *([("SELECT", url.db)] if url.db and login is None else [])]):
                if isinstance(reply, Exception):
                    raise reply
        except BaseException:
            self.disconnect()
            raise

    @property
    def idle(self) -> bool:
        """Whether nothing has arrived since the last reply: neither the server's close nor an unexpected message."""
        return not select.select([self._sock], [], [], 0)[0]

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    def send_command(self, *command: Any) -> None:
        self.send_packed(packed([command]))

    def send_packed(self, commands: bytes) -> None:
        """Commands as `packed` makes them; their replies are read later."""
        try:
            self._sock.settimeout(self._timeout)
            self._sock.sendall(commands)
        except OSError as error:
            raise self._lost(error) from None

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to commands that are sent together, errors among them."""
        self.send_packed(packed(commands))
        return self.replies(len(commands))

    def receive(self) -> Any:
        """The next reply; an error is returned, not raised."""
        return self.replies(1)[0]

    def replies(self, count: int) -> list[Any]:
        """The next replies; errors stand in their places."""
        try:
            return [self._reply() for _ in range(count)]
        except (OSError, ValueError) as error:
            raise self._lost(error) from None

    def wait(self, seconds: float) -> None:
        """Wait until something has arrived, for `seconds` at most, and discard it."""
        try:
            self._sock.settimeout(seconds)
            if not self._sock.recv(ROOM):
                raise ConnectionError("the connection was closed by the server")
        except TimeoutError:
            pass
        except OSError as error:
            raise self._lost(error) from None

    def disconnect(self) -> None:
        self._sock.close()

    close = disconnect

    def take(self) -> socket.socket:
        """The socket, for a caller that takes it over; every reply must have been read."""
        return self._sock

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


def _auth(login: Login) -> tuple[str, ...]:
    return ("AUTH", *("default", *login.credentials())[-2:]) if login.given else ()


def _open(url: RedisUrl, host: Host | None, timeout: float) -> socket.socket:
    name, port = host or (url.hosts[0] if url.hosts else ("", 0))
    try:
        if url.socket:
            return _connected(socket.socket(socket.AF_UNIX), url.socket, timeout)
        sock = socket.create_connection((name, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not url.tls:
            return sock
        from rdnscache.store.encryption import encrypted  # loading ssl takes longer than many commands run

        return encrypted(sock, url.tls_arguments, name)
    except OSError as error:
        raise StoreDown(f"nothing can be reached at {url.socket or f'{name}:{port}'}: {_words(error)}") from None


def _connected(sock: socket.socket, path: str, timeout: float) -> socket.socket:
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def packed(commands: Sequence[Sequence[Any]]) -> bytes:
    """Commands in wire form (RESP)."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for part in command:
            raw = part if isinstance(part, bytes) else str(part).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)
