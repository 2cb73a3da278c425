"""What Redis and nodes spend as nodes become more: `python -m bench.scale [--nodes 4,16,32,64] [--rate 1000]`.

A balancer is imitated: each question of one stream, names drawn by Zipf's law, goes to a node drawn at random, each of
which has one worker; all share one Redis. Prints for each number of nodes what was asked and spent, and how many names
the model expects; at last what it says about 1,000 nodes, with the prices of a busy Redis, which reads many commands at
once.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import redis

from bench import load
from bench.lab import Lab, Scale, Server, redis_url
from bench.servers import OURS, Kind
from bench.system import free_port, wait_for
from bench.tools import ask_together, counters, slow_upstream

NAMES, QUESTIONS, RATE = 20_000, 40_000, 1_000
#: A large cluster: nodes, workers of each, questions a second, seconds that answers live, names by popularity.
LARGE = (1000, 2, 10_000_000.0, 300.0, 10_000_000)
#: Microseconds of CPU of a busy Redis: to claim and fill, to read an entry (rows miss-redis and l2-hit); of any Redis
#: for a worker's reports, in a second.
CLAIM_US, READ_US, REPORT_US = 20.0, 4.0, 150.0
#: Share of a CPU that a Redis is to use.
BUSY = 0.7
#: Seconds that an answer of the upstream takes; that nodes are left alone, to see what they spend then.
DELAY, IDLE = 0.02, 10.0


@dataclass(frozen=True)
class Run:
    """One number of nodes. Microseconds are of CPU, for all that was asked; upkeep is taken out."""

    nodes: int
    questions: int
    answered: int
    unique: int  # names asked
    by_node: int  # names asked of each node, summed over nodes
    upstream: int
    messages: int
    redis_us: float
    commands: int
    redis_idle_us: float  # a second
    node_idle_us: float  # a second, of one node
    pss_mb: float  # of one node


def distinct(questions: float, names: int) -> float:
    """How many of `names`, drawn by Zipf's law, are expected among so many questions."""
    scale = questions / sum_of_shares(names)
    found, rank = 0.0, 1.0
    while rank <= names:
        after = max(min(rank * 1.002, names + 1.0), rank + 1)
        middle = rank if after == rank + 1 else math.sqrt(rank * after)
        found += (1 - math.exp(-scale / middle)) * (after - rank)
        rank = after
    return found


def sum_of_shares(names: int) -> float:
    return math.log(names) + 0.57721566 + 0.5 / names


def on_paper() -> None:
    nodes, workers, rate, life, names = LARGE
    cold = distinct(rate * life, names) / life
    each = distinct(rate * life / (nodes * workers), names) / life
    reads = each * nodes * workers - cold
    cpus = (cold * CLAIM_US + reads * READ_US) / 1e6
    hits = 1 - (cold + reads) / rate
    print(f"\n{nodes:,} nodes of {workers} workers, {rate:,.0f} questions a second, {names:,} names, TTL {life:.0f} s:")
    print(f"  a second: {cold:,.0f} asked upstream, {reads:,.0f} read from Redis; hits in L1 {hits:.1%}")
    print(f"  CPUs of Redis for that: {cpus:.1f}; {math.ceil(cpus / BUSY)} primaries, {BUSY:.0%} busy")
    print(f"  reports of workers: {nodes * workers * REPORT_US / 1e6:.2f} CPUs of the primary that has the register")


def streams(nodes: int) -> list[list[str]]:
    """What each node is asked."""
    source = random.Random(1)
    batch = load.cold_names(NAMES)
    weights = [1 / (rank + 1) for rank in range(NAMES)]
    found: list[list[str]] = [[] for _ in range(nodes)]
    for name in source.choices(batch, weights, k=QUESTIONS):
        found[source.randrange(nodes)].append(name)
    return found


