"""The policies for the order in which upstreams are asked. No clock in here: times, in seconds, are arguments."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rdnscache.upstream.estimate import UNKNOWN
from rdnscache.upstream.server import Server

#: The share of questions for which `fastest` asks another server first, to measure it.
EXPLORED = 1 / 200


class Choice:
    """`order` returns every server once; with all policies, servers in doubt and resting ones come last."""

    def __init__(self, servers: Sequence[Server], policy: str) -> None:
        self._servers = list(servers)
        self._ranked = {
            "fastest": self._fastest,
            "race": self._by_cost,
            "ordered": self._as_given,
            "random": self._at_random,
            "round-robin": self._in_turn,
        }[policy]
        self._turn = 0
        #: How many servers are asked at once at the beginning.
        self.at_once = min(2, len(self._servers)) if policy == "race" else 1

    def order(self, now: float) -> list[Server]:
        if len(self._servers) == 1:
            return self._servers
        order = self._ranked()
        order.sort(key=lambda server: server.rank(now))
        return order

    def _as_given(self) -> list[Server]:
        return list(self._servers)

    def _in_turn(self) -> list[Server]:
        self._turn = (self._turn + 1) % len(self._servers)
        return self._servers[self._turn :] + self._servers[: self._turn]

    def _at_random(self) -> list[Server]:
        """Each server is first with a probability proportional to its weight (Efraimidis and Spirakis: U^(1/w))."""
        return sorted(self._servers, key=lambda server: -(random.random() ** (1.0 / server.weight)))

    def _by_cost(self) -> list[Server]:
        return sorted(self._servers, key=_cost)

    def _fastest(self) -> list[Server]:
        order = self._by_cost()
        if random.random() < EXPLORED:
            others = [server for server in order[1:] if server.health.rests_until == 0.0]
            if others:
                explored = random.choice(others)
                order.remove(explored)
                order.insert(0, explored)
        return order


def _cost(server: Server) -> float:
    """Expected seconds until an answer. An unknown server comes first, but is asked one question at a time."""
    known = server.estimate.cost()
    if not known:
        return UNKNOWN if server.waiting else 0.0
    return known + server.overdue * server.estimate.patience()


def patience(server: Server, servers: Sequence[Server]) -> float:
    """Seconds after which another server is asked; for an unknown server the least of those of known ones."""
    estimate = server.estimate
    if estimate.rtt:
        return estimate.patience()
    known = [other.estimate.patience() for other in servers if other.estimate.rtt and not other.health.resting]
    return min(known, default=estimate.patience())
