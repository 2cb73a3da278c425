"""TCP: many queries on a connection, answered as they are ready (RFC 7766 sections 6.2.1 and 7)."""

from __future__ import annotations

import errno
import socket
from typing import Any

from gevent import get_hub

from rdnscache import clock, metrics
from rdnscache.clients.guard import Guard
from rdnscache.clients.proxy import MAX_HEADER, MORE, REFUSED, parse_proxy, proxy_end
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import HEADER_SIZE, TCP_SIZE, Query, parse_query
from rdnscache.metrics import observe
from rdnscache.server.desk import Desk
from rdnscache.stream import READ, Stream

#: Queries of one connection in flight; beyond that it is not read.
MAX_PIPELINED = 128
#: Octets waiting for a client that reads slowly: above the first it is not read, above the second it is cut off.
HIGH_WATER, MAX_UNSENT = 256 << 10, 16 << 20
#: Connections accepted in one go.
ACCEPTS = 16
SWEEP_INTERVAL = 1.0


class TcpListener:
    """One listening socket of this worker's slot, and its connections.

    A connection that brought no whole query for `idle` seconds is closed; so is the idlest when there are too many.
    """

    def __init__(self, sock: socket.socket, desk: Desk, guard: Guard, idle: float, max_connections: int) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._desk = desk
        self.guard = guard
        self._idle = idle
        self._max_connections = max_connections
        self._stopped = False
        self.held = False
        loop = get_hub().loop
        self._watcher = loop.io(sock.fileno(), READ)
        self._sweeper = loop.timer(SWEEP_INTERVAL, SWEEP_INTERVAL)
        #: In order of their last whole query, the longest ago first.
        self._connections: dict[TcpConnection, None] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def start(self) -> None:
        self._watcher.start(self._accept)
        self._sweeper.start(self._sweep)

    def stop(self) -> None:
        """Accept and read no more; connections close when their last query is answered."""
        self._stopped = True
        self._watcher.stop()
        for connection in list(self._connections):
            connection.finish()

    def hold(self) -> None:
        """Take no more queries for a moment."""
        self.held = True

    def release(self) -> None:
        self.held = False
        for connection in list(self._connections):
            connection.go_on()

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, address = self._sock.accept()
            except OSError as error:  # none left, or gone before we came
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._watcher.stop()  # they wait in the backlog; the next sweep looks again
                return
            if len(self._connections) >= self._max_connections and not self._close_idlest():
                sock.close()
                continue
            source = socket.inet_pton(self._sock.family, address[0].partition("%")[0])
            connection = TcpConnection(sock, source, self._desk, self)
            self.touched(connection)

    def touched(self, connection: TcpConnection) -> None:
        self._connections.pop(connection, None)
        self._connections[connection] = None

    def left(self, connection: TcpConnection) -> None:
        self._connections.pop(connection, None)

    def _close_idlest(self) -> bool:
        for connection in self._connections:
            if not connection.pending:
                connection.close()
                return True
        return False

    def _sweep(self) -> None:
        if not self._stopped and not self._watcher.active:
            self._watcher.start(self._accept)
        oldest = clock.now() - self._idle
        for connection in list(self._connections):
            if connection.active > oldest:
                return
            if not connection.pending:
                connection.close()


class TcpConnection:
    """One client's connection."""

    def __init__(
        self,
        sock: socket.socket,
        source: bytes,
        desk: Desk,
        listener: TcpListener,
    ) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        guard = listener.guard
        self._source = source
        #: Whether the client may ask, as far as is known.
        self._allowed = guard.allowed.holds(source)
        self._awaits_header = guard.proxies is not None and guard.proxies.holds(source)
        self._desk = desk
        self._listener = listener
        self._buffer = bytearray()
        self._finishing = False
        #: Queries taken and not answered yet.
        self.pending = 0
        self.active = clock.now()
        self._stream = Stream(sock, self._received, self._ended, MAX_UNSENT, self.go_on)

    def finish(self) -> None:
        """Read no more, close after the last answer."""
        self._finishing = True
        self._stream.pause()
        self._close_if_done()

    def close(self) -> None:
        self._stream.close()
        self._listener.left(self)

    def go_on(self) -> None:
        """Take up what has been left lying."""
        self._received(b"")

    def _received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._go_on()
        except Exception:
            self._desk.unexpected("reading a connection")
            self.close()

    def _go_on(self) -> None:
        """Take the whole queries that have arrived, as long as the client keeps up with its answers."""
        buffer, stream = self._buffer, self._stream
        while not stream.closed and not self._finishing:
            if self._listener.held or self.pending >= MAX_PIPELINED or stream.unsent > HIGH_WATER:
                stream.pause()
                return
            if self._awaits_header and not self._read_header():
                return
            size = int.from_bytes(buffer[:2], "big")
            if len(buffer) < 2 or len(buffer) < 2 + size:
                stream.resume()
                return
            data = bytes(buffer[2 : 2 + size])
            del buffer[: 2 + size]
            self._take(data)
        self._close_if_done()

    def _read_header(self) -> bool:
        """Learn from the proxy who the client is; False when there is more to come, or nothing that we take."""
        end = proxy_end(bytes(self._buffer[:MAX_HEADER]))
        if end == MORE:
            self._stream.resume()
            return False
        proxied = parse_proxy(bytes(self._buffer[:end])) if end != REFUSED else None
        if proxied is None:
            self._desk.counters[metrics.PROXY_ERRORS] += 1
            self.close()
            return False
        del self._buffer[:end]
        self._awaits_header = False
        if proxied.source:
            self._source = proxied.source
            self._allowed = self._listener.guard.allowed.holds(proxied.source)
        return True

    def _take(self, data: bytes) -> None:
        desk, now = self._desk, clock.now()
        query = parse_query(data, True) if len(data) >= HEADER_SIZE else None
        if query is None:  # not a client of ours
            desk.counters[metrics.DROPPED] += 1
            self.close()
            return
        self.active = now
        self._listener.touched(self)
        desk.counters[metrics.QUERIES_TCP] += 1
        if desk.journal.due(1):
            query.watch = desk.journal.watch(query, "tcp", self._source)
        if not self._allowed:
            self._send(desk.deny(query))
            return
        desk.journal.heat(query.key, 1)
        reply = desk.lookup(query, now)
        if reply is not None:
            desk.counters[metrics.L1] += 1
            observe(desk.counters, metrics.L1_SECONDS, clock.now() - now, 1)
        else:
            reply = desk.take(self, query, None, now)
        if reply is None:
            self.pending += 1
        else:
            self._send(reply)

    def answer(self, query: Query, client: Any, entry: Entry | None, layer: int) -> None:
        self.pending -= 1
        if self._stream.closed:
            return
        self._send(self._desk.finish(query, entry, layer))
        self._go_on()

    def _send(self, reply: bytes) -> None:
        self._desk.counters[metrics.REPLIES_TCP + min(reply[3] & 0x0F, metrics.OTHER_RCODE)] += 1
        if len(reply) <= TCP_SIZE:
            self._stream.write(len(reply).to_bytes(2, "big") + reply)

    def _ended(self, reason: str) -> None:
        """The client closed its side, or the connection broke: what is still pending may be answered, if it can."""
        self._finishing = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._stream.closed or (self._finishing and not self.pending and not self._stream.unsent):
            self.close()
