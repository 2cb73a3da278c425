"""The cost of commands with a million entries in Redis: wall time, CPU of each process, and the latency of hits
meanwhile. `python -m bench --rows commands`; with `--quick` there are 100,000 entries."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from bench import load
from bench.lab import Figures, Lab, redis_url
from bench.rows import Case, Row
from bench.servers import OURS, Kind
from bench.system import BenchError, wait_for

ENTRIES, FEW = 1_000_000, 100_000
#: Entries made by one call of the script; zones, each of which has a tenth of all entries.
STEP, ZONES = 2000, 10
#: Seconds between two questions for a hot name.
PAUSE = 0.002
#: The commands measured, in this order; FILE is a snapshot of all entries, NAME the name of one.
COMMANDS = (
    "cache get NAME",
    "cache ls NAME",
    "cache flush NAME",
    "cache stats",
    "cache stats --exact",
    "cache export FILE",
    "cache import --replace FILE",
    "cache flush --zone zone4.example --wait 30",
    "cache flush --rcode NXDOMAIN --wait 30",
    "cache flush --all --wait 30",
)
NAME = "host13.zone3.example"

#: ARGV: key prefix, first entry, number of entries, number of zones. A seventh is NXDOMAIN, a fifth of the rest AAAA.
FILL = """
local function label(text) return string.char(#text) .. text end
for i = ARGV[2], ARGV[2] + ARGV[3] - 1 do
  local zone, host = 'zone' .. (i % ARGV[4]), 'host' .. i
  local name, above = host .. '.' .. zone .. '.example.', '\\192' .. string.char(13 + #host)
  local qname = label(host) .. label(zone) .. label('example') .. '\\0'
  local kind, number, data, text, rcode = 'A', '\\0\\1', '\\192\\0\\2\\1', '192.0.2.1', 'NOERROR'
  local wire
  if i % 7 == 0 then
    kind, rcode = 'NXDOMAIN', 'NXDOMAIN'
    data = label('ns') .. above .. label('admin') .. above .. struct.pack('>I4I4I4I4I4', 1, 3600, 600, 86400, 60)
    wire = '\\0\\0\\129\\131\\0\\1\\0\\0\\0\\1\\0\\0' .. qname .. '\\0\\1\\0\\1' .. above .. '\\0\\6\\0\\1'
    text = zone .. '.example. 3600 IN SOA ns.' .. zone .. '.example. admin.' .. zone .. '.example. 1 3600 600 86400 60'
  else
    if i % 5 == 0 then kind, number, data, text = 'AAAA', '\\0\\28', string.rep('\\0', 15) .. '\\1', '::1' end
    wire = '\\0\\0\\129\\128\\0\\1\\0\\1\\0\\0\\0\\0' .. qname .. number .. '\\0\\1\\192\\12' .. number .. '\\0\\1'
    text = name .. ' 3600 IN ' .. kind .. ' ' .. text
  end
  local key = ARGV[1] .. '{' .. name .. '}:' .. kind
  local info = 'rcode=' .. rcode .. ' ttl=3600 stale=3600 stored=2026-11-27T12:00:00Z from=192.0.2.53 node=n1'
  redis.call('HSET', key, 'info', info, 'answer', text, 'wire', wire .. struct.pack('>I4I2', 3600, #data) .. data)
  redis.call('PEXPIRE', key, (7200 - i % 3000) * 1000)
end
"""


def fill(port: int, count: int, root: str = "rdns:1:") -> None:
    """Fill a Redis with `count` entries by a script."""
    with redis.Redis("127.0.0.1", port, socket_timeout=60) as client:
        make: Any = client.register_script(FILL)
        for first in range(0, count, STEP):
            make(args=[root, first, min(STEP, count - first), ZONES])


@contextmanager
def _asking(port: int, name: str) -> Iterator[list[float]]:
    """Repeatedly ask a node for a cached name; yields the latencies in seconds."""
    over, times = threading.Event(), [0.0]

    def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            sock.settimeout(5)
            while not over.wait(PAUSE):
                began = time.perf_counter()
                sock.send(load.query(name))
                try:
                    sock.recv(4096)
                except OSError:
                    pass  # counted with the time-out as its latency
                times.append(time.perf_counter() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def measure(lab: Lab, kind: Kind, text: str) -> Figures:
    """Run a command while a node answers hits."""
    count = ENTRIES if lab.scale.samples > 2000 else FEW
    file = lab.folder / "snapshot"
    words = [part.replace("NAME", NAME).replace("FILE", str(file)) for part in shlex.split(text)]
    with lab.redis() as server, lab.run(kind, "--redis", redis_url(server)) as node:
        hot = load.hot_names(1)
        lab.warm(node, hot)
        fill(server.port, count)
        if "import" in text and not file.exists():
            _run(lab, ["cache", "export", str(file), "--redis", redis_url(server)])
        with redis.Redis("127.0.0.1", server.port) as client:
            wait_for(lambda: float(client.zcard("rdns:1:nodes")) >= 2, 10, "the node is not in the register")
        time.sleep(4)  # until the register is old enough for a flush not to wait
        with _asking(node.port, hot[0]) as idle:
            time.sleep(1)
        before = server.program.cpu(), node.program.cpu()
        with _asking(node.port, hot[0]) as times:
            wall, cpu = _run(lab, [*words, "--redis", redis_url(server)])
        after = server.program.cpu(), node.program.cpu()
    return {
        "wall_s": wall, "client_cpu_s": cpu, "redis_cpu_s": after[0] - before[0], "node_cpu_s": after[1] - before[1],
        "worst_hit_ms": max(times) * 1000, "worst_hit_before_ms": max(idle) * 1000, "entries": count,
    }  # fmt: skip


def _run(lab: Lab, words: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command and its children, which may use both CPUs. BenchError when it fails."""
    root, where = Path(__file__).absolute().parents[1], ["taskset", "-c", f"{lab.server_cpu},{lab.load_cpu}"]
    command = [*where, sys.executable, "-m", "rdnscache", *words]
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise BenchError(f"{shlex.join(words)}: {done.stderr.strip()[-300:]}")
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def _cases(kinds: Sequence[Kind], _: bool) -> list[Case]:
    def way(text: str) -> Callable[[Lab, Kind], Figures]:
        return lambda lab, kind: measure(lab, kind, text)

    return [Case(text, OURS[0], way(text)) for text in COMMANDS if OURS[0] in kinds]


COMMANDS_ROW = Row(
    "commands", "commands beside a million entries in Redis", _cases, compared="wall_s", needs_redis=True, grows=True
)
