"""A table of networks, built once and read by all workers of a node from the same memory.

Networks either contain each other or are disjoint, so they can be stored as consecutive ranges, each with the number of
the network that applies there. A look-up is one bisection.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

#: Most networks of a table.
MOST_NETWORKS = 1 << 19
#: A range without a network.
_NONE = (1 << 64) - 1
_HEADER = Struct("=I")


class Found(NamedTuple):
    """The network that applies to an address."""

    #: As it was given to `build_addresses`.
    value: int
    prefix: int


def build_addresses(networks: Iterable[tuple[bytes, int, int]], width: int) -> bytes:
    """A table of networks, each an address of `width` octets, a prefix length, and a value.

    Of several networks that contain an address the longest prefix counts, and of equal ones the first one given.
    """
    bits = 8 * width
    known: dict[bytes, int] = {}
    for address, prefix, value in networks:
        known.setdefault(address + bytes((prefix,)), value)
    starts, values, prefixes = bytearray(width), array("Q", [_NONE]), bytearray(1)
    #: The networks around the current position, the widest first: the end of each, its value and prefix length.
    around = [(1 << bits, _NONE, 0)]

    def note(start: int, value: int, prefix: int) -> None:
        """Begin a range; it replaces a previous one of no length."""
        octets = start.to_bytes(width, "big")
        if starts[-width:] == octets:
            values[-1], prefixes[-1] = value, prefix
        elif values[-1] != value:
            starts.extend(octets)
            values.append(value)
            prefixes.append(prefix)

    def leave(place: int) -> None:
        """End the networks that end at or before a position; the one around them applies again."""
        while around[-1][0] <= place:
            end = around.pop()[0]
            note(end, *around[-1][1:])

    for octets in sorted(known):
        start, prefix = int.from_bytes(octets[:width], "big"), octets[width]
        leave(start)
        around.append((start + (1 << (bits - prefix)), known[octets], prefix))
        note(start, known[octets], prefix)
    leave((1 << bits) - 1)
    return _HEADER.pack(len(values)) + values.tobytes() + bytes(starts) + bytes(prefixes)


class AddressTable:
    """Finds networks in a table that lies in memory, which is not copied."""

    def __init__(self, data: memoryview, width: int) -> None:
        """ValueError when it is not a table of addresses of `width` octets."""
        count = _HEADER.unpack_from(data)[0] if len(data) >= _HEADER.size else -1
        if len(data) != _HEADER.size + count * (8 + width + 1) or count < 1:
            raise ValueError("the table of networks is damaged")
        at = _HEADER.size + 8 * count
        self._count = count
        self._values = data[_HEADER.size : at].toreadonly()
        self._starts = _Rows(data[at : at + width * count], width)
        self._prefixes = data[at + width * count :]

    def __bool__(self) -> bool:
        """Whether there is any network."""
        return self._count > 1 or self._value(0) != _NONE

    def values(self) -> Iterator[int]:
        """The values of all networks."""
        return (value for at in range(self._count) if (value := self._value(at)) != _NONE)

    def find(self, address: bytes) -> Found | None:
        at = bisect_right(self._starts, address) - 1
        value = self._value(at)
        return None if value == _NONE else Found(value, self._prefixes[at])

    def _value(self, at: int) -> int:
        return int.from_bytes(self._values[8 * at : 8 * at + 8], sys.byteorder)


class _Rows:
    """Octets as a sequence of rows."""

    def __init__(self, data: memoryview, width: int) -> None:
        self._data = data
        self._width = width

    def __len__(self) -> int:
        return len(self._data) // self._width

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._data[self._width * index : self._width * (index + 1)])
