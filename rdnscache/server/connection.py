"""One client's TCP connection: queries in, answers out as they are ready (RFC 7766 sections 6.2.1 and 7)."""

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

#: Queries of one connection in flight; beyond that it is not read.
MAX_PIPELINED = 128
#: Queries and answers of one connection before others get their turn.
SHARE = 16
#: Octets read in one go, and of answers written in one.
CHUNK, WRITE = 4096, 16 << 10
#: Octets that wait for a client at the very most: the pool's mark, a share of small answers, and the largest one.
MAX_UNSENT = 256 << 10
#: What an answer costs that waits to be made: its query and what refers to it.
WAITING_COST = 600


class Listener(Protocol):
    """What has accepted a connection."""

    guard: Guard
    pool: Pool
    #: Whether no more queries are taken for a moment.
    held: bool


class TcpConnection:
    """Reads as long as the client keeps up with its answers, and makes an answer when there is room for it."""

    def __init__(self, sock: socket.socket, source: bytes, answering: Answering, listener: Listener) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        guard = listener.guard
        self.source = source
        #: The client's view; -1 when it may not ask, as far as is known.
        self._group = guard.allowed.group(source)
        self._awaits_header = guard.proxies is not None and guard.proxies.holds(source)
        #: The address that a proxy says was asked.
        self._asked = b""
        self._answering = answering
        self.listener = listener
        self._pool = listener.pool
        self._buffer = bytearray()
        #: Replies made, each with its length in front, until they leave together; and how many octets that is.
        self._made: list[bytes] = []
        self._made_size = 0
        #: Answers that came while there was no room.
        self._waiting: deque[tuple[Query, Entry, int]] = deque()
        self._ended_by_peer = False
        self._finishing = False
        #: For the pool: whether it waits for its turn, and the octets it holds, as accounted last.
        self.queued = False
        self.held = 0
        #: Queries taken and not answered yet.
        self.pending = 0
        #: The moment of the last whole query.
        self.active = time.monotonic()
        self._stream = Stream(sock, self._received, self._ended, MAX_UNSENT, chunk=CHUNK, on_ready=self.go_on)

    @property
    def moved(self) -> float:
        """The moment at which the client last took something, or brought a whole query."""
        return max(self._stream.moved, self.active)

    @property
    def unread(self) -> bool:
        """Whether answers wait for the client to read."""
        return self._stream.unsent > 0

    def finish(self) -> None:
        """Take no more queries, close after the last answer."""
        self._finishing = True
        self.go_on()

    def close(self) -> None:
        self._stream.close()
        self._buffer.clear()
        self._waiting.clear()
        self._pool.leave(self)

    def go_on(self) -> None:
        """There is something to do, perhaps."""
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
        """The client has closed its side: what it asked is answered. Or the connection broke."""
        self._ended_by_peer = True
        if self._stream.closed:
            self.close()

    def serve(self) -> bool:
        """Do a share of what there is to do; whether there is more."""
        try:
            more = not self._stream.closed and self._serve()
            if not self._stream.closed:
                self._flush()
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
        """Send what waits, make answers, then take queries, while there is room."""
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
        """Whether another answer may be made: the client has taken nearly all there are."""
        if self._made_size < WRITE and not self._stream.unsent:
            return True
        self._flush()
        return self._stream.unsent <= self._pool.mark()

    def _next_query(self) -> bytes | None:
        """The next whole query; None when it has not arrived yet, or never will."""
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
        """The next of those that have been read."""
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
        """Learn from the proxy who the client is; False when there is more to come, or nothing that we take."""
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
        if query is None:  # not a client of ours
            answering.counters[metrics.DROPPED] += 1
            self._flush()
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

    def _flush(self) -> None:
        """Let the replies leave that have been made."""
        if self._made:
            data = b"".join(self._made)
            self._made.clear()
            self._made_size = 0
            self._stream.write(data)
