"""Attempts that no client waits for: probes, and questions that another server has answered already.

Their outcomes show how the servers are.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from gevent import get_hub

from rdnscache.errors import SILENT, UpstreamFailed
from rdnscache.upstream.attempt import Attempt, Owner

#: Maximum number of such attempts; the oldest is given up for a new one.
MOST = 32
#: Seconds between two searches for attempts that are due; if one is LATE seconds late, it proves nothing about servers.
LOOK, LATE = 0.05, 0.1


class Aside(Owner):
    """`alone`: there is only one server."""

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._attempts: deque[Attempt] = deque()
        self._told: list[Attempt] = []
        self._timer: Any = None
        self._next_look = 0.0

    def take(self, attempt: Attempt) -> None:
        """Take over an attempt until it is due."""
        attempt.owner = self
        if len(self._attempts) >= MOST:
            self._attempts.popleft().end()
        self._attempts.append(attempt)
        if self._timer is None:
            self._next_look = time.monotonic() + LOOK
            self._timer = get_hub().loop.timer(LOOK, LOOK)
            self._timer.start(self._look)

    def tell(self, attempt: Attempt) -> None:
        self._told.append(attempt)

    def wake(self) -> None:
        while self._told:
            attempt = self._told.pop()
            if attempt in self._attempts:
                self._attempts.remove(attempt)
                attempt.judge(time.monotonic(), self._alone)
                attempt.end()

    def wake_later(self) -> None:
        get_hub().loop.run_callback(self.wake)

    def _look(self) -> None:
        now = time.monotonic()
        late, self._next_look = now - self._next_look > LATE, now + LOOK
        for attempt in [attempt for attempt in self._attempts if attempt.due <= now and not late]:
            attempt.look()
            if attempt in self._attempts:
                attempt.failure = UpstreamFailed(f"{attempt.server.label}: no reply in time", why=SILENT)
                self._attempts.remove(attempt)
                attempt.judge(now, self._alone)
                attempt.end()
        if late:
            for attempt in self._attempts:
                attempt.due = max(attempt.due, now + LATE)
        if not self._attempts:
            self._timer.stop()
            self._timer.close()
            self._timer = None
