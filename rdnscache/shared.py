"""Numbers in memory that the workers of a node share, or that are one worker's own."""

from __future__ import annotations

from typing import TypeAlias

#: Numbers with a fraction, to be read and written in place.
Doubles: TypeAlias = "memoryview[float]"


def doubles(count: int) -> Doubles:
    """This many numbers of one's own, all 0."""
    return memoryview(bytearray(8 * count)).cast("d")
