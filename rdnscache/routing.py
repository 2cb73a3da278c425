"""The routes of a worker and the terms of its store, from the configuration of each zone and view.

When a view has upstreams of its own, their answers are stored under a digest of the servers it asks and the times it
keeps answers for: views with the same digest, on any node, share them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from rdnscache.cache import Cache
from rdnscache.clients.subnets import ClientSubnets, SubnetTerms
from rdnscache.config import Config
from rdnscache.decider import Decider
from rdnscache.dns.names import parse_own_name
from rdnscache.dns.policy import Limits
from rdnscache.dns.question import ROUTE_SIZE
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
from rdnscache.view import DEFAULT
from rdnscache.views import View, Views
from rdnscache.zone import NONE, Zone

#: Added to the upstream deadline for how long a follower follows.
FOLLOW_MARGIN = 0.2


def make_limits(config: Config) -> Limits:
    """How long a reply is kept."""
    ttls = config.ttl_min, config.ttl_max, config.negative_ttl_max, config.failure_ttl
    return Limits(*ttls, config.stale_window, config.cache)


def make_terms(config: Config) -> Zones[Terms]:
    """The terms under which entries in Redis are trusted."""
    inside = {name: _terms_of(inside) for _, name, _, inside in _zones(config)}
    own = _own_routes(config, lambda config, zone, name, closed, view: _terms_of(config))
    return Zones(_terms_of(config), inside, _closed(config), own)


def _terms_of(config: Config) -> Terms:
    return Terms(make_limits(config), frozenset(each.label for each in config.upstream))


def make_subnets(config: Config) -> ClientSubnets | None:
    """For which questions upstreams are sent client subnets; None when they never are."""
    usual = _subnet_zones(config)
    views = {number: _subnet_zones(config.inside_view(view)) for number, view in enumerate(config.view, 1)}
    if usual is None and not any(views.values()):
        return None
    nowhere: Zones[SubnetTerms | None] = Zones(None, {})
    return ClientSubnets(usual or nowhere, {number: each or nowhere for number, each in views.items()})


def _subnet_zones(config: Config) -> Zones[SubnetTerms | None] | None:
    inside = {name: _subnet_terms(each) for _, name, _, each in _zones(config)}
    usual = _subnet_terms(config)
    return Zones(usual, inside, _closed(config)) if usual is not None or any(inside.values()) else None


def _subnet_terms(config: Config) -> SubnetTerms | None:
    if config.ecs == "strip":
        return None
    return SubnetTerms(config.ecs == "add", config.ecs_prefix4, config.ecs_prefix6)


def make_routes(
    config: Config, board: Board, counters: Counters, budget_of: Callable[[Endpoint], Budget | None]
) -> Routes:
    """Each server once, and the routes to them. Zones with the same servers and times share a route."""
    patience = Patience(config.upstream_retry_min, config.upstream_retry_max)
    measures = Measures(config.upstream_0x20, config.upstream_cookies, config.max_outstanding)
    servers = {}
    for each in config.endpoints:
        block, numbers = board.block(each.label), board.numbers(each.label)
        servers[each.url] = Server(each, ways.find(each), block, counters, numbers, patience, measures)
        servers[each.url].budget = budget_of(each)
    known: dict[object, tuple[Upstreams, Fitness]] = {}

    def route(inside: Config, zone: str, name: bytes, closed: bool, view: Zones[bytes] | None = None) -> Route:
        times = (inside.upstream_timeout, inside.upstream_deadline)
        asked = (inside.upstream, times, inside.upstream_policy)
        if asked not in known and not closed:
            mine = [servers[each.url] for each in inside.upstream]
            upstreams = Upstreams(mine, *times, counters, inside.upstream_policy)
            known[asked] = upstreams, Fitness(f" of the zone {zone}" if zone else " of a view" if view else "")
        found, fitness = known[asked] if not closed else (None, Fitness())
        exists = view.exists if view is not None else None
        return Route(found, make_limits(inside), inside.upstream_deadline + FOLLOW_MARGIN, fitness, name, zone, exists)

    usual = route(config, "", b"", False)
    zones = {name: route(inside, text, name, zone.word == NONE) for text, name, zone, inside in _zones(config)}
    own = _own_routes(config, route)
    return Routes(usual, zones, list(servers.values()), _make_checks(config, servers), own)


def _make_checks(config: Config, servers: dict[str, Server]) -> Checks | None:
    """What health checks ask each server: its zone if it serves one, otherwise the root."""
    if not config.upstream_check:
        return None
    configs = [*map(config.inside_view, config.view), config]
    names = {each.url: name for one in configs for _, name, _, inside in _zones(one) for each in inside.upstream}
    names |= {each.url: b"" for one in configs for each in one.upstream}
    checked = [(server, check_key(names[url])) for url, server in servers.items()]
    return Checks(checked, config.upstream_check, config.upstream_timeout)


def _zones(config: Config) -> Iterator[tuple[str, bytes, Zone, Config]]:
    """Each zone's name, as text and in wire form, and the configuration that applies there."""
    for zone in config.zone:
        inside = config.inside(zone)
        for name in zone.names:
            yield name, parse_own_name(name), zone, inside


