"""Asks for the targets of aliases that upstreams leave out, such as servers that answer only for their own zones.

Redis stores alias and target as the upstreams sent them; a worker joins them when it answers clients. So the target is
a question of its own, with its own claim, servers and policy.
"""

from __future__ import annotations

from typing import Any

from gevent import get_hub

from rdnscache import clock, outcomes
from rdnscache.cache import Cache
from rdnscache.clients.subnets import ClientSubnets
from rdnscache.decider import Errand, least_ttl
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import answers, without_records
from rdnscache.dns.question import qname, subnet
from rdnscache.dns.records import Names, plain_name, records_of
from rdnscache.dns.wire import CNAME, NO_EDE, SERVFAIL, Reply, parse_reply
from rdnscache.flights import Flight, Flights
from rdnscache.policy.rules import joined


class Aliases:
    """`subnets` says which servers are sent client subnets; None if none are."""

    def __init__(self, cache: Cache, subnets: ClientSubnets | None) -> None:
        self._cache = cache
        self._subnets = subnets

    def followed(self, entry: Entry, flight: Flight, flights: Flights) -> Entry:
        """The entry joined with the answer for its last target; a failure if that fails or there is no time left."""
        first = Errand(entry.key, flight).told(entry)
        alias = parse_reply(first)
        assert alias is not None
        key = self._target(flight.key, alias)
        if not key:  # stored by somebody else: no upstream's answer looks like that
            return entry
        timer = self._end_in_time(flight, flights)
        try:
            errand = Errand(key, flight)
            reply = parse_reply(errand.run(self._cache, flights)) if clock.now() < flight.until else None
        finally:
            timer.close()
        source = errand.entry
        if reply is None or source is None or not answers(reply.rcode):
            return self._without(entry, flight, source)
        whole = parse_reply(joined(alias, reply))
        return self._whole(entry, source, whole, flight) if whole is not None else self._without(entry, flight, None)

    def _target(self, key: bytes, alias: Reply) -> bytes:
        """The key of the question for the last target; empty if there is no alias."""
        names = Names(alias.wire)
        found = records_of(alias, names, 0, alias.ancount, alias.end)
        aliases = [record for record in found if record.rtype == CNAME]
        if not aliases:
            return b""
        target = plain_name(names, names.read(aliases[-1].ttl_at + 6)) + key[len(qname(key)) :]
        return self._subnets.of_target(key, target) if self._subnets is not None else target

    def _end_in_time(self, flight: Flight, flights: Flights) -> Any:
        """Answer the clients at the deadline of their question, however long the target takes."""
        if not flight.until:
            flight.until = flight.since + flight.route.upstreams.deadline
        timer = get_hub().loop.timer(max(flight.until - clock.now(), 0.0))
        timer.start(self._end, flight, flights)
        return timer

    def _end(self, flight: Flight, flights: Flights) -> None:
        if not flight.up:
            return
        stale = flight.stale
        if stale is not None and stale.usable(clock.now()):
            flights.land(flight, stale, outcomes.STALE)
        else:
            entry = Entry(flight.key, without_records(flight.key, SERVFAIL), clock.now(), 0, 0, "from=alias")
            flights.land(flight, entry, outcomes.FAILURE)

    def _without(self, entry: Entry, flight: Flight, source: Entry | None) -> Entry:
        """The entry without an answer for the target: SERVFAIL, or without RD the alias as far as it is known."""
        if not flight.recursion:
            found = entry.under(entry.key)
            found.ttl, found.stale = 0, 0
            return found
        reply = without_records(flight.key, SERVFAIL, source.ede if source is not None else NO_EDE)
        # a link in a longer chain may have failed only because of that chain
        ttl = min(source.ttl, entry.ttl) if source is not None and not flight.links else 0
        return Entry(flight.key, reply, clock.now(), ttl, 0, source.origin if source is not None else entry.origin)

    def _whole(self, entry: Entry, source: Entry, reply: Reply, flight: Flight) -> Entry:
        now = clock.now()
        key = flight.key if subnet(flight.key) and subnet(source.key) else entry.key
        left = max(int(source.stored + source.ttl - now), 0) if entry.ttl else 0
        ttl, stale = min(least_ttl(reply), left), min(entry.stale, source.stale)
        found = Entry(key, reply, now, ttl, stale, entry.origin)
        found.scope, found.ede = max(entry.scope, source.scope), source.ede
        found.renews = False  # alias and target expire separately, and L1 would bring the old target again
        return found
