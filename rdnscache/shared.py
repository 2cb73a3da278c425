"""Numbers in memory, shared by the workers of a node or private to one."""

from __future__ import annotations

from typing import TypeAlias

#: Floating-point numbers that are read and written in place.
Doubles: TypeAlias = "memoryview[float]"


def doubles(count: int) -> Doubles:
    """This many private numbers, all 0."""
    return memoryview(bytearray(8 * count)).cast("d")
