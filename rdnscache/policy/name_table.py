"""A table of names, built once and read by all workers of a node from the same memory.

It stores hashes of names: 62 bits of BLAKE2b with a random key for each table, so nobody can construct a name that
collides with another one. Accidental collisions are rare: with two million names (2^21), a name that is not listed is
mistaken for a listed one with a probability of 2^-41 for each of its parents that is looked up. A cluster that meets a
billion different names, with three look-ups each, has one chance in seven hundred that it happens at all; and the next
table has another key.

An entry is 16 octets: a hash with two flags, and a value (the number of the list, the line), in two arrays sorted by
hash. A directory (four octets for two to four entries) says where to search, and a filter (16 to 32 bits per entry)
whether to search: it contains the last two labels of each name, so most names that are not listed need no hash. False
positives of the filter only cost time. Numbers are in the byte order of the machine; tables in the other one are
refused.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise
from operator import le
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from rdnscache.policy.list_text import Item

#: Octets of a table's key.
KEY_OCTETS = 16
#: Most names of a table, from all lists together, with duplicates.
MOST_NAMES = 1 << 25
#: Most lists of a table.
MOST_LISTS = 1 << 16

#: The header: a magic number for format, version and byte order; the key; the number of entries; the least and the
#: greatest number of labels of a name; how many bits of a hash index the directory; the exponent of the filter's size.
#: Hashes, values, filter, directory and a checksum follow.
_HEADER = Struct("=Q16sIBBBB")
_CHECKSUM_OCTETS = 16
_MAGIC = 0x72646E736E616D32
#: The last bits of a hash give the kind of line: a name may have an entry of each kind.
_PASSES, _BELOW, _KIND = 1, 2, 3
#: A value has the line in its lower bits and the list above, so the lowest value is the line that comes first.
_LIST_SHIFT = 48
_LINE_MASK = (1 << _LIST_SHIFT) - 1
#: How many leading bits of a hash select the bucket it is sorted in. Only one bucket at a time is held as objects.
_PILE_BITS = 10


#: The highest number of a line.
MOST_LINES = _LINE_MASK


class Match(NamedTuple):
    """The line that decided about a name."""

    #: The number of the list, as it was given to `build`.
    source: int
    line: int
    #: An exception: the name is not to be blocked, whatever else says so.
    passes: bool
    #: The listed name: the name that was looked up, or a parent of it.
    name: bytes


def build(
    lists: Iterable[tuple[int, Iterable[Item]]], key: bytes, merge: Callable[[int, int, int], int] | None = None
) -> bytes:
    """A table of the names in lists, each given with its number. `key` is KEY_OCTETS random octets.

    Lists are given in order of precedence: of several lines of one kind for a name the first one stays, or the result
    of `merge` for the list, the line and a further line of that list. Takes seconds for a million names, so it has to
    run in a process that nobody waits for. ValueError when there are more names or lists than a table may have.
    """
    return put_together([gather(lists, key)], key, merge)


def put_together(
    portions: Sequence[Gathered], key: bytes, merge: Callable[[int, int, int], int] | None = None
) -> bytes:
    """A table of everything gathered with one key, portion by portion, in order of precedence."""
    piles, tails, depths = _joined(portions)
    if len(tails) > MOST_NAMES:
        raise ValueError(f"a table has at most {MOST_NAMES} names")
    place_bits = max(0, len(tails).bit_length() - 2)
    hashes, values = array("Q"), array("Q")
    sizes = array("I", bytes(4 << place_bits))
    piles.reverse()
    while piles:
        pile = piles.pop()
        pile.reverse()  # the first line is inserted last, so it wins
        firsts = dict(zip(pile[1::2], pile[::2], strict=True))
        if merge is not None and 2 * len(firsts) < len(pile):
            firsts = _merged(pile, merge)
        in_order = sorted(firsts)
        hashes.extend(in_order)
        values.extend(map(firsts.__getitem__, in_order))
        for number in in_order:
            sizes[number >> (64 - place_bits)] += 1
    directory = array("I", accumulate(sizes, initial=0))
    least, most = min(depths, default=2), max(depths, default=0)
    known, filter_bits = _filter(tails, everything=least < 2)
    head = _HEADER.pack(_MAGIC, key, len(hashes), least, most, place_bits, filter_bits)
    parts: list[bytes | bytearray] = [head, hashes.tobytes(), values.tobytes(), known, directory.tobytes()]
    return b"".join((*parts, _checksum(*parts)))


class Gathered(NamedTuple):
    """Hashed names before they are sorted; may come from another process."""

    #: Hashes and values by turns, each pile as octets.
    piles: list[bytes]
    #: The filter's number of each name.
    tails: bytes
    #: How many labels names have.
    depths: set[int]


def gather(lists: Iterable[tuple[int, Iterable[Item]]], key: bytes) -> Gathered:
    """The greater part of the work, which can be done in portions at the same time. Raises ValueError as `build`."""
    if len(key) != KEY_OCTETS:
        raise ValueError(f"the key of a table has {KEY_OCTETS} octets")
    piles = [array("Q") for _ in range(1 << _PILE_BITS)]
    tails, depths = array("I"), set()
    copy, to_pile = blake2b(key=key, digest_size=8).copy, 64 - _PILE_BITS
    for source, items in lists:
        if not 0 <= source < MOST_LISTS:
            raise ValueError(f"a table has at most {MOST_LISTS} lists")
        for name, below, line, passes in items:
            if len(tails) == MOST_NAMES:
                raise ValueError(f"a table has at most {MOST_NAMES} names")
            hashing = copy()
            hashing.update(name)
            number = int.from_bytes(hashing.digest(), "little") & ~_KIND
            pile = piles[number >> to_pile]
            pile.append(number | (below and _BELOW) | (passes and _PASSES))
            pile.append(source << _LIST_SHIFT | line)
            before = last = at = depth = 0
            while size := name[at]:
                before, last = last, at
                at += 1 + size
                depth += 1
            tails.append(crc32(name[before:]))
            depths.add(depth)
    return Gathered([pile.tobytes() for pile in piles], tails.tobytes(), depths)


def _joined(portions: Sequence[Gathered]) -> tuple[list[array[int]], array[int], set[int]]:
    piles, tails, depths = [array("Q") for _ in range(1 << _PILE_BITS)], array("I"), set()
    for portion in portions:
        for pile, octets in zip(piles, portion.piles, strict=True):
            pile.frombytes(octets)
        tails.frombytes(portion.tails)
        depths |= portion.depths
    return piles, tails, depths


def _merged(pile: array[int], merge: Callable[[int, int, int], int]) -> dict[int, int]:
    """Values by hash, those of one list put together. The pile has the last line first."""
    found: dict[int, int] = {}
    for at in range(len(pile) - 1, 0, -2):
        number, value = pile[at], pile[at - 1]
        first = found.setdefault(number, value)
        if first is not value and first >> _LIST_SHIFT == value >> _LIST_SHIFT:
            source = value >> _LIST_SHIFT
            found[number] = source << _LIST_SHIFT | merge(source, first & _LINE_MASK, value & _LINE_MASK)
    return found


def _starts(name: bytes) -> list[int]:
    """Where the name and each of its parents begin; the root is the last."""
    starts, at = [0], 0
    while size := name[at]:
        at += 1 + size
        starts.append(at)
    return starts


def _filter(tails: array[int], everything: bool) -> tuple[bytearray, int]:
    """A bit for each number, and which power of two its bits are. `everything`: there are names it cannot know."""
    bits = max(6, (16 * len(tails) - 1).bit_length())
    if everything:
        return bytearray(b"\xff" * (1 << (bits - 3))), bits
    known, mask = bytearray(1 << (bits - 3)), (1 << bits) - 1
    for tail in tails:
        known[(tail & mask) >> 3] |= 1 << (tail & 7)
    return known, bits


def _checksum(*parts: bytes | bytearray | memoryview) -> bytes:
    hashing = blake2b(digest_size=_CHECKSUM_OCTETS)
    for part in parts:
        hashing.update(part)
    return hashing.digest()


class NameTable:
    """Looks up names in a table in memory, such as a mapped file, without copying it."""

    def __init__(self, data: bytes | memoryview) -> None:
        """ValueError when it is not a table, or a truncated one. Other damage is found by `check`."""
        view = memoryview(data).cast("B").toreadonly()
        if len(view) < _HEADER.size:
            raise ValueError("it is not a table of names")
        magic, key, count, self._least, self._most, place_bits, filter_bits = _HEADER.unpack_from(view)
        if magic != _MAGIC:
            raise ValueError("it is not a table of names, or one from another kind of machine")
        ends = list(accumulate((_HEADER.size, 8 * count, 8 * count, (1 << filter_bits) >> 3, (4 << place_bits) + 4)))
        if place_bits > 32 or filter_bits < 6 or ends[-1] + _CHECKSUM_OCTETS != len(view):
            raise ValueError("the table of names is damaged")
        self._view = view
        parts = [view[start:end] for start, end in pairwise(ends)]
        self._hashes, self._values = parts[0].cast("Q"), parts[1].cast("Q")
        self._filter, self._mask = parts[2], (1 << filter_bits) - 1
        self._directory, self._shift = parts[3].cast("I"), 64 - place_bits
        self._keyed = blake2b(key=key, digest_size=8)

    def __len__(self) -> int:
        """Its entries."""
        return len(self._hashes)

    def values(self) -> Iterator[int]:
        """The lines of all entries."""
        return (value & _LINE_MASK for value in self._values)

    def check(self) -> None:
        """ValueError unless the table is unchanged, and no look-up can leave it.

        Needed for a table from disk or from another node. It reads the whole table, which takes a tenth of a second for
        two million names.
        """
        places = self._directory
        in_order = places[0] == 0 and places[-1] == len(self) and all(map(le, places, places[1:]))
        if not in_order or _checksum(self._view[:-_CHECKSUM_OCTETS]) != self._view[-_CHECKSUM_OCTETS:]:
            raise ValueError("the table of names is damaged")

    def find(self, name: bytes) -> Match | None:
        """The line that decides about a name (wire form, lower case); None when there is none.

        An exception takes precedence over any block. Otherwise the name itself comes first, then the longest of its
        parents whose line includes names below it.
        """
        return self._search(name) if self._may_have(name) else None

    def first(self, name: bytes) -> Match | None:
        """The line of the first list that matches a name, for lists whose lines mean either a name or the names below
        it.

        Within the list the name itself comes first, then the longest of its parents.
        """
        found: Match | None = None
        for start, lines in self._lines(name) if self._may_have(name) else ():
            for kind, value in lines:
                if (kind == _BELOW) == (start > 0) and (found is None or value >> _LIST_SHIFT < found.source):
                    found = Match(value >> _LIST_SHIFT, value & _LINE_MASK, False, name[start:])
        return found

    def _may_have(self, name: bytes) -> bool:
        before = last = at = 0
        while size := name[at]:
            before, last = last, at
            at += 1 + size
        bit = crc32(name[before:]) & self._mask
        return bool(self._filter[bit >> 3] & 1 << (bit & 7))

    def _search(self, name: bytes) -> Match | None:
        blocked: Match | None = None
        for start, found in self._lines(name):
            lines = [(not kind & _PASSES, value) for kind, value in found if not start or kind & _BELOW]
            if lines:
                blocks, value = min(lines)
                match = Match(value >> _LIST_SHIFT, value & _LINE_MASK, not blocks, name[start:])
                if not blocks:
                    return match
                blocked = blocked or match
        return blocked

    def _lines(self, name: bytes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """What there is of a name and its parents: where each begins in the name, kinds of lines and their values."""
        hashes, values = self._hashes, self._values
        starts = _starts(name)
        labels = len(starts) - 1
        # Parents with more or fewer labels than any listed name need no look-up
        for start in starts[max(0, labels - self._most) : max(0, labels - self._least + 1)]:
            hashing = self._keyed.copy()
            hashing.update(name[start:])
            number = int.from_bytes(hashing.digest(), "little") & ~_KIND
            place = number >> self._shift
            end = self._directory[place + 1]
            at = bisect_left(hashes, number, self._directory[place], end)
            found = []
            while at < end and (kind := hashes[at] ^ number) <= _KIND:
                found.append((kind, values[at]))
                at += 1
            if found:
                yield start, found
