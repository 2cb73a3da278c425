"""The rows of the table. A row is a list of cases; a case is one server in one situation, started anew for each
measurement. Each round measures all cases of a row, so that drift affects them equally."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import load
from bench.far import far_redis, round_trip
from bench.lab import Figures, Lab, Server, redis_url
from bench.servers import CACHEDB, ECHO, OURS, Kind, shares

Measure = Callable[[Lab, Kind], Figures]

HIT_RATE, MISS_RATE = 4000, 1000  # of the latency runs, per second


@dataclass(frozen=True)
class Case:
    label: str
    kind: Kind
    measure: Measure


@dataclass(frozen=True)
class Row:
    """A row of the table; `compared` is the figure for its ratios."""

    name: str
    about: str
    cases: Callable[[Sequence[Kind], bool], list[Case]]  # of the chosen kinds, and whether to be quick
    compared: str = "cpu_us"
    needs_redis: bool = False
    grows: bool = False  # ratios are each case / the first, not rdnscache / each
    once: bool = False  # one round is enough


def all_of(measure: Measure, echo: bool = False) -> Callable[[Sequence[Kind], bool], list[Case]]:
    """One case for each server, and the echo server if `echo`."""
    return lambda kinds, _: [Case(kind.name, kind, measure) for kind in kinds if echo or kind is not ECHO]


def sharing(measure: Measure) -> Callable[[Sequence[Kind], bool], list[Case]]:
    """One case for each server that can use Redis."""
    return lambda kinds, quick: [
        *ours(measure)(kinds, quick),
        *(Case(CACHEDB.name, CACHEDB, measure) for kind in kinds if kind.name == CACHEDB.program and shares(CACHEDB)),
    ]


def ours(measure: Measure) -> Callable[[Sequence[Kind], bool], list[Case]]:
    return lambda kinds, _: [Case(kind.name, kind, measure) for kind in kinds if kind in OURS]


def measure_hits(lab: Lab, kind: Kind, args: Sequence[str] = (), tcp: bool = False) -> Figures:
    names = load.hot_names()
    with lab.run(kind, *args) as server:
        lab.warm(server, names)
        figures = lab.cost(server, lab.write(load.shuffled(names)), seconds=lab.scale.seconds, tcp=tcp)
        return figures | lab.latency(
            server, lab.write(load.shuffled(names * (lab.scale.samples // len(names)))), HIT_RATE, tcp
        )


def measure_tcp_hits(lab: Lab, kind: Kind) -> Figures:
    return measure_hits(lab, kind, tcp=True)


def measure_misses(lab: Lab, kind: Kind, *args: str, redis: Server | None = None) -> Figures:
    with lab.run(kind, *args) as server:
        lab.warm(server, load.hot_names(100))
        others = [redis.program] if redis else []
        figures = lab.cost(server, lab.write(load.cold_names(lab.scale.cold)), once=True, others=others)
        return figures | lab.latency(server, lab.write(load.cold_names(lab.scale.samples // 2)), MISS_RATE)


def measure_redis_misses(lab: Lab, kind: Kind) -> Figures:
    with lab.redis() as redis:
        return measure_misses(lab, kind, "--redis", redis_url(redis), redis=redis)


def measure_shared_hits(lab: Lab, kind: Kind) -> Figures:
    with lab.redis() as redis:
        return _shared_hits(lab, kind, redis_url(redis), [redis])


def measure_far_hits(lab: Lab, kind: Kind) -> Figures:
    """As `measure_shared_hits`, with Redis at a distance from both nodes."""
    with far_redis(lab) as (url, how):
        seconds = round_trip(url)
        figures = _shared_hits(lab, kind, url, [])
    figures |= {"rtt_us": seconds * 1e6, "netem": float(how == "netem"), "blocking_qps": 1 / seconds}
    return figures | {"times_blocking": figures["qps"] * seconds}


def _shared_hits(lab: Lab, kind: Kind, url: str, others: Sequence[Server]) -> Figures:
    """One node fills Redis and ends; then a new one is asked for each name once."""
    names, few = load.cold_names(lab.scale.cold), load.cold_names(lab.scale.samples)
    with lab.run(kind, "--redis", url) as first:
        run = load.dnsperf(first.port, lab.write([*names, *few]), once=True)
    with lab.run(kind, "--redis", url) as server:
        lab.warm(server, load.hot_names(100))
        programs = [other.program for other in others]
        figures = lab.cost(server, lab.write(load.shuffled(names)), once=True, others=programs)
        figures |= lab.latency(server, lab.write(load.shuffled(few)), HIT_RATE // 2)
    return figures | {"fill_lost": run.lost + run.failed}


def measure_mix(lab: Lab, kind: Kind) -> Figures:
    """Nine hot queries for each cold one, in random order."""
    hot, cold = load.hot_names(), load.cold_names(lab.scale.cold // 2)
    tenth = lab.scale.samples // 10
    few = load.shuffled([*random.Random(2).choices(hot, k=9 * tenth), *load.cold_names(tenth)])
    with lab.run(kind) as server:
        lab.warm(server, hot)
        mixed = load.shuffled([*random.Random(1).choices(hot, k=9 * len(cold)), *cold])
        figures = lab.cost(server, lab.write(mixed), once=True)
        return figures | lab.latency(server, lab.write(few), HIT_RATE // 2)


def measure_memory(lab: Lab, kind: Kind) -> Figures:
    """Memory of a server with a large, full cache minus that of one with a small cache, per entry.

    Growth while running would not do: some servers allocate all entries at the start. The names are then asked for
    again: misses would show in the CPU time.
    """
    small, count = 1000, int(lab.scale.cold * 2.5)
    with lab.run(kind, entries=small) as server:
        load.dnsperf(server.port, lab.write(load.cold_names(small)), once=True)
        before = server.program.pss()
    names = lab.write(load.cold_names(count))
    with lab.run(kind, entries=count + small) as server:
        figures = lab.cost(server, names, once=True)
        after = server.program.pss()
        again = lab.cost(server, names, once=True)
    each = (after - before) / (count - small)
    return {
        "bytes_per_entry": each, "entries": count, "pss_mb": after / 1e6, "again_us": again["cpu_us"],
        "lost": figures["lost"], "failed": figures["failed"],
    }  # fmt: skip


ROWS = [
    Row("l1-hit", "1,000 hot names over UDP", all_of(measure_hits, echo=True)),
    Row("l2-hit", "names that another node has stored in Redis", sharing(measure_shared_hits), needs_redis=True),
    Row("miss", "new names, without Redis", all_of(measure_misses)),
    Row("miss-redis", "the same with Redis: claim and fill", sharing(measure_redis_misses), needs_redis=True),
    Row("mix", "90 % hot, 10 % cold, without Redis", all_of(measure_mix)),
    Row("tcp-hit", "1,000 hot names over 8 TCP connections", all_of(measure_tcp_hits)),
    Row("memory", "memory per entry", all_of(measure_memory), compared="bytes_per_entry", once=True),
    Row("l2-far", "the same as l2-hit, Redis 1 ms away", ours(measure_far_hits), needs_redis=True),
]
