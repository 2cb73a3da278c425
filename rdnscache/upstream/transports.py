"""Makes the transports over connections for one server.

The modules for TLS and HTTP/2 are imported only when they are used, so that other workers start sooner.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rdnscache.address import Address
from rdnscache.upstream.channel import Channel
from rdnscache.upstream.connection import Connection, Limits, Owner
from rdnscache.upstream.framed import FramedConnection
from rdnscache.upstream.pool import Pool

if TYPE_CHECKING:
    from rdnscache.upstream.tls import Secured

#: Encrypted queries are padded to a multiple of this.
BLOCK = 128


def over_tcp(address: Address, limits: Limits) -> Pool:
    """DNS over TCP (RFC 7766)."""

    def connect(owner: Owner) -> Connection:
        return FramedConnection(owner, str(address), partial(Channel, address), limits)

    return Pool(str(address), connect, limits)


def over_tls(address: Address, secured: Secured, limits: Limits) -> Pool:
    """DNS over TLS (RFC 7858), with queries padded to 128 octets (RFC 8467 section 4.1)."""
    from rdnscache.upstream.tls import TlsChannel

    def connect(owner: Owner) -> Connection:
        return FramedConnection(owner, str(address), partial(TlsChannel, address, secured), limits, BLOCK)

    return Pool(str(address), connect, limits)


def over_https(address: Address, secured: Secured, url: tuple[str, str], limits: Limits) -> Pool:
    """DNS over HTTPS (RFC 8484) over HTTP/2; `url` is its authority and its path."""
    from rdnscache.upstream.http2 import Http2Connection
    from rdnscache.upstream.tls import TlsChannel

    def connect(owner: Owner) -> Connection:
        return Http2Connection(owner, str(address), partial(TlsChannel, address, secured), limits, url, BLOCK)

    return Pool(str(address), connect, limits)
