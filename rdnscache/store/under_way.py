"""Flushes that are under way: what they mean counts as gone, although Redis may still have it.

An entry says in its `info`, as `seen`, which event its node had heard of last when it stored it. What is meant by a
flush that came after that is older than the flush, whatever anybody's clock says, and is passed over. So a flush is
proved as soon as all workers have heard of it, and its entries are deleted afterwards, however many there are.

Whoever attaches later learns of those under way from Redis, before it reads any entry there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rdnscache.store.foreign_json import read_object
from rdnscache.store.scope import Scope
from rdnscache.store.steering import LONGEST_FLUSH, MOST_UNDER_WAY, order

_SEEN = re.compile(rb" seen=([0-9]{1,19})-([0-9]{1,19})")
_EVENT_ID = re.compile(rb"[0-9]{1,19}-[0-9]{1,19}")
#: Where an entry does not tell.
NEVER = (0, 0)
#: Seconds for which one that is over still counts: in a Redis Cluster an entry that was read before it was deleted may
#: come after the word that all are.
LINGER = 20.0
#: Seconds for which a flush is under way until a worker deletes what it means: who had not heard of it has lost its
#: claim by then, and stores nothing behind the deletion.
SETTLED = 10.0
#: In place of the ID of one that stands for several.
SEVERAL = b""


def seen(info: bytes) -> tuple[int, ...]:
    """Which event a node had heard of last when it stored an entry."""
    match = _SEEN.search(info)
    return (int(match[1]), int(match[2])) if match is not None else NEVER


def read_under_way(told: Sequence[Any]) -> Iterator[tuple[bytes, Scope]]:
    """The flushes that Redis tells of: the ID of each, and what it means. What cannot be read means everything."""
    for event, event_id in zip(told[::2], told[1::2], strict=False):
        if not isinstance(event_id, bytes) or _EVENT_ID.fullmatch(event_id) is None:
            continue
        try:
            scope = Scope.of(read_object(event, LONGEST_FLUSH))
        except (ValueError, TypeError):
            scope = Scope()
        yield event_id, scope


class UnderWay:
    """Those that we know of. With too many of them everything from before the newest counts as gone."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[tuple[int, ...], Scope]] = {}
        #: When those that are over do not count any more (monotonic).
        self._over: dict[bytes, float] = {}
        #: Since when Redis tells of them (monotonic).
        self._since: dict[bytes, float] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._known)

    def begin(self, event_id: bytes, scope: Scope) -> None:
        if event_id in self._known:
            return
        self._known[event_id] = order(event_id), scope
        if len(self._known) > MOST_UNDER_WAY:
            newest = max(moment for moment, _ in self._known.values())
            self._known = {SEVERAL: (newest, Scope())}
            self._over.clear()

    def take(self, told: Sequence[Any]) -> list[tuple[bytes, Scope]]:
        """Those that Redis tells of; returned are those that have been under way for long enough."""
        now, known = time.monotonic(), list(read_under_way(told))
        self._since = {event_id: self._since.get(event_id, now) for event_id, _ in known}
        for event_id, scope in known:
            self.begin(event_id, scope)
        return [(event_id, scope) for event_id, scope in known if now - self._since[event_id] > SETTLED]

    def end(self, event_id: bytes) -> bool:
        """Its entries are deleted; returns whether we knew of it."""
        if event_id not in self._known:
            return False
        self._over.setdefault(event_id, time.monotonic() + LINGER)
        return True

    def cap(self, heard: Sequence[bytes], newest: bytes) -> None:
        """Of those that had been heard, none is later than this: an ID that says otherwise is made up, or Redis has
        gone back in time."""
        last = order(newest)
        for event_id in heard:
            if event_id in self._known:
                moment, scope = self._known[event_id]
                self._known[event_id] = min(moment, last), scope

    def refuses(self, key: bytes, rcode: int, info: bytes) -> bool:
        """Whether an entry is older than a flush that means it."""
        for event_id in [event_id for event_id, ends in self._over.items() if ends < time.monotonic()]:
            del self._over[event_id]
            self._known.pop(event_id, None)
        last = seen(info)
        return any(last < moment and scope.holds(key, rcode) for moment, scope in self._known.values())
