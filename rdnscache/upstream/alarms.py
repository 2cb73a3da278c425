"""Wakes searches at set times, with one timer for all: a timer for each would cost too much.

Most searches are answered long before that, and forgotten then. Times are rounded up to ticks, so none is woken too
early, and all are woken within one tick.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from gevent import get_hub

from rdnscache import clock

log = logging.getLogger(__name__)

#: Seconds.
TICK = _TICK = 0.002
#: Ticks that are checked one by one; beyond that all ticks with sleepers are searched.
SCANNED = _SCANNED = 16


class Sleeper(Protocol):
    """An object that can be woken."""

    def alarm(self, now: float) -> None:
        """A time that it set has come; it may have been woken by something else since and be asleep again."""


class Alarms:
    """The alarms of all searches over the same servers. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        #: Sleepers by the tick at which they are woken.
        self._due: dict[int, set[Sleeper]] = {}
        self.hub = get_hub()
        self._timer: Any = None
        self._first = 0

    def set(self, sleeper: Sleeper, moment: float) -> None:
        """Wake a sleeper at a time."""
        tick = int(moment / _TICK) + 1
        due = self._due.get(tick)
        if due is None:
            self._due[tick] = due = set()
            if self._timer is None or tick < self._first:
                self._start(tick)
        due.add(sleeper)

    def unset(self, sleeper: Sleeper, moment: float) -> None:
        """It is awake. Its tick stays until it is over, since others come before that."""
        due = self._due.get(int(moment / _TICK) + 1)
        if due is not None:
            due.discard(sleeper)

    def _start(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.close()
        self._first = tick
        self._timer = self.hub.loop.timer(max(tick * _TICK - clock.monotonic(), 0.0))
        self._timer.start(self._ring, update=True)  # the hub's cached time is old if it was busy

    def _ring(self) -> None:
        self._timer.close()
        self._timer = None
        now = clock.monotonic()
        for tick in self._over(int(now / _TICK)):
            for sleeper in self._due.pop(tick):
                try:
                    sleeper.alarm(now)
                except Exception:
                    log.exception(
                        "internal error while a question was given up or asked again: its clients get no reply"
                    )
        if self._due and self._timer is None:
            self._start(self._next(int(now / _TICK) + 1))

    def _over(self, last: int) -> list[int]:
        """The ticks up to `last` that have sleepers."""
        due, first = self._due, self._first
        if last - first > _SCANNED:  # the process was stopped
            return sorted([tick for tick in due if tick <= last])
        return [tick for tick in range(first, last + 1) if tick in due]

    def _next(self, tick: int) -> int:
        """The first tick from `tick` on that has sleepers; it is near if there are many."""
        due = self._due
        for each in range(tick, tick + _SCANNED):
            if each in due:
                return each
        return min(due)