def _closed(config: Config) -> list[bytes]:
    return [name for _, name, zone, _ in _zones(config) if zone.word == NONE]


def digests(config: Config) -> Zones[bytes]:
    """The digest of the route for each question."""
    inside = {name: _digest(each, name, zone, config) for _, name, zone, each in _zones(config)}
    return Zones(_digest(config, b"", None, config), inside, _closed(config))


def _digest(inside: Config, name: bytes, zone: Zone | None, whole: Config) -> bytes:
    """A digest of the servers, the policy and the times of answers; for a zone without servers, of the names that
    exist."""
    known: object
    if zone is not None and zone.word == NONE:
        known = name, sorted(text for text, each, _, _ in _zones(whole) if each.endswith(name))
    else:
        asked = [each.label for each in inside.upstream]
        times = inside.upstream_timeout, inside.upstream_deadline
        known = asked, inside.upstream_policy, times, make_limits(inside), _subnet_terms(inside)
    return hashlib.blake2b(repr(known).encode(), digest_size=ROUTE_SIZE).digest()


T = TypeVar("T")


def _own_routes(config: Config, make: Callable[[Config, str, bytes, bool, Zones[bytes]], T]) -> dict[bytes, T]:
    """A value for each route of any view, by the digest of the route."""
    found: dict[bytes, T] = {}
    for inside_view in (config.inside_view(view) for view in config.view if view.routes):
        known = digests(inside_view)
        found.setdefault(known.usual, make(inside_view, "", b"", False, known))
        for text, name, zone, inside in _zones(inside_view):
            digest = known.inside(name)
            if digest not in found:
                found[digest] = make(inside, text, name, zone.word == NONE, known)
    return found


def make_views(
    config: Config, deciders: Sequence[Decider], exempt: Mapping[tuple[int, int], int], cache: Cache
) -> Views | None:
    """The default group, the views, and in each of these the clients that a zone lets pass (see `GroupPolicies`).

    None when all clients are one group.
    """
    if len(deciders) == 1:
        return None
    usual, known = digests(config), {}
    found = [View(DEFAULT if config.view else "", deciders[0])]
    for view, decider in zip(config.view, deciders[1:], strict=False):
        inside = config.inside_view(view)
        asked = inside.upstream, inside.zone
        if asked not in known:
            known[asked] = digests(inside) if asked != (config.upstream, config.zone) else None
        found.append(View(view.name, decider, known[asked]))
    for (group, _), number in exempt.items():
        found.append(replace(found[group], name=f"{found[group].name or DEFAULT}:passed", decider=deciders[number]))
    return Views(found, usual, cache)
