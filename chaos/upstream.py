"""The authoritative server of the chaos test: a thread whose answers follow from the name, and which counts queries."""

from __future__ import annotations

import heapq
import select
import socket
import threading
import time
from collections import Counter

from chaos import names


class Upstream:
    """`counts` is the number of queries for each name; `version` is the version of names under `ver`.

    It listens on two `ports`; the second can be silent, or answer SERVFAIL.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.version = 1
        #: Seconds added to the delay of each name.
        self.delay = 0.0
        #: Maximum seconds by which an answer was late because this process was.
        self.late = 0.0
        self.silent = self.failing = False
        self._socks = [self._bound() for _ in range(2)]
        self.ports = [sock.getsockname()[1] for sock in self._socks]
        threading.Thread(target=self._serve, daemon=True).start()

    @staticmethod
    def _bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    def _serve(self) -> None:
        due: list[tuple[float, int, bytes, socket.socket, tuple[str, int]]] = []
        number = 0
        while True:
            left = max(due[0][0] - time.monotonic(), 0) if due else None
            for sock in select.select(self._socks, [], [], left)[0]:
                data, client = sock.recvfrom(4096)
                sick = sock is self._socks[1] and (self.silent or self.failing)
                if sick and self.silent:
                    continue
                try:
                    name = names.asked(data)[0]
                    answer = names.failure(data) if sick else names.reply(data, self.version)
                except (ValueError, IndexError, KeyError):
                    continue
                self.counts[name] += 1
                number += 1
                delay = names.DELAY.get(names.kind_of(name), names.USUAL_DELAY) + self.delay
                heapq.heappush(due, (time.monotonic() + delay, number, answer, sock, client))
            while due and due[0][0] <= time.monotonic():
                moment, _, answer, sock, client = heapq.heappop(due)
                self.late = max(self.late, time.monotonic() - moment)
                sock.sendto(answer, client)

    def asked_for(self, row: int) -> tuple[int, int]:
        """Of the cold names of a row: how many were asked, and how many queries came above one for each."""
        found = [count for name, count in list(self.counts.items()) if name.startswith(f"c{row}x")]
        return len(found), sum(found) - len(found)
