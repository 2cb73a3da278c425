"""The lines of a snapshot: what they say, checked as if it came from Redis, and how they are written.

Compiled: a snapshot may have millions of them.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from collections.abc import Sequence
from typing import Any

from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, wider_key
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import TCP_SIZE, Reply, parse_reply
from rdnscache.store.contract import LONGEST_INFO, TIME_FORM, Names
from rdnscache.store.decoding import decode
from rdnscache.store.seal import Seal

#: Longest line in octets: the largest message in base64, and the rest.
LONGEST_LINE = 100_000

_quoted = json.encoder.encode_basestring_ascii
_STORED = re.compile(rb" stored=\S+ ")
#: What a line as `export` writes it, with nothing escaped, has before, between and after its values.
_PARTS = (b'{"key": "', b'", "left_ms": ', b', "info": "', b'", "wire": "', b'"}')
#: Digits of a remaining time.
_DIGITS = 15
#: The variants of most entries, by the text after the type in their keys.
_VARIANTS = {b"": 0, b"do": VARIANT_DO, b"cd": VARIANT_CD, b"do:cd": VARIANT_DO | VARIANT_CD}

#: An entry to be stored: its key, the question, the remaining time in ms, `info`, the text of the answer, `wire`, and
#: `mac`, which is empty without a secret.
Stored = tuple[bytes, bytes, int, bytes, bytes, bytes, bytes]


class LineReader:
    """Reads lines for one cache; entries are stored as if their node had heard of the event `seen`."""

    def __init__(self, names: Names, seal: Seal | None, seen: bytes) -> None:
        self._names = names
        self._root = names.root.encode()
        self._seal = seal
        self._seen = b" seen=" + seen if seen else b""

    def entries(self, block: bytes) -> tuple[list[Stored], int]:
        """The entries in some lines, and how many lines are none; empty lines are passed over."""
        found, refused = [], 0
        for line in block.split(b"\n"):
            entry = self._entry(line)
            if entry is not None:
                found.append(entry)
            elif line and not line.isspace():
                refused += 1
        return found, refused

    def _entry(self, line: bytes) -> Stored | None:
        try:
            told = values(line) if len(line) <= LONGEST_LINE + 1 else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if told is None:
            return None
        key, left, info, wire = told
        key = self._root + key
        reply = parse_reply(wire)
        if reply is None or left <= 0:
            return None
        question = self._question(key, reply)
        entry = decode(question, info, wire, left, 0.0, parsed=reply) if question is not None else None
        if question is None or entry is None:
            return None
        at = info.rfind(b" seen=")  # no flush from before means it
        info = (info if at < 0 else info[:at]) + self._seen
        mac = b""
        if self._seal is not None:  # the signed creation time is adjusted by the remaining time
            made = time.strftime(TIME_FORM, time.gmtime(time.time() + entry.stored))
            info = _STORED.sub(f" stored={made} ".encode(), info, count=1)
            mac = self._seal.sign(key, info, reply.wire)
        return key, question, left, info, answer_text(reply).encode(), reply.wire, mac

    def _question(self, key: bytes, reply: Reply) -> bytes | None:
        """The question of a key; the reply's question is tried first, since both have to be equal anyway."""
        bits = _VARIANTS.get(key[key.rfind(b"}:") + 2 :].partition(b":")[2])
        if bits is not None:
            found = reply.question() + bytes((bits,))
            if self._names.entry(found) == key:
                return found
            found = wider_key(found)
            if self._names.entry(found) == key:
                return found
        return self._names.question(key.decode("ascii", "replace"))


def values(line: bytes) -> tuple[bytes, int, bytes, bytes] | None:
    """Key, remaining time, `info` and `wire` in a line. None, or an error, where it has not the form of an entry."""
    plain = _plain(line)
    if plain is not None:
        key, left, info, packed = plain
        return key, left, info, binascii.a2b_base64(packed, strict_mode=True)
    told = json.loads(line)
    key, left, info = told["key"].encode("ascii"), told["left_ms"], told["info"].encode("ascii")
    if type(left) is not int:  # True is one as well, to `isinstance`
        return None
    return key, left, info, binascii.a2b_base64(told["wire"], strict_mode=True)


def _plain(line: bytes) -> tuple[bytes, int, bytes, bytes] | None:
    """The values of a line as `export` writes most: None where it is any other, or has something escaped.

    What no key, `info` or base64 may have is not looked for: none of them is believed unchecked.
    """
    before, after_key, after_left, after_info, end = _PARTS
    if not line.startswith(before) or not line.endswith(end) or b"\\" in line:
        return None
    start = len(before)
    stop = line.find(after_key, start)
    at = stop + len(after_key)
    until = line.find(after_left, at)
    begin = until + len(after_left)
    finish = line.find(after_info, begin)
    if stop < 0 or until < 0 or finish < 0:
        return None
    digits = line[at:until]
    if not digits.isdigit() or len(digits) > _DIGITS:
        return None
    return line[start:stop], int(digits), line[begin:finish], line[finish + len(after_info) : -len(end)]


def lines(names: Names, rows: Sequence[tuple[str, int, list[Any]]]) -> str:
    """The lines of those rows that look like entries, by key, remaining time and info, wire and mac; the import checks
    them thoroughly.
    """
    root, out = len(names.root), []
    for key, left, told in rows:
        info, wire = told[0], told[1]
        if not isinstance(info, bytes) or not isinstance(wire, bytes) or not info.isascii() or left <= 0:
            continue
        if not 0 < len(wire) <= TCP_SIZE or len(info) > LONGEST_INFO or names.words(key) is None:
            continue
        text, packed = _quoted(info.decode("ascii")), binascii.b2a_base64(wire, newline=False).decode("ascii")
        out.append(f'{{"key": {_quoted(key[root:])}, "left_ms": {left}, "info": {text}, "wire": "{packed}"}}\n')
    return "".join(out)
