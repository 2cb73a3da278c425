"""The authoritative server of the chaos test: a thread that answers from the name alone, late, and counts."""

from __future__ import annotations

import heapq
import select
import socket
import threading
import time
from collections import Counter

from chaos import names


class Upstream:
    """`counts` says how often each name was asked; `version` is what names under `ver` are answered with."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.version = 1
        #: Beside what a name takes by itself, in seconds.
        self.delay = 0.0
        #: By how much an answer was late at most, through no fault of those who asked.
        self.late = 0.0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        due: list[tuple[float, int, bytes, tuple[str, int]]] = []
        number = 0
        while True:
            left = max(due[0][0] - time.monotonic(), 0) if due else None
            if select.select([self._sock], [], [], left)[0]:
                data, client = self._sock.recvfrom(4096)
                try:
                    name = names.asked(data)[0]
                    answer = names.reply(data, self.version)
                except (ValueError, IndexError, KeyError):
                    continue
                self.counts[name] += 1
                number += 1
                delay = names.DELAY.get(names.kind_of(name), names.USUAL_DELAY) + self.delay
                heapq.heappush(due, (time.monotonic() + delay, number, answer, client))
            while due and due[0][0] <= time.monotonic():
                moment, _, answer, client = heapq.heappop(due)
                self.late = max(self.late, time.monotonic() - moment)
                self._sock.sendto(answer, client)

    def asked_for(self, row: int) -> tuple[int, int]:
        """Of the cold names of a row: how many were asked, and how many queries came above one for each."""
        found = [count for name, count in list(self.counts.items()) if name.startswith(f"c{row}x")]
        return len(found), sum(found) - len(found)
