"""Parts that several rows share: a slow upstream, and the counters of a node."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from bench import load
from bench.lab import Lab, Server
from bench.servers import Kind, Setting

SILENT = "c"  # the cold names


def slow_upstream(lab: Lab, delay: float, silent: str = "") -> AbstractContextManager[Server]:
    """An upstream that answers after `delay` seconds, and not at all for names that begin with `silent`."""

    def command(setting: Setting) -> list[str]:
        return [sys.executable, "-m", "bench.upstream", str(setting.port), str(delay), silent]

    return lab.run(Kind("upstream", sys.executable, "", (), command), cpu=lab.load_cpu)


def ask_together(running: Sequence[Server], files: Sequence[Path], *options: str) -> list[load.Run]:
    """Ask each server what is in its file, all at the same time; each file once."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for server, path in zip(running, files, strict=True):
            processes.append(load.start_dnsperf(server.port, path, "-n", "1", *options))
        return [load.finish(process, 240) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


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
