"""What happens to a query that L1 cannot answer at once: our own answer, a flight, or shedding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

from rdnscache import clock, metrics, outcomes
from rdnscache.cache import Cache
from rdnscache.clients.limit import SLIP
from rdnscache.clients.proxy import SIGNATURE
from rdnscache.clients.subnets import ClientSubnets
from rdnscache.departure import Departure
from rdnscache.dns.compose import EDE_NOT_READY, EDE_PROHIBITED, compose, compose_error, compose_truncated
from rdnscache.dns.entry import Entry
from rdnscache.dns.notify import is_notify
from rdnscache.dns.policy import Identity, answer_ourselves
from rdnscache.dns.question import ROUTE_SIZE, view_number, with_route, with_view
from rdnscache.dns.wire import CH, REFUSED, SERVFAIL, TCP_SIZE, Query
from rdnscache.flights import Channel, Flights
from rdnscache.metrics import Counters
from rdnscache.policy.verdict import DROPPED
from rdnscache.query_log import QueryLog
from rdnscache.views import Views

log = logging.getLogger(__name__)


class Answering:
    """The part of serving that UDP and TCP share. `worker_name` is for traces; empty: there are none."""

    def __init__(
        self,
        cache: Cache,
        flights: Flights,
        identity: Identity,
        query_log: QueryLog,
        worker_name: str,
        renews: bool,
        counters: Counters,
        departure: Departure,
    ) -> None:
        self.cache = cache
        self.counters = counters
        self.query_log = query_log
        self._flights = flights
        self._identity = identity
        self._worker_name = worker_name
        self._renews = renews
        self._departure = departure
        #: Whether the address that comes first is another from reply to reply.
        self.rotates = False
        #: Whether what policy has done instead of answering is done here; where workers ask each other it is not.
        self.enforces = True
        #: What answers a server that says that a zone has changed, if any zone is transferred.
        self.notified: Callable[[Query], bytes] | None = None
        #: What is decided because of who asks (see `client_rules`), where anything is.
        self.by_client: Any = None
        #: Where upstreams are told of clients' networks: which one a query is for.
        self.subnets: ClientSubnets | None = None
        #: Where there are views: what their keys are marked with, by number; and those themselves.
        self.marks: bytes | None = None
        self.views: Views | None = None

    def lookup(self, query: Query, now: float) -> bytes | None:
        """Step 3: the reply from L1, if it is there and fresh; empty: there is none.

        Those to be traced or logged take the longer way.
        """
        if self.subnets is not None:
            self.subnets.mark(query)
        if self.marks is not None and not query.error:
            query.key = with_view(query.key, self.marks[query.group])
        if query.error or query.trace or query.watch is not None:
            return None
        if self.by_client is not None and self.by_client.minds(query):
            return None
        reply = self.cache.hit(query, now, self.rotates)
        if reply is None or reply:
            return reply
        entry = self.cache.get(query.key, now)
        if entry is None:
            return None
        if entry.action and self.enforces:
            return self._enforce(query, entry, now)
        if entry.hits > 1 and not entry.action:
            self._renew(entry, query.key)
        return compose(query, entry, now, self.rotates)

    def _enforce(self, query: Query, entry: Entry, now: float) -> bytes:
        """What a client hears where policy says more than an answer; nothing is an empty reply."""
        if entry.action == DROPPED:
            self.counters[metrics.POLICY_DROPPED] += 1
            return b""
        if query.limit != TCP_SIZE:
            self.counters[metrics.POLICY_TRUNCATED] += 1
            return compose_truncated(query)
        return compose(query, entry, now, self.rotates)

    def _renew(self, entry: Entry, key: bytes) -> None:
        """Start one prefetch of an entry that is in use and about to expire."""
        self.cache.renewed(entry.key)
        if not self._renews:
            return
        left = entry.ttl // 10 + 1
        asked = key if self.views is None or view_number(key) < 0 else self.views.to_renew(key, left, clock.now())
        if asked is not None and self._flights.renew(asked, left):
            self.counters[metrics.PREFETCHES] += 1

    def take(self, channel: Channel, query: Query, client: Any, now: float) -> bytes | None:
        """Step 4: the reply when there is one already; None when `channel.answer` will be called later."""
        layer = outcomes.LOCAL
        if self.notified is not None and is_notify(query):
            return self.notified(query)
        reply = answer_ourselves(query, self._identity)
        if self._departure.begun and query.qclass == CH and not query.error:
            reply = compose_error(query, SERVFAIL, EDE_NOT_READY)
        if reply is None and self.by_client is not None:
            mine, later = self.by_client.told(channel, query, client)
            if later:
                return None
            if mine is not None:
                return self.finish(query, mine, outcomes.LOCAL)
        if reply is None and (query.trace or query.watch is not None):
            entry = self.cache.get(query.key, now)
            if entry is not None:
                reply = self.finish(query, entry, outcomes.L1)
                metrics.observe(self.counters, metrics.L1_SECONDS, clock.now() - now, 1)
                return reply
        if reply is None and self.views is not None and view_number(query.key) >= 0:
            told = self.views.told(query, now)
            if told is not None:
                return self.finish(query, *told)
        if reply is None:
            outcome = self._flights.join(channel, query, client, now)
            if outcome == outcomes.JOINED:
                return None
            self.counters[metrics.NOT_JOINED[outcome]] += 1
            if outcome == outcomes.REPEATED:
                return None
            reply, layer = compose_error(query, SERVFAIL, EDE_NOT_READY), outcomes.FAILURE
        self.counters[metrics.ANSWERS + layer] += 1
        if query.watch is not None:
            query.watch(layer)
        return reply

    def finish(self, query: Query, entry: Entry, layer: int) -> bytes:
        """The reply from an entry, empty where there is to be none; counted, traced and logged."""
        if self.views is not None and view_number(query.key) < 0:
            entry = self.views.answer(query, entry)
        now = clock.now()
        if query.trace and self._worker_name:
            query.note = trace_text(self._worker_name, entry, layer, now)
            if self.views is not None and (name := self.views.names[query.group]):
                query.note += f" view={name}".encode()
        if entry.action and self.enforces:
            reply = self._enforce(query, entry, now)
        else:
            reply = compose(query, entry, now, self.rotates)
        if reply:
            self.counters[metrics.ANSWERS + layer] += 1
        if query.watch is not None:
            query.watch(layer)
        return reply

    def deny(self, query: Query) -> bytes:
        """The reply to a client that is not allowed (RFC 8914 section 4.19)."""
        if self.notified is not None and is_notify(query):  # who is believed there is another matter
            return self.notified(query)
        self.counters[metrics.DENIED] += 1
        self.query_log.denied(query.source)
        reply = compose_error(query, REFUSED, EDE_PROHIBITED)
        if query.watch is not None:
            query.watch(outcomes.LOCAL)
        return reply

    def limit(self, query: Query, verdict: int) -> bytes | None:
        """The reply to a client that asks too much over UDP: a truncated one, or none."""
        self.query_log.limited(query.source)
        slips = verdict == SLIP and not query.error
        self.counters[metrics.LIMITED_TRUNCATED if slips else metrics.LIMITED_DROPPED] += 1
        return compose_truncated(query) if slips else None

    def routed(self, query: Query, asked: bytes, routes: Collection[bytes]) -> bytes | None:
        """Give a query of another worker the route that it comes with; what to say when we have no such route.

        During a reload one of us has the views of before.
        """
        route = asked[:ROUTE_SIZE]
        if not any(route) or query.error:
            return None
        if route not in routes:
            return compose_error(query, SERVFAIL, EDE_NOT_READY)
        query.key = with_route(query.key, route)
        return None

    def forged(self, data: bytes) -> bool:
        """Whether something is a PROXY header from somebody who may not send one; counted."""
        if not data.startswith(SIGNATURE):
            return False
        self.counters[metrics.PROXY_ERRORS] += 1
        return True

    def unexpected(self, where: str) -> None:
        """Called in an `except`: the error is ours, and no packet may stop the reading because of it."""
        self.counters[metrics.CALLBACK_ERRORS] += 1
        log.exception("unexpected error while %s", where)


def trace_text(worker_name: str, entry: Entry, layer: int, now: float) -> bytes:
    """Which worker answered, from which layer; how old the answer is, who asked whom for it."""
    text = f"layer={outcomes.LAYERS[layer]} worker={worker_name}"
    if layer != outcomes.LOCAL or entry.origin:
        text += f" age={max(int(now - entry.stored), 0)} ttl={entry.ttl} {entry.origin}"
    return text.strip().encode()
