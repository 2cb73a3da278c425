"""The life of a cache miss, top to bottom."""

from __future__ import annotations

import logging
import time
from functools import partial

from gevent import get_hub

from rdnscache import metrics
from rdnscache.cache import Cache
from rdnscache.crew import MAX_QUEUED
from rdnscache.dns.entry import FAR, Entry
from rdnscache.dns.policy import Limits, failure_wire, settle
from rdnscache.dns.wire import SERVFAIL, Reply, parse_reply
from rdnscache.errors import UpstreamFailed
from rdnscache.flights import Flight, Flights
from rdnscache.journal import SLOW, Journal
from rdnscache.metrics import Counters, observe
from rdnscache.store.contract import ENTRY, FAILURE, LEAD, PASS, STORE
from rdnscache.store.nostore import Candidacy, NoStore
from rdnscache.upstream.servers import Upstreams
from rdnscache.upstream.siblings import Siblings

log = logging.getLogger(__name__)

#: A follower looks again after so many seconds, doubled up to the last: a message may be lost.
FIRST_LOOK, LAST_LOOK = 0.1, 0.2
#: Added to the upstream deadline for the longest lease, and to the lease before claiming anew.
LEASE_MARGIN, LEASE_SLACK = 0.3, 0.005
#: Where an answer comes from that another worker of this node has fetched.
SIBLING = "sibling"
#: Where fewer than this share of the last so many flights ended in L2, a read before claiming costs more than it saves.
READ_WORTHWHILE, MEMORY = 0.5, 64


