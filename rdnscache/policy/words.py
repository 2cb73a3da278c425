"""The words of a line of zone-file text, and what one word may be (RFC 1035 section 5.1).

All functions raise ValueError with a reason that can follow a line number.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rdnscache.dns.names import parse_name, shown
from rdnscache.dns.wire import NAME_SIZE

#: The longest TTL (RFC 2181 section 8).
MOST_SECONDS = 0x7FFFFFFF
_SECONDS = re.compile(r"[0-9]{1,10}|(?:[0-9]{1,10}[smhdw]){1,5}", re.IGNORECASE)
_PART = re.compile(r"([0-9]+)([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ESCAPES = re.compile(r'\\([0-9]{3})|\\([^0-9])|([^\\"]+)|([\\"])', re.DOTALL)
#: What ends a name besides the full stop (RFC 3490 section 3.1).
_DOTS = ".\u3002\uff0e\uff61"


class Word(NamedTuple):
    """A word as it was written, including escapes; `quoted` if the whole word was in quotes."""

    text: str
    quoted: bool = False


class Words:
    """The words of a record's data, taken one after the other; relative names are below `origin`."""

    def __init__(self, words: list[Word], origin: bytes) -> None:
        self._words = words
        self._next = 0
        self.origin = origin

    def __len__(self) -> int:
        """The number of words left."""
        return len(self._words) - self._next

    def take(self, what: str) -> Word:
        """The next word, which is described by `what` in errors."""
        if not len(self):
            raise ValueError(f"the data end where {what} is expected")
        self._next += 1
        return self._words[self._next - 1]

    def plain(self, what: str) -> str:
        """The next word, which must not be in quotes."""
        word = self.take(what)
        if word.quoted:
            raise ValueError(f"{shown(word.text)} stands in quotes where {what} is expected")
        return word.text

    def joined(self, what: str) -> str:
        """All that are left as one: long data may be written in pieces."""
        pieces = [self.plain(what)]
        while len(self):
            pieces.append(self.plain(what))
        return "".join(pieces)

    def name(self) -> bytes:
        return name_wire(self.plain("a name"), self.origin)

    def number(self, most: int, known: dict[str, int] | None = None) -> int:
        """A number up to `most`, or one that has a name among the `known`."""
        text = self.plain("a number")
        found = (known or {}).get(text.upper(), -1)
        return found if found >= 0 else number(text, most)


def number(text: str, most: int) -> int:
    """A decimal number from 0 to `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > most:
        raise ValueError(f"{shown(text)} is not a number from 0 to {most}")
    return int(text)


def is_seconds(text: str) -> bool:
    """Whether a text has the form of a TTL, which may be out of range."""
    return _SECONDS.fullmatch(text) is not None


def seconds(text: str, most: int = MOST_SECONDS) -> int:
    """Seconds, or several units together: `1h30m`."""
    if not is_seconds(text):
        raise ValueError(f"{shown(text)} is not a time in seconds, or one like 1h30m")
    found = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text.lower()))
    if found > most:
        raise ValueError(f"{shown(text)} is longer than {most} seconds")
    return found


def name_wire(text: str, origin: bytes) -> bytes:
    """A name on the wire, in lower case: `@` is the origin, and what does not end in a dot is below it."""
    if text == "@":
        return origin
    if '"' in text:
        octets(text)
    wire = parse_name(text)
    backslashes = len(text) - 1 - len(text[:-1].rstrip("\\"))
    if text[-1] in _DOTS and backslashes % 2 == 0:
        return wire
    if len(wire) - 1 + len(origin) > NAME_SIZE:
        raise ValueError(f"{shown(text)} has more than {NAME_SIZE} octets with the origin behind it")
    return wire[:-1] + origin


def octets(text: str) -> bytes:
    """What a word stands for: `\\DDD` is an octet, `\\X` is X, all else is in UTF-8."""
    if "\\" not in text and '"' not in text:
        return text.encode()
    out = bytearray()
    for digits, char, plain, alone in _ESCAPES.findall(text):
        if alone == '"':
            raise ValueError(f"{shown(text)} has a quote inside it")
        if alone or (digits and int(digits) > 255):
            raise ValueError(f"{shown(text)} has a backslash that is not followed by a number from 000 to 255")
        out += bytes((int(digits),)) if digits else (char or plain).encode()
    return bytes(out)


def string(text: str) -> bytes:
    """A character string behind its length (RFC 1035 section 3.3)."""
    data = octets(text)
    if len(data) > 255:
        raise ValueError(f"{shown(text)} has {len(data)} octets, a string at most 255")
    return bytes((len(data),)) + data
