"""What a worker may send of a budget: slots, its own share, who waits, and what is left out first."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdnscache.upstream.allowance import LEASE, NEVER, VALID, Allotment, Allowance
from rdnscache.upstream.waiting import Waiter, WaitingLine

pytestmark = pytest.mark.both

#: How far the clock of Redis is ahead of ours in these tests.
AHEAD = 1000.0


def _allotment(now: float, count: int, start: float, apart: float = 0.01, share: float = 50.0) -> Allotment:
    """By the clock of Redis, from moments of ours."""
    return Allotment(now + AHEAD, count, start + AHEAD, apart, start + count * apart + AHEAD, share, 0.0, 0.0)


def _sent_by(allowance: Allowance, begin: float, end: float, step: float = 0.001) -> list[float]:
    """When somebody who always has something to send does."""
    sent = []
    for number in range(round((end - begin) / step)):
        now = begin + number * step
        while allowance.take(now):
            sent.append(now)
    return sent


def _most_in_a_second(sent: list[float]) -> int:
    return max(sum(moment <= other < moment + 1.0 for other in sent) for moment in sent)


class TestAllowance:
    """The arithmetic, with time passed in."""

    def test_slots_are_used_at_their_moments(self) -> None:
        """Not before, and by our clock."""
        allowance = Allowance(0.0, 0.0)
        allowance.lend(10.0)
        allowance.take_in(_allotment(10.001, 3, 10.02), 10.0, 10.002)
        assert not allowance.take(10.015)
        assert [round(moment, 3) for moment in _sent_by(allowance, 10.0, 10.1)] == [10.021, 10.031, 10.041]

    def test_slots_that_were_not_used_in_time_are_gone(self) -> None:
        """What has been hoarded would be a burst."""
        allowance = Allowance(0.0, 0.0)
        allowance.take_in(_allotment(10.0, 20, 10.0), 10.0, 10.0)
        now = 10.065 + VALID
        assert allowance.at_hand(now) == 13  # from that of 10.07 on
        assert allowance.take(now) and allowance.at_hand(now) == 12

    def test_a_share_that_is_lent_is_not_used(self) -> None:
        """Before the last moment that was named, which is never later than the clock of Redis would have it."""
        allowance = Allowance(50.0, 0.0)
        assert allowance.take(9.0)
        assert allowance.lending(10.0) == 0.0  # nothing is known of its clock
        allowance.lend(10.0)
        allowance.take_in(_allotment(10.0004, 0, 10.0), 10.0, 10.003)
        assert allowance.lending(10.1) <= 10.1 + AHEAD + LEASE
        allowance.lend(10.1)
        assert allowance.next_slot(10.1 + LEASE - 0.001) == NEVER
        assert allowance.take(10.1 + LEASE + 0.001)

    def test_alone_a_share_is_spaced_evenly(self) -> None:
        """Whatever comes, no second has more than the share and what may be late."""
        allowance = Allowance(50.0, 0.0)
        sent = _sent_by(allowance, 10.0, 13.0)
        assert 148 <= len(sent) <= 153
        assert _most_in_a_second(sent) <= 50 * (1 + VALID) + 1

    @pytest.mark.parametrize("workers", [2, 4, 8])
    def test_those_without_redis_do_not_begin_together(self, workers: int) -> None:
        """A budget of one a second is one a second, for all workers of a node."""
        sent = sorted(
            moment
            for worker in range(workers)
            for moment in _sent_by(Allowance(1 / workers, worker / workers), 10.0, 20.0)
        )
        assert 9 <= len(sent) <= 11
        assert min(later - earlier for earlier, later in pairwise(sent)) >= 1 - VALID - 0.002

    def test_without_a_share_there_is_nothing(self) -> None:
        """Others have all of it reserved."""
        assert Allowance(0.0, 0.0).next_slot(10.0) == NEVER

    def test_what_redis_gave_before_it_was_lost_is_not_used(self) -> None:
        """It may have come back empty, and give the same again."""
        allowance = Allowance(0.0, 0.0)
        allowance.take_in(_allotment(10.0, 20, 10.0, share=0.0), 10.0, 10.0)
        allowance.drop()
        assert not allowance.take(10.01)

    def test_a_far_redis_is_asked_ahead(self) -> None:
        """Slots are for when they can be used; near ones are for now."""
        allowance = Allowance(0.0, 0.0)
        assert allowance.ahead() == 0.0
        for number in range(60):
            allowance.take_in(_allotment(10.0 + number, 0, 10.0), 10.0 + number - 0.04, 10.0 + number + 0.04)
        assert 0.08 < allowance.ahead() <= 0.1

    def test_the_clock_of_redis_may_be_set(self) -> None:
        """What it said before does not count then."""
        allowance = Allowance(0.0, 0.0)
        allowance.take_in(_allotment(10.0, 0, 10.0), 10.0, 10.0)
        told = _allotment(11.0 - 500, 1, 11.0 - 500)
        allowance.take_in(told, 11.0, 11.001)
        assert allowance.take(11.002)

    @given(
        st.lists(st.tuples(st.floats(0, 0.2), st.integers(0, 30), st.floats(0, 0.05)), min_size=1, max_size=30),
        st.floats(1, 1000),
    )
    def test_no_second_has_more_than_it_may(self, steps: list[tuple[float, int, float]], rate: float) -> None:
        """Whenever slots of one row come, and however late their owner looks."""
        allowance, now, free, sent = Allowance(0.0, 0.0), 10.0, 10.0, []
        for wait, count, late in steps:
            free = max(free, now - 0.025)
            allowance.take_in(_allotment(now, count, free, 1 / rate, 0.0), now, now)
            free += count / rate
            now += wait + late
            while allowance.take(now) and len(sent) < 1000:
                sent.append(now)
        if sent:
            assert _most_in_a_second(sent) <= rate * (1 + VALID) + 2


def _waiter(client: bytes = b"", until: float = 100.0) -> Waiter:
    nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
    return Waiter(client, until, nothing, nothing, nothing)


class TestTheLine:
    """Who is next."""

    def test_clients_take_turns(self) -> None:
        """However many queries one of them has."""
        line = WaitingLine()
        greedy = [_waiter(b"a") for _ in range(5)]
        other = _waiter(b"b")
        for each in (*greedy, other):
            assert line.push(each, 100) is None
        assert [line.pop(0.0) for _ in range(3)] == [greedy[0], other, greedy[1]]

    def test_the_greediest_makes_room(self) -> None:
        """For who has fewer; for itself there is none."""
        line = WaitingLine()
        greedy = [_waiter(b"a") for _ in range(4)]
        for each in greedy:
            line.push(each, 4)
        other, again = _waiter(b"b"), _waiter(b"a")
        assert line.push(again, 4) is again
        assert line.push(other, 4) is greedy[-1]
        assert len(line) == 4 and greedy[-1] not in line and other in line

    def test_who_has_left_or_waited_too_long_is_passed_over(self) -> None:
        """And does not count."""
        line = WaitingLine()
        first, second, third = _waiter(until=1.0), _waiter(), _waiter()
        for each in (first, second, third):
            line.push(each, 10)
        line.remove(second)
        line.remove(second)
        assert line.pop(2.0) is third
        assert line.pop(2.0) is None and len(line) == 0
