"""Snapshots: the shared cache as a file with one JSON object per line, and back.

The first line identifies the file; each further line is an entry: its key without the prefix, its remaining time,
`info`, and `wire` in base64. The file need not be trusted: a line is accepted only if it would be accepted from Redis
under the same key, and the text of the answer is made again from the wire.
With a secret, only signed entries are exported, without their signatures; an import signs everything in the file.
"""

from __future__ import annotations

import codecs
import gc
import gzip
import json
import multiprocessing
import os
import signal
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, BinaryIO

from rdnscache.breath import go_on
from rdnscache.errors import RdnscacheError, StoreDown
from rdnscache.files import unpacked
from rdnscache.kernel import cpus, die_with_parent
from rdnscache.operator.entries import Browser
from rdnscache.operator.pages import Row
from rdnscache.operator.redis_clients import has_slots, line, redis_errors
from rdnscache.operator.snapshot_lines import LONGEST_LINE, LineReader, Stored, lines
from rdnscache.store.complaint import sentence
from rdnscache.store.contract import VERSION
from rdnscache.store.scope import Scope
from rdnscache.store.script import Script

HEAD = {"rdnscache": "snapshot", "version": VERSION}
#: Entries stored in one step, which takes Redis a millisecond or two.
PAGE = 200
#: Octets of lines that a process gets at a time, and most processes. A file that is not longer is not divided.
BLOCK, MOST_PROCESSES = 512 << 10, 4


#: KEYS: entries. ARGV: 1 to replace existing ones, then for each entry ms, info, answer, wire, and mac, which may be
#: empty. Returns how many existed already and were left unchanged.
STORE = Script(
    b"""
local known, replace, call = 0, ARGV[1] == '1', redis.call
for i, key in ipairs(KEYS) do
  local at = 5 * i - 3
  if not replace and call('EXISTS', key) == 1 then
    known = known + 1
  else
    if replace then call('DEL', key) end
    call('HSET', key, 'info', ARGV[at + 1], 'answer', ARGV[at + 2], 'wire', ARGV[at + 3])
    if ARGV[at + 4] ~= '' then call('HSET', key, 'mac', ARGV[at + 4]) end
    call('PEXPIRE', key, ARGV[at])
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


def export(browser: Browser) -> Iterator[tuple[str, int]]:
    """The lines of a snapshot, some at a time, and how many entries they are. Raises StoreDown."""
    pages = browser.walk(Scope().pattern(browser.names), "info", "wire", "mac")
    first = list(islice(pages, 1))  # whoever cannot read is not to overwrite an earlier snapshot
    yield json.dumps(HEAD) + "\n", 0
    for page in chain(first, pages):
        believed = page if browser.seal is None else [row for row in page if _believed(browser, row)]
        text = lines(browser.names, believed)
        yield text, text.count("\n")


def _believed(browser: Browser, row: Row) -> bool:
    key, left, (info, wire, mac) = row
    return browser.believed(key, info, wire, mac, left)


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
    damage: list[str] = []
    blocks = _blocks(unpacked(file), damage)
    head, _, first = next(blocks, b"").removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")
    try:
        if json.loads(head) != HEAD:
            raise ValueError
    except (ValueError, RecursionError):
        raise NotASnapshot("this file is not a snapshot that this version can read") from None
    target = Target(browser, replace, browser.last_event())
    counts.add(_store_block(target, first))
    step()
    second = next(blocks, b"")
    if second:
        for found in _stored_by_many(target, chain([second], blocks)):
            counts.add(found)
            step()
    if damage:
        raise NotASnapshot(f"{damage[0]}; {counts.stored} entries before that are stored")


def _blocks(file: BinaryIO, damage: list[str]) -> Iterator[bytes]:
    """A file in blocks of whole lines; adds the problem to `damage` if it cannot be read to its end.

    Of a line that is too long, no more is kept than shows that.
    """
    rest = bytearray()
    reader: Any = file
    try:
        while piece := reader.read1(BLOCK):
            rest += piece
            if len(rest) >= BLOCK:
                end = rest.rfind(b"\n") + 1
                if end:
                    yield bytes(rest[:end])
                    del rest[:end]
                else:
                    del rest[LONGEST_LINE + 2 :]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        damage.append(f"the gzip file is damaged: {error}")
        del rest[rest.rfind(b"\n") + 1 :]
    if rest:
        yield bytes(rest)


def _stored_by_many(target: Target, blocks: Iterator[bytes]) -> Iterator[Counts]:
    """Each block by a process; no more wait than there are processes."""
    context, processes = multiprocessing.get_context("fork"), min(cpus(), MOST_PROCESSES)
    apart = Target(target.browser.apart(), target.replace, target.seen)
    pool = ProcessPoolExecutor(processes, context, _begin, (apart, os.getpid()))
    waiting: deque[Future[Counts]] = deque()
    try:
        for block in blocks:
            waiting.append(pool.submit(_store_by_one, block))
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


def _store_by_one(block: bytes) -> Counts:
    (target,) = _target
    return _store_block(target, block)


def _store_block(target: Target, block: bytes) -> Counts:
    entries, refused = LineReader(target.browser.names, target.browser.seal, target.seen).entries(block)
    target.browser.note_odd(entries)
    pages = [entries[at : at + PAGE] for at in range(0, len(entries), PAGE)]
    store = _store_in_slots if has_slots(target.browser.redis) else _store_pages
    known = store(target.browser.redis, pages, target.replace) if pages else 0
    return Counts(len(entries) - known, known, refused)


def _store_pages(server: Any, pages: Sequence[Sequence[Stored]], replace: bool) -> int:
    """How many existed already, and were left unchanged. While Redis stores a page, the next one is sent."""
    known, waiting = 0, 0
    with redis_errors(), line(server) as one:
        for page in pages:
            told: list[Any] = [int(replace)]
            for entry in page:
                told += entry[2:]
            one.send((b"EVAL", STORE.source, len(page), *[entry[0] for entry in page], *told))
            waiting += 1
            if waiting > 1:
                known, waiting = known + _known(one.receive()), waiting - 1
        while waiting:
            known, waiting = known + _known(one.receive()), waiting - 1
    return known


def _known(reply: Any) -> int:
    if not isinstance(reply, int):
        raise StoreDown(sentence(reply) if isinstance(reply, Exception) else "entries cannot be stored")
    return reply


def _store_in_slots(client: Any, pages: Sequence[Sequence[Stored]], replace: bool) -> int:
    """The same in a Redis Cluster."""
    known = 0
    for page in pages:
        with redis_errors():
            pipeline = client.pipeline(transaction=False)
            for entry in page:
                pipeline.exists(entry[0])
            there = [False] * len(page) if replace else pipeline.execute()
            pipeline = client.pipeline(transaction=False)
            for (key, _, left, info, answer, wire, mac), is_there in zip(page, there, strict=True):
                if not is_there:
                    fields = {"info": info, "answer": answer, "wire": wire}
                    pipeline.delete(key)
                    pipeline.hset(key, mapping=fields | ({"mac": mac} if mac else {}))
                    pipeline.pexpire(key, left)
            pipeline.execute()
        known += sum(map(bool, there))
    return known
