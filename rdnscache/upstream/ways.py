"""How a server is reached, by its endpoint."""

from __future__ import annotations

import gevent

from rdnscache.address import Address
from rdnscache.endpoint import UDP, Endpoint
from rdnscache.errors import UpstreamFailed
from rdnscache.upstream.datagrams import Datagrams
from rdnscache.upstream.exchange import over_tcp
from rdnscache.upstream.query import Query
from rdnscache.upstream.server import Ways


class OneEach:
    """A connection for each query."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def send(self, query: Query) -> None:
        query.handle = gevent.spawn(self._run, query)

    def _run(self, query: Query) -> None:
        try:
            data = over_tcp(self._address, query.key, query.edns, query.due)
        except UpstreamFailed as failure:
            query.failed(failure)
        else:
            query.arrived(data)

    def cancel(self, query: Query) -> None:
        if query.handle is not None:
            query.handle.kill(block=False)
            query.handle = None

    def close(self) -> None:
        pass


def find(endpoint: Endpoint) -> Ways:
    tcp = OneEach(endpoint.address)
    if endpoint.scheme != UDP:
        return Ways(tcp, tcp)
    udp = Datagrams(endpoint.address)
    return Ways(udp, tcp, udp)
