"""The row `flood`: what hits feel of a flood of misses that no upstream answers.

Three situations for each server: nothing else is asked, the same rate of hits beside, the flood beside. The second
says how much of the difference is the load itself. A prober asks for hot names at a fixed rate, whether or not replies
come, and notes the latency of each.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench import load
from bench.lab import Figures, Lab, Server
from bench.rows import Case, Row
from bench.servers import OURS, Kind
from bench.system import free_port, wait_for
from bench.tools import SILENT, counters, slow_upstream

PROBES, FLOOD = 1000, 5000  # per second
FLOODERS = 3
LEAD = 12  # seconds a flood may take until it is felt


def probe(port: int, names: Sequence[str], seconds: float) -> tuple[list[float], int]:
    """Sorted latencies in µs of PROBES questions a second, and how many of them had no reply within a second."""
    count = int(seconds * PROBES)
    sent: dict[int, float] = {}
    latencies = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        start, asked = time.perf_counter(), 0
        while (now := time.perf_counter()) < start + seconds + 1 and (asked < count or sent):
            due = start + asked / PROBES
            if asked < count and now >= due:
                sent[asked] = time.perf_counter()
                sock.send(load.query(names[asked % len(names)], asked))
                asked += 1
            elif select.select([sock], [], [], max(due - now, 0) if asked < count else 0.1)[0]:
                data, taken = sock.recv(4096), time.perf_counter()
                begun = sent.pop(int.from_bytes(data[:2], "big"), None)
                if begun is not None and data[3] & 15 == 0:
                    latencies.append((taken - begun) * 1e6)
    return sorted(latencies), asked - len(latencies)


def measure_flood(lab: Lab, kind: Kind) -> Figures:
    hot = load.hot_names()
    seconds = max(lab.scale.seconds, 2)
    admin = free_port()
    args = ("--admin", f"127.0.0.1:{admin}") if kind in OURS else ()
    with slow_upstream(lab, 0, SILENT) as upstream, lab.run(kind, *args, upstream=upstream.port) as server:
        lab.warm(server, hot)
        quiet, lost = probe(server.port, hot, seconds)
        with flooding(lab, server, [hot] * FLOODERS, seconds):
            beside, _ = probe(server.port, hot, seconds)
        cold = [load.cold_names(int(FLOOD / FLOODERS * (seconds + LEAD))) for _ in range(FLOODERS)]
        with flooding(lab, server, cold, seconds):
            _wait_until_full(admin if kind in OURS else 0)
            flooded, flood_lost = probe(server.port, hot, seconds)
        after = counters(admin) if kind in OURS else {}
    p99 = [load.percentile(each, 99) for each in (quiet, beside, flooded)]
    figures = {
        "p50_us": load.percentile(flooded, 50), "p99_us": p99[2], "lost": flood_lost, "quiet_lost": lost,
        "quiet_p50_us": load.percentile(quiet, 50), "quiet_p99_us": p99[0], "hits_p99_us": p99[1],
        "flood_to_quiet": p99[2] / p99[0], "flood_to_hits": p99[2] / p99[1],
        "quiet_max_us": quiet[-1] if quiet else 0, "flood_max_us": flooded[-1] if flooded else 0,
    }  # fmt: skip
    shed = after.get("rdnscache_queries_shed_total")
    return figures | ({"shed": shed} if shed is not None else {})


@contextmanager
def flooding(lab: Lab, server: Server, names: Sequence[Sequence[str]], seconds: float) -> Iterator[None]:
    """FLOOD questions a second while it lasts; by several dnsperfs, as one manages only 1,800/s without replies."""
    options = ("-c", "8", "-q", "30000", "-Q", str(FLOOD // FLOODERS), "-l", str(int(seconds + LEAD)))
    processes = [load.start_dnsperf(server.port, lab.write(each), *options) for each in names]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _wait_until_full(admin: int) -> None:
    """Until a node refuses questions; of other servers, which do not say so, as long as that would take."""
    if not admin:
        time.sleep(LEAD / 4)
        return
    wait_for(lambda: counters(admin)["rdnscache_queries_shed_total"] > 0, LEAD - 2, "The flood filled no bound")


def _cases(kinds: Sequence[Kind], _: bool) -> list[Case]:
    return [Case(kind.name, kind, measure_flood) for kind in kinds if kind in OURS or kind.name == "unbound"]


FLOOD_ROW = Row("flood", "latency of hits while misses nobody answers fill every bound", _cases, compared="p99_us")
