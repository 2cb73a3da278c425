"""The breaker as a pure object: when it opens, when it looks again, when it closes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdnscache.store.breaker import CLOSED, OPEN, PROBING, Breaker

#: About modules that are not compiled.
pytestmark = [pytest.mark.once, pytest.mark.pure]

#: A moment long after the beginning, and failures far enough apart to be told apart.
NOW, APART = 1000.0, 0.04


def failing(breaker: Breaker, times: int, began: float = NOW, apart: float = APART) -> list[bool]:
    return [breaker.failed("no word", began + number * apart) for number in range(times)]


def answering(breaker: Breaker, times: Iterable[float], upstream: float, began: float = NOW) -> list[bool]:
    """Answers that took so long each, far enough apart; what came of the looks they led to."""
    now, looks = began, []
    for seconds in times:
        now += APART
        if breaker.succeeded(seconds, now):
            looks.append(breaker.compare(upstream, now))
    return looks


def opened(at: float = NOW) -> Breaker:
    breaker = Breaker()
    failing(breaker, 3, at)
    assert breaker.state is OPEN
    return breaker


class TestOpening:
    def test_three_failures_open_it_once(self) -> None:
        """The third says so; what comes after changes nothing."""
        breaker = Breaker()
        assert failing(breaker, 5) == [False, False, True, False, False]
        assert (breaker.state, breaker.reason, breaker.opened) == (OPEN, "no word", 1)
        assert not breaker.closed

    @given(st.integers(3, 1000))
    def test_failures_together_count_once(self, times: int) -> None:
        """A moment's silence meets everybody who waits."""
        breaker = Breaker()
        failing(breaker, times, apart=0.029 / times)
        assert breaker.closed

    @given(st.lists(st.floats(0.03, 100), min_size=0, max_size=200), st.integers(5, 20))
    def test_few_failures_among_answers_never_open_it(self, gaps: list[float], answers: int) -> None:
        """Five good answers make up for a failure, for ever."""
        breaker, now = Breaker(), NOW
        for gap in gaps:
            now += gap
            assert not breaker.failed("no word", now)
            answering(breaker, [0.001] * answers, 0.03, now)
        assert breaker.closed

    @given(st.lists(st.sampled_from(["failure", "answer"]), max_size=300))
    def test_it_opens_exactly_when_failures_outweigh_answers(self, events: list[str]) -> None:
        """A failure weighs 1, an answer takes back 0.2, never below 0; at 3 it opens."""
        breaker, now, tenths = Breaker(), NOW, 0
        for event in events:
            now += APART
            if event == "failure":
                tenths += 10
                breaker.failed("no word", now)
            else:
                tenths = max(tenths - 2, 0)
                breaker.succeeded(0.001, now)
            if tenths == 30:
                return  # 3 in tenths, which floats may miss by a hair
            assert breaker.closed == (tenths < 30)
            if tenths > 30:
                return

    @pytest.mark.parametrize(
        ("redis", "upstream", "opens"),
        [
            (0.1, 0.03, True),
            (0.1, 0.2, False),
            (0.1, 0.0, False),
            (0.024, 0.001, False),
            (0.026, 0.001, True),
        ],
        ids=["slower", "faster", "upstream unknown", "always fine", "no longer fine"],
    )
    def test_it_opens_when_redis_is_slower_than_an_upstream(self, redis: float, upstream: float, opens: bool) -> None:
        """Up to 25 ms Redis is fine whatever an upstream takes."""
        breaker = Breaker()
        assert any(answering(breaker, [redis] * 64, upstream)) is opens
        assert breaker.closed is not opens
        assert ("slow: 95 %" in breaker.reason) is opens

    @given(st.permutations([0.5] * 2 + [0.001] * 62))
    def test_a_few_slow_answers_do_not_matter(self, times: list[float]) -> None:
        """95 % of the last 64 count."""
        breaker = Breaker()
        assert not any(answering(breaker, [0.001] * 64 + times, 0.01))

    def test_few_answers_say_nothing(self) -> None:
        """The first look that counts is at 64."""
        assert answering(Breaker(), [0.5] * 64, 0.01) == [False, False, False, True]

    @given(st.lists(st.integers(1, 200), max_size=30))
    def test_answers_together_count_once(self, bursts: list[int]) -> None:
        """However many waited in the same moment: three such moments, and good answers in between, are not enough."""
        breaker, now = Breaker(), NOW
        for burst in bursts:
            for _ in range(burst):
                assert not breaker.succeeded(0.5, now)
            now = now + APART
            assert not any(answering(breaker, [0.001] * 23, 0.01, now))
            now += 24 * APART
        assert breaker.closed


class TestProbing:
    def test_probes_become_rarer_up_to_half_a_minute(self) -> None:
        """No answer, an error or a late one: the pause doubles."""
        breaker = opened()
        assert breaker.pause == 0.1
        pauses = []
        for number in range(12):
            breaker.probe()
            assert breaker.state is PROBING
            assert not breaker.probed(None if number % 2 else 0.5, 0.03, NOW)
            assert breaker.state is OPEN
            pauses.append(breaker.pause)
        assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30, 30])

    @given(st.floats(0, 2), st.floats(0, 2))
    def test_it_closes_when_a_probe_is_no_slower_than_an_upstream(self, seconds: float, upstream: float) -> None:
        """Or than 25 ms."""
        breaker = opened()
        breaker.probe()
        closes = seconds <= max(upstream, 0.025)
        assert breaker.probed(seconds, upstream, NOW) is closes
        assert breaker.state is (CLOSED if closes else OPEN)
        assert (breaker.reason == "") is closes

    def test_nothing_is_left_of_what_opened_it(self) -> None:
        """Once closed it takes as much as at first to open it: by failures, and by latency."""
        breaker = opened()
        breaker.probe()
        breaker.probed(0.001, 0.03, NOW + 1)
        assert failing(breaker, 2, NOW + 2) == [False, False]
        assert not any(answering(breaker, [0.5] * 63, 0.01, NOW + 3))

    @pytest.mark.parametrize(("later", "pause"), [(1.0, 0.8), (11.0, 0.1)], ids=["soon", "after a good while"])
    def test_how_soon_it_looks_again_depends_on_how_long_it_was_good(self, later: float, pause: float) -> None:
        """Who opens again within 10 s goes on doubling."""
        breaker = opened()
        for answer in (None, None, 0.001):
            breaker.probe()
            breaker.probed(answer, 0.03, NOW)
        failing(breaker, 3, NOW + later)
        assert breaker.opened == 2
        assert breaker.pause == pytest.approx(pause)

    def test_a_new_connection_closes_it(self) -> None:
        """What the old one did says nothing about it."""
        breaker = opened()
        breaker.reset(NOW)
        assert breaker.closed
        assert breaker.reason == ""
