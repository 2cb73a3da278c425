"""When an upstream rests, and how it comes back: the rules, without clock or socket."""

from __future__ import annotations

import pytest

from rdnscache.upstream.health import FAILURES_BEFORE_REST, FIRST_REST, LAST_REST, STABLE, Health

pytestmark = [pytest.mark.once, pytest.mark.pure]


def _rested(now: float) -> Health:
    health = Health()
    for _ in range(FAILURES_BEFORE_REST):
        health.failed(now, now)
    assert health.rests_until == now + FIRST_REST
    return health


def test_failures_in_a_row_begin_a_rest() -> None:
    """Only the failure that begins it says so, and an answer in between starts the count anew."""
    health = Health()
    assert [health.failed(now, now) for now in (1.0, 2.0)] == [False, False]
    health.answered(3.0)
    assert [health.failed(now, now) for now in (4.0, 5.0, 6.0)] == [False, False, True]
    assert health.resting


def test_silence_about_one_name_is_no_silence_of_the_server() -> None:
    """What was sent before the last sign of life counts for nothing, however often."""
    health = Health()
    for number in range(100):
        health.answered(10.0 + number)
        health.failed(9.0 + number, 11.5 + number)
    assert not health.resting


def test_many_failures_at_once_are_one_event() -> None:
    """A burst of sixty does not lengthen the rest; nor do those that were sent before it was over."""
    health = Health()
    assert [health.failed(1.0, 3.0) for _ in range(60)].count(True) == 1
    assert health.rests_until == 3.0 + FIRST_REST
    for _ in range(60):
        health.failed(3.5, 5.5)
    assert health.rests_until == 3.0 + FIRST_REST


def test_each_probe_that_fails_doubles_the_rest_up_to_the_bound() -> None:
    """However often a server fails, there is a next time."""
    health = _rested(100.0)
    rests = []
    for _ in range(3000):
        sent = health.rests_until
        assert health.due(sent)
        health.failed(sent, sent + 2)
        rests.append(health.rests_until - sent - 2)
    assert rests[:6] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert max(rests) == LAST_REST


def test_one_probe_at_a_time() -> None:
    """It is due when the rest is over, and not while another is on its way."""
    health = _rested(100.0)
    assert not health.due(100.5)
    assert health.due(101.0)
    health.probe(105.0)
    assert not health.due(104.9)
    assert health.due(105.0)


def test_a_probe_that_came_to_nothing_is_put_off() -> None:
    """Where we could not send it, the rest goes on as long as it was."""
    health = _rested(100.0)
    health.postpone(101.0)
    assert health.rests_until == 102.0


@pytest.mark.parametrize(("pause", "rest"), [(STABLE - 1, 2 * FIRST_REST), (STABLE + 1, FIRST_REST)])
def test_who_fails_again_soon_rests_longer(pause: float, rest: float) -> None:
    """A server that comes and goes is not asked in vain every second; one that was well for a while starts anew."""
    health = _rested(100.0)
    assert health.answered(101.0)
    now = 101.0 + pause
    for _ in range(FAILURES_BEFORE_REST):
        health.failed(now, now)
    assert health.rests_until == now + rest
