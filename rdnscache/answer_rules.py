"""What the options say of names of special use, and of answers: for the policy of a node."""

from __future__ import annotations

from rdnscache.config import Config
from rdnscache.dns.names import parse_own_name
from rdnscache.policy.local_zones import LocalZones
from rdnscache.policy.special_names import SpecialNames


def special_names(config: Config, local: LocalZones | None) -> SpecialNames | None:
    """None where all are asked like any others. What is in a zone of somebody's own is not special."""
    if not config.special_names and config.single_label:
        return None
    own = [parse_own_name(name) for zone in config.zone for name in zone.names]
    return SpecialNames(config.special_names, own, config.single_label, local.exists if local is not None else None)
