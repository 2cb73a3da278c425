"""The last hour for display: the counts of each minute, of the cluster or of one node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rdnscache.breath import go_on
from rdnscache.hour import COLUMNS, STEP, STEPS, read_steps
from rdnscache.metrics import BOUNDS, RCODES
from rdnscache.operator.redis_clients import redis_errors
from rdnscache.operator.told import number
from rdnscache.operator.traffic import percentiles
from rdnscache.outcomes import LAYERS
from rdnscache.store.contract import Names
from rdnscache.store.hours import MOST_MEMBERS

#: Seconds after the end of a minute when every worker has reported it.
SETTLED = 5.0
#: Counts by minute since 1970.
Minutes = Mapping[int, Mapping[str, float]]


def minutes_until(wall: float) -> range:
    """The complete minutes of the last hour."""
    last = int(wall - SETTLED) // STEP
    return range(last - STEPS, last)


def of_cluster(client: Any, names: Names, wanted: Iterable[int], breathe: Callable[[], None] = go_on) -> Minutes:
    """From Redis. Raises StoreDown."""
    minutes = list(wanted)
    with redis_errors():
        pipeline = client.pipeline(transaction=False)
        for minute in minutes:
            pipeline.zrevrange(names.hour(minute), 0, MOST_MEMBERS, withscores=True)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    found = {}
    for minute, told in zip(minutes, replies, strict=True):
        pairs = ((each[0].decode("utf-8", "replace"), each[1]) for each in told) if isinstance(told, list) else ()
        found[minute] = {name: max(number(count), 0.0) for name, count in pairs if name in COLUMNS}
        breathe()
    return found


def of_node(told: Sequence[bytes], breathe: Callable[[], None] = go_on) -> Minutes:
    """From the reports of a node's workers on the board."""
    found: dict[int, dict[str, float]] = {}
    for each in told:
        for minute, counts in read_steps(each):
            sums = found.setdefault(minute, {})
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
        breathe()
    return found


def series(minutes: Minutes, wanted: range) -> dict[str, Any]:
    """Series with a number for each minute: rates per second, times in ms. Series that are always 0 are left out."""

    def rates(name: str) -> list[float]:
        return [round(minutes.get(minute, {}).get(name, 0) / STEP, 3) for minute in wanted]

    def those(names: Mapping[str, str]) -> dict[str, list[float]]:
        found = {shown: rates(name) for shown, name in names.items()}
        return {shown: each for shown, each in found.items() if any(each)}

    times = [percentiles(_buckets(minutes.get(minute, {}))) for minute in wanted]
    some = any(each["answers"] for each in times)
    return {
        "step": STEP,
        "end": wanted.stop * STEP,
        "answers": those({layer: layer for layer in LAYERS}),
        "rcodes": those({rcode: f"rcode.{rcode}" for rcode in RCODES}),
        "other": those({name: name for name in ("denied", "limited", "evicted")}),
        "ms": {name: [each.get(name, 0) for each in times] for name in ("p50", "p99")} if some else {},
    }


def _buckets(counts: Mapping[str, float]) -> list[float]:
    return [counts.get(f"seconds.{place}", 0) for place in range(len(BOUNDS) + 1)]
