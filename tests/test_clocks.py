"""A node whose clock is wrong shares with nobody, and costs the others nothing."""

from __future__ import annotations

from rdnscache.store.clocks import MEMORY, MOST_NODES, Clocks


def test_a_clock_that_disagrees_with_most_is_wrong() -> None:
    """Three others say so; one of three does not."""
    wrong, right = Clocks(300), Clocks(300)
    for number in range(3):
        wrong.note(f"n{number}", -600.0, 1.0)
        right.note(f"n{number}", 600.0 if number == 0 else 1.0, 1.0)
    assert wrong.wrong(2.0)
    assert not right.wrong(2.0)


def test_nothing_is_wrong_with_nobody_to_compare() -> None:
    """Nor when what was seen is long ago: a clock may have been set."""
    clocks = Clocks(300)
    assert not clocks.wrong(0.0)
    clocks.note("n1", 600.0, 0.0)
    assert clocks.wrong(MEMORY - 1)
    assert not clocks.wrong(MEMORY + 1)


def test_names_that_somebody_makes_up_are_bounded() -> None:
    """No more than so many nodes are remembered."""
    clocks = Clocks(300)
    for number in range(MOST_NODES * 3):
        clocks.note(f"n{number}", 0.0, 1.0)
    assert len(clocks._seen) == MOST_NODES
