"""Queries over HTTPS to real servers: many on one connection; what is no answer is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Asked, all_ended, answered
from support.peers import Peer, needs_unbound, peer

from rdnscache.address import Address
from rdnscache.errors import SAID
from rdnscache.upstream.certificates import Identity, context
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.tls import Secured
from rdnscache.upstream.transports import over_https, over_tls

pytestmark = [pytest.mark.once, needs_unbound]


def _secured(server: Peer, protocol: str, needed: str = "") -> Secured:
    identity = Identity("dns.example", ca=str(server.ca))
    return Secured(identity, context(identity, protocol), needed)


def _ask(pool: Pool, count: int) -> list[Asked]:
    queries = [Asked(f"n{number}") for number in range(count)]
    for query in queries:
        pool.send(query)
    all_ended(queries, 10)
    return queries


def test_unbound_answers_over_https(tmp_path: Path) -> None:
    """A thousand queries, more than it takes at a time, over few connections; another path is no answer."""
    with peer("unbound", tmp_path) as server:
        address, secured = Address("127.0.0.1", server.https), _secured(server, "h2", "h2")
        pool = over_https(address, secured, ("dns.example", "/dns-query"), Limits())
        for _ in range(5):
            assert answered(_ask(pool, 200))
        assert pool.openings <= 2
        pool.close()
        pool = over_https(address, secured, ("dns.example", "/other"), Limits())
        (query,) = _ask(pool, 1)
        assert query.why == SAID
        assert "HTTP status 404" in str(query.failure)
        pool.close()


def test_unbound_answers_over_tls(tmp_path: Path) -> None:
    """As many at a time as it likes."""
    with peer("unbound", tmp_path) as server:
        pool = over_tls(Address("127.0.0.1", server.tls), _secured(server, "dot"), Limits())
        assert answered(_ask(pool, 500))
        pool.close()
