"""The life of a cache miss, top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from gevent import get_hub

from rdnscache import clock, metrics, outcomes
from rdnscache.crew import MAX_QUEUED
from rdnscache.dns.compose import EDE_NOT_READY, EDE_OTHER
from rdnscache.dns.entry import FAR, Entry
from rdnscache.dns.policy import EMPTY_ZONE_TTL, answers, holds_widely, settle, without_records
from rdnscache.dns.question import subnet, wider_key
from rdnscache.dns.subnet import scope_of
from rdnscache.dns.wire import REFUSED, SERVFAIL, Reply
from rdnscache.errors import LOCAL, SAID, SILENT, SPENT, UpstreamFailed
from rdnscache.flights import Flight, Flights
from rdnscache.metrics import Counters, observe
from rdnscache.outcomes import ENTRY, FOUND, LEAD, LEADS, SEEN, WOKEN, Ending
from rdnscache.query_log import SLOW, QueryLog
from rdnscache.resolution import Sources, Terms
from rdnscache.store.contract import FAILURE, PASS, STORE
from rdnscache.store.interface import Claim
from rdnscache.store.scope import Scope
from rdnscache.upstream.budget import PATIENCE
from rdnscache.upstream.crowd import Crowd
from rdnscache.upstream.routes import Route
from rdnscache.upstream.thrift import Thrift

log = logging.getLogger(__name__)

#: The failures of a flight that is shed, and of one that was stopped by an unforeseen error.
OVERLOADED = UpstreamFailed("too much is in flight", ede=EDE_NOT_READY, why=LOCAL)
UNFORESEEN = UpstreamFailed("an error of our own", ede=EDE_OTHER, why=LOCAL)
#: Seconds to follow after following was in vain, and for how many seconds that applies.
SHORT_PATIENCE, MISTRUST = 1.0, 60.0
#: A follower claims again after this many seconds, doubled up to the second value: a message may be lost.
FIRST_LOOK, LAST_LOOK = 0.1, 0.2
#: Added to the upstream deadline for the longest lease; added to the rest of a lease before claiming again.
LEASE_MARGIN, LEASE_SLACK = 0.3, 0.005
#: Maximum seconds between two workers of a node learning of a flush: until then a sibling's answer may be from before
#: the flush, and is not kept in L1.
APART = 20.0
#: The same for the compiled form, where these are plain numbers.
_L2, _FOLLOWER, _UPSTREAM = outcomes.L2, outcomes.FOLLOWER, outcomes.UPSTREAM
_SECONDS_OF, _SLOW = metrics.SECONDS_OF, SLOW
#: A time before all others.
NEVER = -1e300
#: The source of an answer from another worker of this node.
SIBLING = "sibling"
#: L2 is read before claiming only if at least this share of the last MEMORY flights ended in L2.
READ_WORTHWHILE, MEMORY = 0.5, 64
_MEMORY = MEMORY


class Resolver:
    """Turns a flight into an entry. One per worker; `fly` runs on a greenlet of the crew for each flight."""

    def __init__(self, sources: Sources, terms: Terms, query_log: QueryLog, counters: Counters) -> None:
        self.cache = sources.cache
        self._store = sources.store
        self._routes = sources.routes
        #: The route of all questions, if there is only one.
        self._only_route = sources.routes.only
        self._siblings = sources.siblings
        self._aliases = sources.aliases
        self._misled_until = 0.0
        self._stale_after = terms.stale_after
        self._node = f"node={terms.node}"
        self._decider = terms.decider
        self._on_late, self._on_trouble = self._late, self._give_back
        self._query_log = query_log
        self._counters = counters
        #: The number of flushes heard of.
        self.flushes = 0
        #: When the last one began (monotonic).
        self.flushed_at = NEVER
        #: The share of recent flights that ended in L2.
        self._l2_share = 1.0
        self._crowd = Crowd()
        #: Origins of entries, by server and zone.
        self._origins: dict[tuple[str, str], str] = {}
        self.flights: Flights

    def fly(self, flight: Flight) -> None:
        """Steps 5 to 10 of docs/architecture.md. Every path lands the flight."""
        key = flight.key
        if flight.began - flight.since > MAX_QUEUED:  # `began`: a pause of the process since then does not count
            return self.shed(flight, outcomes.SHED_LATE)
        if self._decider.decide(flight, self.flights):
            return None
        flight.route = route = self._only_route or self._routes.of(key)
        if route.upstreams is None:
            return self._stay_inside(flight, route)

        claim: Claim = self._store.claim(key, flight, self._on_late)
        try:
            entry = None
            alone = route.fitness.stands_back or not flight.recursion
            if not flight.renewal and (alone or self._l2_share >= READ_WORTHWHILE):
                entry = claim.read(alone)
                if entry is not None and entry.fresh(clock.now()):
                    return self._land(flight, entry, outcomes.L2)
            if not flight.recursion:
                return self._refuse(flight)
            self._offer(flight, entry or self.cache.kept(key))

            ending, entry = self._claim_or_follow(flight, claim)
            if entry is not None:
                self._note(ending)
                layer = outcomes.L2 if ending is FOUND else outcomes.FOLLOWER
                return self._land(flight, entry, layer)
            self._offer(flight, claim.entry)
            self.flights.step()
            flight.asked = self.flushes
            try:
                if subnet(key):
                    with self._crowd.one_more(key):
                        reply, source = self._ask(flight, claim)
                else:
                    reply, source = self._ask(flight, claim)
            except UpstreamFailed as failure:
                return self._fail(flight, claim, failure)
            self._land_and_fill(flight, claim, reply, source)
        except BaseException:  # an error, or it makes way for another
            claim.break_off()
            raise
        finally:
            claim.end()

    def _ask(self, flight: Flight, claim: Claim) -> tuple[Reply, str]:
        """Step 7: a reply and its source. Without Redis the worker of this node that owns the question is asked."""
        if self._siblings.several and claim.alone:
            reply = self._siblings.ask(flight.key, flight.client)
            if reply is not None:
                return reply, SIBLING
        route: Route = flight.route
        assert route.upstreams is not None
        thrift = None
        if route.upstreams.budgeted:  # time spent following counts as waiting
            until = clock.monotonic() + PATIENCE - (clock.now() - flight.since)
            thrift = Thrift(flight.client, until, flight.renewal > 0, partial(self._answer_stale, flight))
        return route.upstreams.ask(flight.key, self._on_trouble, thrift, claim)

    def _give_back(self, claim: Claim, asked: float) -> None:
        """Release the claim, because no upstream was reached in the first round."""
        claim.flight.route.fitness.tried_all(asked, clock.monotonic())
        claim.release()

    def _stay_inside(self, flight: Flight, route: Route) -> None:
        """Answer a question that must not be forwarded: names that are not known locally do not exist."""
        reply, origin = self._routes.denial(flight.key, route), f"from=local {self._node}{route.mark}"
        self.flights.land(flight, Entry(flight.key, reply, clock.now(), EMPTY_ZONE_TTL, 0, origin), outcomes.LOCAL)

    def _offer(self, flight: Flight, stale: Entry | None) -> None:
        """Note a stale entry for the clients, to be used if the flight takes long (RFC 8767 section 5) or fails."""
        if stale is None or flight.flushed or (flight.stale is not None and flight.stale.stored >= stale.stored):
            return
        if stale.unfinished() or self._decider.minds(stale):
            return
        flight.stale = stale
        if not flight.renewal:
            after = 0.0 if flight.route.upstreams.short() else self._stale_after
            self._answer_stale_at(flight, flight.since + after)

    def joined(self, flight: Flight) -> None:
        """A client waits for a prefetch, because the entry has expired meanwhile."""
        self._offer(flight, self.cache.kept(flight.key))
        if flight.stale is not None:
            self._answer_stale_at(flight, clock.now() + self._stale_after)

    def _answer_stale_at(self, flight: Flight, moment: float) -> None:
        if flight.timer is None:
            flight.timer = get_hub().loop.timer(max(moment - clock.now(), 0.0))
            flight.timer.start(self._answer_stale, flight)

    def _answer_stale(self, flight: Flight) -> None:
        stale, now = flight.stale, clock.now()
        if stale is None or not stale.usable(now) or not flight.up:
            return
        self._hold(stale, now)
        self._count(flight, stale, outcomes.STALE, now - flight.since)
        self.flights.answer(flight, stale, outcomes.STALE)

    def _hold(self, stale: Entry, now: float) -> None:
        """Let L1 answer with a stale entry for a while: a refresh has just failed, or takes long."""
        stale.held_until = now + self._routes.of(stale.key).limits.failure_ttl
        stale.renew_at = FAR
        kept = self.cache.peek(stale.key)
        if kept is None or kept.stored <= stale.stored:
            self.cache.put(stale, now)
        else:
            self.cache.hold(stale.key, stale.held_until)

    def _late(self, flight: Flight, entry: Entry) -> None:
        """Land a flight with an answer of Redis that was late. The upstream's answer is still stored when it comes.

        This runs in the hub, so if another question has to be asked first, the flight goes on.
        """
        if flight.up and not self._lacks(entry):
            self._land(flight, entry, outcomes.L2)

    def _lacks(self, entry: Entry) -> bool:
        """Whether another question has to be asked before a flight lands with this entry."""
        return entry.unfinished() or bool(self._decider.lacks(entry))

    def _claim_or_follow(self, flight: Flight, claim: Claim) -> tuple[Ending, Entry | None]:
        """Step 6: claim and follow until there is an entry, from Redis or a leader, or we have to ask upstreams."""
        begun, look, followed, route = clock.monotonic(), FIRST_LOOK, False, flight.route
        give_up = begun + (SHORT_PATIENCE if begun < self._misled_until else route.patience)
        while True:
            if route.fitness.stands_back:
                return self._stand_back(claim, followed)
            verdict = claim.acquire(flight.renewal)
            if verdict is LEAD:
                return LEADS, None
            if verdict is ENTRY:
                return SEEN if followed else FOUND, claim.entry
            followed = True
            left = give_up - clock.monotonic()
            if left <= 0:  # no leader holds a claim for so long without filling it
                self._misled_until = clock.monotonic() + MISTRUST
                return outcomes.MISLED, None
            entry = claim.wait(min(look, claim.lease_left + LEASE_SLACK, left))
            if entry is not None:
                return WOKEN, entry
            self._counters[metrics.RECHECKS] += 1
            look = min(look * 2, LAST_LOOK)

    def _stand_back(self, claim: Claim, followed: bool) -> tuple[Ending, Entry | None]:
        """Ask upstreams without a claim, for which others would wait. If we have followed, look for an answer first."""
        if followed:
            entry = claim.wait(FIRST_LOOK) or claim.read(True)
            if entry is not None and entry.fresh(clock.now()):
                return SEEN, entry
        return outcomes.UNFIT, None

    def _note(self, ending: Ending) -> None:
        column = metrics.FOLLOWED.get(ending)
        if column is not None:
            self._counters[column] += 1

    def _land_and_fill(self, flight: Flight, claim: Claim, reply: Reply, source: str) -> None:
        """Step 8: land the flight, then fill."""
        route: Route = flight.route
        route.fitness.answered()
        reply.wire, ttl = settle(flight.key, reply, route.limits)  # offsets stay the same
        ttl = ttl if route.limits.keep else 0
        stale = route.limits.stale if ttl else 0
        wide = holds_widely(flight.key, reply)
        key = wider_key(flight.key) if wide else flight.key
        entry = Entry(key, reply, clock.now(), ttl, stale, self._origin(source, route))
        entry.scope = scope_of(reply.subnet) if reply.subnet and not wide else 0
        if flight.renewal and ttl <= flight.renewal:  # the rest of the old TTL: the upstream is a cache
            entry.renews = False
        if source == SIBLING and clock.monotonic() - self.flushed_at < APART:
            flight.flushed = True
        told = (STORE if ttl else PASS, reply, ttl, stale, source, route.zone, "")
        self._land_around(flight, claim, entry, _FOLLOWER if source == SIBLING else _UPSTREAM, told)

    def _origin(self, source: str, route: Route) -> str:
        found = self._origins.get((source, route.zone))
        if found is None:  # bounded by the number of servers and zones
            found = self._origins[source, route.zone] = f"from={source} {self._node}{route.mark}"
        return found

    def _land_around(self, flight: Flight, claim: Claim, entry: Entry, layer: int, told: tuple[Any, ...]) -> None:
        """Land, then fill; first fill if another question has to be asked, so that followers need not wait for it."""
        first = self._lacks(entry)
        if first:
            self._fill(flight, claim, told)
        self._land(flight, entry, layer)
        if not first:
            self._fill(flight, claim, told)

    def _fill(self, flight: Flight, claim: Claim, told: tuple[Any, ...]) -> None:
        if self._outdated(flight):
            return claim.release()
        kind, reply, ttl, stale, source, zone, why = told
        return claim.fill(kind, reply, ttl, stale, source, zone, why)

    def _outdated(self, flight: Flight) -> bool:
        """Whether the answer may be from before a flush of the question. Then a follower has to ask again."""
        return flight.flushed and flight.asked != self.flushes

    def _fail(self, flight: Flight, claim: Claim, failure: UpstreamFailed) -> None:
        """Land a flight without answer. A failure that is a fact about the name is shared, others are not."""
        log.debug("no answer: %s", failure)
        entry = self._failure(flight.key, failure)
        if failure.rcode == SERVFAIL and failure.why in (SAID, SILENT):
            reply = without_records(flight.key, failure.rcode, failure.ede)
            told = (FAILURE, reply, entry.ttl, 0, failure.source, flight.route.zone, failure.why)
            return self._land_around(flight, claim, entry, outcomes.FAILURE, told)
        claim.release()
        if failure.why == SPENT:
            return self._land(flight, entry, outcomes.FAILURE)
        if failure.source != SIBLING:  # the sibling has noted it
            flight.route.fitness.failed(failure, clock.monotonic())
        found = claim.read(True)  # another node may have found an answer
        if found is not None and found.fresh(clock.now()):
            return self._land(flight, found, outcomes.L2)
        return self._land(flight, entry, outcomes.FAILURE)

    def _land(self, flight: Flight, entry: Entry, layer: int) -> None:
        """Cache the entry and answer all clients. A usable stale entry is preferred to a failure."""
        if entry.unfinished():
            entry = self._aliases.followed(entry, flight, self.flights)
        entry = self._decider.settled(entry, flight, self.flights)
        now, failed = clock.now(), not answers(entry.rcode)
        if not flight.up and failed:
            return
        if failed and flight.stale is not None and flight.stale.usable(now):
            entry, layer = flight.stale, outcomes.STALE
            self._hold(entry, now)
        elif entry.ttl > 0 and not flight.flushed:
            self.cache.learn(flight.key, entry, now)
        if not flight.up:
            return
        if not flight.renewal:
            self._l2_share += ((1.0 if layer == _L2 else 0.0) - self._l2_share) / _MEMORY
        self._count(flight, entry, layer, now - flight.since)
        self.flights.land(flight, entry, layer)

    def warm(self, entry: Entry, now: float) -> None:
        """Put an entry of L2 into L1 before anyone asks for it, unless the policy would replace it."""
        if not (entry.unfinished() or self._decider.minds(entry)):
            self.cache.put(entry, now)

    def begin_flush(self, scope: Scope) -> None:
        """From now on flights in the scope of a flush store nothing, and cannot be joined. Called in the hub."""
        self.flushes += 1
        self.flushed_at = clock.monotonic()
        for flight in self.flights.meant(scope.holds_question):
            self.flights.set_aside(flight)
            flight.flushed = True
            self._withdraw(flight)

    def end_flush(self, scope: Scope) -> None:
        """Withdraw stale entries that flights took from L1 before it was swept."""
        for flight in self.flights.meant(scope.holds_question):
            self._withdraw(flight)

    def change_policy(self) -> Callable[[Entry], bool]:
        """Note that the policy has changed; returns the test for entries that have to be removed from L1."""
        self._decider.change()
        self.flushed_at = clock.monotonic()  # siblings may still have the old policy: their answers are not kept
        for flight in self.flights.meant(lambda key: True):
            if flight.stale is not None and self._decider.minds(flight.stale):
                self._withdraw(flight)
        return self._decider.decides_otherwise

    def _withdraw(self, flight: Flight) -> None:
        flight.stale = None
        if flight.timer is not None:
            flight.timer.close()
            flight.timer = None

    def _count(self, flight: Flight, entry: Entry, layer: int, seconds: float) -> None:
        counters = self._counters
        if not flight.waiters:  # all have been answered, or there were none
            return
        observe(counters, _SECONDS_OF[layer], seconds, 1)
        if seconds >= _SLOW:
            self._query_log.note_slow(flight.key, layer, seconds)
        if layer in (_L2, _FOLLOWER):
            own = self._node in entry.origin.split(" ")
            counters[metrics.SAVED_BY_OWN if own else metrics.SAVED_BY_OTHER] += 1

    def _refuse(self, flight: Flight) -> None:
        """Refuse a flight: nothing is cached, and no client of it set RD."""
        reply = without_records(flight.key, REFUSED)
        self.flights.land(flight, Entry(flight.key, reply, clock.now(), 0, 0), outcomes.LOCAL)

    def shed(self, flight: Flight, reason: int) -> None:
        """Land a flight because of overload, with a stale entry or a failure. `reason`: one of outcomes.SHED_…"""
        self._counters[metrics.SHED + reason] += len(flight.waiters)
        stale = self.cache.kept(flight.key)
        if stale is not None and stale.usable(clock.now()):
            self.flights.land(flight, stale, outcomes.STALE)
        else:
            self.flights.land(flight, self._failure(flight.key, OVERLOADED), outcomes.FAILURE)

    def _failure(self, key: bytes, failure: UpstreamFailed) -> Entry:
        route = self._routes.of(key)
        origin = f"from={failure.source} {self._node}{route.mark} why={failure.why}"
        ttl = route.limits.failure_ttl if failure.why != SPENT else 0  # there may be budget again at any time
        return Entry(key, without_records(key, failure.rcode, failure.ede), clock.now(), ttl, 0, origin)

    def delay(self, now: float) -> float:
        """By how many seconds the fastest answers of upstreams come later than before; negative if unknown."""
        return self._routes.delay(now)

    def give_up(self, flight: Flight) -> Entry:
        """The entry for a flight that was stopped by an unforeseen error."""
        self._counters[metrics.CALLBACK_ERRORS] += 1
        return self._failure(flight.key, UNFORESEEN)
