"""The lab: starts servers on their CPU, loads them, and measures the cost of a query."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench import load
from bench.servers import NSD, PLAIN, REDIS, Kind, Reach, Setting, environment
from bench.system import BenchError, Program, busy_seconds, free_port, two_cpus, wait_for

Figures = dict[str, float]


@dataclass
class Server:
    """A running server."""

    kind: Kind
    port: int
    program: Program


@dataclass(frozen=True)
class Scale:
    """The size of the loads."""

    seconds: float  # of the loads that repeat hot names
    cold: int  # names of the loads that ask each once
    samples: int  # queries whose latency is measured; enough that one stall of 20 ms does not make the p99


class Lab:
    """Servers on one CPU, everything else, this process included, on another."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.server_cpu, self.load_cpu = two_cpus()
        os.sched_setaffinity(0, {self.load_cpu})
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-bench-"))
        self.upstream = 0
        #: Servers that run for several cases.
        self.kept = ExitStack()

    def close(self) -> None:
        self.kept.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def run(
        self,
        kind: Kind,
        *args: str,
        upstream: int = 0,
        entries: int = 0,
        upstreams: Sequence[str] = (),
        cpu: int | None = None,
        ready: Callable[[int], bool] = load.answers,
        reach: Reach = PLAIN,
    ) -> Iterator[Server]:
        """Run a server; it is yielded once it answers, and stopped afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        setting = Setting(folder, free_port(), upstream or self.upstream, entries, args, tuple(upstreams), reach)
        where = self.server_cpu if cpu is None else cpu
        with Program(kind.name, kind.command(setting), folder, where, environment(kind)) as program:

            def answers() -> bool:
                program.check()
                return ready(setting.port)

            wait_for(answers, 20, f"{kind.name} does not answer")
            yield Server(kind, setting.port, program)
        shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def nsd(self) -> Iterator[None]:
        """Run the upstream of all servers."""
        with self.run(NSD, cpu=self.load_cpu) as server:
            self.upstream = server.port
            yield

    def redis(self) -> AbstractContextManager[Server]:
        """A Redis on the CPU of the load."""
        return self.run(REDIS, cpu=self.load_cpu, ready=redis_answers)

    def write(self, names: Sequence[str]) -> Path:
        return load.write_names(self.folder, names)

    def warm(self, server: Server, names: Sequence[str]) -> None:
        """Ask for all names until all are answered, then once more over many sockets, to reach all workers."""
        queries = self.write(names)

        def complete() -> bool:
            run = load.dnsperf(server.port, queries, once=True)
            return run.lost == 0 and run.failed == 0

        wait_for(complete, 30, f"{server.kind.name} does not answer all hot names")
        many = self.write(load.shuffled(list(names) * 10))
        load.dnsperf(server.port, many, once=True, clients=32)

    def cost(self, server: Server, queries: Path, *, others: Sequence[Program] = (), **how: Any) -> Figures:
        """CPU per query, queries/s and losses of one load; for `others`, their CPU per query too.

        `others_share` is the share of the server's CPU that other processes or the hypervisor took: if it is high,
        queries/s and latencies mean little.
        """
        programs = [server.program, *others]
        began, busy, before = time.monotonic(), busy_seconds(self.server_cpu), [program.cpu() for program in programs]
        run = load.dnsperf(server.port, queries, **how)
        after = [program.cpu() for program in programs]
        taken = time.monotonic() - began
        foreign = busy_seconds(self.server_cpu) - busy - (after[0] - before[0])
        if not run.completed:
            raise BenchError(f"{server.kind.name} answered nothing.")
        spent = [(end - start) / run.completed * 1e6 for start, end in zip(before, after, strict=True)]
        figures = {"cpu_us": spent[0], "qps": run.rate, "queries": run.completed, "lost": run.lost}
        figures |= {"failed": run.failed, "others_share": max(foreign, 0) / taken}
        return figures | {f"{other.name}_cpu_us": us for other, us in zip(others, spent[1:], strict=True)}

    def latency(self, server: Server, queries: Path, rate: int, tcp: bool = False) -> Figures:
        """p50 and p99 at a low rate that every server can keep up with."""
        run = load.dnsperf(server.port, queries, once=True, rate=rate, verbose=True, tcp=tcp)
        p50, p99 = (load.percentile(run.latencies, percent) for percent in (50, 99))
        return {"p50_us": p50, "p99_us": p99, "latency_rate": run.rate, "latency_lost": run.lost}


def redis_answers(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with redis.Redis(host, port, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def redis_url(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}"
