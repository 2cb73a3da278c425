"""`python -m chaos soak --minutes N`: steady load, a fault every 20 s, and the memory of every process."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chaos import rows
from chaos.cluster import ChaosError, Cluster
from chaos.faults import FAULTS

#: Seconds from fault to fault at least, and between two looks at the memory.
EVERY, LOOK = 20.0, 5.0
#: Bounds that are reached early on: what grows after that is a leak.
NODE_OPTIONS = ("--l1-entries", "2000")
REDIS_OPTIONS = ("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lfu")
#: Where the curves begin to count, as a share of the time: by then all bounds are reached.
SETTLED = 0.2
WIDTH, HEIGHT, LEFT, TOP = 800, 360, 50, 20
COLOURS = ("#1b6ca8", "#e07b39", "#3a9b5c", "#b03a5b", "#7d5ba6", "#8a8d2a", "#555555", "#2aa5a0", "#c0a030", "#000000")


@dataclass
class Soak:
    """The memory of each process, as (seconds since the beginning, MiB); a process keeps its name when it restarts."""

    began: float = field(default_factory=time.monotonic)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def look(self, cluster: Cluster) -> None:
        now = time.monotonic() - self.began
        processes = {"redis": cluster.redis.process.pid}
        for number, node in enumerate(cluster.nodes):
            processes[f"n{number}"] = node.process.pid
            processes |= {f"n{number}.{worker}": pid for worker, pid in enumerate(cluster.workers(number))}
        for process, pid in processes.items():
            if size := resident(pid):
                self.curves.setdefault(process, []).append((now, size))

    def figures(self) -> dict[str, dict[str, float]]:
        """The memory of each process in MiB: at first, once settled, at the end, and its maximum."""
        found = {}
        for process, curve in sorted(self.curves.items()):
            settled = next(size for moment, size in curve if moment >= SETTLED * curve[-1][0])
            sizes = [size for _, size in curve]
            found[process] = {"first": sizes[0], "settled": settled, "last": sizes[-1], "most": max(sizes)}
        return found


def resident(pid: int) -> float:
    """MiB in memory; 0 when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / (1 << 20)
    except OSError:
        return 0.0


def main(told: argparse.Namespace) -> int:
    found: list[rows.Row] = []
    with Cluster(told.rate, NODE_OPTIONS, REDIS_OPTIONS) as cluster:
        rows.recovery(cluster)
        soak = Soak()
        ends = soak.began + told.minutes * 60
        while time.monotonic() < ends:
            due = time.monotonic() + EVERY
            found.append(rows.run(cluster, random.choice(FAULTS), 0))
            soak.look(cluster)
            while time.monotonic() < due:
                time.sleep(LOOK)
                soak.look(cluster)
        minutes = (time.monotonic() - soak.began) / 60
        rows.settle(cluster, found)
        complaints = cluster.client.log.read_text()
    report(found, soak, minutes)
    print(f"\nThe upstream itself was late by {cluster.upstream.late:.2f} s at most.")
    print(complaints[:4000], end="", file=sys.stderr)
    if told.svg:
        told.svg.write_text(drawing(soak.curves))
    if told.json:
        figures = {"minutes": minutes, "memory": soak.figures(), "rows": rows.as_json(found)}
        told.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(row.good for row in found) else 1


def report(found: list[rows.Row], soak: Soak, minutes: float) -> None:
    """Print the clients' results, the faults and the memory as Markdown."""
    total = {name: sum(getattr(row, name) for row in found) for name in ("queries", "lost", "wrong", "cold", "extra")}
    faults = ", ".join(f"{count} {name}" for name, count in Counter(row.name for row in found).most_common())
    recoveries = sorted(row.recovery for row in found)
    print(f"{minutes:.1f} minutes, {len(found)} faults: {faults}.")
    worst = max(row.worst for row in found)
    print(f"{total['queries']} queries, {total['lost']} lost, {total['wrong']} wrong; worst {worst:.2f} s.")
    print(f"{total['cold']} cold names, {total['extra']} upstream queries above one for each.")
    print(f"Recovered within {recoveries[len(recoveries) // 2]:.2f} s (median), {recoveries[-1]:.2f} s at most.\n")
    print("| process | first MiB | after a fifth | last | most |\n| --- | --- | --- | --- | --- |")
    for process, sizes in soak.figures().items():
        print(f"| {process} | {' | '.join(f'{size:.1f}' for size in sizes.values())} |")


def drawing(curves: dict[str, list[tuple[float, float]]]) -> str:
    """Draw the curves as SVG."""
    if not curves:
        raise ChaosError("there is nothing to draw")
    end = max(curve[-1][0] for curve in curves.values())
    top = max(size for curve in curves.values() for _, size in curve) * 1.1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * LEFT} {HEIGHT + 3 * TOP}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for step in range(6):
        y = TOP + HEIGHT * (1 - step / 5)
        x = LEFT + WIDTH * step / 5
        parts.append(f'<path d="M{LEFT} {y:.0f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{top * step / 5:.0f}</text>')
        parts.append(f'<text x="{x:.0f}" y="{TOP * 2 + HEIGHT}" text-anchor="middle">{end * step / 300:.1f} min</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 6}">MiB in memory (RSS), a fault every {EVERY:.0f} s</text>')
    for number, (process, curve) in enumerate(sorted(curves.items())):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{LEFT + WIDTH * at / end:.1f},{TOP + HEIGHT * (1 - size / top):.1f}" for at, size in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + WIDTH + 6}" y="{TOP + 12 + 16 * number}" fill="{colour}">{process}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
