"""The routes of a worker, and the terms of its store, as the configuration has them for each zone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rdnscache.clients.subnets import ClientSubnets, SubnetTerms
from rdnscache.config import Config
from rdnscache.dns.names import parse_own_name
from rdnscache.dns.policy import Limits
from rdnscache.dns.zones import Zones
from rdnscache.endpoint import Endpoint
from rdnscache.metrics import Board, Counters
from rdnscache.store.trust import Terms
from rdnscache.upstream import ways
from rdnscache.upstream.budget import Budget
from rdnscache.upstream.checks import Checks, check_key
from rdnscache.upstream.defence import Measures
from rdnscache.upstream.fitness import Fitness
from rdnscache.upstream.routes import Route, Routes
from rdnscache.upstream.server import Patience, Server
from rdnscache.upstream.servers import Upstreams
from rdnscache.zone import NONE, Zone

#: Added to the upstream deadline for how long a follower follows.
FOLLOW_MARGIN = 0.2


def make_limits(config: Config) -> Limits:
    """How long a reply is kept."""
    ttls = config.ttl_min, config.ttl_max, config.negative_ttl_max, config.failure_ttl
    return Limits(*ttls, config.stale_window, config.cache)


def make_terms(config: Config) -> Zones[Terms]:
    """What is believed of the entries in Redis."""
    return Zones(_terms_of(config), {name: _terms_of(inside) for _, name, _, inside in _zones(config)}, _closed(config))


def _terms_of(config: Config) -> Terms:
    return Terms(make_limits(config), frozenset(each.label for each in config.upstream))


def make_subnets(config: Config) -> ClientSubnets | None:
    """Where upstreams are told of clients' networks; None where they never are."""
    inside = {name: _subnet_terms(each) for _, name, _, each in _zones(config)}
    usual = _subnet_terms(config)
    if usual is None and not any(inside.values()):
        return None
    return ClientSubnets(Zones(usual, inside, _closed(config)))


def _subnet_terms(config: Config) -> SubnetTerms | None:
    if config.ecs == "strip":
        return None
    return SubnetTerms(config.ecs == "add", config.ecs_prefix4, config.ecs_prefix6)


def make_routes(
    config: Config, board: Board, counters: Counters, budget_of: Callable[[Endpoint], Budget | None]
) -> Routes:
    """Every server once, and who is asked for what. Zones with the same servers and times have those in common."""
    patience = Patience(config.upstream_retry_min, config.upstream_retry_max)
    measures = Measures(config.upstream_0x20, config.upstream_cookies, config.max_outstanding)
    servers = {}
    for each in config.endpoints:
        block, numbers = board.block(each.label), board.numbers(each.label)
        servers[each.place] = Server(each, ways.find(each), block, counters, numbers, patience, measures)
        servers[each.place].budget = budget_of(each)
    known: dict[object, tuple[Upstreams, Fitness]] = {}

    def route(inside: Config, zone: str, name: bytes, closed: bool) -> Route:
        times = (inside.upstream_timeout, inside.upstream_deadline)
        asked = (inside.upstream, times, inside.upstream_policy)
        if asked not in known and not closed:
            mine = [servers[each.place] for each in inside.upstream]
            upstreams = Upstreams(mine, *times, counters, inside.upstream_policy)
            known[asked] = upstreams, Fitness(f" of the zone {zone}" if zone else "")
        found, fitness = known[asked] if not closed else (None, Fitness())
        return Route(found, make_limits(inside), inside.upstream_deadline + FOLLOW_MARGIN, fitness, name, zone)

    usual = route(config, "", b"", False)
    zones = {name: route(inside, text, name, zone.word == NONE) for text, name, zone, inside in _zones(config)}
    return Routes(usual, zones, list(servers.values()), _make_checks(config, servers))


def _make_checks(config: Config, servers: dict[str, Server]) -> Checks | None:
    """Each server is asked what it is there for: for its zone, or for everything."""
    if not config.upstream_check:
        return None
    names = {each.place: name for _, name, _, inside in _zones(config) for each in inside.upstream}
    names |= {each.place: b"" for each in config.upstream}
    checked = [(server, check_key(names[place])) for place, server in servers.items()]
    return Checks(checked, config.upstream_check, config.upstream_timeout)


def _zones(config: Config) -> Iterator[tuple[str, bytes, Zone, Config]]:
    """Each name, as text and on the wire, and what holds there."""
    for zone in config.zone:
        inside = config.inside(zone)
        for name in zone.names:
            yield name, parse_own_name(name), zone, inside


def _closed(config: Config) -> list[bytes]:
    return [name for _, name, zone, _ in _zones(config) if zone.word == NONE]
