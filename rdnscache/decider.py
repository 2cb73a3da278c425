"""Applies the policy to flights: questions that it answers itself, and answers that it replaces.

The result is cached in L1 like any answer, so hits need no policy. Redis has the upstreams' answers, whatever the
policy of each node makes of them.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from gevent.event import Event

from rdnscache import clock, outcomes
from rdnscache.cache import Cache
from rdnscache.dns.compose import EDE_NOT_READY, compose
from rdnscache.dns.entry import Entry
from rdnscache.dns.names import question_text
from rdnscache.dns.policy import without_records
from rdnscache.dns.question import qname, with_type
from rdnscache.dns.wire import (
    AAAA,
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    YXDOMAIN,
    A,
    Query,
    Reply,
    build_query,
    parse_query,
    parse_reply,
    read_u32,
)
from rdnscache.flights import MOST_LINKS, Flight, Flights
from rdnscache.logs import Throttled
from rdnscache.policy.answers import Refinement, without_types
from rdnscache.policy.blocking import BLOCK_TTL, EDE_BLOCKED
from rdnscache.policy.dns64 import NONE, Dns64
from rdnscache.policy.rules import Policy, joined
from rdnscache.policy.verdict import TRUNCATED, Verdict

log = logging.getLogger(__name__)

#: Prefix of the reasons of verdicts from response policy zones.
ZONED = "rpz="
#: Prefixes of the reasons of verdicts from lists, orders and response policy zones.
LISTED = ("block=", ZONED)
#: Seconds to wait for the answer to a question of our own: a flight may take nearly that long.
PATIENCE = 5.0


class Decider:
    """The policy of a worker or a view, as the resolver uses it. Methods that take a flight may wait for another."""

    def __init__(self, policy: Policy, cache: Cache, node: str) -> None:
        self._policy = policy
        self._cache = cache
        self._node = f"node={node}"
        self._refused = Throttled(log)
        #: When the policy last changed, a time of `clock.now`.
        self._changed = 0.0

    def change(self) -> None:
        """Note that the policy has changed: flights that began earlier are decided again when they land."""
        self._changed = clock.now()

    def decide(self, flight: Flight, flights: Flights) -> bool:
        """Land a flight that the policy answers by itself; False if Redis and upstreams have to be asked."""
        verdict = self._policy.of(flight.key) if self._policy else None
        if verdict is None or verdict.action == TRUNCATED:  # clients that ask over TCP get the answer
            return False
        entry = self.told(flight, verdict, flights)
        if entry.ttl and not flight.flushed:
            self._cache.put(entry, clock.now())
        if flight.up:  # it may have been shed while an alias was followed
            flights.land(flight, entry, outcomes.LOCAL)
        return True

    @property
    def about_clients(self) -> bool:
        """Whether verdicts can depend on the client."""
        return self._policy.lists.rpz.about_clients

    def of_client(self, key: bytes, source: bytes) -> tuple[Verdict | None, int]:
        """The verdict for a client's address (4 or 16 octets); see `Policy.of_client`."""
        return self._policy.of_client(key, source)

    def at_once(self, key: bytes) -> tuple[Entry | None, bool]:
        """The policy's own answer to a question, None if it has none; and whether making it takes other questions."""
        verdict = self._policy.of(key)
        if verdict is None or verdict.action == TRUNCATED:
            return None, self._policy.completes(key)
        return (self.entry_of(key, verdict), False) if verdict.target is None else (None, True)

    def minds(self, entry: Entry) -> bool:
        """Whether the policy would replace an entry."""
        policy = self._policy
        if policy.of(entry.key) is not None or policy.of_answer(entry.key, entry.tail, entry.ancount) is not None:
            return True
        return policy.refined(entry) is not None or policy.dns64(entry) is not None

    def lacks(self, entry: Entry) -> bool:
        """Whether `instead_of` has to ask another question first, and so may wait."""
        if not self._policy.changes_answers():
            return False
        verdict = self._policy.of_answer(entry.key, entry.tail, entry.ancount)
        return self._policy.dns64(entry) is not None if verdict is None else verdict.target is not None

    def settled(self, entry: Entry, flight: Flight, flights: Flights) -> Entry:
        """What a flight lands with: `entry` or its replacement; the question may have been blocked meanwhile."""
        changed = self._changed
        found = self.instead_of(entry, flight, flights)
        verdict = self._policy.of(flight.key) if flight.since <= self._changed else None
        if verdict is not None and verdict.action != TRUNCATED:
            found = self.told(flight, verdict, flights)
        if changed != self._changed:  # another question was asked meanwhile, perhaps under the old rules
            found.ttl = 0
        return found

    def instead_of(self, entry: Entry, flight: Flight, flights: Flights) -> Entry:
        """The entry or its replacement. If the entry must not be cached (TTL 0), its replacement must not either."""
        if not self._policy.changes_answers():
            return entry
        verdict = self._policy.of_answer(flight.key, entry.tail, entry.ancount)
        if verdict is not None and verdict.target is not None:
            found = self.told(flight, verdict, flights)
            found.ttl = found.ttl if entry.ttl else 0
            return found
        if verdict is not None and verdict.action != TRUNCATED:
            return self.decided(entry, flight.key)
        found = self._without_some(entry, flight.key)
        dns64 = self._policy.dns64(entry) if found is entry else None
        if dns64 is not None:
            found = self._completed(entry, flight, dns64, flights)
        return found if verdict is None else self._marked(found, verdict)

    def decided(self, entry: Entry, key: bytes) -> Entry:
        """The entry, or its replacement if it is an alias of a blocked name or has records to be left out.

        No other question is asked.
        """
        verdict = self._policy.of_answer(key, entry.tail, entry.ancount)
        if verdict is None:
            return self._without_some(entry, key)
        if verdict.action:
            return self._marked(self._without_some(entry, key) if verdict.action == TRUNCATED else entry, verdict)
        found = self.entry_of(key, verdict)
        found.ttl = found.ttl if entry.ttl else 0
        return found

    def told(self, flight: Flight, verdict: Verdict, flights: Flights) -> Entry:
        """The answer of a verdict; if that is an alias, its target is asked for and waited for."""
        if verdict.target is None:
            return self.entry_of(flight.key, verdict)
        return self._followed(flight, flights, verdict, verdict.target)

    def _without_some(self, entry: Entry, key: bytes) -> Entry:
        """The answer without the records that the policy filters, or a refusal for its addresses (rebinding)."""
        refinement = self._policy.refined(entry)
        if refinement is None:
            return entry
        if not refinement.refused:
            return _refined(entry, refinement)
        asked = question_text(key)
        self._refused.warn(f"refused: {asked} leads into a network ({refinement.why})", time.monotonic())
        found = self.entry_of(key, Verdict(refinement.wire, refinement.why, EDE_BLOCKED))
        found.ttl = found.ttl if entry.ttl else 0
        return found

    def _marked(self, entry: Entry, verdict: Verdict) -> Entry:
        """A copy of an answer with an action that is taken instead of answering; exempt clients get the answer."""
        found = entry.under(entry.key)  # others may have the entry as it is
        found.action, found.origin = verdict.action, f"from={verdict.why} {self._node}"
        found.ttl, found.stale, found.renews = min(entry.ttl, verdict.ttl), 0, False
        return found

    def decides_otherwise(self, entry: Entry) -> bool:
        """Whether an entry would be different now because lists or orders have changed."""
        verdict = self._policy.of(entry.key) or self._policy.of_answer(entry.key, entry.tail, entry.ancount)
        source = entry.origin.partition(" ")[0].removeprefix("from=")
        if source.startswith(ZONED):  # a rule with the same owner may have other data now
            return True
        return source.startswith(LISTED) if verdict is None else source != verdict.why

    def entry_of(self, key: bytes, verdict: Verdict) -> Entry:
        """The answer of a verdict that has no alias to follow."""
        reply = parse_reply(verdict.wire)
        assert reply is not None
        return self._entry(key, reply, verdict)

    def _entry(self, key: bytes, reply: Reply, verdict: Verdict) -> Entry:
        ttl = verdict.ttl
        if ttl < 0:  # taken from the records, which a refusal does not have
            ttl = BLOCK_TTL if verdict.ede == EDE_BLOCKED else least_ttl(reply)
        entry = Entry(key, reply, clock.now(), ttl, 0, f"from={verdict.why} {self._node}")
        entry.ede, entry.renews, entry.action = verdict.ede, False, verdict.action
        return entry

    def _completed(self, entry: Entry, flight: Flight, dns64: Dns64, flights: Flights) -> Entry:
        """The answer with AAAA records synthesised from A records, if there are any (RFC 6147 section 5.1)."""
        key = flight.key
        errand = Errand(with_type(key, A), flight)
        reply, now = parse_reply(errand.run(self._cache, flights)), clock.now()
        source = errand.entry
        if reply is None or source is None:
            return Entry(key, without_records(key, SERVFAIL, EDE_NOT_READY), now, 0, 0, f"from={dns64} {self._node}")
        left = max(int(source.stored + source.ttl - now), 0)
        if reply.rcode not in (NOERROR, NXDOMAIN, YXDOMAIN):  # failures, and refusals by the policy
            return Entry(key, without_records(key, reply.rcode, reply.ede), now, left, 0, source.origin)
        age = int(now - entry.stored)
        made = parse_reply(dns64.made(entry, reply, age) or b"")
        if made is None:
            return _without_any(entry)
        ttl = min(least_ttl(made), left) if entry.ttl or entry.rcode == SERVFAIL else 0
        found = Entry(key, made, now, ttl, source.stale, f"{source.origin} dns64={dns64}")
        found.authentic, found.scope = entry.authentic and source.authentic, source.scope
        found.renews = entry.renews and source.renews
        return found

    def _followed(self, flight: Flight, flights: Flights, verdict: Verdict, target: bytes) -> Entry:
        """The answer to a local name that is an alias of a name outside."""
        key = flight.key
        errand = Errand(target + key[len(qname(key)) :], flight)
        first, rest = parse_reply(verdict.wire), parse_reply(errand.run(self._cache, flights))
        whole = parse_reply(joined(first, rest)) if first is not None and rest is not None else None
        entry = self._entry(key, whole or without_records(key, SERVFAIL), verdict)
        entry.ttl = entry.ttl if errand.entry is not None and errand.entry.ttl else 0
        return entry


