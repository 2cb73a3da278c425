"""Active checks: a server that has not answered anything for a while is sent a query, before a client needs it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from rdnscache.dns.question import question_key
from rdnscache.dns.wire import IN, NS, SOA
from rdnscache.upstream.aside import Aside
from rdnscache.upstream.attempt import Attempt
from rdnscache.upstream.server import Server

#: Maximum number of checks at once; the others wait for the next time.
MOST_AT_ONCE = 16


def check_key(zone: bytes) -> bytes:
    """A question that every server of a zone should answer; without a zone, any server."""
    return question_key(zone, SOA, IN, 0) if zone else question_key(b"\0", NS, IN, 0)


class Checks:
    """Checks servers, each with its question. `interval` and `timeout` are in seconds.

    The workers of a node share the state of servers, so each check is done by one of them.
    """

    def __init__(self, servers: Iterable[tuple[Server, bytes]], interval: float, timeout: float) -> None:
        self._servers = list(servers)
        self._interval = interval
        self._timeout = timeout
        self._aside = Aside(len(self._servers) == 1)

    def look(self, now: float) -> None:
        """Check the servers that are due; called now and then."""
        asked = 0
        for server, key in self._servers:
            health = server.health
            quiet = now - max(health.alive_at, health.checked_at)
            if asked < MOST_AT_ONCE and (health.due(now) if health.resting else quiet >= self._interval):
                asked += 1
                if server.budget is None:
                    self._check(server, key, now)
                else:
                    health.checked(now)
                    server.budget.spare(partial(self._check, server, key), now)

    def _check(self, server: Server, key: bytes, now: float) -> None:
        attempt = Attempt(server, key, True, now, now + self._timeout, self._aside)
        server.health.checked(now)
        if server.health.resting:
            server.health.probe(attempt.due)
        server.asked(now)
        self._aside.take(attempt)
        attempt.transport.send(attempt)
