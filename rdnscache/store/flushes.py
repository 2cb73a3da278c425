"""The flushes a worker remembers, and which of them a Redis that went back in time has lost. No connection in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rdnscache.store.scope import Scope
from rdnscache.store.steering import MARKS_KEPT, PROVISIONAL, order
from rdnscache.store.under_way import UnderWay

#: Announcements that are remembered.
REMEMBERED = 100
#: Flushes that are applied one by one; with more of them everything is flushed.
MOST_MISSED = 8


class Announcement(NamedTuple):
    """An event that ordered a flush; without a scope it stands for all unknown events up to it."""

    event: bytes
    scope: Scope | None
    #: The event that announced the flush; it is another one if this event says that the flush is done.
    of: bytes

    @property
    def finishes(self) -> bool:
        return self.of != self.event


class Debt(NamedTuple):
    """What a server must still be swept for, and the marks it gets after that."""

    scopes: list[Scope]
    marks: list[bytes]


class Flushes:
    """The last announcements, oldest first."""

    def __init__(self) -> None:
        self._heard: deque[Announcement] = deque(maxlen=REMEMBERED)
        #: Flushes that were done before this worker began, by their first announcement.
        self._before: dict[bytes, Scope] = {}
        #: Flushes whose entries count as deleted, although Redis may still have them.
        self.under_way = UnderWay()

    def __bool__(self) -> bool:
        """Whether there is a flush that a server could have lost."""
        return bool(self._before) or any(each.scope is not None for each in self._heard)

    def __iter__(self) -> Iterator[Announcement]:
        return iter(self._heard)

    def __contains__(self, event: bytes) -> bool:
        return any(each.event == event for each in self._heard)

    def note(self, event: bytes, scope: Scope, of: bytes) -> None:
        """Note an announcement that was heard or read."""
        self._heard.append(Announcement(event, scope, of))

    def note_done(self, flush: bytes, scope: Scope) -> None:
        """Note a flush that was done before this worker began."""
        self._before[flush] = scope

    def begin(self, event: bytes, after: bytes) -> None:
        """Note that flushes up to `event` are unknown; known ones after the event `after` are kept."""
        kept = [each for each in self._heard if order(each.event) > order(after)]
        self._heard.clear()
        self._heard += [Announcement(event, None, event), *kept]

    def lost(self, known: bytes, anchor: bytes) -> list[tuple[bytes, Scope]]:
        """The flushes up to the event `known` that a stream lacks; `anchor` is its last event before that one."""
        scopes: dict[Scope, bytes] = {}  # each flush is announced at least twice
        whole = False
        for event, scope, _ in self._heard:
            if order(event) <= order(anchor):
                whole = True
            elif order(event) > order(known):  # another worker has announced it again
                scopes.pop(scope or Scope(), None)
            elif scope is not None:
                scopes[scope] = event
        if whole and len(scopes) <= MOST_MISSED:
            return [(event, scope) for scope, event in scopes.items()]
        return [(known, Scope())]

    def owed(self, marks: Sequence[bytes]) -> Debt:
        """What a server with these marks, the newest first, must still be swept for.

        A provisional mark is enough for a flush that is under way: its own deletion may come later.
        """
        known = {flush: (scope, True) for flush, scope in self._before.items()}
        for each in self._heard:
            if each.scope is not None:
                known[each.of] = each.scope, each.finishes or (each.of in known and known[each.of][1])
        oldest = order(marks[-1].rstrip(PROVISIONAL)) if len(marks) >= MARKS_KEPT else ()
        owed = {
            flush if done else flush + PROVISIONAL: scope
            for flush, (scope, done) in known.items()
            if flush not in marks and (done or flush + PROVISIONAL not in marks) and order(flush) > oldest
        }
        scopes = list(dict.fromkeys(owed.values()))
        first = next((each.of for each in self._heard if each.scope is not None), b"")
        forgotten = len(self._heard) == REMEMBERED and (first in owed or first + PROVISIONAL in owed)
        if scopes and (forgotten or len(scopes) > MOST_MISSED or Scope() in scopes):
            scopes = [Scope()]
        return Debt(scopes, list(owed))
