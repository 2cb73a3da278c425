"""Zone-file text (RFC 1035 section 5, RFC 2308 section 4, RFC 3597 section 5), read into local records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rdnscache.dns.names import class_number, shown, type_number, type_text
from rdnscache.dns.wire import IN
from rdnscache.policy.local_record import MOST_RECORDS, LocalRecord, ZoneTextError, check, stands_for_data
from rdnscache.policy.rdata_text import rdata_wire
from rdnscache.policy.words import Word, is_seconds, name_wire, seconds

#: TTL in seconds of a record when neither it nor the text gives one.
DEFAULT_TTL = 3600
#: Characters of a record, comments inside its brackets included.
LONGEST_ENTRY = 1 << 20

_IN_QUOTES = r'(?:[^"\\\n]|\\[^\n])*+'
_PLAIN = r'[^ \t\r\f\v\n;()"\\]++|\\[^\n]'
#: Each alternative begins with characters of its own and gives nothing back: a text is read in one pass.
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\f\v]++)|(?P<comment>;[^\n]*+)|(?P<bracket>[()])"""
    rf"""|"(?P<quoted>{_IN_QUOTES})"|(?P<word>(?:{_PLAIN})(?:{_PLAIN}|"{_IN_QUOTES}")*+)"""
)
_CLASS = re.compile(r"IN|CH|HS|NONE|ANY|CLASS[0-9]+", re.IGNORECASE)


class _Entry(NamedTuple):
    """A directive or a record: the line it begins in, whether the owner is left out, and its words."""

    line: int
    continued: bool
    words: list[Word]


def read_zone_text(text: str, origin: str = ".", ttl: int = DEFAULT_TTL) -> list[LocalRecord]:
    """The records of a text; relative names are below `origin` until it says otherwise.

    Raises ZoneTextError at its first mistake. The text's size is for the caller to limit.
    """
    return list(zone_records(text, origin, ttl))


def zone_records(text: str, origin: str = ".", ttl: int = DEFAULT_TTL) -> Iterator[LocalRecord]:
    """The same as an iterator, for callers that need to do other work in between."""
    reader, count = ZoneReader(name_wire(origin, b"\0"), ttl), 0
    for number, line in enumerate(text.split("\n"), 1):
        record = reader.read(number, line)
        if record is not None:
            count += 1
            if count > MOST_RECORDS:
                raise ZoneTextError(record.line, f"there are more than {MOST_RECORDS} records")
            yield record
    reader.end()


class _Entries:
    """Lines put together: an entry ends with its line, unless there are brackets around the line's end."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Go on as at the beginning of a text."""
        self.opened, self.first, self.octets, self.continued = 0, 0, 0, False
        self._words: list[Word] = []

    def line(self, number: int, text: str) -> _Entry | None:
        """The entry that ends with this line. Of an unfinished one, LONGEST_ENTRY characters are kept at most."""
        at, words, fresh = 0, self._words, not self.opened
        self.octets += len(text)
        if self.octets > LONGEST_ENTRY:
            raise ZoneTextError(self.first or number, f"a record has more than {LONGEST_ENTRY} characters")
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise ZoneTextError(number, _why_no_token(text[at]))
            at, kind = token.end(), token.lastgroup
            if kind == "space":
                self.continued = self.continued or fresh
            elif kind in ("word", "quoted"):
                self.first = self.first if words else number
                words.append(Word(token[kind], kind == "quoted"))
            elif kind == "bracket":
                self.opened += 1 if token[0] == "(" else -1
                if self.opened not in (0, 1):
                    why = "a bracket inside brackets" if self.opened > 1 else "a closing bracket without an opening one"
                    raise ZoneTextError(number, why)
                self.first = self.first or number
            fresh = False
        if self.opened:
            return None
        found = _Entry(self.first, self.continued, words) if words else None
        self.forget()
        return found


def _why_no_token(char: str) -> str:
    return "a quoted string does not end in its line" if char == '"' else "a backslash stands at the end of the line"


