"""Numbers and texts in memory, shared by the workers of a node or private to one."""

from __future__ import annotations

import mmap
from typing import TypeAlias

#: Floating-point numbers that are read and written in place.
Doubles: TypeAlias = "memoryview[float]"


def doubles(count: int) -> Doubles:
    """This many private numbers, all 0."""
    return memoryview(bytearray(8 * count)).cast("d")


class SharedText:
    """A text of at most 64 KiB with one writer. Layout: a number, odd during writing; the length; the text."""

    ROOM = 64 << 10
    _HEAD = 16

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.ROOM)
        self._head = memoryview(self._memory)[: self._HEAD].cast("Q")

    def write(self, text: bytes) -> None:
        if len(text) > self.ROOM - self._HEAD:
            text = b""
        self._head[0] |= 1
        self._memory[self._HEAD : self._HEAD + len(text)] = text
        self._head[1] = len(text)
        self._head[0] += 1

    def read(self) -> bytes:
        before, size = self._head.tolist()
        text = self._memory[self._HEAD : self._HEAD + min(size, self.ROOM - self._HEAD)]
        return b"" if before & 1 or self._head[0] != before else text
