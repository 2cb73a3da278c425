"""Where a link's connections lead, and how one is handed to it. Several kinds: one server, and what sentinels know."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from rdnscache.redis_url import Host, RedisUrl
from rdnscache.store.connection import Connection
from rdnscache.stream import Stream, TlsStream

CONNECT_TIMEOUT = 1.0
#: Bytes that may wait to be sent before a link ends.
MAX_UNSENT = 16 << 20

OnData = Callable[[bytes], None]
OnEnd = Callable[[str], None]
AnyStream = Stream | TlsStream


class Opener:
    """Opens the connections of a link to one server; `host` is one of several in a cluster."""

    def __init__(self, url: RedisUrl, host: Host | None = None) -> None:
        self._url = url
        self._host = host
        #: Whether another attempt may lead to another server.
        self.movable = url.movable
        #: Which of several links it is for, in the log.
        self.name = ""

    def open(self, client_name: str, on_data: OnData, on_end: OnEnd) -> AnyStream:
        """Raises what `Connection` does."""
        return as_stream(Connection(self._url, CONNECT_TIMEOUT, self._host, client_name), on_data, on_end)

    def watch(self, on_moved: Callable[[str], None]) -> None:
        """From now on, `on_moved(where)` when it is learnt that the server is to be found elsewhere."""

    def close(self) -> None:
        """Watch no longer."""


def as_stream(connection: Connection, on_data: OnData, on_end: OnEnd) -> AnyStream:
    """The connection's socket, on the hub."""
    sock = connection.take()
    if isinstance(sock, ssl.SSLSocket):
        return TlsStream(sock, on_data, on_end, MAX_UNSENT)
    return Stream(sock, on_data, on_end, MAX_UNSENT)
