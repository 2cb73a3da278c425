"""The flushes a worker remembers, and what of them a Redis has lost that went back in time. No connection in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rdnscache.store.scope import Scope
from rdnscache.store.steering import MARKS_KEPT, PROVISIONAL, order
from rdnscache.store.under_way import UnderWay

#: The last announcements that are remembered.
REMEMBERED = 100
#: Flushes that are applied one by one; with more of them everything is forgotten.
MOST_MISSED = 8


class Announcement(NamedTuple):
    """An event that ordered a flush; without a scope it stands for all that was before those we know."""

    event: bytes
    scope: Scope | None
    #: The event that announced the same flush for the first time, where this one says that it is done.
    of: bytes

    @property
    def finishes(self) -> bool:
        return self.of != self.event


class Debt(NamedTuple):
    """What a server has yet to be swept for, and the marks it gets then."""

    scopes: list[Scope]
    marks: list[bytes]


class Flushes:
    """The last announcements, oldest first."""

    def __init__(self) -> None:
        self._heard: deque[Announcement] = deque(maxlen=REMEMBERED)
        #: Those that were done before we began, by their first announcement.
        self._before: dict[bytes, Scope] = {}
        #: What counts as gone, although Redis may still have it.
        self.under_way = UnderWay()

    def __bool__(self) -> bool:
        """Whether there is any that a server could have lost."""
        return bool(self._before) or any(each.scope is not None for each in self._heard)

    def __iter__(self) -> Iterator[Announcement]:
        return iter(self._heard)

    def __contains__(self, event: bytes) -> bool:
        return any(each.event == event for each in self._heard)

    def note(self, event: bytes, scope: Scope, of: bytes) -> None:
        """One has been heard, or read."""
        self._heard.append(Announcement(event, scope, of))

    def note_done(self, flush: bytes, scope: Scope) -> None:
        """One was done before we began to hear of them."""
        self._before[flush] = scope

    def begin(self, event: bytes, after: bytes) -> None:
        """Flushes up to `event` are not known; of those that are, the ones behind `after` are kept."""
        kept = [each for each in self._heard if order(each.event) > order(after)]
        self._heard.clear()
        self._heard += [Announcement(event, None, event), *kept]

    def lost(self, known: bytes, anchor: bytes) -> list[tuple[bytes, Scope]]:
        """The flushes up to a known event that a stream lacks whose last event before it is the anchor."""
        scopes: dict[Scope, bytes] = {}  # each has been announced twice, or more often
        whole = False
        for event, scope, _ in self._heard:
            if order(event) <= order(anchor):
                whole = True
            elif order(event) > order(known):  # somebody was faster
                scopes.pop(scope or Scope(), None)
            elif scope is not None:
                scopes[scope] = event
        if whole and len(scopes) <= MOST_MISSED:
            return [(event, scope) for scope, event in scopes.items()]
        return [(known, Scope())]

    def owed(self, marks: Sequence[bytes]) -> Debt:
        """What a server with these marks, the newest first, has yet to be swept for.

        Of a flush that is under way, any sweep will do until it is done: its own may come after that.
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
