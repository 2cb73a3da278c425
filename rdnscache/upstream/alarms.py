"""Wakes searches at their moments: one timer for all of them, since one for each costs more than the wait is worth.

Most are answered long before. What is due is found by counting ticks, so nobody is woken too early, and all within one
tick of their moment.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from gevent import get_hub

log = logging.getLogger(__name__)

#: Seconds.
TICK = _TICK = 0.002
#: Ticks that are looked at one by one before all of those are that have somebody.
SCANNED = _SCANNED = 16


class Sleeper(Protocol):
    """Who is to be woken."""

    def alarm(self, now: float) -> None:
        """A moment that it gave has come; it may have been woken by something else since, and sleep anew."""


class Alarms:
    """For those who ask the same servers. Moments are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        #: By the tick after which they are due.
        self._due: dict[int, list[Sleeper]] = {}
        self._timer: Any = None
        self._first = 0

    def set(self, sleeper: Sleeper, moment: float) -> None:
        """Wake it then."""
        tick = int(moment / _TICK) + 1
        due = self._due.get(tick)
        if due is None:
            self._due[tick] = due = []
            if self._timer is None or tick < self._first:
                self._start(tick)
        due.append(sleeper)

    def _start(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.close()
        self._first = tick
        self._timer = get_hub().loop.timer(max(tick * _TICK - time.monotonic(), 0.0))
        self._timer.start(self._ring, update=True)  # the time of a hub that was busy is old

    def _ring(self) -> None:
        self._timer.close()
        self._timer = None
        now = time.monotonic()
        for tick in self._over(int(now / _TICK)):
            for sleeper in self._due.pop(tick):
                try:
                    sleeper.alarm(now)
                except Exception:
                    log.exception(
                        "internal error while a question was given up or asked again: its clients hear nothing"
                    )
        if self._due and self._timer is None:
            self._start(self._next(int(now / _TICK) + 1))

    def _over(self, last: int) -> list[int]:
        """The ticks up to `last` that have somebody."""
        due, first = self._due, self._first
        if last - first > _SCANNED:  # this process was stopped
            return sorted([tick for tick in due if tick <= last])
        return [tick for tick in range(first, last + 1) if tick in due]

    def _next(self, tick: int) -> int:
        """The first that has somebody: close by where there are many."""
        due = self._due
        for each in range(tick, tick + _SCANNED):
            if each in due:
                return each
        return min(due)
