"""Options that contradict each other. Each function raises ConfigError with one sentence about a `config.Config`."""

from __future__ import annotations

from typing import Any

from rdnscache.errors import ConfigError


def refuse_of_zone(config: Any) -> None:
    """Contradictions within a node, or within one of its zones or views."""
    for low, high in (
        ("ttl_min", "ttl_max"),
        ("upstream_timeout", "upstream_deadline"),
        ("upstream_retry_min", "upstream_retry_max"),
        ("max_flights", "max_waiting"),
    ):
        if getattr(config, low) > getattr(config, high):
            raise ConfigError(f"{low} ({getattr(config, low)}) is above {high} ({getattr(config, high)})")
    filtered = next((each for each in ("A", "AAAA") if each in config.filter_types), None)
    if config.dns64 and filtered is not None:
        raise ConfigError(f"filter_types has {filtered}, and dns64 makes AAAA of A")


def refuse(config: Any) -> None:
    """Contradictions that concern a node as a whole."""
    refuse_of_zone(config)
    if 0 < config.upstream_check < 1:
        raise ConfigError(f"upstream_check ({config.upstream_check}) is neither 0 nor at least 1")
    if 0 < config.hang_time < 1:
        raise ConfigError(f"hang_time ({config.hang_time}) is neither 0 nor at least 1")
    fixed = [address for address in config.listen if address.port]
    if len(set(fixed)) != len(fixed):
        raise ConfigError("the same listen address is given twice")
    if config.admin is not None and config.admin.port and config.admin in fixed:
        raise ConfigError(f"admin and listen are both {config.admin}")
    for view in config.view:
        for address in view.listen:
            if address not in config.listen:
                raise ConfigError(f"view {view.name}: the node does not listen on {address}, which is in its listen")
        if view.tls_names and not config.proxy_from:
            raise ConfigError(f"view {view.name} has tls_names, which balancers tell: name those in proxy_from")
    _refuse_inside("", config)
    for view in config.view:
        inside = config.inside_view(view)
        _refuse_part(f"view {view.name}", inside)
        _refuse_inside(f"view {view.name}, ", inside)


def _refuse_inside(whose: str, config: Any) -> None:
    """Contradictions in the settings of zones."""
    for zone in config.zone:
        if zone.settings:
            _refuse_part(f"{whose}zone {zone.names[0]}", config.inside(zone))


def _refuse_part(what: str, config: Any) -> None:
    try:
        refuse_of_zone(config)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None
