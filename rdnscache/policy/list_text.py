"""Reads block and pass lists line by line into names; `list_forms` defines the meaning of lines.

A list may also be JSON (see `json_text`); a name in it does not include names below it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from rdnscache.dns.wire import NAME_SIZE
from rdnscache.policy.json_text import JsonError, JsonName, is_json, json_names
from rdnscache.policy.list_forms import LONGEST_LINE, NAME, OF_THE_HOST, LineError, rules_of

#: Octets of a list. The largest published ones have about a tenth of it.
MOST_OCTETS = 512 << 20
#: Names of a list.
MOST_ITEMS = 10_000_000
#: Lines that are remarked upon one by one; the rest are counted.
MOST_REMARKS = 100


class Item(NamedTuple):
    """One name of a list."""

    #: In wire form, lower case.
    name: bytes
    #: What is below the name is meant as well; the name itself always is.
    below: bool
    #: The line it stands in, counted from 1.
    line: int
    #: An exception: never to be blocked.
    passes: bool


class Remark(NamedTuple):
    """A line that was not understood, or the reason why reading ended."""

    line: int
    #: A sentence for people. What it cites is quoted and cut.
    reason: str
    #: How many lines it stands for: more than one only beyond MOST_REMARKS.
    lines: int = 1


#: Octets by which it is told what a list is.
_HEAD = 256
#: Octets of a portion that are split into lines at once.
_PORTION = 64 << 10


class EndError(ValueError):
    """Reading ends here; the text is the reason."""


#: An Item of the four; its own constructor takes twice as long.
_item = partial(tuple.__new__, Item)


def read_list(chunks: Iterable[bytes], passes: bool = False, first_line: int = 1) -> Iterator[list[Item] | Remark]:
    """The names of a list, given in portions of any size, and remarks about lines that were not understood.

    With `passes` each name is an exception, as in a list of names never to block. `first_line` is the number of the
    first line; where it is not 1, that is not the beginning of the list. No content raises, and no more of it is kept
    than a portion, a line and the names in it. Between two portions `chunks` may let others run.
    """
    head, chunks = begun(chunks, _HEAD) if first_line == 1 else (b"", chunks)
    reader = _Reader(passes, first_line)
    try:
        for lines in _json_blocks(chunks) if is_json(head) else _numbered(blocks_of(chunks), first_line):
            reader.read(lines)
            yield from reader.taken()
    except EndError as error:
        yield from reader.taken()
        yield Remark(reader.line or 1, f"the rest is ignored: {error}")
    yield from reader.uncited()


class _Reader:
    """Reads the lines of one list, block by block."""

    def __init__(self, passes: bool, first_line: int) -> None:
        self._passes = passes
        #: The line that was read last.
        self.line = first_line - 1
        #: What it is may still be told by its beginning: no name has been read.
        self._begins = first_line == 1
        #: How many more names it may have.
        self._room = MOST_ITEMS
        self._names: list[Item] = []
        self._remarks: list[Remark] = []
        self._faults = self._first_uncited = 0

    def read(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """The names in lines, each given with its number. Most are read without delay: of millions each step counts."""
        usual, names, room, passes, line = _USUAL.fullmatch, self._names, self._room, self._passes, self.line
        try:
            for line, octets in lines:
                found = usual(octets)
                if found is None:
                    self._read_odd(line, octets)
                    continue
                lead, text, caret = found.groups()
                text = text.lower()
                labels = text.split(b".")
                if len(labels) < 2 or labels[-1].isdigit() or (caret and lead != b"||") or text in OF_THE_HOST:
                    self._read_odd(line, octets)
                    continue
                try:
                    name = b"".join([SIZES[len(label)] + label for label in labels]) + b"\0"
                except KeyError:  # a label is empty or too long
                    name = b""
                if not name or len(name) > NAME_SIZE:
                    self._read_odd(line, octets)
                    continue
                if len(names) == room:
                    raise _full()
                names.append(_item((name, lead in _WIDE, line, passes)))
        finally:
            self.line = line

    def _read_odd(self, line: int, octets: bytes) -> None:
        if self._begins and not self._names:
            expect_text(octets)
        try:
            for name, below, excepted in rules_of(octets):
                if len(self._names) == self._room:
                    raise _full()
                self._names.append(Item(name, below, line, self._passes or excepted))
        except LineError as error:
            self._faults += 1
            if self._faults <= MOST_REMARKS:
                self._remarks.append(Remark(line, str(error)))
            else:
                self._first_uncited = self._first_uncited or line

    def taken(self) -> Iterator[list[Item] | Remark]:
        """What has been read since the last time."""
        names, remarks = self._names, self._remarks
        self._names, self._remarks = [], []
        self._room -= len(names)
        self._begins = self._begins and not names
        if names:
            yield names
        yield from remarks

    def uncited(self) -> Iterator[Remark]:
        """The lines without a remark of their own."""
        if more := self._faults - MOST_REMARKS if self._first_uncited else 0:
            yield Remark(self._first_uncited, f"from here on, {more} more lines were not understood", more)


def _full() -> EndError:
    return EndError(f"the list has more than {MOST_ITEMS} names")


def _numbered(blocks: Iterable[list[bytes]], first: int) -> Iterator[Iterable[tuple[int, bytes]]]:
    for lines in blocks:
        yield enumerate(lines, first)
        first += len(lines)


def begun(chunks: Iterable[bytes], octets: int) -> tuple[bytes, Iterable[bytes]]:
    """The first octets, at least as many if there are, and all of them."""
    chunks, head = iter(chunks), b""
    for chunk in chunks:
        head += chunk
        if len(head) >= octets:
            break
    return head.removeprefix(codecs.BOM_UTF8), chain((head,), chunks)


def _json_blocks(chunks: Iterable[bytes]) -> Iterator[Iterable[tuple[int, bytes]]]:
    lines = _json_lines(chunks)
    for line in lines:
        yield chain((line,), islice(lines, 999))


def _json_lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The names in JSON as lines of a list would say it, each with its number."""
    octets = 0

    def counted() -> Iterator[bytes]:
        nonlocal octets
        for chunk in chunks:
            octets += len(chunk)
            if octets > MOST_OCTETS:
                raise EndError(f"the list has more than {MOST_OCTETS} octets")
            yield chunk

    try:
        for found in json_names(counted()):
            if isinstance(found, JsonName):
                plain = NAME.fullmatch(found.text) is not None
                yield found.line, (b"@@|%s^" if found.passes and plain else b"%s") % found.text
            else:
                key, line = found
                yield line, b"%s[]" % key[:100]
    except JsonError as error:
        raise EndError(f"line {error.line}: {error}") from None


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their newlines. Of one longer than LONGEST_LINE, at least that much, and not all of it."""
    return chain.from_iterable(blocks_of(chunks))


def blocks_of(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The same, some lines at a time."""
    pending, passing_over, octets = b"", False, 0
    for chunk in chunks:
        for start in range(0, len(chunk), _PORTION):
            portion = chunk[start : start + _PORTION]
            octets += len(portion)
            if octets > MOST_OCTETS:
                raise EndError(f"the list has more than {MOST_OCTETS} octets")
            lines = (pending + portion).split(b"\n")
            pending = lines.pop()
            if passing_over and lines:
                passing_over = False
                del lines[0]
            yield lines
            if passing_over:
                pending = b""
            elif len(pending) > LONGEST_LINE:
                yield [pending]
                pending, passing_over = b"", True
    if pending:
        yield [pending]


#: The forms that nearly every line of nearly every list has.
_USUAL = re.compile(rb"(0\.0\.0\.0[ \t]+|127\.0\.0\.1[ \t]+|\|\||\*\.)?([A-Za-z0-9_.-]{1,255})(\^)?[ \t\r]*")
_WIDE = (b"||", b"*.")
#: A label's length octet. Labels of no octets, and of too many, are not in it.
SIZES = {size: bytes((size,)) for size in range(1, 64)}


def expect_text(line: bytes) -> None:
    """Checks before the first name: a file that is not a list at all gives one remark, not one for each line."""
    head = line[:4]
    # Text in UTF-16 has a zero in every other octet
    in_turn = {(not head[0], not head[2]), (not head[1], not head[3])} if len(head) == 4 else set()
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or in_turn == {(True, True), (False, False)}:
        raise EndError("it is UTF-16; only UTF-8 is read")
    if head[:2] == b"\x1f\x8b" or head in (b"PK\3\4", codecs.BOM_UTF32_BE):
        raise EndError("it is not a text")
    if line.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise EndError("it is a web page, not a list")
