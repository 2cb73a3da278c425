"""Several real servers as people deploy them, and clients that never stop asking."""

from __future__ import annotations

import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import dns.message
import redis
from support import Node, Upstream, answer, free_port, wait_for


class Server:
    """A server with options of its own, on a TCP port; on a TLS port when `tls-port` is among them. Nothing is kept."""

    def __init__(self, binary: str, options: dict[str, str], port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-"))
        where = {"port": str(self.port)} if "tls-port" not in options else {"port": "0", "tls-port": str(self.port)}
        told = {"bind": "127.0.0.1", "dir": str(self.folder), "save": "", "appendonly": "no", "daemonize": "no"}
        told |= options | where
        self._command = [binary] + [part for name, value in told.items() for part in (f"--{name}", *value.split("|"))]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self._listens, 10)

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self._command} ended:\n{self.log()}")
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def end(self, how: signal.Signals) -> None:
        """By a signal: killed, as if the machine lost it, or stopped, as if it froze."""
        assert self.process is not None
        self.process.send_signal(how)

    def kill(self) -> None:
        """SIGKILL: as if the machine lost it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self, **told: Any) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port, socket_timeout=5, **told)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sentinel(Server):
    """A sentinel with a configuration file, which it writes to itself."""

    def __init__(self, binary: str, lines: Sequence[str]) -> None:
        super().__init__(binary, {})
        file = self.folder / "sentinel.conf"
        file.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", *lines]) + "\n")
        self._command = [binary, str(file), "--sentinel"]


def address_of(name: str) -> str:
    """What the upstream says of a name: an address made from it, so that a mixed up answer shows."""
    number = crc32(name.lower().encode())
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def telling(query: dns.message.Message, transport: str) -> dns.message.Message:
    """A handler for an upstream."""
    return answer(query, f"300 A {address_of(query.question[0].name.to_text())}")


class Load:
    """Clients that ask for new names, the same at every port at once, so many a second, until told to stop.

    A client waits 2 s for its reply, and asks twice again from the same socket.
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
        """Ask no more, and wait for those that are open."""
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


@contextmanager
def nodes_on(
    url: str, upstream: Upstream, count: int = 3, args: Sequence[str] = (), attached: str = "attached to Redis"
) -> Iterator[list[Node]]:
    """Nodes of one worker on one Redis, all attached."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(Node([upstream.address], redis=url, args=(*args, "--node-id", f"n{index}")))
            for index in range(count)
        ]
        wait_for(lambda: all(attached in node.log() for node in nodes), 10)
        yield nodes


def above_one(upstream: Upstream, label: str) -> int:
    """Upstream queries beyond one for each question, of names that begin so."""
    with upstream.lock:
        return sum(count - 1 for (name, _), count in upstream.counts.items() if name.startswith(label))


def until_shared(nodes: Sequence[Node], upstream: Upstream, names: Iterator[str], seconds: float = 20) -> float:
    """How long it takes until a cold name, asked at every node at once, costs one upstream query again."""
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


def in_order(*conditions: Callable[[], Any], seconds: float = 15) -> None:
    """Wait for one after the other."""
    for condition in conditions:
        wait_for(condition, seconds)
