"""The load: query files, dnsperf, and its output.

CPU and queries/s are measured at the full speed of dnsperf and the server (100 queries outstanding). Latencies are not:
at full load they show only the length of the queue. They are measured in a second, short run at a low fixed rate, in
which dnsperf -v prints the latency of each query (2.10 has no histogram).
8 clients with 100 outstanding queries load all servers fully; with 400 the sockets of dnsperf begin to lose replies.
"""

from __future__ import annotations

import itertools
import random
import re
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.system import BenchError

CLIENTS = 8
OUTSTANDING = 100
_batch = itertools.count(1)


@dataclass(frozen=True)
class Run:
    """The result of one dnsperf run."""

    sent: int
    completed: int
    lost: int
    failed: int  # replies with another RCODE than NOERROR
    seconds: float
    latencies: tuple[float, ...]  # of each query, sorted, in µs; only with verbose

    @property
    def rate(self) -> float:
        return self.completed / self.seconds if self.seconds else 0.0


def hot_names(count: int = 1000) -> list[str]:
    return [f"hot-{number:05d}.example.bench" for number in range(count)]


def cold_names(count: int) -> list[str]:
    """New names, of the same length as the hot ones except for the number of the batch."""
    batch = next(_batch)
    return [f"c{batch:02d}-{number:06d}.example.bench" for number in range(count)]


def shuffled(names: Iterable[str]) -> list[str]:
    """The names in random order, which is the same in every run."""
    mixed = list(names)
    random.Random(1).shuffle(mixed)
    return mixed


def write_names(folder: Path, names: Iterable[str]) -> Path:
    path = folder / f"queries-{next(_batch)}"
    path.write_text("".join(f"{name} A\n" for name in names))
    return path


def start_dnsperf(port: int, queries: Path, *options: str, tcp: bool = False) -> subprocess.Popen[str]:
    """A dnsperf on this process's CPU; for `parse` once it has ended."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries), "-T", "1", "-t", "2"]
    command += ["-O", "suppress=timeouts,congestion,sendfailed"]  # they would fill the pipe
    command += ["-m", "tcp"] if tcp else []
    return subprocess.Popen(
        [*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def finish(process: subprocess.Popen[str], seconds: float) -> Run:
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BenchError(f"dnsperf did not end within {seconds:g} s.")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return parse(output)


def dnsperf(
    port: int, queries: Path, *, seconds: float = 60, once: bool = False, rate: int = 0, tcp: bool = False,
    verbose: bool = False, clients: int = CLIENTS, outstanding: int = OUTSTANDING,
) -> Run:  # fmt: skip
    """Ask the queries of a file, `once` or repeatedly, for `seconds` at most."""
    options = ["-c", str(clients), "-q", str(outstanding), "-l", str(max(int(seconds), 1))]
    options += ["-n", "1"] if once else []
    options += ["-Q", str(rate)] if rate else []
    options += ["-v"] if verbose else []
    return finish(start_dnsperf(port, queries, *options, tcp=tcp), seconds + 30)


def parse(output: str) -> Run:
    """dnsperf's output: its statistics and, with -v, a line `> RCODE name type seconds` for each query."""

    def number(label: str) -> float:
        found = re.search(rf"^\s*{re.escape(label)}:\s+([\d.]+)", output, re.MULTILINE)
        if found is None:
            raise BenchError(f"dnsperf's output lacks {label!r}: {output[-200:]!r}")
        return float(found[1])

    completed = int(number("Queries completed"))
    good = re.search(r"NOERROR (\d+)", output[output.find("Statistics:") :])
    each = re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", output, re.MULTILINE)
    return Run(
        sent=int(number("Queries sent")),
        completed=completed,
        lost=int(number("Queries lost")),
        failed=completed - int(good[1] if good else 0),
        seconds=number("Run time (s)"),
        latencies=tuple(sorted(float(text) * 1e6 for text in each)),
    )


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """A percentile; nan if there are no values."""
    if not sorted_values:
        return float("nan")
    return sorted_values[min(int(len(sorted_values) * percent / 100), len(sorted_values) - 1)]


def query(name: str, ident: int = 1) -> bytes:
    """A query for an A record with RD."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def answers(port: int, name: str = "ready.bench", host: str = "127.0.0.1") -> bool:
    """Whether the server answers a query with NOERROR within 0.3 s."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        try:
            sock.connect((host, port))
            sock.send(query(name))
            return sock.recv(4096)[3] & 15 == 0
        except OSError:
            return False
