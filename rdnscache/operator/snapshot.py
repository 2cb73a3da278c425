"""Snapshots: the shared cache as a file with one JSON object per line, and back.

The first line identifies the file; each further line is an entry: its key without the prefix, its remaining time,
`info`, and `wire` in base64. The file need not be trusted: a line is accepted only if it would be accepted from Redis
under the same key, and the text of the answer is made again from the wire.
With a secret, only signed entries are exported, without their signatures; an import signs everything in the file.
"""

from __future__ import annotations

import binascii
import gc
import json
import multiprocessing
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from rdnscache.breath import go_on
from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, wider_key
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import TCP_SIZE, Reply, parse_reply
from rdnscache.errors import RdnscacheError
from rdnscache.files import read_lines, unpacked
from rdnscache.kernel import cpus, die_with_parent
from rdnscache.operator.entries import Browser
from rdnscache.operator.places import has_slots, redis_errors
from rdnscache.store.contract import LONGEST_INFO, TIME_FORM, VERSION, Names, Script
from rdnscache.store.decoding import decode
from rdnscache.store.scope import Scope

HEAD = {"rdnscache": "snapshot", "version": VERSION}
#: Longest line in octets: the largest message in base64, and the rest.
LONGEST_LINE = 100_000
#: Entries stored in one step, which takes Redis some milliseconds.
PAGE = 200
#: Lines and octets that a process gets at a time, and most processes. A file without more lines than that is not
#: divided.
PORTION, PORTION_OCTETS, MOST_PROCESSES = 2000, 4 << 20, 4

_quoted = json.encoder.encode_basestring_ascii
_STORED = re.compile(rb" stored=\S+ ")
_SEEN = re.compile(rb" seen=\S+")
#: A line as `export` writes it, where it has nothing escaped.
_LINE = re.compile(
    rb'\{"key": "([ !#-\[\]-~]*)", "left_ms": ([0-9]{1,15}), "info": "([ !#-\[\]-~]*)", "wire": "([A-Za-z0-9+/=]*)"\}'
)
#: The variants of most entries, by the text after the type in their keys.
_VARIANTS = {"": 0, "do": VARIANT_DO, "cd": VARIANT_CD, "do:cd": VARIANT_DO | VARIANT_CD}


class Line(NamedTuple):
    """An entry to be stored."""

    key: str
    question: bytes
    #: Its remaining time in ms.
    left: int
    info: bytes
    answer: bytes
    wire: bytes
    mac: bytes


#: KEYS: entries. ARGV: 1 to replace existing ones, then for each entry ms, info, answer, wire, and mac, which may be
#: empty. Returns how many existed already and were left unchanged.
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
    """The file to import is not a snapshot."""


@dataclass(slots=True)
class Counts:
    """Results of an import, by number of lines."""

    stored: int = 0
    #: Already in Redis, and left unchanged.
    known: int = 0
    refused: int = 0

    def add(self, other: Counts) -> None:
        self.stored += other.stored
        self.known += other.known
        self.refused += other.refused


def export(browser: Browser) -> Iterator[str]:
    """The lines of a snapshot. Raises StoreDown."""
    yield json.dumps(HEAD)
    root = len(browser.names.root)
    for page in browser.walk(Scope().pattern(browser.names), "info", "wire", "mac"):
        for key, left, (info, wire, mac) in page:
            if not _may_be_one(browser, key, info, wire, left) or not browser.believed(key, info, wire, mac, left):
                continue
            told, packed = _quoted(info.decode()), binascii.b2a_base64(wire, newline=False).decode()
            yield f'{{"key": {_quoted(key[root:])}, "left_ms": {left}, "info": {told}, "wire": "{packed}"}}'


def _may_be_one(browser: Browser, key: str, info: Any, wire: Any, left: Any) -> bool:
    """Whether it looks like an entry; the import checks it thoroughly."""
    whole = isinstance(info, bytes) and isinstance(wire, bytes) and info.isascii() and 0 < len(wire) <= TCP_SIZE
    return whole and left > 0 and len(info) <= LONGEST_INFO and browser.names.words(key) is not None


@dataclass(slots=True)
class Target:
    """Where entries go: whether over what is there, and the event that they are said to have seen."""

    browser: Browser
    replace: bool
    seen: bytes


def load(browser: Browser, file: BinaryIO, replace: bool, counts: Counts, step: Callable[[], None] = go_on) -> None:
    """Store the entries of a snapshot, which may be compressed with gzip; `counts` has the progress.

    A long file is divided among several processes. Raises NotASnapshot for any other file, and for a damaged one after
    the readable part has been stored; StoreDown.
    """
    lines = (line for line in read_lines(unpacked(file), LONGEST_LINE) if not line.isspace() and line)
    try:
        if json.loads(next(lines, b"")) != HEAD:
            raise ValueError
    except (ValueError, RecursionError):
        raise NotASnapshot("this file is not a snapshot that this version can read") from None
    target = Target(browser, replace, browser.last_event())
    damage: list[str] = []
    portions = _portions(lines, damage)
    first = next(portions, [])
    counts.add(_store_portion(target, first))
    step()
    if len(first) == PORTION and not damage:
        for found in _stored_by_many(target, portions):
            counts.add(found)
            step()
    if damage:
        raise NotASnapshot(f"{damage[0]}; {counts.stored} entries before that are stored")


