"""The queries that an upstream with a budget receives: `python -m bench.budget`.

Three nodes of two workers may send it 200 queries a second and are asked for 2,000 new names a second, and for cached
and stale names as well; then one node is cut off from Redis. The upstream records the arrival of each query by the
kernel's clock and reports the maximum in any second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.counting import CountingUpstream, Flood
from bench.lab import Lab, Scale, Server, redis_url
from bench.servers import HERE, OURS
from bench.steer import ask, members
from bench.system import free_port, wait_for

BUDGET, ASKED, SECONDS = 200, 2000, 5.0
NODES, WORKERS = 3, 2
#: TTL of names that are to become stale, and of all others, in seconds.
STALE, TTL = 2, 300


@contextmanager
def nodes(lab: Lab, urls: Sequence[str], upstream: CountingUpstream) -> Iterator[list[Server]]:
    args = ("--workers", str(WORKERS), "--upstream-budget", f"{BUDGET}/s", "--warm", "0")
    with ExitStack() as stack:
        found = [
            stack.enter_context(
                lab.run(OURS[0], *args, "--redis", url, "--node-id", f"n{number}", upstream=upstream.port)
            )
            for number, url in enumerate(urls)
        ]
        wait_for(lambda: len(members(urls[-1])) == WORKERS * len(urls), 60, "the nodes do not register")
        yield found


def flood(servers: Sequence[Server], upstream: CountingUpstream, seconds: float, label: str) -> str:
    """Ask for new names, and for cached and stale ones in between."""
    ports = [server.port for server in servers]
    upstream.ttl = STALE
    for port in ports:
        ask(port, f"stale.{label}.bench")
    upstream.ttl = TTL
    for port in ports:
        ask(port, f"hot.{label}.bench")
    time.sleep(STALE + 0.1)
    before, answered, late, times = len(upstream.heard), 0, 0, []
    with Flood(ports, label) as load:
        load.run(ASKED, 0.5)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            load.run(ASKED, 0.05)
            for port in ports:
                for name in ("hot", "stale"):
                    begun = time.monotonic()
                    told = ask(port, f"{name}.{label}.bench")
                    answered += told > 0
                    late += told <= 0
                    times.append(time.monotonic() - begun)
        heard = len(upstream.heard) - before
        asked = load.asked
    slow = sorted(times)[len(times) * 99 // 100] * 1e3
    return (
        f"{asked} new names asked; the upstream received {heard}, {upstream.most_in()} in its busiest second; "
        f"{answered} hits and stale answers arrived and {late} did not, 99 % within {slow:.1f} ms"
    )


def quiet(servers: Sequence[Server], upstream: CountingUpstream) -> str:
    """Latency far below the budget, where a miss waits for Redis and the upstream only."""
    times = []
    for number in range(200):
        begun = time.monotonic()
        ask(servers[number % len(servers)].port, f"x{number}.quiet.bench")
        times.append(time.monotonic() - begun)
        time.sleep(0.02)
    times.sort()
    return f"median {times[100] * 1e3:.2f} ms, 99 % within {times[198] * 1e3:.2f} ms"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    lab = Lab(Scale(seconds=SECONDS, cold=0, samples=0))
    try:
        with lab.redis() as redis, CountingUpstream(TTL) as upstream:
            own = redis_url(redis)
            relay = free_port()
            words = [sys.executable, "-m", "bench.proxy", str(relay), own.rpartition(":")[2].partition("/")[0], "0"]
            line = subprocess.Popen(words)
            try:
                with nodes(lab, [f"redis://{HERE}:{relay}", *[own] * (NODES - 1)], upstream) as servers:
                    print(f"50 new names a second   {quiet(servers, upstream)}")
                    print(f"{ASKED} a second          {flood(servers, upstream, SECONDS, 'all')}")
                    line.terminate()
                    line.wait()
                    print(f"one node is cut off     {flood(servers, upstream, SECONDS, 'cut')}")
            finally:
                line.kill()
                line.wait()
    finally:
        lab.close()


if __name__ == "__main__":
    main()
