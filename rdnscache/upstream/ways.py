"""Makes the transports to a server from its endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rdnscache.endpoint import H3, HTTPS, QUIC, TCP, TLS, UDP, Endpoint
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.datagrams import Datagrams
from rdnscache.upstream.query import Connections
from rdnscache.upstream.server import Ways
from rdnscache.upstream.transports import over_https, over_tcp, over_tls

if TYPE_CHECKING:
    from rdnscache.upstream.tls import Secured

#: The ALPN protocol that is offered, and the one that must be selected (RFC 7858 needs none; RFC 9113 section 3.2).
_OFFERED, _NEEDED = {TLS: "dot", HTTPS: "h2"}, {TLS: "", HTTPS: "h2"}
USUAL = Limits()


def find(endpoint: Endpoint, limits: Limits = USUAL) -> Ways:
    """The transports to an endpoint. Raises ConfigError if a file that it names cannot be used."""
    if endpoint.scheme == UDP:
        udp = Datagrams(endpoint.address)
        return Ways(udp, over_tcp(endpoint.address, limits), udp)
    way = _over_connections(endpoint, limits)
    return Ways(way, way)


def _over_connections(endpoint: Endpoint, limits: Limits) -> Connections:
    if endpoint.scheme == TCP:
        return over_tcp(endpoint.address, limits)
    if endpoint.scheme == QUIC:
        from rdnscache.upstream.doq import over_quic  # needs an extra

        return over_quic(endpoint, limits)
    if endpoint.scheme == H3:
        from rdnscache.upstream.doh3 import over_http3

        return over_http3(endpoint, limits)
    secured = _secured(endpoint)
    if endpoint.scheme == TLS:
        return over_tls(endpoint.address, secured, limits)
    return over_https(endpoint.address, secured, (endpoint.authority, endpoint.path), limits)


def _secured(endpoint: Endpoint) -> Secured:
    import ssl

    from rdnscache.upstream.certificates import Identity, context
    from rdnscache.upstream.tls import Secured

    identity = Identity(endpoint.name, endpoint.pins, endpoint.ca, endpoint.certificate, endpoint.key)
    made = context(identity, _OFFERED[endpoint.scheme])
    made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=endpoint.name or None)  # the first takes 3 ms
    return Secured(identity, made, _NEEDED[endpoint.scheme])
