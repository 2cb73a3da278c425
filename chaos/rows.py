"""One fault after the other under load, and its effect on the clients."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from chaos.client import FAILED, GOOD, LOST, WRONG
from chaos.cluster import ChaosError, Cluster
from chaos.faults import Fault

#: The cluster-wide flight works again when it has worked this many times in a row; the seconds that may take.
IN_A_ROW, PATIENCE = 5, 30.0
FLUSH_PATIENCE = 10.0
_number = itertools.count(1)


@dataclass
class Row:
    """The effect of a fault on the clients. Times are in seconds; a failure counts as a lost answer."""

    name: str
    text: str
    queries: int = 0
    lost: int = 0
    wrong: int = 0
    #: Answered, but not at the first try.
    retried: int = 0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    #: Names asked for the first time, and upstream queries above one for each.
    cold: int = 0
    extra: int = 0
    #: From the end of the fault until a cold name that all nodes are asked for at once costs one upstream query.
    recovery: float = -1.0
    #: Nodes that did not confirm a flush afterwards.
    unconfirmed: Sequence[str] = ()
    #: A note about the fault, and the flaws found.
    note: str = ""
    flaws: Sequence[str] = ()

    @property
    def good(self) -> bool:
        return not self.lost and not self.wrong and self.recovery >= 0 and not self.unconfirmed and not self.flaws


def run(cluster: Cluster, fault: Fault, rest: float) -> Row:
    """Cause the fault, time the recovery, flush; the clients go on for `rest` seconds more."""
    number = cluster.begin(fault.name)
    row = Row(fault.name, fault.text)
    print(f"{number:3} {fault.name}: {fault.text} …", file=sys.stderr, flush=True)
    outcome = fault.strike(cluster)
    if outcome is not None:
        row.note, row.flaws = outcome.note, outcome.flaws
        print("\n".join([f"    {row.note}", *row.flaws[:20]]), file=sys.stderr, flush=True)
    row.recovery = recovery(cluster)
    if row.recovery >= 0:
        row.unconfirmed = flushed(cluster)
    time.sleep(rest)
    return row


def flushed(cluster: Cluster) -> list[str]:
    """Flush until all nodes confirm, for a while; returns those that do not. Killed workers are waited for first."""
    ends = time.monotonic() + FLUSH_PATIENCE
    while (missing := cluster.change()) and time.monotonic() < ends:
        continue
    return missing


def recovery(cluster: Cluster) -> float:
    """Seconds from now until the cluster-wide flight works again; -1 when it does not."""
    began = time.monotonic()
    since, streak = began, 0
    while time.monotonic() - began < PATIENCE:
        name = f"p{next(_number)}.probe.chaos"
        if cluster.ask_all(name) and cluster.upstream.counts[name] == 1:
            since = since if streak else time.monotonic()
            streak += 1
            if streak == IN_A_ROW:
                return since - began
        else:
            streak = 0
        time.sleep(0.02)
    return -1.0


def settle(cluster: Cluster, rows: Sequence[Row]) -> None:
    """End the clients and add their records to the rows."""
    records = cluster.finish()
    for number, row in enumerate(rows, 1):
        mine = [record for record in records if record[2] == number]
        times = sorted(record[1] for record in mine) or [0.0]
        row.queries = len(mine)
        row.lost = sum(record[4] in (LOST, FAILED) for record in mine)
        row.wrong = sum(record[4] == WRONG for record in mine)
        row.retried = sum(record[4] == GOOD and record[5] > 1 for record in mine)
        row.p50, row.p99, row.worst = times[len(times) // 2], times[len(times) * 99 // 100], times[-1]
        row.cold, row.extra = cluster.upstream.asked_for(number)
    if not all(row.queries for row in rows):
        raise ChaosError("the clients asked nothing")


HEADS = ("fault", "queries", "lost", "wrong", "asked again", "p50 ms", "p99 ms", "worst ms", "cold names",
         "extra upstream", "recovered s", "flush")  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [HEADS, tuple("---" for _ in HEADS)]
    for row in rows:
        times = (f"{seconds * 1000:.1f}" for seconds in (row.p50, row.p99, row.worst))
        recovered = f"{row.recovery:.2f}" if row.recovery >= 0 else "never"
        flush = ", ".join(row.unconfirmed) or "proved"
        text = f"{row.text}: {row.note}" if row.note else row.text
        counts = (row.queries, row.lost, row.wrong, row.retried)
        lines.append((text, *map(str, counts), *times, str(row.cold), str(row.extra), recovered, flush))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [asdict(row) | {"good": row.good} for row in rows]
