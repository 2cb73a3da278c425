"""Honest clients: `python -m siege.honest PORT SECONDS TAG`. Hits and misses at a steady rate, no query asked twice.

Prints, for each kind, the number of queries, of correct answers within 2 s, and their latencies, as JSON. The time of a
reply is that of its arrival in the kernel: these clients stand for other machines, so their waiting for a CPU of this
busy one does not count.
"""

from __future__ import annotations

import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

from bench.load import percentile, query

#: Queries a second of each kind.
RATE = {"hits": 400.0, "misses": 100.0}
#: Sockets, enough to reach every worker; hot names; seconds that a client waits.
SOCKETS, HOT, PATIENCE = 32, 100, 2.0
HOST = "127.0.0.1"
#: The end of the upstream's replies without EDNS; forged answers count as missing.
TRUE = b"\xc0\0\2\1"
#: Linux's socket option for the arrival time of a datagram in the kernel (socket(7)), and its format.
SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_MOMENT = struct.Struct("@ll")


def hot_name(number: int) -> str:
    return f"g{number}.hot.fine.example"


def sockets(port: int) -> list[socket.socket]:
    found = []
    for _ in range(SOCKETS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        found.append(sock)
    return found


def warm(port: int) -> None:
    """Ask for each hot name over every socket until all are answered, so that all workers have them."""
    for sock in sockets(port):
        with sock:
            for number in range(HOT):
                sock.send(query(hot_name(number), number))
                select.select([sock], [], [], 0.3)


def questions(tag: str, seconds: float) -> Iterator[tuple[float, str, str]]:
    """The time of each query, from the beginning; its kind and name."""
    moments = [(number / rate, kind, number) for kind, rate in RATE.items() for number in range(int(seconds * rate))]
    for moment, kind, number in sorted(moments):
        yield moment, kind, hot_name(random.randrange(HOT)) if kind == "hits" else f"g{number}-{tag}.z{number}.example"


def ask(port: int, seconds: float, tag: str) -> dict[str, dict[str, float]]:
    socks = sockets(port)
    waiting: dict[tuple[int, int], tuple[float, str]] = {}
    taken: dict[str, list[float]] = {kind: [] for kind in RATE}
    asked = dict.fromkeys(RATE, 0)
    began = time.monotonic()
    plan = questions(tag, seconds)
    following = next(plan, None)
    place = {sock.fileno(): sock for sock in socks}
    poll = select.poll()
    for fd in place:
        poll.register(fd, select.POLLIN)
    number = 0
    while following is not None or (waiting and time.monotonic() < began + seconds + PATIENCE):
        now = time.monotonic()
        while following is not None and began + following[0] <= now:
            number += 1
            sock = socks[number % SOCKETS]
            _, kind, name = following
            asked[kind] += 1
            message = query(name, number & 0xFFFF)
            waiting[sock.fileno(), number & 0xFFFF] = time.time(), kind
            try:
                sock.send(message)
            except OSError:
                pass
            following = next(plan, None)
        left = began + following[0] - time.monotonic() if following is not None else 0.05
        for fd, _ in poll.poll(max(left, 0) * 1000):
            read(place[fd], waiting, taken)
    return {kind: figures(asked[kind], taken[kind]) for kind in RATE}


def read(sock: socket.socket, waiting: dict[tuple[int, int], tuple[float, str]], taken: dict[str, list[float]]) -> None:
    while True:
        try:
            data, told, _, _ = sock.recvmsg(4096, 64)
        except OSError:
            return
        sent, kind = waiting.pop((sock.fileno(), int.from_bytes(data[:2], "big")), (0.0, ""))
        seconds = arrival(told) - sent
        if kind and seconds <= PATIENCE and data[3] & 15 == 0 and data[6:8] != b"\0\0" and data.endswith(TRUE):
            taken[kind].append(seconds)


def arrival(told: list[tuple[int, int, bytes]]) -> float:
    """When a datagram arrived, in seconds since 1970: by its control message, or else now."""
    for level, kind, data in told:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= _MOMENT.size:
            seconds, nanoseconds = _MOMENT.unpack_from(data)
            return float(seconds) + nanoseconds / 1e9
    return time.time()


def figures(asked: int, taken: list[float]) -> dict[str, float]:
    taken.sort()
    p50, p99, worst = (percentile(taken, percent) * 1000 for percent in (50, 99, 100))
    return {"asked": asked, "answered": len(taken), "p50": p50, "p99": p99, "worst": worst}


if __name__ == "__main__":
    print(json.dumps(ask(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])))
