"""Answers for groups of clients, each with its own policy and routes.

A question is resolved once, whoever asks: under its bare key, or under the key of a route when a view has upstreams of
its own. All clients waiting for it are on the flight of that key. The policy of a view is applied when its clients are
answered; the result is kept in L1 under the view's own key, where hits find it, but not in Redis or in other workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rdnscache import clock, outcomes
from rdnscache.cache import Cache
from rdnscache.decider import Decider, Errand
from rdnscache.dns.compose import EDE_NOT_READY
from rdnscache.dns.entry import Entry
from rdnscache.dns.names import question_text
from rdnscache.dns.policy import without_records
from rdnscache.dns.question import bare_key, view_number, wider_key, with_route, with_view
from rdnscache.dns.wire import SERVFAIL, Query
from rdnscache.dns.zones import Zones
from rdnscache.flights import Flight, Flights


@dataclass(frozen=True, slots=True)
class View:
    """What is specific to a group of clients. `routes` has the digest of the route for a question."""

    #: Empty for a group without a configured name.
    name: str
    decider: Decider
    routes: Zones[bytes] | None = None


def _mark(views: Sequence[View], view: View) -> int:
    """The number of the first view that gives the same answers as this one."""
    return [(each.decider, each.routes) for each in views].index((view.decider, view.routes))


class Views:
    """The views of a worker by number; 0 is the default group. `usual` has the digests of the usual routes."""

    def __init__(self, views: Sequence[View], usual: Zones[bytes], cache: Cache) -> None:
        self._views = views
        self._usual = usual
        self._cache = cache
        #: For each view, the number in its keys: views with the same policy and routes share their answers.
        self.marks = bytes(_mark(views, view) for view in views)
        self.names = [each.name for each in views]

    def raw_key(self, key: bytes) -> bytes:
        """The key under which a view's question is resolved."""
        bare, routes = bare_key(key), self._views[view_number(key)].routes
        digest = routes.of(bare) if routes is not None else b""
        return with_route(bare, digest) if digest and digest != self._usual.of(bare) else bare

    def change(self) -> None:
        """The policies have changed."""
        for view in self._views:
            view.decider.change()

    def told(self, query: Query, now: float) -> tuple[Entry, int] | None:
        """The answer of a query's view without a flight, and its layer; None when the query has to join the flight of
        its key.

        The key is then the one to resolve, unless the decision itself needs other questions answered first.
        """
        key = query.key
        entry, asks = self._views[view_number(key)].decider.at_once(key)
        if entry is not None:
            if entry.ttl:
                self._cache.put(entry, now)
            return entry, outcomes.LOCAL
        if asks:
            return None
        raw = self.raw_key(key)
        found = self._cache.get(raw, now)
        if found is not None:
            return self._own(found, raw, key), outcomes.L1
        query.key = raw
        return None

    def answer(self, query: Query, entry: Entry) -> Entry:
        """The answer of a query's view after the flight of its question has landed with this entry."""
        key = with_view(bare_key(query.key), self.marks[query.group])
        wide = wider_key(key) if entry.key != query.key else key
        known = self._cache.peek(wide)  # made for another query on the same flight
        if known is not None and known.origin == entry.origin and known.stored == entry.stored:
            known.held_until = entry.held_until
            self._cache.hold(wide, entry.held_until)
            return known
        decided, _ = self._views[view_number(key)].decider.at_once(key)  # the policy may have changed since it asked
        return self._own(entry, query.key, key) if decided is None else decided

    def to_renew(self, key: bytes, left: int, now: float) -> bytes | None:
        """The question to prefetch before an entry of a view expires; None when that has been done already."""
        raw = self.raw_key(key)
        found = self._cache.kept(raw)
        if found is None or now + left >= found.stored + found.ttl:
            return raw
        self._own(found, raw, key)
        return None

    def decide(self, flight: Flight, flights: Flights) -> bool:
        """Land a view's flight; False for a flight of the bare key, which serves all views."""
        number = view_number(flight.key)
        if number < 0:
            return False
        decider = self._views[number].decider
        if decider.decide(flight, flights):
            return True
        raw = self.raw_key(flight.key)
        found = Errand(raw, flight).brought(self._cache, flights)
        if found is not None:
            told = decider.settled(_moved(found, raw, flight.key), flight, flights)
            entry = self._kept(told, found, flight.key) if not flight.flushed else told
            layer = outcomes.FLIGHT
        else:
            reply = without_records(flight.key, SERVFAIL, EDE_NOT_READY)
            entry, layer = Entry(flight.key, reply, clock.now(), 0, 0), outcomes.FAILURE
        if flight.up:  # it may have been shed meanwhile
            flights.land(flight, entry, layer)
        return True

    def minds(self, entry: Entry) -> bool:
        """Nothing is replaced in the answer to the bare question: views decide when they answer."""
        return False

    def lacks(self, entry: Entry) -> bool:
        """Nor does it need other questions."""
        return False

    def settled(self, entry: Entry, flight: Flight, flights: Flights) -> Entry:
        """The answer to the bare question is kept unchanged."""
        return entry

    def decides_otherwise(self, entry: Entry) -> bool:
        """Whether the policy would now decide otherwise about an entry, since lists or orders have changed."""
        number = view_number(entry.key)
        return number >= 0 and self._views[number].decider.decides_otherwise(entry)

    def held(self, key: bytes) -> Iterator[tuple[str, Entry]]:
        """The entries L1 has of a bare question for views, each with a description; views with the same answers have
        one."""
        asked = set()
        for number in sorted({*self.marks}):
            mine = with_view(key, number)
            entry = self._cache.peek(mine)
            if entry is not None:
                names = [name for name, mark in zip(self.names, self.marks, strict=True) if mark == number]
                yield question_text(key) + (f" view={','.join(names)}" if any(names) else ""), entry
            if self._views[number].routes is not None:
                asked.add(self.raw_key(mine))
        for raw in sorted(asked - {key}):
            entry = self._cache.peek(raw)
            if entry is not None:
                yield question_text(raw), entry

    def _own(self, entry: Entry, raw: bytes, key: bytes) -> Entry:
        """The answer of a key's view, given the entry that answers the question resolved for it."""
        decider, mine = self._views[view_number(key)].decider, _moved(entry, raw, key)
        told = decider.decided(mine, key)
        if told is mine and decider.lacks(mine):  # that takes other questions, for which it needs its own flight
            return mine
        return self._kept(told, entry, key)

    def _kept(self, told: Entry, entry: Entry, key: bytes) -> Entry:
        """The view's answer, kept in L1 only while the entry it was made from is: the flight may have been flushed."""
        if told.ttl and self._cache.has(entry):
            self._cache.learn(key, told, clock.now())
        return told


def _moved(entry: Entry, raw: bytes, key: bytes) -> Entry:
    """A copy of the answer to the bare question under the view's key, so that decisions about it do not affect the
    other.
    """
    return entry.under(key if entry.key == raw else wider_key(key))
