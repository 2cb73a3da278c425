"""Names in JSON, as some lists are published: an array of names, or an object of such arrays.

    ["ads.example", "tracker.example"]
    {"blacklist": ["ads.example"], "whitelist": ["good.example"], "fuzzylist": ["nobody knows"]}
    [{"domain": "ads.example", "since": 2020}]

It is read in portions, and no more of it is kept than the longest string and how deeply it is nested.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

#: Octets of a string, and arrays and objects inside each other, that are read.
LONGEST_STRING, DEEPEST = 4096, 64
_BEGINNING = re.compile(rb"\s*(?:\[\s*[\"\[{\]]|\{\s*[\"}])")
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|([\[\]{}:,])|(\n)|[^\n"\[\]{}:,]+', re.DOTALL)
#: What arrays of names are called, and where an object has its name.
_BLOCKS = frozenset(
    b"block blocked blocklist blacklist black deny denied denylist domains hosts hostnames names list items data "
    b"entries".split()
)
_PASSES = frozenset(b"allow allowed allowlist whitelist white pass passed passlist exceptions".split())
_OF_AN_OBJECT = frozenset(b"domain host hostname name".split())


class JsonName(NamedTuple):
    """A string that stands for a name, and the line it is in."""

    text: bytes
    line: int
    passes: bool


class JsonError(ValueError):
    """What comes is not read any further."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def is_json(head: bytes) -> bool:
    """Whether a list that begins like this is JSON; that of an adblock list has a word after its bracket."""
    return _BEGINNING.match(head) is not None


class _Frame(NamedTuple):
    """An array or an object; whether the names in it are passed, None where nobody knows what they are."""

    array: bool
    passes: bool | None


def json_names(chunks: Iterable[bytes]) -> Iterator[JsonName | tuple[bytes, int]]:
    """The names; and the key and the line of each array of which nobody knows what is in it. Raises JsonError."""
    frames, line = [_Frame(True, False)], 1
    key, text, text_line = b"", None, 0
    for string, mark, newline in _tokens(chunks):
        if newline:
            line += 1
        elif string is not None:
            text, text_line = string, line
        elif mark == b":":
            key, text = (text or b"").lower(), None
        else:
            frame = frames[-1]
            if text is not None and frame.passes is not None and (frame.array or key in _OF_AN_OBJECT):
                yield JsonName(_plain(text, text_line), text_line, frame.passes)
            text = None
            if mark in (b"[", b"{"):
                if len(frames) > DEEPEST:
                    raise JsonError(line, f"more than {DEEPEST} arrays and objects are inside each other")
                frames.append(_inner(frame, mark == b"[", key))
                if mark == b"[" and frames[-1].passes is None and frame.passes is not None:
                    yield key, line
            elif mark != b"," and len(frames) > 1:
                frames.pop()
            key = b""


def _inner(outer: _Frame, array: bool, key: bytes) -> _Frame:
    """What begins inside an array, or behind a key of an object."""
    if outer.passes is None or outer.array or not array:
        return _Frame(array, outer.passes)
    return _Frame(True, True if key in _PASSES else outer.passes if key in _BLOCKS else None)


def _plain(text: bytes, line: int) -> bytes:
    """A string without its escapes."""
    if b"\\" not in text:
        return text
    try:
        return str(json.loads(b'"' + text + b'"', strict=False)).encode("utf-8", "replace")
    except ValueError:
        raise JsonError(line, "a string that is no JSON") from None


def _tokens(chunks: Iterable[bytes]) -> Iterator[tuple[bytes | None, bytes, bytes]]:
    """Strings, marks and newlines in turn; one of the three is set."""
    pending, line = b"", 1
    for chunk in chunks:
        data, at = pending + chunk, 0
        for found in _TOKEN.finditer(data):
            if found.start() != at or found.end() == len(data):
                break
            at = found.end()
            line += found[3] is not None
            if found.lastindex:
                yield found[1], found[2] or b"", found[3] or b""
        pending = data[at:]
        if len(pending) > LONGEST_STRING:
            raise JsonError(line, f"a string of more than {LONGEST_STRING} octets, or one that has no end")
    for found in _TOKEN.finditer(pending):
        if found.lastindex:
            yield found[1], found[2] or b"", found[3] or b""
    if pending.count(b'"') % 2:
        raise JsonError(line, "it ends inside a string")
