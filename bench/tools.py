"""Parts that several rows share: a slow upstream, and the counters of a node."""

from __future__ import annotations

import sys
import urllib.request
from contextlib import AbstractContextManager

from bench.lab import Lab, Server
from bench.servers import Kind, Setting

SILENT = "c"  # the cold names


def slow_upstream(lab: Lab, delay: float, silent: str = "") -> AbstractContextManager[Server]:
    """An upstream that answers after `delay` seconds, and not at all for names that begin with `silent`."""

    def command(setting: Setting) -> list[str]:
        return [sys.executable, "-m", "bench.upstream", str(setting.port), str(delay), silent]

    return lab.run(Kind("upstream", sys.executable, "", (), command), cpu=lab.load_cpu)


def series(admin: int) -> dict[str, float]:
    """The values in a node's /metrics, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    parts = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in parts}


def counters(admin: int) -> dict[str, float]:
    """The same, summed over labels."""
    found: dict[str, float] = {}
    for name, value in series(admin).items():
        plain = name.partition("{")[0]
        found[plain] = found.get(plain, 0.0) + value
    return found
