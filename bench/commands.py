"""The cost of commands with a million entries in Redis and in a node's L1: wall time, CPU of each process, and the
latency of hits meanwhile. `python -m bench --rows commands`; with `--quick` there are 100,000 entries."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench import load
from bench.lab import Figures, Lab, Server, redis_url
from bench.rows import Case, Row
from bench.servers import ECHO, OURS, Kind
from bench.system import BenchError, free_port, wait_for
from bench.tools import counters
from rdnscache.dns.wire import TRACE_OPTION

ENTRIES, FEW = 1_000_000, 100_000
#: Entries made by one call of the script; zones, each of which has a tenth of all entries.
STEP, ZONES = 2000, 10
#: Seconds between two questions for a hot name, and seconds of asking after a command, while the node still sweeps.
PAUSE, AFTER = 0.002, 1.0
#: A question for a hot name with the trace option, and the words in the reply to a hit: the first answer after a flush
#: is a miss, and does not count.
TRACED = (
    load.query(load.hot_names(1)[0])[:10]
    + b"\0\1"
    + load.query(load.hot_names(1)[0])[12:]
    + (b"\0\0\x29\x04\xd0\0\0\0\0\0\4" + TRACE_OPTION.to_bytes(2, "big") + b"\0\0")
)
HIT = b"layer=l1 "
#: The metric of entries in L1; most passes over all names to fill it.
HELD, PASSES = "rdnscache_l1_entries", 3
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
def _asking(port: int, question: bytes, counts: Callable[[bytes], bool] = bool) -> Iterator[list[float]]:
    """Repeatedly ask a server the same question; yields the latencies in seconds of the replies that count."""
    over, times = threading.Event(), [0.0]

    def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            sock.settimeout(5)
            while not over.wait(PAUSE):
                began = time.perf_counter()
                sock.send(question)
                try:
                    reply = sock.recv(4096)
                except OSError:
                    reply = HIT  # counted with the time-out as its latency
                if counts(reply):
                    times.append(time.perf_counter() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


@dataclass
class Filled:
    """A Redis with many entries and a node with all of them in L1; all commands use it, those that delete last."""

    lab: Lab
    count: int
    redis: Server
    node: Server
    admin: int
    echo: Server | None

    def measure(self, text: str) -> Figures:
        """Run a command while a node answers hits."""
        words = [part.replace("NAME", NAME).replace("FILE", str(self.lab.folder / "snapshot")) for part in text.split()]
        held = counters(self.admin)[HELD]
        with self._worst() as idle:
            time.sleep(1)
        before = self.redis.program.cpu(), self.node.program.cpu()
        with self._worst() as worst:
            wall, cpu = _run(self.lab, [*words, "--redis", redis_url(self.redis)])
            time.sleep(AFTER)
        after = self.redis.program.cpu(), self.node.program.cpu()
        return {
            "wall_s": wall, "client_cpu_s": cpu, "redis_cpu_s": after[0] - before[0],
            "node_cpu_s": after[1] - before[1], **worst, **{f"{name}_before": value for name, value in idle.items()},
            "in_l1": held, "entries": self.count,
        }  # fmt: skip

    @contextmanager
    def _worst(self) -> Iterator[Figures]:
        """The longest latency of a hit, and of an echo server on the node's CPU: the machine's part of that."""
        figures: Figures = {}
        with ExitStack() as stack:
            times = {"worst_hit_ms": stack.enter_context(_asking(self.node.port, TRACED, lambda reply: HIT in reply))}
            if self.echo is not None:
                times["worst_echo_ms"] = stack.enter_context(_asking(self.echo.port, TRACED))
            yield figures
        figures |= {name: max(each) * 1000 for name, each in times.items()}


def start(lab: Lab, kind: Kind) -> Filled:
    """Start and fill Redis and a node; they run until the lab is closed."""
    count, admin = ENTRIES if lab.scale.samples > 2000 else FEW, free_port()
    server = lab.kept.enter_context(lab.redis())
    fill(server.port, count)
    args = ("--redis", redis_url(server), "--admin", f"127.0.0.1:{admin}")
    node = lab.kept.enter_context(lab.run(kind, *args, entries=2 * count))
    echo = lab.kept.enter_context(lab.run(ECHO, ready=load.answers)) if ECHO.present() else None
    lab.warm(node, load.hot_names(1))
    names = lab.folder / "filled"
    names.write_text("".join(f"host{i}.zone{i % ZONES}.example {_type(i)}\n" for i in range(count)))
    for _ in range(PASSES):
        load.dnsperf(node.port, names, seconds=600, once=True)
        if counters(admin)[HELD] >= count:
            break
    with redis.Redis("127.0.0.1", server.port) as client:
        wait_for(lambda: float(client.zcard("rdns:1:nodes")) >= 2, 10, "the node is not in the register")
    time.sleep(4)  # until the register is old enough for a flush not to wait
    return Filled(lab, count, server, node, admin, echo)


def _type(number: int) -> str:
    """As in `FILL`."""
    return "AAAA" if number % 7 and number % 5 == 0 else "A"


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
    filled: list[Filled] = []

    def way(text: str) -> Callable[[Lab, Kind], Figures]:
        def measure(lab: Lab, kind: Kind) -> Figures:
            if not filled:
                filled.append(start(lab, kind))
            return filled[0].measure(text)

        return measure

    return [Case(text, OURS[0], way(text)) for text in COMMANDS if OURS[0] in kinds]


COMMANDS_ROW = Row(
    "commands", "commands with a million entries in Redis and in a node's L1", _cases,
    compared="wall_s", needs_redis=True, grows=True, once=True,
)  # fmt: skip
