"""`python -m chaos pause`: the effect of a stopped Redis (SIGSTOP) on hits and misses, and when it is used again."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial

from chaos import names, rows
from chaos.client import FAILED, HOT, LOST, WRONG
from chaos.cluster import NODES, WORKERS, Cluster, wait_for

#: Seconds before, during and after the stop.
BEFORE, STOPPED, AFTER = 6.0, 5.0, 2.0
ROUNDS = 3
#: How often every node is asked twice for each hot name at first, so that all workers have it.
WARM = 8
#: Delays of the upstream in seconds.
DELAYS = (0.005, 0.02)
#: Default options; and a link that waits so long that only the breaker acts.
KINDS: tuple[tuple[str, Sequence[str]], ...] = (("default", ()), ("link waits 10 s", ("--redis-timeout", "10")))
#: Log lines of workers that stop using Redis, and that use it again; the seconds within which they have to.
LEFT, BACK = ("is not used until", "no Redis"), ("attached to Redis", "used again")
PATIENCE = 40.0


@dataclass
class Figures:
    """Latencies in ms, times in seconds."""

    options: str
    upstream_ms: float
    hits: dict[str, list[float]]
    misses: dict[str, list[float]]
    #: Seconds until workers stopped using Redis; and until they used it again after SIGCONT. `workers`: how many could.
    left: list[float]
    back: list[float]
    workers: int = ROUNDS * NODES * WORKERS
    bad: int = 0


def main(told: argparse.Namespace) -> int:
    found = [measured(told.rate, delay, name, options) for name, options in KINDS for delay in DELAYS]
    print(table(found))
    if told.json:
        told.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    return 1 if any(each.bad for each in found) else 0


def measured(rate: float, delay: float, name: str, options: Sequence[str]) -> Figures:
    figures = Figures(name, delay * 1000, {}, {}, [], [])
    windows: list[tuple[str, float, float]] = []
    with Cluster(rate, options) as cluster:
        cluster.upstream.delay = delay - names.USUAL_DELAY
        rows.recovery(cluster)
        for number in [*range(HOT)] * WARM:
            cluster.ask_all(f"h{number}.hot.chaos")
        cluster.begin(name)
        for _ in range(ROUNDS):
            time.sleep(BEFORE)
            stop = time.monotonic()
            os.kill(cluster.redis.process.pid, signal.SIGSTOP)
            try:
                time.sleep(STOPPED)
            finally:
                go_on = time.monotonic() - 0.001  # which is what the log's times are good for
                os.kill(cluster.redis.process.pid, signal.SIGCONT)
            left = events(cluster, stop, LEFT)
            wait_for(partial(_all_back, cluster, go_on, left), PATIENCE, "Redis is not used again")
            figures.left += left.values()
            figures.back += events(cluster, go_on, BACK).values()
            windows += [("before", stop - BEFORE / 2, stop - 0.1), ("stopped", stop, go_on - 0.5)]
            time.sleep(AFTER)
        records = cluster.finish()
    figures.bad = sum(record[4] in (LOST, FAILED, WRONG) for record in records)
    for kind, into in (("hot", figures.hits), ("cold", figures.misses)):
        for when in ("before", "stopped"):
            times = sorted(
                taken * 1000
                for sent, taken, _, number, _, _ in records
                if names.KINDS[number] == kind and any(w == when and a <= sent < b for w, a, b in windows)
            )
            into[when] = [times[len(times) // 2], times[len(times) * 99 // 100], times[-1], float(len(times))]
    return figures


def _all_back(cluster: Cluster, began: float, left: Mapping[str, float]) -> bool:
    return events(cluster, began, BACK).keys() >= left.keys()


def log_time(moment: float) -> float:
    """A time of the monotonic clock in the format of the logs."""
    return moment + time.time() - time.monotonic()


def events(cluster: Cluster, began: float, words: Sequence[str]) -> dict[str, float]:
    """For each worker (by process ID) that has said one of these since `began`, the seconds until it did."""
    found: dict[str, float] = {}
    for node in cluster.nodes:
        for line in node.log.read_text(errors="replace").splitlines():
            if any(word in line for word in words):
                stamp, pid = line[:24], line.partition("[")[2].partition("]")[0]
                moment = datetime.fromisoformat(stamp).timestamp() - log_time(began)
                if moment > 0:
                    found.setdefault(pid, moment)
    return found


def table(found: Sequence[Figures]) -> str:
    heads = ("options", "upstream ms", "hits before", "stopped", "misses before", "stopped", "left alone after s",
             "used again after s")  # fmt: skip
    lines = [heads, tuple("---" for _ in heads)]
    for each in found:
        times = [f"{w[0]:.1f} / {w[1]:.1f} / {w[2]:.1f}" for side in (each.hits, each.misses) for w in side.values()]
        left, back = (f"{min(moments):.2f} to {max(moments):.2f}" for moments in (each.left, each.back))
        left = f"{len(each.left)} of {each.workers}: {left}"
        lines.append((each.options, f"{each.upstream_ms:g}", *times, left, back))
    print("latencies in ms: p50 / p99 / worst", file=sys.stderr)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
