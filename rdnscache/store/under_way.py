"""Flushes that are under way: their entries count as deleted, although Redis may still have them.

An entry's `info` has, as `seen`, the last event that its node had heard of when it stored it. An entry in the scope of
a later flush is older than the flush, whatever the clocks say, and is not used. So a flush is proved as soon as all
workers have heard of it, and its entries are deleted afterwards, however many there are.

A worker that attaches later learns of the flushes under way from Redis, before it reads any entry.
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
#: The event of an entry without `seen`.
NEVER = (0, 0)
#: Seconds for which a flush that is over still counts: in a Redis Cluster an entry that was read before its deletion
#: may arrive after the message that all are deleted.
LINGER = 20.0
#: Seconds after which a worker deletes the entries of a flush: leaders that had not heard of it have lost their claims
#: by then, and store nothing after the deletion.
SETTLED = 10.0
#: The ID of a flush that replaces several.
SEVERAL = b""


def seen(info: bytes) -> tuple[int, ...]:
    """The last event that a node had heard of when it stored an entry."""
    match = _SEEN.search(info)
    return (int(match[1]), int(match[2])) if match is not None else NEVER


def read_under_way(told: Sequence[Any]) -> Iterator[tuple[bytes, Scope]]:
    """The IDs and scopes of the flushes in a reply of UNDER_WAY; one that cannot be read counts as everything."""
    for event, event_id in zip(told[::2], told[1::2], strict=False):
        if not isinstance(event_id, bytes) or _EVENT_ID.fullmatch(event_id) is None:
            continue
        try:
            scope = Scope.of(read_object(event, LONGEST_FLUSH))
        except (ValueError, TypeError):
            scope = Scope()
        yield event_id, scope


class UnderWay:
    """The flushes under way that this worker knows of. With too many, all entries before the newest one count as
    deleted."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[tuple[int, ...], Scope]] = {}
        #: Until when flushes that are over still count (monotonic).
        self._over: dict[bytes, float] = {}
        #: When each was first seen in Redis (monotonic).
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
        """Note the flushes in a reply of UNDER_WAY; returns those whose entries a worker may delete now."""
        now, known = time.monotonic(), list(read_under_way(told))
        self._since = {event_id: self._since.get(event_id, now) for event_id, _ in known}
        for event_id, scope in known:
            self.begin(event_id, scope)
        return [(event_id, scope) for event_id, scope in known if now - self._since[event_id] > SETTLED]

    def end(self, event_id: bytes) -> bool:
        """Note that the entries of a flush are deleted; returns whether the flush was known."""
        if event_id not in self._known:
            return False
        self._over.setdefault(event_id, time.monotonic() + LINGER)
        return True

    def cap(self, heard: Sequence[bytes], newest: bytes) -> None:
        """Limit the IDs of the flushes in `heard` to `newest`: a later ID is forged, or Redis has gone back in time."""
        last = order(newest)
        for event_id in heard:
            if event_id in self._known:
                moment, scope = self._known[event_id]
                self._known[event_id] = min(moment, last), scope

    def refuses(self, key: bytes, rcode: int, info: bytes) -> bool:
        """Whether an entry is in the scope of a later flush."""
        for event_id in [event_id for event_id, ends in self._over.items() if ends < time.monotonic()]:
            del self._over[event_id]
            self._known.pop(event_id, None)
        last = seen(info)
        return any(last < moment and scope.holds(key, rcode) for moment, scope in self._known.values())
