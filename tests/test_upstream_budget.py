"""What a worker may send of a budget: slots, its own share, who waits, and what is left out first."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdnscache.metrics import SERVER_BUDGET_GRANTED, SERVER_BUDGET_REFUSED, Board
from rdnscache.shared import doubles
from rdnscache.upstream.allowance import LEASE, NEVER, VALID, Allotment, Allowance
from rdnscache.upstream.application import Ask, Request, Terms, nobody
from rdnscache.upstream.budget import PATIENCE, ROOM, UNTOLD, Budget
from rdnscache.upstream.waiting import Waiter, WaitingLine

#: About modules that are not compiled.
pytestmark = [pytest.mark.once, pytest.mark.both]

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


class Giver:
    """Redis, as a budget sees it: answers after `seconds`, gives all that is asked for as long as `rate` allows it."""

    def __init__(self, rate: float = 1000.0, seconds: float = 0.002) -> None:
        self.rate = rate
        self.seconds = seconds
        self.requests: list[Request] = []
        self.says = "yes"
        self.free = 0.0

    def ask(self, request: Request, applicant: Any) -> bool:
        if self.says == "away":
            return False
        self.requests.append(request)
        if self.says == "lost at once":
            applicant.lost()
        else:
            gevent.spawn_later(self.seconds, self._answer, request, applicant)
        return True

    def _answer(self, request: Request, applicant: Any) -> None:
        if self.says == "no":
            return applicant.refused()
        now = time.monotonic()
        self.free = max(self.free, now)
        count = min(request.count, int((now + 0.2 - self.free) * self.rate))
        start, self.free = self.free, self.free + count / self.rate
        told = Allotment(now, count, start, 1 / self.rate, self.free, 10.0, 0.0, 0.0)
        return applicant.allotted(told)


def _budget(ask: Ask, rate: float = 1000.0, alone: bool = False, numbers: Any = None) -> tuple[Budget, Any]:
    board = Board(1)
    board.make_room(["a"])
    terms = Terms("a", "a", rate, 0, 1, alone)
    return Budget(terms, ask, board.block("a"), board.row(0), numbers), lambda column: board.row(0)[
        board.block("a") + column
    ]


class Queries:
    """Some that ask a budget, and what they were told."""

    def __init__(self, budget: Budget, count: int, seconds: float = 5.0) -> None:
        self.granted: list[float] = []
        self.late = self.refused = self.turned_away = 0
        for number in range(count):
            now = time.monotonic()
            waiter = Waiter(b"%d" % (number % 7), now + seconds, self.granted.append, self._late, self._refused)
            if budget.take(now):
                self.granted.append(now)
            elif not budget.wait(waiter, now):
                self.turned_away += 1

    def _late(self) -> None:
        self.late += 1

    def _refused(self) -> None:
        self.refused += 1


def _until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    with gevent.Timeout(seconds):
        while not condition():
            gevent.sleep(0.002)


class TestBudget:
    """Between those who send and Redis."""

    def test_many_queries_are_one_request(self) -> None:
        """Or a few: a query costs no round trip of its own."""
        giver = Giver()
        budget, counted = _budget(giver.ask)
        budget.start()
        queries = Queries(budget, 150)
        _until(lambda: len(queries.granted) == 150)
        assert len(giver.requests) <= 8
        assert counted(SERVER_BUDGET_GRANTED) == 150
        budget.close()

    def test_the_first_request_lends_nothing(self) -> None:
        """The clock of Redis is not known yet; the second follows at once."""
        giver = Giver()
        budget, _ = _budget(giver.ask)
        budget.start()
        _until(lambda: len(giver.requests) >= 2)
        assert giver.requests[0].lent == 0.0
        assert giver.requests[1].lent > time.monotonic()
        budget.close()

    @pytest.mark.parametrize("says", ["away", "no", "lost at once"])
    def test_without_redis_there_is_the_share(self, says: str) -> None:
        """Whether it is away, refuses, or is lost again and again."""
        giver = Giver()
        giver.says = says
        budget, _ = _budget(giver.ask)
        budget.start()
        gevent.sleep(0.05)
        queries = Queries(budget, 8)
        _until(lambda: len(queries.granted) == 8)
        assert _most_in_a_second(queries.granted) <= 1000 * UNTOLD
        budget.close()

    def test_a_share_that_is_lent_is_not_used_when_redis_falls_silent(self) -> None:
        """Until the moment that was named."""
        giver = Giver()
        budget, _ = _budget(giver.ask)
        budget.start()
        _until(lambda: len(giver.requests) >= 2)
        last = time.monotonic()
        giver.says = "away"
        budget.lost()
        queries = Queries(budget, 3)
        _until(lambda: queries.granted)
        assert queries.granted[0] >= last + LEASE - 0.1
        assert queries.late == 3
        budget.close()

    def test_more_than_there_is_room_for_are_turned_away(self) -> None:
        """At once, and they are counted."""
        budget, counted = _budget(nobody, rate=20.0, alone=True)
        budget.start()
        queries = Queries(budget, 200)
        gevent.sleep(0)
        assert queries.turned_away + queries.refused == 200 - len(queries.granted) - 30
        assert counted(SERVER_BUDGET_REFUSED) == queries.turned_away + queries.refused
        budget.close()

    @pytest.mark.parametrize("alone", [True, False])
    def test_nobody_waits_for_a_slot_that_comes_too_late(self, alone: bool) -> None:
        """Where the next one is known to be far, whoever would wait for it in vain is turned away at once."""
        giver = Giver(1 / 3600)
        budget, counted = _budget(nobody if alone else giver.ask, 1 / 3600, alone)
        budget.start()
        budget.take(time.monotonic())
        if not alone:
            giver.free = time.monotonic() + 3600
            _until(lambda: len(giver.requests) >= 2)
        queries = Queries(budget, 5, PATIENCE)
        _until(lambda: queries.turned_away + queries.refused == 5, 0.5)
        assert Queries(budget, 5, PATIENCE).turned_away == 5
        assert counted(SERVER_BUDGET_REFUSED) == 10
        budget.close()

    def test_without_redis_the_share_is_not_waited_for_in_vain(self) -> None:
        """At first Redis may still come; then the next slot of the share is all there is."""
        budget, _ = _budget(nobody, 1 / 3600)
        budget.start()
        assert Queries(budget, 1, PATIENCE).turned_away == 0
        gevent.sleep(PATIENCE + 0.1)
        assert Queries(budget, 1, PATIENCE).turned_away == 1
        budget.close()

    def test_what_nobody_waits_for_takes_what_is_left(self) -> None:
        """Sent where there is plenty, left out where it is near."""
        sent: list[float] = []
        budget, _ = _budget(nobody, rate=20.0, alone=True)
        budget.start()
        assert budget.spare(sent.append, time.monotonic())
        _until(lambda: sent)
        Queries(budget, 10)
        assert not budget.spare(sent.append, time.monotonic())
        budget.close()

    def test_a_successor_knows_the_share(self) -> None:
        """What the workers of a node were told is in memory that they share."""
        giver, numbers = Giver(), doubles(ROOM)
        first, _ = _budget(giver.ask, numbers=numbers)
        first.start()
        _until(lambda: len(giver.requests) >= 2)
        first.close()
        second, _ = _budget(nobody, numbers=numbers)
        second.start()
        queries = Queries(second, 8)
        _until(lambda: len(queries.granted) == 8)
        assert queries.granted[-1] - queries.granted[0] > 0.5  # 10 a second
        second.close()
