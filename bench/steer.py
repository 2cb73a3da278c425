"""The cost of steering a cluster: `python -m bench.steer`. Prints how long a flush takes to be proved, how many queries
are lost while nodes reload and restart, and how many flushed answers a node serves after a partition."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import load
from bench.lab import Lab, Scale, Server, redis_url
from bench.servers import OURS, Kind, Setting
from bench.system import Program, free_port, wait_for

RATE, SECONDS, FLUSHES, PARTITION = 5000, 12, 21, 10.0
#: Nodes that confirm a flush, and the workers of each.
SIZES = ((3, 2), (16, 1), (64, 1))
Ports = dict[str, int]


class Counting:
    """An upstream whose n-th answer for a name is 192.0.2.n."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._asked: dict[bytes, int] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, client = self._sock.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            name = query[12:end].lower()
            self._asked[name] = number = self._asked.get(name, 0) % 250 + 1
            record = b"\xc0\x0c\0\1\0\1" + (3600).to_bytes(4, "big") + b"\0\4\xc0\0\2" + bytes((number,))
            self._sock.sendto(query[:2] + b"\x85\x80\0\1\0\1\0\0\0\0" + query[12:end] + record, client)


def ask(port: int, name: str, seconds: float = 1.0) -> int:
    """The last octet of the answer; -1 without one."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1")
            return sock.recv(512)[-1]
        except OSError:
            return -1


@contextmanager
def nodes(lab: Lab, urls: list[str], workers: int, upstream: int) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        args = ("--workers", str(workers), "--log-level", "info")
        found = [
            stack.enter_context(lab.run(OURS[0], *args, "--redis", url, "--node-id", f"n{number}", upstream=upstream))
            for number, url in enumerate(urls)
        ]
        wait_for(lambda: len(members(urls[0])) == workers * len(urls), 60, "the nodes do not register")
        yield found


def command(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "rdnscache", *words, "--json"], capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)


def members(url: str) -> list[object]:
    return list(command("cluster", "members", "--redis", url))


def flushes(lab: Lab, upstream: int, count: int, workers: int) -> str:
    with lab.redis() as redis:
        urls = [redis_url(redis)] * count
        with nodes(lab, urls, workers, upstream) as servers:
            times = []
            for _ in range(FLUSHES):
                for server in servers:
                    ask(server.port, "www.flush.bench")
                told = command("cache", "flush", "www.flush.bench", "--redis", urls[0])
                confirmed = told["confirmed_ms"]
                assert isinstance(confirmed, dict)
                assert len(confirmed) == count, told
                times.append(max(confirmed.values()))
    return f"{len(times)} times: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms"


def loaded(lab: Lab, upstream: int, number: signal.Signals) -> str:
    """Queries lost while a node of two workers gets a signal three times under load."""
    names = load.hot_names()
    file = lab.write(load.shuffled(names))
    config = Path(tempfile.mkdtemp(dir=lab.folder)) / "node.toml"
    config.write_text("ttl_max = 80000\n")
    with lab.run(OURS[0], "--workers", "2", "--config", str(config), upstream=upstream) as server:
        lab.warm(server, names)
        words = ["-s", "127.0.0.1", "-p", str(server.port), "-d", str(file), "-c", "20", "-Q", str(RATE), "-t", "5"]
        perf = subprocess.Popen(["dnsperf", *words, "-l", str(SECONDS)], stdout=subprocess.PIPE, text=True)
        for turn in range(3):
            time.sleep(SECONDS / 4)
            config.write_text(f"ttl_max = {70000 + turn}\n")
            server.program.process.send_signal(number)
        out, _ = perf.communicate()
    lines = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in out.splitlines() if ":" in line}
    return f"{lines['Queries sent']} sent, {lines['Queries lost']} lost, latency {lines['Average Latency (s)']} s"


def partition(lab: Lab, upstream: int) -> str:
    """Cut one of two nodes off from Redis and heal the partition; says what the node answers from then on."""
    with lab.redis() as redis, ExitStack() as stack:
        own = free_port()
        port = int(redis_url(redis).rpartition(":")[2].partition("/")[0])

        def relay(setting: Setting) -> list[str]:
            return [sys.executable, "-m", "bench.proxy", str(own), str(port), "0"]

        kind = Kind("relay", sys.executable, "", (), relay)
        setting = Setting(lab.folder, own, 0, 0, ())
        line = Program("relay", kind.command(setting), lab.folder, lab.load_cpu)
        urls = [redis_url(redis), f"redis://127.0.0.1:{own}"]
        near, far = stack.enter_context(nodes(lab, urls, 1, upstream))
        first = {ask(server.port, "www.part.bench") for server in (near, far)}
        line.stop()
        wait_for(lambda: b"no Redis" in far.program.log.read_bytes(), 5, "the node does not notice")
        told = command("cache", "flush", "www.part.bench", "--wait", "0.3", "--redis", urls[0])
        new = ask(near.port, "www.part.bench")
        time.sleep(PARTITION)
        attached = far.program.log.read_bytes().count(b"attached to Redis")
        stack.enter_context(Program("relay", kind.command(setting), lab.folder, lab.load_cpu))
        healed, answers, back = time.monotonic(), [], 0.0
        while time.monotonic() - healed < 6:
            answers.append((time.monotonic(), ask(far.port, "www.part.bench")))
            if not back and far.program.log.read_bytes().count(b"attached to Redis") > attached:
                back = time.monotonic()
        old_after = sum(1 for at, answer in answers if answer != new and at > back)
        old_before = sum(1 for at, answer in answers if answer in first and at <= back)
    missing = told["missing"]
    assert isinstance(missing, dict)
    return (
        f"cut off for {PARTITION:.0f} s, missing: {', '.join(missing)}; attached {back - healed:.2f} s after healing; "
        f"{old_before} flushed answers before that, {old_after} after, of {len(answers)}"
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    lab = Lab(Scale(seconds=SECONDS, cold=0, samples=0))
    upstream = Counting().port
    try:
        for count, workers in SIZES:
            label = f"flush proved by {count} nodes of {workers} worker{'s' * (workers > 1)}"
            print(f"{label:38} {flushes(lab, upstream, count, workers)}")
        print(f"three reloads under {RATE} queries/s     {loaded(lab, upstream, signal.SIGHUP)}")
        print(f"three restarts under {RATE} queries/s    {loaded(lab, upstream, signal.SIGUSR2)}")
        print(f"partition                              {partition(lab, upstream)}")
    finally:
        lab.close()


if __name__ == "__main__":
    main()
