"""Traffic statistics, combined from workers' reports: RCODEs, types, times, clients, L1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rdnscache.audience import KINDS, TOLD, TYPES_TOLD
from rdnscache.breath import go_on
from rdnscache.metrics import BOUNDS, RCODES
from rdnscache.operator.told import as_dict, as_list, number, word
from rdnscache.store.membership import Member

#: Percentiles of the response times that are given.
PERCENTILES = (50, 90, 99, 99.9)
#: Most orders that a node may report as answered together; longest text of a report in characters.
MOST_EVENTS, LONGEST_REASON = 20, 500
#: Longest client in characters, which is an IPv6 network.
_LONGEST_CLIENT = 50


def l1_of(members: Sequence[Member]) -> dict[str, int]:
    """The sums over the local caches of a node's workers."""
    counted = [as_dict(member.told.get("counters")) for member in members]
    config = [as_dict(member.told.get("config")) for member in members]
    found = {
        name: sum(number(each.get(f"l1_{name}")) for each in counted) for name in ("entries", "bytes", "evictions")
    }
    room = {f"room_{name}": sum(number(each.get(f"l1_{option}")) for each in config)
            for name, option in (("entries", "entries"), ("bytes", "memory"))}  # fmt: skip
    return {name: int(value) for name, value in (found | room).items()}


def order_of(members: Sequence[Member]) -> dict[str, Any]:
    """The result of a node's last order, as reported: which one it was, and why it was refused."""
    told = max((as_dict(member.told.get("order")) for member in members), key=lambda each: number(each.get("time")))
    if not told:
        return {}
    return {
        "what": word(told.get("what")),
        "time": number(told.get("time")),
        "events": [word(each) for each in as_list(told.get("events"))[:MOST_EVENTS]],
        "refused": word(told.get("refused", ""), LONGEST_REASON),
        "note": word(told.get("note", ""), LONGEST_REASON),
    }


def rcodes(members: Sequence[Member], breathe: Callable[[], None] = go_on) -> dict[str, float]:
    """Replies per second by RCODE, over the last seconds."""
    found = dict.fromkeys(RCODES, 0.0)
    for member in members:
        recent, seconds = as_dict(member.told.get("recent")), max(number(member.told.get("recent_seconds")), 0.001)
        for rcode in RCODES if member.present else ():
            both = (number(recent.get(f"replies.{transport}.{rcode}")) for transport in ("udp", "tcp"))
            found[rcode] += sum(both) / seconds
        breathe()
    return {rcode: round(rate, 2) for rcode, rate in found.items()}


def types(members: Sequence[Member], breathe: Callable[[], None] = go_on) -> dict[str, float]:
    """The types asked for most, each as a share of all reported."""
    found: Counter[str] = Counter()
    for member in members:
        found.update(_counts(_audience(member).get("types"), TYPES_TOLD))
        breathe()
    total = sum(found.values())
    return {name: round(count / total, 4) for name, count in found.most_common(TYPES_TOLD) if count > 0}


def clients(members: Sequence[Member], breathe: Callable[[], None] = go_on) -> dict[str, Any]:
    """The busiest clients of each kind with their numbers of queries, and the number of seconds these cover at most."""
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    seconds = 0.0
    for member in members:
        told = _audience(member)
        seconds = max(seconds, number(told.get("seconds")))
        for kind, sums in found.items():
            sums.update(_counts(told.get(kind), TOLD))
            if len(sums) > 50 * TOLD:
                found[kind] = Counter(dict(sums.most_common(25 * TOLD)))
        breathe()
    lists = {kind: [{"client": each, "queries": count} for each, count in sums.most_common(TOLD) if count > 0]
             for kind, sums in found.items()}  # fmt: skip
    return {"seconds": round(seconds)} | lists


def _audience(member: Member) -> dict[str, Any]:
    return as_dict(member.told.get("audience")) if member.present else {}


def _counts(told: Any, most: int) -> dict[str, int]:
    """Pairs of a word and a count."""
    pairs = [each for each in as_list(told)[:most] if isinstance(each, list) and len(each) == 2]
    return {word(name, _LONGEST_CLIENT): int(max(number(count), 0)) for name, count in pairs}


def latency(members: Sequence[Member], breathe: Callable[[], None] = go_on) -> dict[str, Any]:
    """The percentiles of response times in ms: of all answers, and of those not from L1."""
    sums = {which: [0.0] * (len(BOUNDS) + 1) for which in ("all", "missed")}
    seconds = 0.0
    for member in members:
        told = as_dict(member.told.get("durations")) if member.present else {}
        seconds = max(seconds, number(told.get("seconds")))
        for which, buckets in sums.items():
            found = as_list(told.get(which))
            if len(found) == len(buckets):
                sums[which] = [old + max(number(new), 0.0) for old, new in zip(buckets, found, strict=True)]
        breathe()
    return {"seconds": round(seconds)} | {which: percentiles(buckets) for which, buckets in sums.items()}


def percentiles(buckets: Sequence[float]) -> dict[str, float]:
    """Milliseconds by percentile, interpolated linearly inside a bucket; and the number of answers."""
    total = sum(buckets)
    found = {"answers": total}
    for percent in PERCENTILES:
        wanted, below = total * percent / 100, 0.0
        for place, count in enumerate(buckets):
            if count and below + count >= wanted:
                low = BOUNDS[place - 1] if place else 0.0
                high = BOUNDS[min(place, len(BOUNDS) - 1)]
                found[f"p{percent:g}"] = round(1000 * (low + (high - low) * (wanted - below) / count), 3)
                break
            below += count
    return found
