"""The greenlets that fly: made when needed, and no more of them kept than are."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from rdnscache import clock
from rdnscache.crew import KEPT, Crew, Task

pytestmark = pytest.mark.pure

SIZE = 300


def living(greenlets: set[gevent.Greenlet]) -> int:
    return sum(not each.dead for each in greenlets)


def test_those_that_nothing_is_left_for_end() -> None:
    """After a crowd a few stay; the next crowd has as many as the first."""
    flyers: set[gevent.Greenlet] = set()
    up, done = Event(), [0]

    def fly(task: Task) -> None:
        flyers.add(gevent.getcurrent())
        up.wait(20)
        done[0] += 1

    crew = Crew(fly, lambda task, column: None, SIZE)
    for crowd in (1, 2):
        up.clear()
        for number in range(SIZE):
            crew.start(Task(b"\1a\4test\0\0\1\0\1\0", clock.now(), bytes((number & 255,))), clock.now())
        with gevent.Timeout(20):
            while living(flyers) < SIZE:
                gevent.sleep(0.01)
        up.set()
        with gevent.Timeout(20):
            while done[0] < crowd * SIZE or living(flyers) > KEPT:
                gevent.sleep(0.01)
        assert living(flyers) == KEPT
    assert len(flyers) == 2 * SIZE - KEPT


def test_those_in_use_stay() -> None:
    """However short the use: who was needed since the last look does not end."""
    flyers: set[gevent.Greenlet] = set()

    def fly(task: Task) -> None:
        flyers.add(gevent.getcurrent())
        gevent.sleep(0)

    crew = Crew(fly, lambda task, column: None, SIZE)
    ends = clock.now() + 2.5  # two looks
    while (now := clock.now()) < ends:
        for _ in range(2 * KEPT):
            crew.start(Task(b"\1a\4test\0\0\1\0\1\0", now, b""), now)
        gevent.sleep(0.05)
    assert living(flyers) == len(flyers) == 2 * KEPT
