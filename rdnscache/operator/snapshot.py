"""The shared cache as a file and back: one JSON object a line, made to be kept, moved and looked into.

The first line says what the file is; each further line is an entry: its key without the prefix, the time it still has,
`info`, and `wire` in base64. Whoever wrote the file need not be trusted: a line counts only when it would count if it
were found in Redis, under the very key it names; the text for people is made again from the wire.

With a secret, only what is signed is exported; signatures stay behind, and who imports signs for the whole file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from rdnscache.breath import go_on
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import TCP_SIZE, parse_reply
from rdnscache.errors import RdnscacheError
from rdnscache.files import read_lines, unpacked
from rdnscache.operator.entries import Browser
from rdnscache.operator.places import has_slots, redis_errors
from rdnscache.store.contract import LONGEST_INFO, TIME_FORM, VERSION, Script
from rdnscache.store.decoding import decode
from rdnscache.store.scope import Scope
from rdnscache.store.sweeping import PAGE

HEAD = {"rdnscache": "snapshot", "version": VERSION}
#: Octets of a line: the largest message in base64, and the rest.
LONGEST_LINE = 100_000

_quoted = json.encoder.encode_basestring_ascii
_STORED = re.compile(rb" stored=\S+ ")
#: An entry to be stored: its key, the time it still has in ms, its fields.
Line = tuple[str, int, dict[Any, Any]]


#: KEYS entries; ARGV 1 to store over what is there, then of each entry ms, info, answer, wire and mac, perhaps empty.
#: Returns how many were there and have been left as they are.
STORE = Script(
    b"""
local known = 0
for i, key in ipairs(KEYS) do
  local at = 5 * i - 3
  if ARGV[1] == '0' and redis.call('EXISTS', key) == 1 then
    known = known + 1
  else
    redis.call('DEL', key)
    redis.call('HSET', key, 'info', ARGV[at + 1], 'answer', ARGV[at + 2], 'wire', ARGV[at + 3])
    if ARGV[at + 4] ~= '' then redis.call('HSET', key, 'mac', ARGV[at + 4]) end
    redis.call('PEXPIRE', key, ARGV[at])
  end
end
return known
""",
    0,
)


class NotASnapshot(RdnscacheError):
    """The file to import is something else."""


@dataclass(slots=True)
class Counts:
    """What became of the lines of an import."""

    stored: int = 0
    #: Already in Redis, and left as they are.
    known: int = 0
    refused: int = 0


def export(browser: Browser) -> Iterator[str]:
    """The lines of a snapshot. Raises StoreDown."""
    yield json.dumps(HEAD)
    root = len(browser.names.root)
    for page in browser.walk(Scope().pattern(browser.names), "info", "wire", "mac"):
        for key, left, (info, wire, mac) in page:
            if not _may_be_one(browser, key, info, wire, left) or not browser.believed(key, info, wire, mac, left):
                continue
            told, packed = _quoted(info.decode()), base64.b64encode(wire).decode()
            yield f'{{"key": {_quoted(key[root:])}, "left_ms": {left}, "info": {told}, "wire": "{packed}"}}'


def _may_be_one(browser: Browser, key: str, info: Any, wire: Any, left: Any) -> bool:
    """Whether it has the looks of an entry: who imports it looks closely."""
    whole = isinstance(info, bytes) and isinstance(wire, bytes) and info.isascii() and 0 < len(wire) <= TCP_SIZE
    return whole and left > 0 and len(info) <= LONGEST_INFO and browser.names.words(key) is not None


def load(browser: Browser, file: BinaryIO, replace: bool, step: Callable[[], None] = go_on) -> Counts:
    """Store what a snapshot holds, which may be packed with gzip.

    Raises NotASnapshot for another file, and for a damaged one when what could be read is stored; StoreDown.
    """
    lines = (line for line in read_lines(unpacked(file), LONGEST_LINE) if not line.isspace() and line)
    counts, page, damage = Counts(), list[Line](), ""
    try:
        if json.loads(next(lines, b"")) != HEAD:
            raise ValueError
    except (ValueError, RecursionError):
        raise NotASnapshot("this file is not a snapshot that this version can read") from None
    try:
        for line in lines:
            found = _entry(browser, line)
            if found is None:
                counts.refused += 1
            else:
                page.append(found)
            if len(page) >= PAGE:
                _store(browser, page, replace, counts)
                page.clear()
                step()
    except ValueError as error:
        damage = str(error)
    _store(browser, page, replace, counts)
    if damage:
        raise NotASnapshot(f"{damage}; {counts.stored} entries before that are stored")
    return counts


def _entry(browser: Browser, line: bytes) -> Line | None:
    """Key, time left in ms and fields; None for what is no entry."""
    try:
        if len(line) > LONGEST_LINE:
            return None
        told = json.loads(line)
        key, left, info = browser.names.root + told["key"], told["left_ms"], told["info"].encode("ascii")
        wire = base64.b64decode(told["wire"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        return None
    question, reply = browser.names.question(key), parse_reply(wire)
    if question is None or reply is None or isinstance(left, bool) or not isinstance(left, int) or left <= 0:
        return None
    entry = decode(question, info, wire, left, 0.0)
    if entry is None:
        return None
    fields = {"info": info, "answer": answer_text(reply).encode(), "wire": reply.wire}
    if browser.seal is not None:  # what is signed now says when it was made as if the file had taken no time
        made = time.strftime(TIME_FORM, time.gmtime(time.time() + entry.stored))
        fields["info"] = _STORED.sub(f" stored={made} ".encode(), info, count=1)
        fields["mac"] = browser.seal.sign(key.encode(), fields["info"], reply.wire)
    return key, left, fields


def _store(browser: Browser, page: list[Line], replace: bool, counts: Counts) -> None:
    browser.note_odd([(key, left) for key, left, _ in page])
    if not has_slots(browser.redis):
        return _store_at_once(browser, page, replace, counts)
    with redis_errors():
        pipeline = browser.redis.pipeline(transaction=False)
        for key, _, _ in page:
            pipeline.exists(key)
        there = [False] * len(page) if replace else pipeline.execute()
        pipeline = browser.redis.pipeline(transaction=False)
        for (key, left, fields), known in zip(page, there, strict=True):
            if not known:
                pipeline.delete(key)
                pipeline.hset(key, mapping=fields)
                pipeline.pexpire(key, left)
        pipeline.execute()
    counts.known += sum(map(bool, there))
    counts.stored += len(page) - sum(map(bool, there))
    return None


def _store_at_once(browser: Browser, page: list[Line], replace: bool, counts: Counts) -> None:
    told: list[Any] = [int(replace)]
    for _, left, fields in page:
        told += [left, fields["info"], fields["answer"], fields["wire"], fields.get("mac", b"")]
    with redis_errors():
        known = browser.redis.eval(STORE.source.decode(), len(page), *(key for key, _, _ in page), *told) if page else 0
    counts.known += known
    counts.stored += len(page) - known
