"""The route of a question: to the usual upstreams, to those of its zone, or to none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from rdnscache.dns.policy import Limits, empty_zone
from rdnscache.dns.question import qname
from rdnscache.dns.wire import Reply
from rdnscache.dns.zones import Zones
from rdnscache.upstream.checks import Checks
from rdnscache.upstream.fitness import Fitness
from rdnscache.upstream.server import Server
from rdnscache.upstream.servers import Upstreams


class Route:
    """`upstreams` is None if questions must not be forwarded. `patience`: seconds for which a follower waits."""

    __slots__ = ("exists", "fitness", "limits", "mark", "name", "patience", "upstreams", "zone")

    def __init__(
        self,
        upstreams: Upstreams | None,
        limits: Limits,
        patience: float,
        fitness: Fitness | None = None,
        name: bytes = b"",
        zone: str = "",
        exists: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.limits = limits
        self.patience = patience
        #: Whether the upstreams can be reached; shared by routes with the same upstreams.
        self.fitness = fitness or Fitness()
        #: The zone's name in wire form and in presentation form; empty for the usual upstreams.
        self.name = name
        self.zone = zone
        #: For a view's own route: whether a name exists by the view's zones.
        self.exists = exists
        #: The word for it in the origin of an entry.
        self.mark = f" route={zone}" if zone else ""


class Routes(Zones[Route]):
    """The routes of a worker. `servers` has each server once; `own` has the routes of views, by their digests."""

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
        #: The digests of the views' own routes.
        self.own = frozenset(own)
        self._checks = checks
        routes = (usual, *inside.values(), *own.values())
        self._upstreams = {id(each): each for route in routes if (each := route.upstreams)}.values()

    def denial(self, key: bytes, route: Route) -> Reply:
        """The answer to a question that must not be forwarded (RFC 6303)."""
        name = qname(key)
        exists = route.exists or self.exists
        return empty_zone(key, route.name, name == route.name or exists(name))

    def latency(self) -> float:
        """The mean latency in seconds of the usual servers that are at work; 0 if it is not known."""
        return self.usual.upstreams.latency() if self.usual.upstreams is not None else 0.0

    def delay(self, now: float) -> float:
        """The largest delay of all servers, see `Server.delay`, in seconds; negative if it is not known.

        Only answers since the last call count.
        """
        return max((server.delay(now) for server in self.servers), default=-1.0)

    def catch_up(self, now: float) -> None:
        """Log what was throttled, and check servers; called now and then."""
        for upstreams in self._upstreams:
            upstreams.catch_up(now)
        for server in self.servers:
            server.catch_up(now)
        if self._checks is not None:
            self._checks.look(now)

    def start(self) -> None:
        """Become a member of the servers' budgets."""
        for server in self.servers:
            if server.budget is not None:
                server.budget.start()

    def close(self) -> None:
        """Close all connections in an orderly way."""
        for server in self.servers:
            if server.budget is not None:
                server.budget.close()
            server.transport.close()
            server.tcp.close()
