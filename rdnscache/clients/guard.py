"""What is asked about a client before its query is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rdnscache.clients.limit import Limiter
from rdnscache.clients.networks import Networks
from rdnscache.clients.tls_names import TlsNames


@dataclass(frozen=True, slots=True)
class Guard:
    """Who is answered; how often over UDP, where that is limited; who may speak for others (PROXY protocol), if any.

    `routes` are those of views that the node's other workers may ask for, as the address that was asked. `tls_names`
    choose a view by what a proxy says that the client named in TLS, if any view has such names.
    """

    allowed: Networks
    limiter: Limiter | None = None
    proxies: Networks | None = None
    routes: frozenset[bytes] | None = None
    tls_names: TlsNames | None = None


def our_own_workers(routes: Iterable[bytes] = ()) -> Guard:
    """For sockets that only they reach: each says for which client it asks."""
    return Guard(Networks(("any",)), proxies=Networks(("loopback",)), routes=frozenset(routes))
