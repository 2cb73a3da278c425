"""The clients: `python -m chaos.client SHARED RECORDS RATE PORT…`. A steady mix of names, every answer checked.

A query has three tries of 2 s, each at the next node, as with a stub resolver that has several servers; a refused
datagram is a try as well. All nodes are asked for a cold name at once. The fate of each query is written to RECORDS.
"""

from __future__ import annotations

import mmap
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path

from chaos import names

TIMEOUT, TRIES, SOCKETS = 2.0, 3, 16
#: Seconds for which the ID of a query that was given up is not reused: its answer may still arrive.
LATE = 20.0
#: The number of names of each kind; cold names are always new.
HOT, MISSING, SHORT, VERSIONED = 200, 20, 20, 10
MIX = (("hot", 50), ("cold", 8), ("nx", 12), ("short", 12), ("ver", 8))
#: Time of sending, seconds until the answer, row, kind, fate, tries.
RECORD = struct.Struct("<dfHBBB")
GOOD, LOST, FAILED, WRONG = range(4)
#: Indexes of the shared numbers: whether to end, the row, the oldest version that each node may answer with, and since
#: when (monotonic, in ms); the last one is the node whose failures are expected, plus one.
END, ROW, FLOORS, RAISED, SICK = 0, 1, 2, 8, 15
SERVFAIL = 2
#: Seconds that are worth a line in the log.
SLOW = 1.0


class Question:
    __slots__ = ("kind", "name", "node", "row", "sent", "tries")

    def __init__(self, name: str, node: int, row: int, now: float) -> None:
        self.name, self.kind, self.node, self.row, self.sent = name, names.kind_of(name), node, row, now
        self.tries = 0


class Client:
    def __init__(self, shared: memoryview, records: Path, rate: float, ports: list[int]) -> None:
        self._shared = shared
        self._out = records.open("wb", buffering=1 << 16)
        self._gap = 1 / rate
        self._socks = [[self._socket(port) for _ in range(SOCKETS)] for port in ports]
        self._place = {sock.fileno(): (node, sock) for node, socks in enumerate(self._socks) for sock in socks}
        self._epoll = select.epoll()
        for fd in self._place:
            self._epoll.register(fd, select.EPOLLIN)
        #: By socket and ID: the question, the floor of its node when it was sent, and when that was.
        self._open: dict[tuple[int, int], tuple[Question, int, float]] = {}
        self._deadlines: deque[tuple[float, tuple[int, int]]] = deque()
        #: Queries that were given up, while their IDs are reserved.
        self._given_up: set[tuple[int, int]] = set()
        self._remembered: deque[tuple[float, tuple[int, int]]] = deque()
        self._number = 0
        self._kinds = [kind for kind, share in MIX for _ in range(share)]

    @staticmethod
    def _socket(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        return sock

    def run(self) -> None:
        due = time.monotonic()
        while not self._shared[END] or self._open:
            now = time.monotonic()
            while due <= now and not self._shared[END]:
                due = max(due, now - 0.5) + self._gap * self._ask(now)
            self._expire(now)
            for fd, _ in self._epoll.poll(0.05 if self._shared[END] else max(due - time.monotonic(), 0)):
                self._read(*self._place[fd])
        self._out.close()

    def _ask(self, now: float) -> int:
        """Send the next queries; returns their number."""
        self._number += 1
        row, number, nodes = self._shared[ROW], self._number, len(self._socks)
        kind = random.choice(self._kinds)
        if kind == "cold":
            for node in range(nodes):
                self._send(Question(f"c{row}x{number}.cold.chaos", node, row, now))
            return nodes
        several = {"hot": HOT, "nx": MISSING, "short": SHORT, "ver": VERSIONED}[kind]
        fresh = kind == "nx" and number % 2 == 0
        label = f"m{row}x{number}" if fresh else f"{kind[0]}{random.randrange(several)}"
        self._send(Question(f"{label}.{kind}.chaos", number % nodes, row, now))
        return 1

    def _send(self, question: Question) -> None:
        """Send the next try, or give up after the last one."""
        while question.tries < TRIES:
            node = (question.node + question.tries) % len(self._socks)
            question.tries += 1
            sock = random.choice(self._socks[node])
            key = (sock.fileno(), random.getrandbits(16))
            if key in self._open or key in self._given_up:
                question.tries -= 1
                continue
            traced = question.kind == "ver" and self._number % 2 == 0  # others take the short way
            floor = self._shared[FLOORS + node]  # before it is sent: the answer may be older than what is raised then
            try:
                sock.send(names.query(key[1], question.name, traced))
            except OSError:  # refused, and that of an earlier datagram
                continue
            self._open[key] = question, floor, (sent := time.monotonic())
            self._deadlines.append((sent + TIMEOUT, key))
            return
        self._record(question, LOST)

    def _expire(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            self._next_try(self._deadlines.popleft()[1], now)
        while self._remembered and self._remembered[0][0] <= now:
            self._given_up.discard(self._remembered.popleft()[1])

    def _next_try(self, key: tuple[int, int], now: float) -> None:
        question, *_ = self._open.pop(key, (None, 0, 0.0))
        if question is not None:
            self._given_up.add(key)
            self._remembered.append((now + LATE, key))
            self._send(question)

    def _read(self, node: int, sock: socket.socket) -> None:
        while True:
            try:
                data = sock.recv(4096)
            except BlockingIOError:
                return
            except OSError:  # nobody is there: what was asked from this socket goes to the next node
                for key in [key for key in self._open if key[0] == sock.fileno()]:
                    self._next_try(key, time.monotonic())
                return
            question, floor, sent = self._open.pop((sock.fileno(), int.from_bytes(data[:2], "big")), (None, 0, 0.0))
            if question is None:
                continue
            problem = names.problem(question.name, data, floor)
            if problem and data[3] & 15 == SERVFAIL and self._shared[SICK] == node + 1:
                self._send(question)
                continue
            fate = GOOD if not problem else FAILED if data[3] & 15 == SERVFAIL else WRONG
            if problem:
                print(f"row {question.row}: {question.name} at node {node}: {problem}", end="; ")
                ago = (now := time.monotonic()) - sent, now - self._shared[RAISED + node] / 1000
                print(f"sent {ago[0]:.3f} s ago, floor raised {ago[1]:.3f} s ago; {names.note(data)}", flush=True)
            self._record(question, fate)

    def _record(self, question: Question, fate: int) -> None:
        taken = time.monotonic() - question.sent
        kind = names.KINDS.index(question.kind)
        self._out.write(RECORD.pack(question.sent, taken, question.row, kind, fate, question.tries))
        if fate == LOST or taken > SLOW:
            end = "no answer" if fate == LOST else f"answered at try {question.tries}"
            print(f"row {question.row}: {question.name} from node {question.node} on: {taken:.2f} s, {end}", flush=True)


def shared_numbers(path: Path) -> memoryview:
    """What the one who breaks things tells the clients; the file holds zeros to begin with."""
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("I")


if __name__ == "__main__":
    Client(shared_numbers(Path(sys.argv[1])), Path(sys.argv[2]), float(sys.argv[3]), list(map(int, sys.argv[4:]))).run()
