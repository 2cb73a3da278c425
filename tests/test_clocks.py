"""A node whose clock is wrong shares with nobody, and costs the others nothing."""

from __future__ import annotations

import pytest

from rdnscache.store.clocks import MEMORY, MOST_NODES, Clocks

pytestmark = pytest.mark.pure


def judged(nodes: list[float], server: float | None = None, now: float = 1.0) -> bool:
    clocks = Clocks(300)
    for number, offset in enumerate(nodes):
        clocks.note(f"n{number}", offset, 0.0)
    if server is not None:
        clocks.note_server(server)
    clocks.judge(now)
    return clocks.wrong


@pytest.mark.parametrize(
    ("nodes", "server", "wrong"),
    [
        ([600.0, 600.0, 600.0], 600.0, True),
        ([-600.0, 1.0, 2.0], 0.0, False),
        ([600.0], 600.0, True),
        ([600.0], 0.0, False),
        ([0.0, 0.0], 600.0, False),
        ([], 600.0, False),
        ([], None, False),
        ([600.0], None, True),
    ],
)
def test_a_clock_that_disagrees_with_most_is_wrong(nodes: list[float], server: float | None, wrong: bool) -> None:
    """Other nodes have a voice each, and so has Redis; that it alone disagrees proves nothing."""
    assert judged(nodes, server) is wrong


def test_it_stays_wrong_while_redis_disagrees() -> None:
    """Of the others nothing is heard while nothing is shared; when the clock is set, Redis agrees."""
    clocks = Clocks(300)
    clocks.note("n1", 600.0, 0.0)
    clocks.note_server(600.0)
    assert clocks.judge(1.0) and clocks.wrong
    assert not clocks.judge(2 * MEMORY) and clocks.wrong
    clocks.note_server(0.1)
    assert clocks.judge(2 * MEMORY + 1) and not clocks.wrong


def test_names_that_somebody_makes_up_are_bounded() -> None:
    """The number of nodes remembered is bounded."""
    clocks = Clocks(300)
    for number in range(MOST_NODES * 3):
        clocks.note(f"n{number}", 0.0, 1.0)
    assert len(clocks._seen) == MOST_NODES
