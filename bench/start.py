"""The start of a node and its idle memory: `python -m bench.start [--rounds 5] [--workers 2] [TREE...]`.

Measures each checkout (by default this one, with its own compiled modules) in alternating rounds, with an empty Redis:
seconds from exec to the first answer, CPU until then, and CPU and memory of an idle worker. Prints medians.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from bench.system import free_port, wait_for
from rdnscache.node.embedded import find_server

HERE = Path(__file__).resolve().parent.parent
#: A query for `localhost.` A, which a node answers locally.
QUESTION = b"\0\1\1\0\0\1\0\0\0\0\0\0\x09localhost\0\0\1\0\1"
#: Seconds between two queries until there is an answer; seconds of rest before memory is measured.
STEP, REST = 0.005, 2.0
TICK = os.sysconf("SC_CLK_TCK")


def cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / TICK


def memory_mb(pid: int, name: str) -> float:
    found = re.search(rf"^{name}: +([0-9]+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int, count: int) -> list[int]:
    """The children that share the node's sockets, which the keeper does not."""
    return sorted(children(pid), key=lambda each: memory_mb(each, "Rss"))[-count:]


@contextmanager
def store() -> Iterator[int]:
    port, binary = free_port(), find_server()
    assert binary is not None, "redis-server or valkey-server is needed"
    words = [str(binary), "--port", str(port), "--save", ""]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    try:
        wait_for(lambda: answers(port), 10, "Redis")
        yield port
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    try:
        return bool(redis.Redis(port=port).ping())
    except redis.RedisError:
        return False


def started(tree: Path, redis_port: int, workers: int) -> dict[str, float]:
    """Start a node once and measure it."""
    port = free_port()
    words = [
        sys.executable, "-m", "rdnscache", "serve", "--listen", f"127.0.0.1:{port}", "--upstream", "127.0.0.1:1",
        "--redis", f"redis://127.0.0.1:{redis_port}", "--workers", str(workers), "--admin", f"127.0.0.1:{free_port()}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(STEP)
        begun = time.monotonic()
        node = subprocess.Popen(words, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, stderr=log, stdout=log)
        try:
            first = first_answer(sock) - begun
            cpu = cpu_ms(node.pid) + sum(map(cpu_ms, children(node.pid)))
            time.sleep(REST)
            (worker, *_) = workers_of(node.pid, workers)
            return {
                "first answer, s": first, "CPU until then, ms": cpu, "CPU of a worker, ms": cpu_ms(worker),
                "worker's RSS, MB": memory_mb(worker, "Rss"), "worker's PSS, MB": memory_mb(worker, "Pss"),
                "node's PSS, MB": sum(memory_mb(each, "Pss") for each in (node.pid, *children(node.pid))),
            }  # fmt: skip
        finally:
            node.terminate()
            node.wait()


def first_answer(sock: socket.socket) -> float:
    """Ask until there is an answer, for a minute at most; returns its time."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            sock.send(QUESTION)
            if sock.recv(512):
                return time.monotonic()
        except ConnectionRefusedError:
            time.sleep(STEP)  # the node does not listen yet
        except TimeoutError:
            pass
    raise SystemExit("no answer within a minute")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("trees", nargs="*", type=Path, default=[HERE])
    given = parser.parse_args()
    found: dict[Path, list[dict[str, float]]] = {tree: [] for tree in given.trees}
    for _ in range(given.rounds):
        for tree in given.trees:
            with store() as port:
                found[tree].append(started(tree.resolve(), port, given.workers))
    for tree, rounds in found.items():
        told = "; ".join(f"{name} {statistics.median(each[name] for each in rounds):.3g}" for name in rounds[0])
        print(f"{tree}: {told}")


if __name__ == "__main__":
    main()
