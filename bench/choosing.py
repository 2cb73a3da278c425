"""How much of a bad upstream clients notice: misses with several upstreams against those of the best alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import load
from bench.lab import Figures, Lab
from bench.rows import Case, Row
from bench.servers import HERE, OURS, Kind
from bench.system import Program, free_port
from bench.tools import series

#: Queries a second, and queries before those that count: what servers are like is not known yet.
RATE, LEARNING = 300, 500


@dataclass(frozen=True)
class Far:
    """An upstream: seconds until its reply, and the share of queries it does not hear."""

    delay: float
    loss: float = 0.0


BEST = Far(0.002)
FOUR = (BEST, Far(0.02), Far(0.02, 0.3), Far(0.0, 1.0))
LOSSY = Far(0.01, 0.02)


@contextmanager
def upstreams(lab: Lab, far: Sequence[Far]) -> Iterator[list[str]]:
    """Their addresses; they run on the CPU of the load."""
    with ExitStack() as stack:
        ports = []
        for each in far:
            port = free_port()
            command = [sys.executable, "-m", "bench.upstream", str(port), str(each.delay), "", str(each.loss)]
            stack.enter_context(Program(f"upstream {port}", command, lab.folder, lab.load_cpu))
            ports.append(f"{HERE}:{port}")
        yield ports


def measure_choice(lab: Lab, kind: Kind, far: Sequence[Far], policy: str = "fastest") -> Figures:
    """Mean and p99 of misses at a steady rate; `bad_share` is that of the queries sent to the last two of four."""
    admin, count = free_port(), max(lab.scale.samples // 4, 1000)
    with upstreams(lab, far) as addresses:
        args = [part for each in addresses for part in ("--upstream", each)]
        with lab.run(kind, *args, "--admin", f"{HERE}:{admin}", "--upstream-policy", policy) as server:
            load.dnsperf(server.port, lab.write(load.cold_names(LEARNING)), once=True, rate=RATE)
            before = series(admin)
            run = load.dnsperf(server.port, lab.write(load.cold_names(count)), once=True, rate=RATE, verbose=True)
            after = series(admin)
    names = [f'rdnscache_upstream_queries_total{{upstream="{each}"}}' for each in addresses]
    asked = [after[name] - before[name] for name in names]
    figures = {
        "mean_us": sum(run.latencies) / max(len(run.latencies), 1), "p50_us": load.percentile(run.latencies, 50),
        "p99_us": load.percentile(run.latencies, 99), "lost": run.lost, "failed": run.failed,
        "asked_per_name": sum(asked) / count,
    }  # fmt: skip
    return figures | ({"bad_share": sum(asked[2:]) / sum(asked)} if len(far) == 4 else {})


def _choice(kinds: Sequence[Kind], _: bool) -> list[Case]:
    def way(far: Sequence[Far], policy: str = "fastest") -> Callable[[Lab, Kind], Figures]:
        return lambda lab, kind: measure_choice(lab, kind, far, policy)

    cases = {
        "best alone (2 ms)": way([BEST]), "2, 20, 20 ms with 30 % loss, dead": way(FOUR),
        "the same, race": way(FOUR, "race"), "10 ms with 2 % loss alone": way([LOSSY]),
    }  # fmt: skip
    return [Case(label, OURS[0], measure) for label, measure in cases.items() if OURS[0] in kinds]


CHOOSING = [Row("upstreams", "cold names with upstreams of several kinds", _choice, compared="mean_us", grows=True)]
