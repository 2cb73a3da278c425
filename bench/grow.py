"""The rows `grow-…`: the cost of a query with more entries, workers, nodes. Ratios are to the first line of a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import redis

from bench import load
from bench.lab import Figures, Lab, Server, redis_url
from bench.rows import HIT_RATE, Case, Measure, Row, measure_hits
from bench.servers import OURS, Kind
from bench.system import free_port, wait_for
from bench.tools import ask_together, counters, slow_upstream

SPREAD = 2000  # questions per second to all nodes together
DELAY = 0.2  # of the upstream, so that nodes wait for one another


def sizes(
    measure: Callable[[Lab, Kind, int], Figures], unit: str, full: Iterable[int], quick: Iterable[int]
) -> Callable[[Sequence[Kind], bool], list[Case]]:
    """A case for each size, of each form of rdnscache."""

    def cases(kinds: Sequence[Kind], is_quick: bool) -> list[Case]:
        found = []
        for kind in kinds:
            for size in (quick if is_quick else full) if kind in OURS else ():
                label = f"{kind.name}, {size:,} {unit if size > 1 else unit.rstrip('s')}"
                found.append(Case(label, kind, _of_size(measure, size)))
        return found

    return cases


def _of_size(measure: Callable[[Lab, Kind, int], Figures], size: int) -> Measure:
    return lambda lab, kind: measure(lab, kind, size)


def measure_entries(lab: Lab, kind: Kind, entries: int) -> Figures:
    """Hits for names drawn evenly from an L1 of a given size."""
    names = load.cold_names(entries)
    admin = free_port()
    args = ("--admin", f"127.0.0.1:{admin}")
    with lab.run(kind, *args, entries=entries + 10) as server:
        began = time.monotonic()
        load.dnsperf(server.port, lab.write(names), once=True, seconds=400)
        filled = time.monotonic() - began
        wait_for(lambda: _held(admin) >= entries * 0.999, 5, f"L1 does not hold {entries} entries")
        mixed = lab.write(load.shuffled(names))
        figures = lab.cost(server, mixed, seconds=lab.scale.seconds)
        figures |= {"entries": _held(admin), "fill_seconds": filled, "pss_mb": server.program.pss() / 1e6}
        return figures | lab.latency(server, lab.write(load.shuffled(names)[: lab.scale.samples]), HIT_RATE)


def _held(admin: int) -> float:
    return counters(admin)["rdnscache_l1_entries"]


def measure_workers(lab: Lab, kind: Kind, workers: int) -> Figures:
    return measure_hits(lab, kind, args=("--workers", str(workers)))


def measure_nodes(lab: Lab, kind: Kind, nodes: int) -> Figures:
    """The same cold names asked of all nodes at about the same time, with one Redis."""
    names = lab.write(load.cold_names(min(lab.scale.cold // 8, 2000)))
    with ExitStack() as stack:
        upstream = stack.enter_context(slow_upstream(lab, DELAY))
        server = stack.enter_context(lab.redis())
        admins = [free_port() for _ in range(nodes)]
        running = [
            stack.enter_context(lab.run(kind, *_node(number, admin, server), upstream=upstream.port))
            for number, admin in enumerate(admins)
        ]
        client = stack.enter_context(redis.Redis(port=server.port))
        before = _state(client, server, running, admins)
        runs = _ask_all(running, names)
        after = _state(client, server, running, admins)
    asked = sum(run.completed for run in runs)
    spent = {name: after[name] - before.get(name, 0) for name in after}
    figures = {
        f"redis_{name}": round(count / asked, 4) for name, count in spent.items() if name.startswith("cmd_") and count
    }
    return figures | {
        "cpu_us": spent["cpu"] / asked * 1e6,
        "redis_cpu_us": spent["redis"] / asked * 1e6,
        "redis_commands": sum(count for name, count in spent.items() if name.startswith("cmd_")) / asked,
        "messages": spent.get("cmd_publish", 0) / asked,
        "rechecks": spent["rechecks"] / asked,
        "upstream_per_name": spent["upstream"] / (asked / nodes),
        "qps": asked / max(run.seconds for run in runs),
        "queries": asked,
        "lost": sum(run.lost for run in runs),
        "failed": sum(run.failed for run in runs),
    }


def _node(number: int, admin: int, server: Server) -> tuple[str, ...]:
    return ("--redis", redis_url(server), "--node-id", f"n{number}", "--admin", f"127.0.0.1:{admin}")


def _ask_all(running: Sequence[Server], names: Path) -> list[load.Run]:
    """All nodes at the same pace, so that they come to each name at about the same time."""
    pace = ("-c", "4", "-q", "2000", "-Q", str(SPREAD // len(running)))
    return ask_together(running, [names] * len(running), *pace)


def _state(client: redis.Redis, server: Server, running: Sequence[Server], admins: Sequence[int]) -> dict[str, float]:
    """What Redis and the nodes have used and counted so far. Commands within scripts count as commands too."""
    stats = client.info("commandstats")
    upkeep = ("cmdstat_info", "cmdstat_ping", "cmdstat_hello", "cmdstat_client", "cmdstat_auth", "cmdstat_select")
    state = {
        name.replace("cmdstat_", "cmd_").replace("|", "_"): float(each["calls"])
        for name, each in stats.items()
        if not name.startswith(upkeep)
    }
    counted = [counters(admin) for admin in admins]
    return state | {
        "redis": server.program.cpu(),
        "cpu": sum(node.program.cpu() for node in running),
        "upstream": sum(each["rdnscache_upstream_queries_total"] for each in counted),
        "rechecks": sum(each["rdnscache_rechecks_total"] for each in counted),
    }


GROW = [
    Row(
        "grow-entries",
        "hits drawn evenly from L1",
        sizes(measure_entries, "entries", (1000, 100_000, 1_000_000), (1000, 100_000)),
        grows=True,
    ),
    Row(
        "grow-workers",
        "1,000 hot names, all workers on one CPU",
        sizes(measure_workers, "workers", (1, 2, 4), (1, 2, 4)),
        grows=True,
    ),
    Row(
        "grow-nodes",
        "all nodes asked the same cold names at 2,000/s in all, the upstream 0.2 s away; per question of a client",
        sizes(measure_nodes, "nodes", (1, 4, 16), (1, 4, 16)),
        needs_redis=True,
        grows=True,
    ),
]
