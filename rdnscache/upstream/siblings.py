"""The other workers of a node: without Redis each question belongs to one worker, which asks upstreams for all.

The others forward to it over loopback, as to any server; it answers from its L1 or its flights. A PROXY header names
the client, so that clients have fair shares there as well.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from rdnscache.address import Address
from rdnscache.clients.proxy import build_proxy
from rdnscache.departure import Departure
from rdnscache.dns import policy
from rdnscache.dns.compose import EDE_NOT_READY, EDE_OTHER
from rdnscache.dns.question import route_of, subnet
from rdnscache.dns.wire import NOTIMP, REFUSED, SERVFAIL, Reply
from rdnscache.errors import UpstreamFailed
from rdnscache.upstream.exchange import exchange

log = logging.getLogger(__name__)

#: Seconds beyond the upstream deadline to wait for a sibling: it may have started later.
MARGIN = 0.2


class Siblings:
    """The workers of this node by number. `deadline` is the upstream deadline in seconds."""

    def __init__(self, worker: int, addresses: Sequence[Address], deadline: float, departure: Departure) -> None:
        #: Whether there are others.
        self.several = len(addresses) > 1
        self._worker = worker
        self._addresses = addresses
        self._patience = deadline + MARGIN
        self._departure = departure

    def ask(self, key: bytes, client: bytes) -> Reply | None:
        """The reply of the worker that a question belongs to; None if that is us, or it cannot be reached, or sheds.

        `client` is the client's prefix (`client_prefix`). Raises UpstreamFailed if that worker found no answer.
        """
        if not self.several:
            return None
        route = route_of(key)
        if route and subnet(key):  # the sibling would not know from the route which networks upstreams are told
            return None
        owner = crc32(key) % len(self._addresses)
        if owner == self._worker or self._departure.draining:  # while draining, siblings may have ended
            return None
        try:
            reply = exchange(self._addresses[owner], key, True, self._patience, header(client, route))
        except UpstreamFailed as failure:
            log.debug("a sibling does not answer: %s", failure)
            return None
        if reply.rcode == SERVFAIL and reply.ede in (EDE_NOT_READY, EDE_OTHER):  # not about the name
            return None
        if not policy.usable(reply):
            rcode = reply.rcode if reply.rcode in (REFUSED, NOTIMP) else SERVFAIL
            raise UpstreamFailed(f"worker {owner} found no answer", rcode, reply.ede, source="sibling")
        return reply


@lru_cache(1024)
def header(client: bytes, route: bytes = b"") -> bytes:
    """A PROXY header with the first address of a client prefix as its source; all zeros for a prefetch.

    Its destination address is the digest of a view's route, if any.
    """
    size = 16 if len(client) == 7 else 4
    source = client.ljust(size, b"\0")
    if route and size == 4:
        source, size = b"\0\0\0\0\0\0\0\0\0\0\xff\xff" + source, 16
    return build_proxy(source, 0, route.ljust(size, b"\0"), 0, False)