def _portions(lines: Iterator[bytes], damage: list[str]) -> Iterator[list[bytes]]:
    """The lines in portions; adds the problem to `damage` if the file cannot be read to its end."""
    portion: list[bytes] = []
    octets = 0
    try:
        for line in lines:
            portion.append(line)
            octets += len(line)
            if len(portion) >= PORTION or octets >= PORTION_OCTETS:
                yield portion
                portion, octets = [], 0
    except ValueError as error:
        damage.append(str(error))
    if portion:
        yield portion


def _stored_by_many(target: Target, portions: Iterator[list[bytes]]) -> Iterator[Counts]:
    """Each portion by a process; no more wait than there are processes."""
    context, processes = multiprocessing.get_context("fork"), min(cpus(), MOST_PROCESSES)
    apart = Target(target.browser.apart(), target.replace, target.seen)
    pool = ProcessPoolExecutor(processes, context, _begin, (apart, os.getpid()))
    waiting: deque[Future[Counts]] = deque()
    try:
        for portion in portions:
            waiting.append(pool.submit(_store_by_one, portion))
            if len(waiting) >= 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


#: In a process of several.
_target: list[Target] = []


def _begin(target: Target, parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: what has been begun is brought to its end
    gc.disable()  # no cycles are made here, and many small objects
    _target.append(target)


def _store_by_one(lines: list[bytes]) -> Counts:
    (target,) = _target
    return _store_portion(target, lines)


def _store_portion(target: Target, lines: Sequence[bytes]) -> Counts:
    counts = Counts()
    entries = [entry for line in lines if (entry := _entry(target, line)) is not None]
    counts.refused = len(lines) - len(entries)
    coming = iter(entries)
    while page := list(islice(coming, PAGE)):
        known = _store(target.browser, page, target.replace)
        counts.known += known
        counts.stored += len(page) - known
    return counts


def _entry(target: Target, line: bytes) -> Line | None:
    """What a line says; None for what is no entry."""
    browser = target.browser
    try:
        if len(line) > LONGEST_LINE:
            return None
        match = _LINE.fullmatch(line)
        if match is not None:
            key, left, info = browser.names.root + match[1].decode("ascii"), int(match[2]), match[3]
            wire = binascii.a2b_base64(match[4], strict_mode=True)
        else:
            told = json.loads(line)
            key, left, info = browser.names.root + told["key"], told["left_ms"], told["info"].encode("ascii")
            wire = binascii.a2b_base64(told["wire"], strict_mode=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    reply = parse_reply(wire)
    if reply is None or isinstance(left, bool) or not isinstance(left, int) or left <= 0:
        return None
    question = _question(browser.names, key, reply)
    entry = decode(question, info, wire, left, 0.0, parsed=reply) if question is not None else None
    if question is None or entry is None:
        return None
    info = _SEEN.sub(b"", info) + (b" seen=" + target.seen if target.seen else b"")  # no flush from before means it
    mac = b""
    if browser.seal is not None:  # the signed creation time is adjusted by the remaining time
        made = time.strftime(TIME_FORM, time.gmtime(time.time() + entry.stored))
        info = _STORED.sub(f" stored={made} ".encode(), info, count=1)
        mac = browser.seal.sign(key.encode(), info, reply.wire)
    return Line(key, question, left, info, answer_text(reply).encode(), reply.wire, mac)


def _question(names: Names, key: str, reply: Reply) -> bytes | None:
    """The question of a key; the reply's question is tried first, since both have to be equal anyway."""
    bits = _VARIANTS.get(key.rpartition("}:")[2].partition(":")[2])
    if bits is not None:
        found = reply.question() + bytes((bits,))
        for each in (found, wider_key(found)):
            if names.entry(each).decode("ascii") == key:
                return each
    return names.question(key)


def _store(browser: Browser, page: list[Line], replace: bool) -> int:
    """How many existed already, and were left unchanged."""
    browser.note_odd([(line.key, line.question, line.left) for line in page])
    if not has_slots(browser.redis):
        told: list[Any] = [int(replace)]
        for line in page:
            told += line[2:]
        with redis_errors():
            return int(browser.redis.eval(STORE.source.decode(), len(page), *(line.key for line in page), *told))
    with redis_errors():
        pipeline = browser.redis.pipeline(transaction=False)
        for line in page:
            pipeline.exists(line.key)
        there = [False] * len(page) if replace else pipeline.execute()
        pipeline = browser.redis.pipeline(transaction=False)
        for line, known in zip(page, there, strict=True):
            if not known:
                fields = {"info": line.info, "answer": line.answer, "wire": line.wire}
                pipeline.delete(line.key)
                pipeline.hset(line.key, mapping=fields | ({"mac": line.mac} if line.mac else {}))
                pipeline.pexpire(line.key, line.left)
        pipeline.execute()
    return sum(map(bool, there))
