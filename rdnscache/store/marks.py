"""The mark of a primary of a Redis Cluster: the flushes it has been swept for.

The control stream is in one slot, so it cannot show that another shard has gone back in time. The mark can: it is
written after the deletions of a flush, so a replica that has missed these has missed the mark too.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator

import hiredis

from rdnscache.errors import StoreRefused
from rdnscache.logs import Throttled
from rdnscache.store.alone import by_one
from rdnscache.store.contract import Names
from rdnscache.store.flushes import Flushes
from rdnscache.store.scope import Scope
from rdnscache.store.servers import Ask
from rdnscache.store.slots import tag_of
from rdnscache.store.steering import LONGEST_MARK, MARK, MARKS_KEPT
from rdnscache.store.sweeping import STEP, Where, sweep

log = logging.getLogger(__name__)

_MARK = re.compile(rb"[0-9]{1,19}-[0-9]{1,19}\??")


def read(ask: Ask, mark: bytes) -> list[bytes]:
    """The flushes that a primary has been swept for, the newest first. Raises StoreDown, StoreRefused."""
    (told,) = ask((b"GETRANGE", mark, 0, LONGEST_MARK - 1))
    if isinstance(told, hiredis.ReplyError) and not str(told).startswith("WRONGTYPE"):
        raise StoreRefused.of(told, "the mark of a shard cannot be read")
    words = told.split(b" ") if isinstance(told, bytes) else []
    return [word for word in words[:MARKS_KEPT] if _MARK.fullmatch(word)]


def write(ask: Ask, mark: bytes, flushes: list[bytes]) -> None:
    """Write a mark; called after the last deletion, over the same connection. If Redis is full and refuses it, the
    flushes are repeated later."""
    (told,) = ask((b"EVAL", MARK.source, b"1", mark, MARKS_KEPT, *flushes))
    if isinstance(told, Exception) and "OOM" not in str(told):
        raise StoreRefused.of(told, "the mark of a shard cannot be written")


class Marks:
    """Checks the marks of shards; `flushes` are those that this worker knows of."""

    def __init__(self, names: Names, flushes: Flushes) -> None:
        self._names = names
        self._flushes = flushes
        self._unreadable = Throttled(log)

    def name(self, slot: int) -> bytes:
        return self._names.swept(tag_of(slot))

    def check(self, ask: Ask, slot: int, shard: str) -> None:
        """Repeat the flushes that a shard has lost, before it is used; `slot` is its first one.

        Raises StoreDown if that cannot be done now.
        """
        if not self._flushes:
            return
        try:
            self._check(ask, slot, shard)
        except StoreRefused as problem:
            self._unreadable.warn(f"{problem}: {shard} is used without checking for lost flushes", time.monotonic())

    def _check(self, ask: Ask, slot: int, shard: str) -> None:
        tag = tag_of(slot)
        mark = self._names.swept(tag)
        debt = self._flushes.owed(read(ask, mark))
        if not debt.scopes:
            return
        lock = self._names.sweeping(tag)
        deleted = by_one(
            ask, lock,
            lambda: not self._flushes.owed(read(ask, mark)).scopes,
            lambda: self._sweep(ask, debt.scopes),
        )  # fmt: skip
        if deleted is None:
            return
        write(ask, mark, debt.marks)
        ask((b"DEL", lock))
        what = ", ".join(map(str, debt.scopes))
        log.warning("%s has lost flushes, which were repeated: %s; %d entries deleted", shard, what, deleted)

    def _sweep(self, ask: Ask, scopes: Iterable[Scope]) -> Iterator[int]:
        for scope in scopes:
            for step in sweep(ask, self._names, scope, STEP, where=Where.SLOT):
                yield step.deleted