class ZoneReader:
    """Reads a text line by line.

    Its state is what the lines so far imply for the next: origin, last owner, TTLs (RFC 2308 section 4, RFC 1035
    section 5.1).
    """

    def __init__(self, origin: bytes, ttl: int) -> None:
        self._entries = _Entries()
        #: Names that do not end in a dot are below it.
        self.origin = origin
        self._owner: bytes | None = None
        #: The TTL from `$TTL`, -1 without one; and the TTL of the last record.
        self._set_ttl = -1
        self._last_ttl = ttl

    @property
    def between(self) -> bool:
        """Whether an entry begins with the next line."""
        return not self._entries.opened

    def read(self, number: int, line: str) -> LocalRecord | None:
        """The record that ends with a line, if one does. Raises ZoneTextError, and can go on with the next line."""
        try:
            entry = self._entries.line(number, line)
        except ZoneTextError:
            self._entries.forget()
            raise
        try:
            return self._record(entry) if entry is not None else None
        except ValueError as error:
            raise ZoneTextError(entry.line if entry is not None else number, str(error)) from None

    def end(self) -> None:
        """End of the text. Raises ZoneTextError when a record is incomplete."""
        if self._entries.opened:
            raise ZoneTextError(self._entries.first, "a bracket is not closed")

    def follow(self, owner: bytes, ttl: int) -> int:
        """Record that the caller has parsed a record with this TTL, or -1 without one; returns the resulting TTL."""
        self._owner = owner
        if ttl >= 0:
            self._last_ttl = ttl
            return ttl
        return self._set_ttl if self._set_ttl >= 0 else self._last_ttl

    def _record(self, entry: _Entry) -> LocalRecord | None:
        """The record, or None for a directive."""
        words = entry.words
        if words[0].text.startswith("$") and not words[0].quoted and not entry.continued:
            self._direct(words)
            return None
        if not entry.continued:
            owner, words = words[0], words[1:]
            if owner.quoted:
                raise ValueError(f"{shown(owner.text)} stands in quotes where a name is expected")
            self._owner = name_wire(owner.text, self.origin)
        if self._owner is None:
            raise ValueError("the first record has no name: only a line below another may begin with a space")
        ttl, rtype, data = self._head(words)
        rdata = rdata_wire(rtype, data, self.origin)
        check(self._owner, rtype, rdata)
        return LocalRecord(self._owner, rtype, ttl, rdata, entry.line)

    def _direct(self, words: list[Word]) -> None:
        what = words[0].text.upper()
        if what in ("$INCLUDE", "$GENERATE"):
            instead = "name the other file beside this one" if what == "$INCLUDE" else "write the records out"
            raise ValueError(f"{what} is not supported: {instead}")
        if what not in ("$ORIGIN", "$TTL"):
            raise ValueError(f"{shown(words[0].text)} is neither $ORIGIN nor $TTL")
        if len(words) != 2 or words[1].quoted:
            raise ValueError(f"{what} has one {'name' if what == '$ORIGIN' else 'time'} behind it, and nothing else")
        if what == "$ORIGIN":
            self.origin = name_wire(words[1].text, self.origin)
        else:
            self._set_ttl = seconds(words[1].text)

    def _head(self, words: list[Word]) -> tuple[int, int, list[Word]]:
        """TTL and class in any order, each at most once; the type; what is left."""
        ttl, classed = -1, False
        for at, word in enumerate(words):
            if word.quoted:
                break
            if ttl < 0 and is_seconds(word.text):
                ttl = self._last_ttl = seconds(word.text)
            elif not classed and _CLASS.fullmatch(word.text):
                classed = True
                if class_number(word.text) != IN:
                    raise ValueError(f"local records are of class IN, not {word.text.upper()}")
            else:
                rtype = type_number(word.text)
                if not stands_for_data(rtype):
                    raise ValueError(f"there are no records of type {type_text(rtype)}")
                if ttl < 0:
                    ttl = self._set_ttl if self._set_ttl >= 0 else self._last_ttl
                return ttl, rtype, words[at + 1 :]
        raise ValueError("a record without a type")
