"""What happens to a query that L1 cannot answer at once: our own answer, a flight, or shedding."""

from __future__ import annotations

import logging
from typing import Any

from rdnscache import metrics
from rdnscache.cache import Cache
from rdnscache.dns.compose import EDE_NOT_READY, compose, compose_error
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import Identity, answer_ourselves
from rdnscache.dns.wire import REFUSED, SERVFAIL, Query
from rdnscache.flights import Channel, Flights
from rdnscache.metrics import Counters

log = logging.getLogger(__name__)


class Desk:
    """The part of serving that UDP and TCP share."""

    def __init__(self, cache: Cache, flights: Flights, identity: Identity, counters: Counters) -> None:
        self.cache = cache
        self.counters = counters
        self._flights = flights
        self._identity = identity

    def lookup(self, query: Query, now: float) -> bytes | None:
        """Step 3: the reply from L1, if it is there and fresh."""
        if query.error:
            return None
        entry = self.cache.get(query.key, now)
        return None if entry is None else compose(query, entry, now)

    def take(self, channel: Channel, query: Query, client: Any) -> bytes | None:
        """Step 4: the reply when there is one already; None when `channel.answer` will be called later."""
        reply = answer_ourselves(query, self._identity)
        if reply is not None:
            self.counters[metrics.LOCAL] += 1
            return reply
        if self._flights.join(channel, query, client):
            return None
        self.counters[metrics.SHED] += 1
        return compose_error(query, SERVFAIL, EDE_NOT_READY)

    def unexpected(self, where: str) -> None:
        """Called in an `except`: the error is ours, and no packet may stop the reading because of it."""
        self.counters[metrics.CALLBACK_ERRORS] += 1
        log.exception("unexpected error while %s", where)


def compose_landed(query: Query, entry: Entry | None, now: float) -> bytes:
    """The reply to somebody who waited on a flight."""
    return compose_error(query, REFUSED) if entry is None else compose(query, entry, now)
