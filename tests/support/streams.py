"""A server on TCP or TLS that treats each connection as a test wants, and queries sent to it from this process."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import gevent

from rdnscache.errors import UpstreamFailed
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.query import Query

from .ports import free_port


class Asked(Query):
    """A query that remembers how it ended."""

    def __init__(self, label: str = "a", edns: bool = True, seconds: float = 10.0) -> None:
        name = bytes((len(label),)) + label.encode() + b"\4test\0"
        super().__init__(name + b"\0\1\0\1\0", edns, time.monotonic() + seconds)
        self.data: bytes | None = None
        self.failure: UpstreamFailed | None = None
        #: How often it has ended.
        self.ends = 0

    def __repr__(self) -> str:
        return f"<{self.key!r}: ended {self.ends} times, lost {self.losses}, {self.failure or self.data!r}>"

    @property
    def why(self) -> str | None:
        return self.failure.why if self.failure is not None else None

    def arrived(self, data: bytes) -> None:
        self.ends += 1
        self.data = data

    def failed(self, failure: UpstreamFailed) -> None:
        self.ends += 1
        self.failure = failure


def turning(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """As `wait_for`, while the hub of this thread runs."""
    over = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > over:
            raise AssertionError(f"still {found!r} after {seconds} s")
        gevent.sleep(0.005)


def sent(pool: Pool, count: int) -> list[Asked]:
    """Queries for names of their own, `n000000` and so on, given to a pool at once."""
    queries = [Asked(f"n{number:06d}", seconds=20) for number in range(count)]
    for query in queries:
        pool.send(query)
    return queries


def all_ended(queries: list[Asked], seconds: float = 5.0) -> None:
    turning(lambda: all(query.ends for query in queries), seconds)


def answered(queries: list[Asked]) -> bool:
    """Each once, and each with the answer to its own question."""
    return all(query.ends == 1 and query.data is not None and query.key[:-1] in query.data for query in queries)


class Peer:
    """The server's end of a connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        #: Connections that came before.
        self.number = number
        self._file = sock.makefile("rb")

    def query(self) -> bytes | None:
        """The next one; None when the client has closed."""
        size = self._file.read(2)
        return self._file.read(int.from_bytes(size, "big")) if len(size) == 2 else None

    def queries(self, count: int) -> list[bytes]:
        return [query for query in (self.query() for _ in range(count)) if query is not None]

    def answer(self, query: bytes) -> None:
        """Answer a query with a reply: its ID and question, QR set, no EDNS."""
        self.send(answering(query))

    def send(self, message: bytes) -> None:
        self.sock.sendall(len(message).to_bytes(2, "big") + message)

    def drip(self, message: bytes) -> None:
        """Send data octet by octet, each in a segment."""
        for octet in len(message).to_bytes(2, "big") + message:
            self.sock.sendall(bytes((octet,)))
            time.sleep(0.0002)

    def serve(self) -> None:
        """Answer all."""
        while (query := self.query()) is not None:
            self.answer(query)

    def hear_out(self) -> None:
        """Read to the end without replying."""
        while self.query() is not None:
            pass

    def reset(self) -> None:
        """Close the connection by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._file.close()
        self.sock.close()


def answering(query: bytes) -> bytes:
    end = query.index(b"\0", 12) + 5
    return query[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + query[12:end]


class StreamServer:
    """Calls `script(peer)` for each connection in a thread of its own, and closes the connection afterwards."""

    def __init__(self, script: Callable[[Peer], None], tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.port = free_port()
        #: Connections, and those that were resumed.
        self.connections = self.resumed = 0
        #: How their TLS handshakes failed.
        self.refusals: list[str] = []
        self._tls = tls
        self._sock = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        with self._lock:
            for sock in self._open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            number = self.connections
            self.connections += 1
            threading.Thread(target=self._run, args=(sock, number), daemon=True).start()

    def _run(self, sock: socket.socket, number: int) -> None:
        with self._lock:
            self._open.add(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # so that answers leave before a reset
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self.resumed += bool(sock.session_reused)
            peer = Peer(sock, number)
            self.script(peer)
            peer.close()
        except (OSError, ValueError) as error:
            self.refusals.append(str(error))
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()
