"""Numbers in memory that all can see, counted. tally.pyx is the twin that makes no objects of them."""

from __future__ import annotations


def count(numbers: memoryview, at: int, more: int) -> None:
    """Add to one of them."""
    numbers[at] += more
