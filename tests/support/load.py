"""Clients that ask continuously, and their counters."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import dns.message

from .messages import answer
from .node import Node
from .upstream import Upstream
from .waiting import wait_for


def address_of(name: str) -> str:
    """The address of a name, derived from it, so that a wrong answer is noticed."""
    number = crc32(name.lower().encode())
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def telling(query: dns.message.Message, transport: str) -> dns.message.Message:
    """A handler for an upstream."""
    return answer(query, f"300 A {address_of(query.question[0].name.to_text())}")


class Load:
    """Clients that ask for new names at a steady rate, each at all ports at once, until they are stopped.

    A client waits 2 s for its reply, and asks twice more from the same socket.
    """

    def __init__(self, ports: Sequence[int], names_a_second: float, label: str = "load") -> None:
        self.asked = 0
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.slowest = 0.0
        self._pause = 1 / names_a_second
        self._ports = ports
        self._label = label
        #: By socket and ID: the name, the query, when it was first sent, when it is to be sent again, tries left.
        self._open: dict[tuple[int, int], list[Any]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop asking, and wait for outstanding queries."""
        self._stopping.set()
        self._thread.join(15)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with ExitStack() as stack, selectors.DefaultSelector() as selector:
            socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in self._ports]
            for sock, port in zip(socks, self._ports, strict=True):
                sock.connect(("127.0.0.1", port))
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ)
            next_name, number = time.monotonic(), 0
            while self._open or not self._stopping.is_set():
                now = time.monotonic()
                if now >= next_name and not self._stopping.is_set():
                    next_name, number = max(next_name + self._pause, now - 0.1), number + 1
                    self._ask(socks, number, now)
                for ready, _ in selector.select(min(max(next_name - now, 0.001), 0.02)):
                    self._take(ready.fileobj)
                self._ask_again(socks)

    def _ask(self, socks: list[socket.socket], number: int, now: float) -> None:
        name = f"{self._label}-{number}.example."
        query = dns.message.make_query(name, "A")
        query.id = number & 0xFFFF
        for index, sock in enumerate(socks):
            self.asked += 1
            self._open[index, query.id] = [name, query.to_wire(), now, now + 2, 2]
            sock.send(query.to_wire())

    def _take(self, sock: Any) -> None:
        try:
            reply = dns.message.from_wire(sock.recv(4096))
        except OSError:
            return
        index = self._ports.index(sock.getpeername()[1])
        name, _, sent, _, _ = self._open.pop((index, reply.id), ("", b"", 0.0, 0, 0))
        if name:
            self.slowest = max(self.slowest, time.monotonic() - sent)
            if [str(record) for rrset in reply.answer for record in rrset] != [address_of(name)]:
                self.wrong.append(f"{name}: {reply}")

    def _ask_again(self, socks: list[socket.socket]) -> None:
        now = time.monotonic()
        for (index, number), each in list(self._open.items()):
            if now < each[3]:
                continue
            if not each[4]:
                self.lost.append(each[0])
                del self._open[index, number]
                continue
            each[3], each[4] = now + 2, each[4] - 1
            socks[index].send(each[1])


class SteadyLoad:
    """Queries for one name at a steady rate, each from the same socket with an ID of its own."""

    def __init__(self, port: int, rate: int = 1000) -> None:
        self.answered = 0
        self.lost = -1
        self._pause = 1 / rate
        self._stop = threading.Event()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # no reply is lost where we come late
        self._sock.connect(("127.0.0.1", port))
        self._query = dns.message.make_query("load.test.", "A").to_wire()
        self._waiting: dict[int, float] = {}
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        number, due = 0, time.monotonic()
        while not self._stop.is_set():
            number = (number + 1) % 65536
            self._waiting[number] = time.monotonic()
            self._sock.send(number.to_bytes(2, "big") + self._query[2:])
            due = max(due + self._pause, time.monotonic() - 0.1)  # a machine that held us up makes no flood
            time.sleep(max(due - time.monotonic(), 0))

    def _receive(self) -> None:
        self._sock.settimeout(0.2)
        while True:
            try:
                data = self._sock.recv(4096)
            except TimeoutError:
                if self._stop.is_set() and not self._waiting:
                    return
                if self._stop.is_set() and max(self._waiting.values()) < time.monotonic() - 5:
                    return
                continue
            self._waiting.pop(int.from_bytes(data[:2], "big"), None)
            self.answered += 1

    def finish(self) -> None:
        """Stop sending; wait until everything is answered, for 5 s at most."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._sock.close()
        self.lost = len(self._waiting)


@contextmanager
def steady_load(port: int) -> Iterator[SteadyLoad]:
    """It, and its end, whatever happens meanwhile."""
    load = SteadyLoad(port)
    try:
        yield load
    finally:
        if load.lost < 0:
            load.finish()


def above_one(upstream: Upstream, label: str) -> int:
    """Upstream queries beyond one for each question, for names with a prefix."""
    with upstream.lock:
        return sum(count - 1 for (name, _), count in upstream.counts.items() if name.startswith(label))


def until_shared(nodes: Sequence[Node], upstream: Upstream, names: Iterator[str], seconds: float = 20) -> float:
    """Seconds until a cold name that all nodes are asked for at once costs one upstream query again."""
    started = time.monotonic()

    def shared() -> bool:
        name = next(names)
        replies = asked_at_once([node.port for node in nodes], name)
        return replies == len(nodes) and upstream.count(name) == 1

    wait_for(shared, seconds)
    return time.monotonic() - started


def asked_at_once(ports: Sequence[int], name: str) -> int:
    """How many of the ports answered a name within 2 s."""
    wire = dns.message.make_query(name, "A").to_wire()
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in ports]
        for sock, port in zip(socks, ports, strict=True):
            sock.settimeout(2)
            sock.sendto(wire, ("127.0.0.1", port))
        return sum(1 for sock in socks if _heard(sock))


def _heard(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(4096))
    except TimeoutError:
        return False
