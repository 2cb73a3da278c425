"""A Redis a millisecond away: in a network namespace with netem, or behind a proxy where the kernel has none."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import redis

from bench.lab import Lab, redis_answers
from bench.servers import REDIS, Kind, Setting, redis_server
from bench.system import free_port

ONE_WAY = 0.0005  # seconds
NETEM = ("netem", "delay", "0.5ms")
OURS, THEIRS = "198.18.53.1", "198.18.53.2"  # from the range reserved for benchmarks (RFC 2544)


@contextmanager
def far_redis(lab: Lab) -> Iterator[tuple[str, str]]:
    """Run a distant Redis; yields its URL and how the delay is made."""
    with ExitStack() as stack:
        try:
            namespace = stack.enter_context(_namespace())
        except (OSError, subprocess.CalledProcessError):
            yield _proxied(lab, stack), "proxy"
        else:
            port = free_port()
            there = lab.run(_inside(namespace, port), cpu=lab.load_cpu, ready=lambda _: redis_answers(port, THEIRS))
            stack.enter_context(there)
            yield f"redis://{THEIRS}:{port}", "netem"


def _proxied(lab: Lab, stack: ExitStack) -> str:
    server = stack.enter_context(lab.redis())

    def command(setting: Setting) -> list[str]:
        return [sys.executable, "-m", "bench.proxy", str(setting.port), str(server.port), str(ONE_WAY)]

    proxy = Kind("proxy", sys.executable, "", (), command)
    port = stack.enter_context(lab.run(proxy, cpu=lab.load_cpu, ready=redis_answers)).port
    return f"redis://127.0.0.1:{port}"


def _inside(namespace: str, port: int) -> Kind:
    """A Redis that runs in the namespace."""

    def command(setting: Setting) -> list[str]:
        line = redis_server(replace(setting, port=port))
        return ["ip", "netns", "exec", namespace, *(THEIRS if part == "127.0.0.1" else part for part in line)]

    return replace(REDIS, command=command)


@contextmanager
def _namespace() -> Iterator[str]:
    """A network namespace at the other end of a slow veth pair; raises if the kernel or the user's rights forbid it."""
    name = f"rdnsbench{os.getpid()}"
    near, far = f"rb{os.getpid()}a", f"rb{os.getpid()}b"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    inside = ("ip", "netns", "exec", name)
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        run("ip", "address", "add", f"{OURS}/30", "dev", near)
        run(*inside, "ip", "address", "add", f"{THEIRS}/30", "dev", far)
        run("ip", "link", "set", near, "up")
        run(*inside, "ip", "link", "set", far, "up")
        run("tc", "qdisc", "add", "dev", near, "root", *NETEM)
        run(*inside, "tc", "qdisc", "add", "dev", far, "root", *NETEM)
        yield name
    finally:
        subprocess.run(("ip", "link", "delete", near), check=False, capture_output=True)
        subprocess.run(("ip", "netns", "delete", name), check=False, capture_output=True)


def round_trip(url: str) -> float:
    """Median seconds of a PING."""
    with redis.Redis.from_url(url) as client:
        taken = []
        for _ in range(200):
            start = time.perf_counter()
            client.ping()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)
