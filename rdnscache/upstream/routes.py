"""Where a question goes: to the usual upstreams, to those of its zone, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from rdnscache.dns.policy import Limits, empty_zone
from rdnscache.dns.question import qname
from rdnscache.dns.wire import Reply
from rdnscache.dns.zones import Zones
from rdnscache.upstream.checks import Checks
from rdnscache.upstream.fitness import Fitness
from rdnscache.upstream.server import Server
from rdnscache.upstream.servers import Upstreams


@dataclass(frozen=True, slots=True)
class Route:
    """`upstreams` is None where questions must not leave. `patience` is how many seconds a follower follows."""

    upstreams: Upstreams | None
    limits: Limits
    patience: float
    #: Whether we reach them; routes with the same upstreams have it in common.
    fitness: Fitness = field(default_factory=Fitness)
    #: The zone's name on the wire, and in presentation form; empty for the usual upstreams.
    name: bytes = b""
    zone: str = ""
    #: Of a view's own: which names its zones know to exist.
    exists: Callable[[bytes], bool] | None = None

    @property
    def mark(self) -> str:
        """What the origin of an entry says of it."""
        return f" route={self.zone}" if self.zone else ""


class Routes(Zones[Route]):
    """All of a worker's; `servers` has each server once, whatever asks it, `own` the routes that views have of their
    own, by their digests."""

    def __init__(
        self,
        usual: Route,
        inside: Mapping[bytes, Route],
        servers: Sequence[Server],
        checks: Checks | None = None,
        own: Mapping[bytes, Route] = MappingProxyType({}),
    ) -> None:
        super().__init__(usual, inside, [name for name, route in inside.items() if route.upstreams is None], own)
        self.servers = list(servers)
        #: The digests of the routes that views have of their own.
        self.own = frozenset(own)
        self._checks = checks
        routes = (usual, *inside.values(), *own.values())
        self._upstreams = {id(each): each for route in routes if (each := route.upstreams)}.values()

    def denial(self, key: bytes, route: Route) -> Reply:
        """What is said of a question that must not leave (RFC 6303)."""
        name = qname(key)
        exists = route.exists or self.exists
        return empty_zone(key, route.name, name == route.name or exists(name))

    def latency(self) -> float:
        """Seconds that the usual servers take, those at work, averaged; 0 when that is not known."""
        return self.usual.upstreams.latency() if self.usual.upstreams is not None else 0.0

    def delay(self, now: float) -> float:
        """By how many seconds the quickest answers come later than they did, from the server where that is most.

        Negative when that is not known. What has come since it was last asked for is what counts.
        """
        return max((server.delay(now) for server in self.servers), default=-1.0)

    def catch_up(self, now: float) -> None:
        """Log what was held back, and see how servers are that nobody asks; to be called now and then."""
        for upstreams in self._upstreams:
            upstreams.catch_up(now)
        for server in self.servers:
            server.catch_up(now)
        if self._checks is not None:
            self._checks.look(now)

    def start(self) -> None:
        """Take part in what the cluster may ask of servers."""
        for server in self.servers:
            if server.budget is not None:
                server.budget.start()

    def close(self) -> None:
        """End what connections there are in an orderly way."""
        for server in self.servers:
            if server.budget is not None:
                server.budget.close()
            server.transport.close()
            server.tcp.close()
