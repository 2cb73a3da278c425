"""Numbers in memory that the workers of a node share, or that are one worker's own."""

from __future__ import annotations

#: Numbers with a fraction, to be read and written in place.
Doubles = memoryview


def doubles(count: int) -> Doubles:
    """So many numbers of one's own, all 0."""
    return memoryview(bytearray(8 * count)).cast("d")
