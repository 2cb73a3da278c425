"""How a link opens its connections: to a fixed server (here), or to a primary that sentinels know (`sentinel`)."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from rdnscache.redis_url import Host, RedisUrl
from rdnscache.store.connection import Connection
from rdnscache.stream import Stream, TlsStream

CONNECT_TIMEOUT = 1.0
#: Bytes that may wait to be sent; with more the connection is closed.
MAX_UNSENT = 16 << 20

OnData = Callable[[bytes], None]
OnEnd = Callable[[str], None]
AnyStream = Stream | TlsStream


class Opener:
    """Opens the connections of a link to one server; `host` is one of several in a cluster."""

    def __init__(self, url: RedisUrl, host: Host | None = None) -> None:
        self._url = url
        self._host = host
        #: Whether another attempt may find another server.
        self.movable = url.movable
        #: The name of the link in log lines, with a leading space; empty if there is only one.
        self.name = ""

    def open(self, client_name: str, on_data: OnData, on_end: OnEnd) -> AnyStream:
        """Open a connection. Raises the exceptions of `Connection`."""
        return as_stream(Connection(self._url, CONNECT_TIMEOUT, self._host, client_name), on_data, on_end)

    def watch(self, on_moved: Callable[[str], None]) -> None:
        """Call `on_moved(reason)` whenever it becomes known that the server is at another address."""

    def close(self) -> None:
        """Stop watching."""


def as_stream(connection: Connection, on_data: OnData, on_end: OnEnd) -> AnyStream:
    """The connection's socket as a stream that the hub reads."""
    sock = connection.take()
    if isinstance(sock, ssl.SSLSocket):
        return TlsStream(sock, on_data, on_end, MAX_UNSENT)
    return Stream(sock, on_data, on_end, MAX_UNSENT)