def measure(lab: Lab, kind: Kind, nodes: int, rate: int) -> Run:
    asked = streams(nodes)
    with ExitStack() as stack:
        upstream = stack.enter_context(slow_upstream(lab, DELAY))
        server = stack.enter_context(lab.redis())
        admins = [free_port() for _ in range(nodes)]
        running = [
            stack.enter_context(
                lab.run(
                    kind, "--redis", redis_url(server), "--node-id", f"n{number}", "--admin", f"127.0.0.1:{admin}",
                    upstream=upstream.port, entries=NAMES,
                )
            )
            for number, admin in enumerate(admins)
        ]  # fmt: skip
        client = stack.enter_context(redis.Redis(port=server.port))
        wait_for(lambda: client.zcard("rdns:1:nodes") >= nodes, 60, "not all nodes are in the register")
        begun = _spent(client, server, running, admins)
        time.sleep(IDLE)
        rested = _spent(client, server, running, admins)
        began = time.monotonic()
        files = [lab.write(names) for names in asked]
        runs = ask_together(running, files, "-c", "1", "-q", "500", "-Q", str(max(rate // nodes, 1)))
        taken = time.monotonic() - began
        done = _spent(client, server, running, admins)
        pss = sum(each.program.pss() for each in running) / nodes / 1e6
    idle = {name: (rested[name] - begun[name]) / IDLE for name in begun}
    load_only = {name: done[name] - rested[name] - idle[name] * taken for name in done}
    return Run(
        nodes=nodes,
        questions=QUESTIONS,
        answered=sum(run.completed - run.failed for run in runs),
        unique=len({name for names in asked for name in names}),
        by_node=sum(len(set(names)) for names in asked),
        upstream=int(done["upstream"] - rested["upstream"]),
        messages=int(done["messages"] - rested["messages"]),
        redis_us=load_only["redis"] * 1e6,
        commands=int(load_only["commands"]),
        redis_idle_us=idle["redis"] * 1e6,
        node_idle_us=idle["nodes"] / nodes * 1e6,
        pss_mb=pss,
    )


def _spent(client: redis.Redis, server: Server, running: Sequence[Server], admins: Sequence[int]) -> dict[str, float]:
    stats = client.info("commandstats")
    publish = stats.get("cmdstat_publish", {"calls": 0})
    return {
        "redis": server.program.cpu(),
        "nodes": sum(each.program.cpu() for each in running),
        "commands": sum(float(each["calls"]) for each in stats.values()),
        "messages": float(publish["calls"]),
        "upstream": sum(counters(admin)["rdnscache_upstream_queries_total"] for admin in admins),
    }


def told(runs: Sequence[Run]) -> None:
    print(
        "| nodes | asked | answered | names (model) | names by node (model) | upstream ÷ names | messages | commands |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for run in runs:
        names, by_node = (parts * distinct(QUESTIONS / parts, NAMES) for parts in (1, run.nodes))
        asked = (
            f"{run.questions:,} | {run.answered:,} | {run.unique:,} ({names:,.0f}) | {run.by_node:,} ({by_node:,.0f})"
        )
        print(f"| {run.nodes} | {asked} | {run.upstream / run.unique:.4f} | {run.messages:,} | {run.commands:,} |")
    print("\n| nodes | Redis CPU µs/question | idle: Redis ms/s | a node ms/s | PSS MB |")
    print("|---|---|---|---|---|")
    for run in runs:
        spent = f"{run.redis_us / run.questions:.1f} | {run.redis_idle_us / 1000:.1f} | {run.node_idle_us / 1000:.1f}"
        print(f"| {run.nodes} | {spent} | {run.pss_mb:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--nodes", default="4,16,32,64", help="how many nodes, with commas")
    parser.add_argument("--rate", type=int, default=RATE, help=f"questions a second to all together (default {RATE:,})")
    options = parser.parse_args()
    lab = Lab(Scale(seconds=2, cold=2000, samples=1000))
    kind = next(each for each in OURS if each.name == "rdnscache")
    try:
        told([measure(lab, kind, int(count), options.rate) for count in options.nodes.split(",")])
        on_paper()
    finally:
        lab.close()


if __name__ == "__main__":
    main()