class Errand:
    """A question of our own. It joins the flight of its key, or flies on the greenlet that needs the answer."""

    flies = True

    def __init__(self, key: bytes, flight: Flight) -> None:
        wire = build_query(b"\0\0", key, True)
        query = parse_query(wire if flight.recursion else wire[:2] + bytes((wire[2] & 0xFE,)) + wire[3:], True)
        assert query is not None
        query.key = key
        self._query = query
        self._flight = flight
        #: Read by `Flights`, see `Channel`.
        self.links, self.until = flight.links + 1, flight.until
        #: The answer, once there is one.
        self.entry: Entry | None = None
        self._done = Event()

    def answer(self, query: Query, client: Any, entry: Entry, layer: int) -> None:
        """Called by the flight when it lands."""
        self.entry = entry
        self._done.set()

    def run(self, cache: Cache, flights: Flights) -> bytes:
        """The reply in wire form; empty if there is none within `PATIENCE`."""
        entry = self.brought(cache, flights)
        return self.told(entry) if entry is not None else b""

    def told(self, entry: Entry) -> bytes:
        """An entry as a reply in wire form."""
        return compose(self._query, entry, clock.now())

    def brought(self, cache: Cache, flights: Flights) -> Entry | None:
        """The answer as an entry; None if there is none within `PATIENCE`."""
        now, key, flight = clock.now(), self._query.key, self._flight
        self.entry = cache.get(key, now)
        if self.entry is not None or self.links > MOST_LINKS or flights.leads_back(key, flight):
            return self.entry
        flight.needs = key
        try:
            if flights.join(self, self._query, None, now) == outcomes.JOINED:
                self._done.wait(PATIENCE)
        finally:
            flight.needs = b""
        return self.entry


def _refined(entry: Entry, refinement: Refinement) -> Entry:
    """The entry of a refined answer, with the age and times of the original; it does not have AD."""
    reply = parse_reply(refinement.wire)
    assert reply is not None
    found = Entry(entry.key, reply, entry.stored, entry.ttl, entry.stale, f"{entry.origin} {refinement.why}")
    found.aged, found.scope, found.renews, found.ede = entry.aged, entry.scope, entry.renews, refinement.ede
    return found


def _without_any(entry: Entry) -> Entry:
    """The answer without AAAA records, marked as examined: there are no A records to synthesise any from."""
    found = without_types(entry, frozenset((AAAA,)))
    kept = _refined(entry, Refinement(found[0], "")) if found is not None else entry
    kept.origin = f"{entry.origin} {NONE}"
    return kept


def least_ttl(reply: Reply) -> int:
    """The least TTL of its records; 0 without any."""
    ttls = reply.ttls
    found = [read_u32(reply.wire, ttls[index] << 8 | ttls[index + 1]) for index in range(0, len(ttls), 2)]
    return min(found, default=0)
