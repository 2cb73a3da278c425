"""The row `flood`: the effect on hits of a flood of misses that no upstream answers.

Each server is measured in three situations: without other load, with a load of hits at the rate of the flood, and with
the flood. The second shows how much of the difference is due to the load itself. A prober asks for hot names at a fixed
rate, whether or not replies arrive, and records the latencies.
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
LEAD = 12  # seconds a flood may take to have its effect


def probe(port: int, names: Sequence[str], seconds: float) -> tuple[list[float], int]:
    """Sorted latencies in µs of PROBES queries a second, and the number of those without a reply within a second."""
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
    """Send FLOOD queries a second while it lasts, by several dnsperfs: without replies one manages only 1,800/s."""
    options = ("-c", "8", "-q", "30000", "-Q", str(FLOOD // FLOODERS), "-l", str(int(seconds + LEAD)))
    processes = [load.start_dnsperf(server.port, lab.write(each), *options) for each in names]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _wait_until_full(admin: int) -> None:
    """Wait until a node sheds queries; for other servers, which do not report it, wait for a fixed time."""
    if not admin:
        time.sleep(LEAD / 4)
        return
    wait_for(lambda: counters(admin)["rdnscache_queries_shed_total"] > 0, LEAD - 2, "No query was shed")


def _cases(kinds: Sequence[Kind], _: bool) -> list[Case]:
    return [Case(kind.name, kind, measure_flood) for kind in kinds if kind in OURS or kind.name == "unbound"]


FLOOD_ROW = Row("flood", "latency of hits while unanswered misses exhaust every limit", _cases, compared="p99_us")
