"""A rate limit for flushes of everything: whoever may publish could order thousands a second.

After each of them all answers are read from Redis again. So a few are done at once, as many as a person orders; further
ones are combined: one flush a second for all events that have arrived meanwhile, which are confirmed only then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import gevent

from rdnscache.store.contract import EVENTS_KEPT

#: Flushes that may be done in a row, and the seconds until one more may be done.
IN_A_ROW, AGAIN = 10, 1.0


class Forgetting:
    """`begin` is called with the events that one flush of everything is done for."""

    def __init__(self, begin: Callable[[Sequence[bytes]], None]) -> None:
        self._begin = begin
        #: When `IN_A_ROW` flushes may be done again (monotonic).
        self._full = 0.0
        self._waiting: deque[bytes] = deque(maxlen=EVENTS_KEPT)
        self._greenlet: gevent.Greenlet | None = None

    def order(self, events: Sequence[bytes]) -> None:
        """Flush everything now or soon. Called in the hub."""
        self._waiting += events
        if self._greenlet is not None:
            return
        wait = self._full - (IN_A_ROW - 1) * AGAIN - time.monotonic()
        if wait > 0:
            self._greenlet = gevent.spawn_later(wait, self._go)
        else:
            self._go()

    def _go(self) -> None:
        self._greenlet = None
        self._full = max(self._full, time.monotonic()) + AGAIN
        events = list(self._waiting)
        self._waiting.clear()
        self._begin(events)
