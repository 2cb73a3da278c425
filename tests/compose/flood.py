"""A client of its own: asks for names at a steady rate, as a resolver library does, and keeps the score."""

from __future__ import annotations

import heapq
import random
import select
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

ANSWER = socket.inet_aton("192.0.2.1")
#: Seconds for each try, and how many there are. SERVFAIL does not end a try.
PATIENCE, TRIES = 1.0, 4
SOCKETS = 8
#: Octets of replies kept for each, when a busy machine does not let us read.
BUFFER = 4 << 20


@dataclass(slots=True)
class Score:
    asked: int = 0
    answered: int = 0
    #: Tries that brought no answer in time; another followed.
    again: int = 0
    #: Questions that no try brought the right answer to.
    lost: int = 0
    worst: float = 0.0

    def __str__(self) -> str:
        return f"{self.lost} of {self.asked} lost, {self.again} asked again, slowest {self.worst * 1000:.0f} ms"


@dataclass(slots=True)
class _Question:
    name: str
    began: float
    tries: int = 0


class Flood:
    """Asks for each name once, `rate` a second, over UDP. As a context manager, in a thread until the block ends."""

    def __init__(self, port: int, names: Iterable[str], rate: float) -> None:
        self.score = Score()
        self._names = iter(names)
        self._rate = rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run)
        self._open: dict[int, _Question] = {}
        self._due: list[tuple[float, int, _Question]] = []
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
        for sock in self._sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def run(self) -> Score:
        began = time.monotonic()
        more = True
        while more or self._open:
            now = time.monotonic()
            while more and began + self.score.asked / self._rate <= now:
                name = None if self._stopping.is_set() else next(self._names, None)
                more = name is not None
                if name is not None:
                    self.score.asked += 1
                    self._send(_Question(name, now))
            self._look_at_late(now)
            ready, _, _ = select.select(self._sockets, [], [], 0.002)
            for sock in ready:
                self._receive(sock)
        for sock in self._sockets:
            sock.close()
        return self.score

    def _send(self, question: _Question) -> None:
        number = random.randrange(65536)
        while number in self._open:
            number = random.randrange(65536)
        question.tries += 1
        self._open[number] = question
        heapq.heappush(self._due, (time.monotonic() + PATIENCE, number, question))
        labels = b"".join(bytes((len(label),)) + label.encode() for label in question.name.split("."))
        query = number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
        try:
            random.choice(self._sockets).send(query)
        except OSError:
            pass  # nobody listens: as good as lost

    def _look_at_late(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, number, question = heapq.heappop(self._due)
            if self._open.get(number) is not question:
                continue
            del self._open[number]
            if question.tries < TRIES:
                self.score.again += 1
                self._send(question)
            else:
                self.score.lost += 1

    def _receive(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                reply = sock.recv(4096)
            except OSError:
                return
            number = int.from_bytes(reply[:2], "big")
            if number in self._open and reply.endswith(ANSWER):
                self.score.answered += 1
                self.score.worst = max(self.score.worst, time.monotonic() - self._open.pop(number).began)
