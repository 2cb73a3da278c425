"""Client rules of response policy zones: decided for each query, since entries in L1 are the same for all clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gevent

from rdnscache.decider import Decider
from rdnscache.dns.entry import Entry
from rdnscache.dns.question import bare_key, with_view
from rdnscache.dns.wire import TCP_SIZE, Query
from rdnscache.flights import Channel, Flight, Flights
from rdnscache.outcomes import LOCAL
from rdnscache.policy.verdict import TRUNCATED, Verdict
from rdnscache.server.answering import Answering

#: Aliases followed at a time; beyond that a query is not answered.
MOST_FOLLOWED = 1000
#: Before an IPv4 address in an IPv6 one (RFC 4291 section 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


class ClientRules:
    """One per worker. `deciders` has those of its groups of clients, by number; for `exempt` see `GroupPolicies`."""

    def __init__(
        self,
        deciders: Sequence[Decider],
        exempt: Mapping[tuple[int, int], int],
        flights: Flights,
        answering: Answering,
    ) -> None:
        self._deciders = deciders
        self._exempt = exempt
        self._flights = flights
        self._answering = answering
        self._followed = 0
        self.change()

    def change(self) -> None:
        """The rules may have changed. When none is about clients, queries are not examined at all."""
        some = any(decider.about_clients for decider in self._deciders)
        self._answering.by_client = self if some else None

    def minds(self, query: Query) -> bool:
        """Whether a rule about its client answers this query."""
        return self._verdict(query) is not None

    def told(self, channel: Channel, query: Query, client: Any) -> tuple[Entry | None, bool]:
        """The reply that a rule about the client gives, if any; and whether `channel.answer` will be called later."""
        verdict = self._verdict(query)
        if verdict is None:
            return None, False
        decider = self._deciders[query.group]
        if verdict.target is None:
            return decider.entry_of(query.key, verdict), False
        if self._followed < MOST_FOLLOWED:
            self._followed += 1
            gevent.spawn(self._follow, decider, verdict, channel, query, client)
        return None, True

    def _follow(self, decider: Decider, verdict: Verdict, channel: Channel, query: Query, client: Any) -> None:
        try:
            flight = Flight(query.key, 0.0, b"")
            flight.recursion = query.data[2] & 1 != 0
            channel.answer(query, client, decider.told(flight, verdict, self._flights), LOCAL)
        finally:
            self._followed -= 1

    def _verdict(self, query: Query) -> Verdict | None:
        source = query.source.removeprefix(_MAPPED) if len(query.source) == 16 else query.source
        verdict, place = self._deciders[query.group].of_client(query.key, source)
        if place >= 0:
            self._let_pass(query, place)
        if verdict is not None and verdict.action == TRUNCATED and query.limit == TCP_SIZE:
            return None
        return verdict

    def _let_pass(self, query: Query, place: int) -> None:
        """Answer a query as one of a client that passes the zone at this index of the lists."""
        number, marks = self._exempt.get((query.group, place)), self._answering.marks
        if number is not None and marks is not None:
            query.group = number
            query.key = with_view(bare_key(query.key), marks[number])
