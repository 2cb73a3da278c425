"""The effect of bad upstreams on clients: misses with several upstreams, compared with the best one alone."""

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

#: Queries a second; queries before the measurement, from which servers learn how good each upstream is.
RATE, LEARNING = 300, 500


@dataclass(frozen=True)
class Far:
    """An upstream: seconds until its reply, and the share of queries it loses."""

    delay: float
    loss: float = 0.0


BEST = Far(0.002)
FOUR = (BEST, Far(0.02), Far(0.02, 0.3), Far(0.0, 1.0))
LOSSY = Far(0.01, 0.02)


@contextmanager
def upstreams(lab: Lab, far: Sequence[Far]) -> Iterator[list[str]]:
    """Run upstreams on the CPU of the load; yields their addresses."""
    with ExitStack() as stack:
        ports = []
        for each in far:
            port = free_port()
            command = [sys.executable, "-m", "bench.upstream", str(port), str(each.delay), "", str(each.loss)]
            stack.enter_context(Program(f"upstream {port}", command, lab.folder, lab.load_cpu))
            ports.append(f"{HERE}:{port}")
        yield ports


def measure_choice(lab: Lab, kind: Kind, far: Sequence[Far], policy: str = "fastest") -> Figures:
    """Mean and p99 of misses at a steady rate. For rdnscache also the upstream queries for each name, and `bad_share`,
    the share of them that went to the last two of four upstreams."""
    admin, count = free_port(), max(lab.scale.samples // 4, 1000)
    args = ("--admin", f"{HERE}:{admin}", "--upstream-policy", policy) if kind in OURS else ()
    with upstreams(lab, far) as addresses, lab.run(kind, *args, upstreams=addresses) as server:
        load.dnsperf(server.port, lab.write(load.cold_names(LEARNING)), once=True, rate=RATE)
        before = _queries(admin, addresses) if kind in OURS else []
        run = load.dnsperf(server.port, lab.write(load.cold_names(count)), once=True, rate=RATE, verbose=True)
        after = _queries(admin, addresses) if kind in OURS else []
    figures = {
        "mean_us": sum(run.latencies) / max(len(run.latencies), 1), "p50_us": load.percentile(run.latencies, 50),
        "p99_us": load.percentile(run.latencies, 99), "lost": run.lost, "failed": run.failed,
    }  # fmt: skip
    asked = [late - early for early, late in zip(before, after, strict=True)]
    if asked:
        figures["asked_per_name"] = sum(asked) / count
    if len(asked) == len(FOUR):
        figures["bad_share"] = sum(asked[2:]) / sum(asked)
    return figures


def _queries(admin: int, addresses: Sequence[str]) -> list[float]:
    """The number of queries sent to each upstream."""
    found = series(admin)
    return [found[f'rdnscache_upstream_queries_total{{upstream="{each}"}}'] for each in addresses]


def _choice(kinds: Sequence[Kind], _: bool) -> list[Case]:
    def way(far: Sequence[Far], policy: str = "fastest") -> Callable[[Lab, Kind], Figures]:
        return lambda lab, kind: measure_choice(lab, kind, far, policy)

    ways = {
        "best alone (2 ms)": way([BEST]), "2, 20, 20 ms with 30 % loss, dead": way(FOUR),
        "10 ms with 2 % loss alone": way([LOSSY]),
    }  # fmt: skip
    cases = [
        Case(f"{kind.name}, {label}", kind, measure)
        for kind in kinds
        if kind.name in ("rdnscache", "unbound", "dnsdist", "coredns")
        for label, measure in ways.items()
    ]
    return [*cases, Case("rdnscache, the four, race", OURS[0], way(FOUR, "race"))] if OURS[0] in kinds else cases


CHOOSING = [Row("upstreams", "cold names with upstreams of several kinds", _choice, compared="mean_us", grows=True)]
