"""The rules about clients that are applied before a query is answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rdnscache.clients.limit import Limiter
from rdnscache.clients.networks import Networks
from rdnscache.clients.tls_names import TlsNames


@dataclass(frozen=True, slots=True)
class Guard:
    """Which clients are answered; the rate limit over UDP, if any; and which proxies may speak for clients, if any.

    `routes` are those of views that the node's other workers may ask for, by the address that was asked. `tls_names`
    choose a view by the name that the client sent in TLS, according to a proxy, if any view has such names.
    """

    allowed: Networks
    limiter: Limiter | None = None
    proxies: Networks | None = None
    routes: frozenset[bytes] | None = None
    tls_names: TlsNames | None = None


def our_own_workers(routes: Iterable[bytes] = ()) -> Guard:
    """For sockets that only the node's other workers reach: each query names the client it is for."""
    return Guard(Networks(("any",)), proxies=Networks(("loopback",)), routes=frozenset(routes))
