"""What UDP and TCP do with a query: look it up in L1, answer it locally, have it join a flight, or shed it."""

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
from rdnscache.tally import count
from rdnscache.views import Views

log = logging.getLogger(__name__)

#: The same for the compiled form, where these are plain numbers.
_ANSWERS, _LOCAL, _JOINED, _CH = metrics.ANSWERS, outcomes.LOCAL, outcomes.JOINED, CH


class Answering:
    """Answers queries for the UDP and TCP listeners. `worker_name` is for traces; without one there are none."""

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
        #: Whether the order of addresses in an answer changes from reply to reply.
        self.rotates = False
        #: Whether actions of the policy (drop, truncate) are taken here; not for queries between workers.
        self.enforces = True
        #: Answers NOTIFY messages, if any zone is transferred.
        self.notified: Callable[[Query], bytes] | None = None
        #: The rules that depend on the client (see `client_rules`), if there are any.
        self.by_client: Any = None
        #: Adds the client's network to the key, if upstreams are told of it (ECS).
        self.subnets: ClientSubnets | None = None
        #: The byte that marks a view's keys, by the number of the view; and the views; if there are any.
        self.marks: bytes | None = None
        self.views: Views | None = None

    def lookup(self, query: Query, now: float) -> bytes | None:
        """Step 3: the reply from L1; None if L1 has no fresh entry; empty if the client gets no reply.

        Queries that are traced or logged get None as well: `take` answers them.
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
        """The reply where the policy demands an action; empty if the query is dropped."""
        if entry.action == DROPPED:
            self.counters[metrics.POLICY_DROPPED] += 1
            return b""
        if query.limit != TCP_SIZE:
            self.counters[metrics.POLICY_TRUNCATED] += 1
            return compose_truncated(query)
        return compose(query, entry, now, self.rotates)

    def _renew(self, entry: Entry, key: bytes) -> None:
        """Start a prefetch of an entry that is in use and about to expire."""
        self.cache.renewed(entry.key)
        if not self._renews:
            return
        left = entry.ttl // 10 + 1
        asked = key if self.views is None or view_number(key) < 0 else self.views.to_renew(key, left, clock.now())
        if asked is not None and self._flights.renew(asked, left):
            self.counters[metrics.PREFETCHES] += 1

    def take(self, channel: Channel, query: Query, client: Any, now: float) -> bytes | None:
        """Step 4: the reply if it can be made now; None if `channel.answer` is called later, or there is no reply."""
        layer = _LOCAL
        if self.notified is not None and is_notify(query):
            return self.notified(query)
        reply = answer_ourselves(query, self._identity)
        if self._departure.begun and query.qclass == _CH and not query.error:
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
            if outcome == _JOINED:
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
        """The reply from an entry, counted, traced and logged; empty if the client gets none."""
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
            count(self.counters, _ANSWERS + layer, 1)
        if query.watch is not None:
            query.watch(layer)
        return reply

    def deny(self, query: Query) -> bytes:
        """The reply to a client that is not allowed (RFC 8914 section 4.19)."""
        if self.notified is not None and is_notify(query):  # NOTIFY has rules of its own about who may send it
            return self.notified(query)
        self.counters[metrics.DENIED] += 1
        self.query_log.denied(query.source)
        reply = compose_error(query, REFUSED, EDE_PROHIBITED)
        if query.watch is not None:
            query.watch(outcomes.LOCAL)
        return reply

    def limit(self, query: Query, verdict: int) -> bytes | None:
        """The reply to a client over its rate limit: a truncated one (slip), or None."""
        self.query_log.limited(query.source)
        slips = verdict == SLIP and not query.error
        self.counters[metrics.LIMITED_TRUNCATED if slips else metrics.LIMITED_DROPPED] += 1
        return compose_truncated(query) if slips else None

    def routed(self, query: Query, asked: bytes, routes: Collection[bytes]) -> bytes | None:
        """Put the route that another worker sent with a query into its key; returns an error if it is not known here.

        That happens during a reload, when two workers have different views.
        """
        route = asked[:ROUTE_SIZE]
        if not any(route) or query.error:
            return None
        if route not in routes:
            return compose_error(query, SERVFAIL, EDE_NOT_READY)
        query.key = with_route(query.key, route)
        return None

    def forged(self, data: bytes) -> bool:
        """Whether a datagram begins with a PROXY header, from an address that may not send one; counts it."""
        if not data.startswith(SIGNATURE):
            return False
        self.counters[metrics.PROXY_ERRORS] += 1
        return True

    def unexpected(self, where: str) -> None:
        """Log and count an exception; called in an `except`. No packet may stop the listener."""
        self.counters[metrics.CALLBACK_ERRORS] += 1
        log.exception("unexpected error while %s", where)


def trace_text(worker_name: str, entry: Entry, layer: int, now: float) -> bytes:
    """The text of a trace: the layer and worker that answered, the age, TTL and origin of the entry."""
    text = f"layer={outcomes.LAYERS[layer]} worker={worker_name}"
    if layer != outcomes.LOCAL or entry.origin:
        text += f" age={max(int(now - entry.stored), 0)} ttl={entry.ttl} {entry.origin}"
    return text.strip().encode()
