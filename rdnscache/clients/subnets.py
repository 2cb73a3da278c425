"""Which network of clients a question is asked for, where its zone's upstreams are told (RFC 7871)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rdnscache.dns.question import with_subnet
from rdnscache.dns.subnet import NOBODY, of_address, read_option
from rdnscache.dns.wire import FORMERR, IN, Query
from rdnscache.dns.zones import Zones


@dataclass(frozen=True, slots=True)
class SubnetTerms:
    """What upstreams are told: the subnet a client names, or, if `adds`, else its address; cut to these prefixes."""

    adds: bool
    prefix4: int
    prefix6: int


class ClientSubnets:
    """`terms` has None where nothing is told; `views` has the terms of views by their numbers."""

    def __init__(
        self, terms: Zones[SubnetTerms | None], views: Mapping[int, Zones[SubnetTerms | None]] = MappingProxyType({})
    ) -> None:
        self._terms = terms
        self._views = views

    def mark(self, query: Query) -> None:
        """Make a query's key that of its client's network. Malformed options are refused (RFC 7871 section 7.1.2)."""
        if query.error or query.qclass != IN:
            return
        terms = self._views.get(query.group, self._terms).of(query.key)
        if terms is None:
            return
        network: bytes | None = NOBODY
        if query.subnet is not None:
            network = read_option(query.subnet, terms.prefix4, terms.prefix6)
            query.echo = network is not None
        elif terms.adds and query.source:
            network = of_address(query.source, terms.prefix4, terms.prefix6)
        if network is None:
            query.error = FORMERR
        else:
            query.key = with_subnet(query.key, network)
