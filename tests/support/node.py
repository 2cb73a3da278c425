"""A node as people run it, and several on one Redis."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dns.message

from .messages import answer_of, rcode_of
from .ports import free_port
from .processes import ROOT, Forked, alive, children_of, clean_env, command, forkable
from .upstream import Upstream
from .waiting import wait_for


class Node:
    """A running `rdnscache serve`. Its embedded server, if any, has a runtime folder of its own: `.folder`.

    It is forked from a process that has imported what it needs.
    """

    executed = False

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
        words = ["serve", "--redis", redis, "--workers", str(workers)]
        for address in self.listen:
            words += ["--listen", address]
        for address in upstreams:
            words += ["--upstream", address]
        # with fewer CPUs than processes Redis and upstreams are slow, which is not the subject of most tests
        patience = {"RDNSCACHE_REDIS_BUDGET": "2", "RDNSCACHE_UPSTREAM_RETRY_MIN": "0.25"}
        extra = {"XDG_RUNTIME_DIR": str(self.folder)} | patience | (env or {})
        self._log = self.folder / "log"
        self.process = self._start([*words, *args], extra, open_files)
        try:
            wait_for(self._answers, 15)
        except BaseException:
            self.kill()
            raise

    def _start(self, words: list[str], env: dict[str, str], open_files: int | None) -> subprocess.Popen[bytes] | Forked:
        with self._log.open("wb") as log, open(os.devnull, "rb") as nothing:
            if forkable(env) and open_files is None and not self.executed:
                return Forked(words, clean_env(env), (nothing.fileno(), log.fileno(), log.fileno()))
            command = [sys.executable, "-m", "rdnscache", *words]
            if open_files is not None:
                command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
            return subprocess.Popen(command, stdin=nothing, stdout=log, stderr=log, env=clean_env(env), cwd=ROOT)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the node ended with {self.process.returncode}:\n{self.log()}")
        return rcode_of(self.port, "id.server", "TXT", "CH", self.host) != ""

    def log(self) -> str:
        """Its output so far, stdout and stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def children(self) -> list[int]:
        """Its workers and its embedded server."""
        return children_of(self.process.pid)

    def reload(self) -> None:
        """SIGHUP, and wait until all workers are new ones."""
        done = "all workers use the new configuration"
        times = self.log().count(done)
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log().count(done) > times, 20)

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it by all means."""
        children = self.children() if self.process.poll() is None else []
        self.process.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
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


class ExecutedNode(Node):
    """A node that is executed, as people do it, for tests about processes."""

    executed = True


def attached(node: Node, times: int = 1) -> bool:
    """Whether its workers have attached to Redis this many times in all."""
    return node.log().count("attached to Redis") >= times


@contextmanager
def nodes_on(
    urls: str | Sequence[str],
    upstreams: Upstream | Sequence[str],
    count: int = 3,
    workers: int = 1,
    args: Sequence[str] = (),
    links: int = 0,
) -> Iterator[list[Node]]:
    """Nodes `n0` and so on, on one Redis, all attached: a node for each URL or upstream, else `count` of them.

    `links` is how many links each of them has, if not one for each worker.
    """
    places = [urls] * (count if isinstance(upstreams, Upstream) else len(upstreams)) if isinstance(urls, str) else urls
    asked = [upstreams.address] * len(places) if isinstance(upstreams, Upstream) else upstreams
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(Node([address], url, workers, (*args, "--node-id", f"n{number}")))
            for number, (url, address) in enumerate(zip(places, asked, strict=True))
        ]
        wait_for(lambda: all(attached(node, links or workers) for node in nodes), 10)
        yield nodes


@contextmanager
def cluster(
    urls: Sequence[str], upstream: Upstream, workers: int = 2, args: Sequence[str] = ()
) -> Iterator[list[Node]]:
    """A node for each URL of the same Redis, all attached and in the register."""
    with nodes_on(urls, upstream, workers=workers, args=args) as nodes:
        wait_for(lambda: len(members(urls[0])) >= workers * len(nodes))
        yield nodes


def members(url: str) -> list[dict[str, Any]]:
    """What `cluster members` tells of each worker."""
    found = command("cluster", "members", "--json", "--redis", url)
    return list(json.loads(found.stdout))


def wait_until_at_work(node: Node, workers: int) -> None:
    """Ask from so many ports that every worker gets a query; all are answered."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(20 * workers)]
        for client in clients:
            client.settimeout(15)
            client.connect(("127.0.0.1", node.port))
            client.send(dns.message.make_query("id.server", "TXT", "CH").to_wire())
        for client in clients:
            client.recv(4096)


def fill_all_workers(node: Node, name: str, wanted: str) -> None:
    """Ask until 40 clients in a row, each from a port of its own, get the same answer: all workers have it in L1."""
    wait_for(lambda: {answer_of(node.port, name) for _ in range(40)} == {wanted})
