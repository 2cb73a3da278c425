"""The workers of a node, when there is no Redis to bring them together: each question has one worker that asks for all.

The others forward to it over loopback, as to any server; it answers from its L1 or its flights. A PROXY header tells it
for which client, so that clients have their share there as well.
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

#: Seconds beyond the upstream deadline that we wait for a sibling: it may have started later.
MARGIN = 0.2


class Siblings:
    """The workers of this node by number. `deadline` is the time one of them may take, in seconds."""

    def __init__(self, worker: int, addresses: Sequence[Address], deadline: float, departure: Departure) -> None:
        #: Whether there are others.
        self.several = len(addresses) > 1
        self._worker = worker
        self._addresses = addresses
        self._patience = deadline + MARGIN
        self._departure = departure

    def ask(self, key: bytes, client: bytes) -> Reply | None:
        """The reply of the worker this question belongs to; None when that is us, or it cannot be reached, or sheds.

        `client` is the prefix of who asks (`client_prefix`).
        Raises UpstreamFailed when it found no answer either.
        """
        if not self.several:
            return None
        route = route_of(key)
        if route and subnet(key):  # which networks are told to whom is not known by the route alone
            return None
        owner = crc32(key) % len(self._addresses)
        if owner == self._worker or self._departure.draining:  # then the others are ending too
            return None
        try:
            reply = exchange(self._addresses[owner], key, True, self._patience, header(client, route))
        except UpstreamFailed as failure:
            log.debug("a sibling does not answer: %s", failure)
            return None
        if reply.rcode == SERVFAIL and reply.ede in (EDE_NOT_READY, EDE_OTHER):  # no fact about the name
            return None
        if not policy.usable(reply):
            rcode = reply.rcode if reply.rcode in (REFUSED, NOTIMP) else SERVFAIL
            raise UpstreamFailed(f"worker {owner} found no answer", rcode, reply.ede, source="sibling")
        return reply


@lru_cache(1024)
def header(client: bytes, route: bytes = b"") -> bytes:
    """A PROXY header with the first address of a client prefix; all zeros when it is for nobody: a prefetch.

    As the address that was asked it has a route, where that is a view's own.
    """
    size = 16 if len(client) == 7 else 4
    source = client.ljust(size, b"\0")
    if route and size == 4:
        source, size = b"\0\0\0\0\0\0\0\0\0\0\xff\xff" + source, 16
    return build_proxy(source, 0, route.ljust(size, b"\0"), 0, False)
