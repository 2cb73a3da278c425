"""One client's TCP connection: queries are read, and answered in the order in which answers are ready.

RFC 7766 sections 6.2.1 and 7.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import Any, Protocol

from rdnscache import clock, metrics, outcomes
from rdnscache.clients.guard import Guard
from rdnscache.clients.proxy import MAX_HEADER, MORE, REFUSED, parse_proxy, proxy_end, tls_name
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import HEADER_SIZE, TCP_SIZE, Query, parse_query
from rdnscache.metrics import count_reply, observe
from rdnscache.server.answering import Answering
from rdnscache.server.pool import Pool
from rdnscache.stream import Stream

#: Queries of one connection in flight; with more it is not read.
MAX_PIPELINED = 128
#: Queries and answers of one connection handled before others get their turn.
SHARE = 16
#: Octets read at once, and octets of answers written at once.
CHUNK, WRITE = 4096, 16 << 10
#: Maximum octets unsent to a client: the pool's mark, a share of small answers, and the largest possible answer.
MAX_UNSENT = 256 << 10
#: Octets accounted for an answer that is not made yet: its query and the objects around it.
WAITING_COST = 600


class Listener(Protocol):
    """The listener that accepted a connection, as the connection sees it."""

    guard: Guard
    pool: Pool
    #: Whether connections take no queries for the time being.
    held: bool


class TcpConnection:
    """Reads queries as long as the client reads its answers, and makes an answer once there is room for it."""

    def __init__(self, sock: socket.socket, source: bytes, answering: Answering, listener: Listener) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        guard = listener.guard
        self.source = source
        #: The number of the client's view; -1 if it is not allowed.
        self._group = guard.allowed.group(source)
        self._awaits_header = guard.proxies is not None and guard.proxies.holds(source)
        #: The destination address in the PROXY header.
        self._asked = b""
        self._answering = answering
        self.listener = listener
        self._pool = listener.pool
        self._buffer = bytearray()
        #: Replies to be written together, each after its length; and their octets.
        self._made: list[bytes] = []
        self._made_size = 0
        #: Answers from which no reply has been made yet.
        self._waiting: deque[tuple[Query, Entry, int]] = deque()
        self._ended_by_peer = False
        self._finishing = False
        #: For the pool: whether it waits for its turn, and the octets last accounted.
        self.queued = False
        self.held = 0
        #: Queries taken and not answered yet.
        self.pending = 0
        #: When the last complete query was taken (monotonic).
        self.active = time.monotonic()
        self._stream = Stream(sock, self._received, self._ended, MAX_UNSENT, chunk=CHUNK, on_ready=self.go_on)

    @property
    def moved(self) -> float:
        """When the client last read something or sent a complete query (monotonic)."""
        return max(self._stream.moved, self.active)

    @property
    def unread(self) -> bool:
        """Whether the client has not read all its answers."""
        return self._stream.unsent > 0

    def finish(self) -> None:
        """Take no more queries and close after the last answer."""
        self._finishing = True
        self.go_on()

    def close(self) -> None:
        self._stream.close()
        self._buffer.clear()
        self._waiting.clear()
        self._pool.leave(self)

    def go_on(self) -> None:
        """Have the pool serve this connection soon, in case there is something to do."""
        if not self._stream.closed:
            self._pool.serve_soon(self)
            self._pool.look()

    def answer(self, query: Query, client: Any, entry: Entry, layer: int) -> None:
        if self._stream.closed:
            self.pending -= 1
            return
        self._waiting.append((query, entry, layer))
        self._pool.serve_soon(self)

    def _received(self, data: bytes) -> None:
        self._buffer += data

    def _ended(self, reason: str) -> None:
        """The client has closed its side, and still gets its answers; or the connection is broken."""
        self._ended_by_peer = True
        if self._stream.closed:
            self.close()

    def serve(self) -> bool:
        """Do a share of the work; returns whether there is more."""
        try:
            more = not self._stream.closed and self._serve()
            if not self._stream.closed:
                self._write_made()
        except Exception:
            self._answering.unexpected("reading a connection")
            self.close()
            return False
        if self._stream.closed:
            self.close()
            return False
        self._pool.account(self, len(self._buffer) + self._stream.unsent + WAITING_COST * len(self._waiting))
        if self._finishing and not self.pending and not self._stream.unsent and not self._stream.closed:
            self.close()
        return more and not self._stream.closed

    def _serve(self) -> bool:
        """Write unsent octets, make replies, then take queries, as long as there is room; returns whether to go on."""
        stream, left = self._stream, SHARE
        if stream.writable:
            stream.write_rest()
        while self._waiting and self._has_room():
            if left == 0:
                return True
            left -= 1
            self.pending -= 1
            query, entry, layer = self._waiting.popleft()
            self._send(query, self._answering.finish(query, entry, layer))
        taken = False
        while not stream.closed and not self._finishing:
            if self.listener.held or self.pending >= MAX_PIPELINED or not self._has_room():
                stream.pause()
                break
            if left == 0:
                break
            data = self._next_query()
            if data is None:
                break
            left -= 1
            taken = True
            self._take(data)
        if taken and not stream.closed:
            self.active = time.monotonic()
            self._pool.used(self)
        return left == 0

    def _has_room(self) -> bool:
        """Whether another reply may be made: the client has read nearly all of them."""
        if self._made_size < WRITE and not self._stream.unsent:
            return True
        self._write_made()
        return self._stream.unsent <= self._pool.mark()

    def _next_query(self) -> bytes | None:
        """The next complete query; None if it has not arrived yet, or none will follow."""
        stream = self._stream
        while not stream.closed:
            data = self._whole_query()
            if data is not None or stream.closed:
                return data
            if self._ended_by_peer:
                self._finishing = True
                return None
            if not stream.readable:
                stream.resume()
                return None
            stream.read()
        return None

    def _whole_query(self) -> bytes | None:
        """The next complete query in the buffer; None if there is none."""
        buffer = self._buffer
        if self._awaits_header and not self._read_header():
            return None
        size = int.from_bytes(buffer[:2], "big")
        if len(buffer) < 2 or len(buffer) < 2 + size:
            return None
        data = bytes(buffer[2 : 2 + size])
        del buffer[: 2 + size]
        return data

    def _read_header(self) -> bool:
        """Read the client's address from the PROXY header; False if it is incomplete, or invalid: then it is closed."""
        end = proxy_end(bytes(self._buffer[:MAX_HEADER]))
        if end == MORE:
            return False
        header = bytes(self._buffer[:end]) if end != REFUSED else b""
        proxied = parse_proxy(header)
        if proxied is None:
            self._answering.counters[metrics.PROXY_ERRORS] += 1
            self.close()
            return False
        del self._buffer[:end]
        self._awaits_header = False
        if proxied.source:
            self._pool.leave(self)
            self.source, self._asked = proxied.source, proxied.destination
            guard = self.listener.guard
            self._group = guard.allowed.group(proxied.source)
            if guard.tls_names is not None:
                self._group = guard.tls_names.group(tls_name(header, end), proxied.source, self._group)
            self._pool.join(self)
        return True

    def _take(self, data: bytes) -> None:
        answering, now = self._answering, clock.now()
        query = parse_query(data, True) if len(data) >= HEADER_SIZE else None
        if query is None:  # not a DNS client
            answering.counters[metrics.DROPPED] += 1
            self._write_made()
            self.close()
            return
        query.source, query.group = self.source, self._group
        answering.counters[metrics.QUERIES_TCP] += 1
        if answering.query_log.due(1):
            query.watch = answering.query_log.watch(query, "tcp", self.source)
        if self._group < 0:
            self._send(query, answering.deny(query))
            return
        routes = self.listener.guard.routes
        if routes is not None and (reply := answering.routed(query, self._asked, routes)) is not None:
            self._send(query, reply)
            return
        answering.query_log.heat(query.key, query, 1)
        reply = answering.lookup(query, now)
        if reply is None:
            reply = answering.take(self, query, None, now)
        elif reply:
            answering.counters[metrics.ANSWERS + outcomes.L1] += 1
            observe(answering.counters, metrics.L1_SECONDS, clock.now() - now, 1)
        if reply is None:
            self.pending += 1
        else:
            self._send(query, reply)

    def _send(self, query: Query, reply: bytes) -> None:
        if not reply:
            return
        count_reply(self._answering.counters, metrics.REPLIES_TCP, query.rcode)
        if len(reply) <= TCP_SIZE:
            self._made += (len(reply).to_bytes(2, "big"), reply)
            self._made_size += 2 + len(reply)

    def _write_made(self) -> None:
        """Write the replies that have been made."""
        if self._made:
            data = b"".join(self._made)
            self._made.clear()
            self._made_size = 0
            self._stream.write(data)