class Resolver:
    """Turns a flight into an entry. One per worker; `fly` runs on a greenlet of the crew for each flight."""

    def __init__(
        self,
        cache: Cache,
        store: NoStore,
        upstreams: Upstreams,
        siblings: Siblings,
        limits: Limits,
        patience: float,
        stale_after: float,
        node: str,
        journal: Journal,
        counters: Counters,
    ) -> None:
        self.cache = cache
        self._store = store
        self._upstreams = upstreams
        self._siblings = siblings
        self._limits = limits
        #: Seconds a follower goes on following before it gives its clients a failure.
        self._patience = patience
        #: Seconds after which a stale entry is better than none.
        self._stale_after = stale_after
        self._node = f"node={node}"
        self._journal = journal
        self._counters = counters
        #: Counts flushes: a flight that was up during one must not bring the old answer back.
        self.flushes = 0
        #: The share of late flights that ended in L2.
        self._l2_share = 1.0
        self.flights: Flights

    def fly(self, flight: Flight) -> None:
        """Steps 5 to 10 of docs/architecture.md. Every way out lands the flight."""
        key, flushes = flight.key, self.flushes
        if time.monotonic() - flight.since > MAX_QUEUED:
            return self.shed(flight, metrics.SHED_LATE)

        with self._store.candidacy(key, partial(self._late, flight, flushes)) as candidacy:
            entry = None
            if not flight.renewal and (self._l2_share >= READ_WORTHWHILE or not flight.recursion):
                entry = candidacy.read()
                if entry is not None and entry.fresh(time.monotonic()):
                    return self._land(flight, entry, metrics.L2, flushes)
            stale = entry or self.cache.peek(key)
            if not flight.recursion:
                return self._refuse(flight)
            self._offer(flight, stale)

            entry, layer = self._claim_or_follow(flight, candidacy)
            stale = candidacy.entry or stale
            if entry is not None:
                return self._land(flight, entry, layer, flushes, stale)
            if layer == metrics.FAILURE:
                return self._land(flight, self._failure(key), layer, flushes, stale)
            self._offer(flight, stale)
            self.flights.step()
            try:
                reply, source = self._ask(key, candidacy.claimed)
            except UpstreamFailed as failure:
                log.debug("no answer: %s", failure)
                self._land(flight, self._failure(key), metrics.FAILURE, flushes, stale)
                return candidacy.fill(FAILURE, _failure_reply(key), self._limits.failure_ttl, 0, "none")
            self._land_and_fill(flight, candidacy, reply, source, flushes)

    def _ask(self, key: bytes, claimed: bool) -> tuple[Reply, str]:
        """Step 7: a reply and where it came from. Without Redis the node's workers still ask only once among them.

        But not who has claimed: a sibling might follow us, and we wait for each other.
        """
        if not claimed and not self._store.usable:
            reply = self._siblings.ask(key)
            if reply is not None:
                return reply, SIBLING
        return self._upstreams.ask(key)

    def _offer(self, flight: Flight, stale: Entry | None) -> None:
        """Have those who wait answered with a stale entry if it takes long (RFC 8767 section 5)."""
        now = time.monotonic()
        if stale is None or flight.timer is not None or flight.renewal or not stale.usable(now):
            return
        flight.timer = get_hub().loop.timer(max(flight.since + self._stale_after - now, 0.0))
        flight.timer.start(self._answer_stale, flight, stale)

    def _answer_stale(self, flight: Flight, stale: Entry) -> None:
        now = time.monotonic()
        if not stale.usable(now) or not self.flights.has(flight):
            return
        stale.held_until = now + self._limits.failure_ttl
        if self.cache.peek(flight.key) is None:
            self.cache.put(stale, now)
        self._count(flight, stale, metrics.STALE, now - flight.since)
        self.flights.answer(flight, stale, metrics.STALE)

    def _late(self, flight: Flight, flushes: int, entry: Entry) -> None:
        """Redis has the answer after all: whoever is first answers. What is on its way from an upstream is stored."""
        if self.flights.has(flight):
            self._land(flight, entry, metrics.L2, flushes)

    def _claim_or_follow(self, flight: Flight, candidacy: Candidacy) -> tuple[Entry | None, int]:
        """Until there is an entry, from L2 or a leader; or we lead (UPSTREAM); or patience runs out (FAILURE)."""
        give_up = time.monotonic() + self._patience
        look = FIRST_LOOK
        layer = metrics.L2
        while True:
            verdict = candidacy.claim(flight.renewal)
            if verdict == LEAD:
                return None, metrics.UPSTREAM
            if verdict == ENTRY:
                if layer == metrics.FOLLOWER and not candidacy.woken:
                    self._counters[metrics.WAKES_LOST] += 1
                return candidacy.entry, layer
            layer = metrics.FOLLOWER
            left = give_up - time.monotonic()
            if left <= 0:
                return None, metrics.FAILURE
            entry = candidacy.wait(min(look, candidacy.lease_left + LEASE_SLACK, left))
            if entry is not None:
                return entry, layer
            self._counters[metrics.RECHECKS] += 1
            look = min(look * 2, LAST_LOOK)

    def _land_and_fill(self, flight: Flight, candidacy: Candidacy, reply: Reply, source: str, flushes: int) -> None:
        """Step 8: our own clients first, then everybody else's."""
        reply.wire, ttl = settle(flight.key, reply, self._limits)  # nothing moves in it
        stale = self._limits.stale if ttl else 0
        origin = f"from={source} {self._node}"
        entry = Entry(flight.key, reply, time.monotonic(), ttl, stale, origin)
        self._land(flight, entry, metrics.FOLLOWER if source == SIBLING else metrics.UPSTREAM, flushes)
        candidacy.fill(STORE if ttl and flushes == self.flushes else PASS, reply, ttl, stale, source)

    def _land(self, flight: Flight, entry: Entry, layer: int, flushes: int, stale: Entry | None = None) -> None:
        """Remember the entry and answer everybody. A failure never shadows what is still usable."""
        now = time.monotonic()
        if not self.flights.has(flight) and entry.rcode == SERVFAIL:
            return
        if entry.rcode == SERVFAIL and stale is not None and stale.usable(now):
            stale.held_until = now + entry.ttl
            stale.renew_at = FAR  # it may be another than L1 has, which has been renewed in vain just now
            entry, layer = stale, metrics.STALE
        if entry.ttl > 0 and flushes == self.flushes:
            self.cache.put(entry, now)
        if not self.flights.has(flight):
            return
        if not flight.renewal:
            self._l2_share += ((layer == metrics.L2) - self._l2_share) / MEMORY
        self._count(flight, entry, layer, now - flight.since)
        self.flights.land(flight, entry, layer)

    def _count(self, flight: Flight, entry: Entry, layer: int, seconds: float) -> None:
        counters = self._counters
        if not flight.waiters:  # all have been answered, or there never were any
            return
        observe(counters, metrics.SECONDS_OF[layer], seconds, 1)
        if seconds >= SLOW:
            self._journal.note_slow(flight.key, layer, seconds)
        if layer in (metrics.L2, metrics.FOLLOWER):
            own = entry.origin.endswith(self._node)
            counters[metrics.SAVED_BY_OWN if own else metrics.SAVED_BY_OTHER] += 1

    def _refuse(self, flight: Flight) -> None:
        """Nothing is cached, and nobody on this flight set RD."""
        self.flights.land(flight, None, metrics.LOCAL)

    def shed(self, flight: Flight, column: int) -> None:
        """Too much is in flight: what we still have, or a failure that nobody keeps. `column` is where to count it."""
        self._counters[column] += len(flight.waiters)
        stale = self.cache.peek(flight.key)
        if stale is not None and stale.usable(time.monotonic()):
            self.flights.land(flight, stale, metrics.STALE)
        else:
            self.flights.land(flight, self._failure(flight.key), metrics.FAILURE)

    def _failure(self, key: bytes) -> Entry:
        origin = f"from=none {self._node}"
        return Entry(key, _failure_reply(key), time.monotonic(), self._limits.failure_ttl, 0, origin)

    def give_up(self, flight: Flight) -> Entry:
        """What a flight lands with when something unforeseen stopped it."""
        self._counters[metrics.CALLBACK_ERRORS] += 1
        return self._failure(flight.key)


def _failure_reply(key: bytes) -> Reply:
    reply = parse_reply(failure_wire(key))
    assert reply is not None
    return reply
