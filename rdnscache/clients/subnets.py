"""The client subnet in a question's key, for zones whose upstreams are sent one (RFC 7871)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rdnscache.dns.question import qclass, route_of, subnet, wider_key, with_subnet
from rdnscache.dns.subnet import NOBODY, of_address, read_option
from rdnscache.dns.wire import FORMERR, IN, Query
from rdnscache.dns.zones import Zones


@dataclass(frozen=True, slots=True)
class SubnetTerms:
    """What is sent to upstreams: the subnet in the client's query or, if `adds`, its address, cut to these prefixes."""

    adds: bool
    prefix4: int
    prefix6: int


class ClientSubnets:
    """`terms` has None for zones where nothing is sent; `views` has the terms of views by number."""

    def __init__(
        self, terms: Zones[SubnetTerms | None], views: Mapping[int, Zones[SubnetTerms | None]] = MappingProxyType({})
    ) -> None:
        self._terms = terms
        self._views = views

    def of_target(self, key: bytes, target: bytes) -> bytes:
        """The key of the question for the target of an alias: its subnet is sent only where the same terms apply.

        With a route of a view's own, the same servers are asked for both.
        """
        if route_of(key) or qclass(key) != IN:
            return target
        terms = self._terms.of(target)
        if terms is None or terms != self._terms.of(key):
            target = wider_key(target) if subnet(target) else target
            return target if terms is None else with_subnet(target, NOBODY)
        return target

    def mark(self, query: Query) -> None:
        """Add the client's subnet to the key of a query. Malformed options are refused (RFC 7871 section 7.1.2)."""
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
