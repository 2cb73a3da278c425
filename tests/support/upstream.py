"""An upstream to forward to, in this process."""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from .messages import Handler, default_handler
from .ports import free_port


class Upstream:
    """A DNS server in this process, on UDP and TCP. Replies that are delayed do not wait for each other.

    `delay` may be a function of the query. A handler may return a list: several datagrams, sent in that order.
    Without `tcp`, connections are refused.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        delay: float | Callable[[dns.message.Message], float] = 0.0,
        port: int | None = None,
        tcp: bool = True,
    ) -> None:
        self.handler: Handler = handler or default_handler
        self.delay = delay
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.lock = threading.Lock()
        #: Queries for each (lower-case name, type), e.g. ("a.test.", "A"), without retransmissions.
        self.counts: Counter[tuple[str, str]] = Counter()
        #: Every query received over UDP or TCP, and its source.
        self.raw: list[bytes] = []
        self.heard: Counter[str] = Counter()
        self._seen: set[tuple[object, ...]] = set()
        self.sources: list[tuple[str, int]] = []
        self.transports: list[str] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._wake = threading.Condition()
        self._order = itertools.count()
        self._ended = False
        self._connections: set[socket.socket] = set()
        self._listens = tcp
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._udp.bind(("127.0.0.1", self.port))
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(("127.0.0.1", self.port))
        if self._listens:
            self._tcp.listen(256)
        for run in (self._serve_udp, *([self._serve_tcp] if self._listens else []), self._send_due):
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with self._wake:
            if self._ended:
                return
            self._ended = True
            self._wake.notify_all()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:  # wakes the thread in recvfrom
            sock.sendto(b"", ("127.0.0.1", self.port))
        for each in (self._tcp, *list(self._connections)):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(2)
        self._udp.close()
        self._tcp.close()

    def count(self, name: str, rtype: str = "A") -> int:
        """How often a question was asked so far."""
        with self.lock:
            return self.counts[name.lower(), rtype]

    def datagrams(self, name: str = "") -> int:
        """The number of queries, for a name or all, with retransmissions."""
        with self.lock:
            return self.heard[name.lower()] if name else sum(self.heard.values())

    def total(self) -> int:
        with self.lock:
            return sum(self.counts.values())

    def _serve_udp(self) -> None:
        while not self._ended:
            try:
                data, source = self._udp.recvfrom(65535)
            except OSError:
                continue
            if not self._ended:
                self._take(data, "udp", source, lambda reply, to=source: self._udp.sendto(reply, to))

    def _serve_tcp(self) -> None:
        while not self._ended:
            try:
                sock, source = self._tcp.accept()
            except OSError:
                return
            self._connections.add(sock)
            threading.Thread(target=self._serve_connection, args=(sock, source), daemon=True).start()

    def _serve_connection(self, sock: socket.socket, source: tuple[str, int]) -> None:
        with sock, sock.makefile("rb") as stream:
            try:
                while len(size := stream.read(2)) == 2:
                    data = stream.read(int.from_bytes(size, "big"))
                    self._take(data, "tcp", source, lambda reply: sock.sendall(len(reply).to_bytes(2, "big") + reply))
            except OSError:
                pass
        self._connections.discard(sock)

    def _take(self, data: bytes, transport: str, source: tuple[str, int], send: Callable[[bytes], Any]) -> None:
        try:
            query = dns.message.from_wire(data)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return
        if query.flags & dns.flags.QR:  # a late reply to a process that had this port before
            return
        with self.lock:
            same = (source, data[:2], question.name, question.rdtype)  # a port may carry another with the same ID
            again = same in self._seen and transport == "udp"  # sent again, from the same port
            self._seen.add(same)
            self.heard[question.name.to_text().lower()] += 1
            self.counts[question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)] += not again
            self.raw.append(data)
            self.sources.append(source)
            self.transports.append(transport)
        made = self.handler(query, transport)
        replies = made if isinstance(made, list) else [] if made is None else [made]

        def deliver() -> None:
            for reply in replies:
                try:
                    send(reply if isinstance(reply, bytes) else _wire(reply, query, transport))
                except OSError:
                    pass

        delay = self.delay(query) if callable(self.delay) else self.delay
        if delay <= 0:
            deliver()
            return
        with self._wake:
            heapq.heappush(self._heap, (time.monotonic() + delay, next(self._order), deliver))
            self._wake.notify()

    def _send_due(self) -> None:
        while True:
            with self._wake:
                while not self._ended and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._wake.wait(max(self._heap[0][0] - time.monotonic(), 0) if self._heap else None)
                if self._ended:
                    return
                deliver = heapq.heappop(self._heap)[2]
            deliver()


def _wire(reply: dns.message.Message, query: dns.message.Message, transport: str) -> bytes:
    """A reply as octets; over UDP truncated, with TC, if it is too large for the client."""
    limit = max(query.payload, 512) if transport == "udp" else 65535
    try:
        return reply.to_wire(max_size=limit)
    except dns.exception.TooBig:
        short = dns.message.make_response(query, recursion_available=True)
        short.flags |= dns.flags.TC
        return short.to_wire()


class Changing:
    """A handler whose answer can be changed."""

    def __init__(self) -> None:
        self.address = "192.0.2.1"
        self.rcode = dns.rcode.NOERROR

    def __call__(self, query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = dns.message.make_response(query, recursion_available=True)
        reply.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "A", self.address))
        return reply
