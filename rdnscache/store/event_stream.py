"""The control stream as a worker reads it: page by page, with a limit on the size of each event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

from rdnscache.errors import StoreDown, StoreRefused
from rdnscache.store.contract import EVENTS_KEPT, Names
from rdnscache.store.servers import Servers
from rdnscache.store.steering import LONGEST_EVENT, LONGEST_FLUSH, MOST_UNDER_WAY, NEWEST, READ, ROLL, UNDER_WAY

#: The ID before that of the first event.
NO_EVENT = b"0-0"
#: In place of an event that was not read.
NOT_READ = b"-"
#: Events read at once.
PAGE = 100
#: The ID of an event, and the event.
Event = tuple[bytes, bytes]


class Stream:
    """Every method raises StoreRefused, or StoreDown if Redis is likely to answer soon."""

    def __init__(self, names: Names, servers: Servers) -> None:
        self._servers = servers
        self._key = names.control
        self._register = names.nodes
        self._flushing = names.flushing

    def newest(self, count: int) -> list[Event]:
        """The IDs of the newest events, oldest first, without their content."""
        return [
            (event_id, NOT_READ) for event_id in reversed(self._ask(b"EVAL", NEWEST.source, b"1", self._key, count))
        ]

    def latest(self, count: int) -> list[Event]:
        """The newest events, oldest first."""
        return self._read(b"+", count, b"back")[::-1]

    def since(self, known: bytes) -> list[Event]:
        """An event and those after it, if they are still kept."""
        found: list[Event] = []
        start = known if known != NO_EVENT else b"-"
        while len(found) <= EVENTS_KEPT:
            page = self._read(start, PAGE)
            found += page
            if len(page) < PAGE:
                break
            start = b"(" + page[-1][0]
        return found

    def before(self, known: bytes) -> bytes:
        """The ID of the last event before this one."""
        found = self._read(b"(" + known, 1, b"back")
        return found[0][0] if found else NO_EVENT

    def under_way(self) -> Sequence[Any]:
        """The flushes whose entries may still be in Redis: the event of each and its ID, in turn."""
        return self._ask(*self.look_under_way())

    def look_under_way(self) -> tuple[bytes | int, ...]:
        """The command that `under_way` sends."""
        return b"EVAL", UNDER_WAY.source, b"1", self._flushing, 2 * MOST_UNDER_WAY, LONGEST_FLUSH

    def register_age(self) -> float:
        """The age of the cluster's register in seconds."""
        told = self._ask(b"EVAL", ROLL.source, b"1", self._register, 1, 0)
        return float(told[1])

    def _read(self, start: bytes, count: int, *back: bytes) -> list[Event]:
        told = self._ask(b"EVAL", READ.source, b"1", self._key, start, count, LONGEST_EVENT, *back)
        return list(zip(told[::2], told[1::2], strict=False))

    def _ask(self, *command: bytes | int) -> Sequence[Any]:
        (reply,) = self._servers.setup(command)
        if isinstance(reply, hiredis.ReplyError):
            raise StoreRefused.of(reply, "control events cannot be read")
        if not isinstance(reply, list):
            raise StoreDown("control events cannot be read: the reply is not a list")
        return reply
