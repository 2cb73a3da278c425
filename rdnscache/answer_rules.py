"""The parts of a node's policy that come from options: special-use names, and rules about answers."""

from __future__ import annotations

from dataclasses import replace

from rdnscache.config import Config
from rdnscache.dns.names import parse_own_name, type_number
from rdnscache.dns.zones import Zones, is_below
from rdnscache.policy.answers import AnswerTerms
from rdnscache.policy.dns64 import Dns64
from rdnscache.policy.local_zones import LocalZones
from rdnscache.policy.special_names import SpecialNames
from rdnscache.zone import USUAL


def special_names(config: Config, local: LocalZones | None) -> SpecialNames | None:
    """None when no name is treated specially. A name in a configured zone is never special."""
    if not config.special_names and config.single_label and not config.dns64:
        return None
    own = [parse_own_name(name) for zone in config.zone for name in zone.names]
    exists = local.exists if local is not None else None
    return SpecialNames(config.special_names, own, config.single_label, exists, _dns64(config))


def answer_terms(config: Config) -> Zones[AnswerTerms] | None:
    """The rules for answers, by zone; None when answers are passed on unchanged.

    A zone with its own servers may have private addresses, unless its own settings forbid them.
    """
    inside: dict[bytes, AnswerTerms] = {}
    for zone in config.zone:
        guarded = zone.word == USUAL or "rebind_protection" in dict(zone.settings)
        terms = _terms(config.inside(zone))
        inside |= dict.fromkeys(map(parse_own_name, zone.names), replace(terms, rebind=terms.rebind and guarded))
    usual = _terms(config)
    for name in map(parse_own_name, config.rebind_allow):
        inside.setdefault(name, Zones(usual, inside).find(name))
        below = {each: replace(terms, rebind=False) for each, terms in inside.items() if is_below(each, name)}
        inside |= below
    if not any((usual, *inside.values())):
        return None
    return Zones(usual, inside)


def _terms(config: Config) -> AnswerTerms:
    return AnswerTerms(config.rebind_protection, frozenset(map(type_number, config.filter_types)), _dns64(config))


def _dns64(config: Config) -> Dns64 | None:
    return Dns64.of(config.dns64, config.dns64_exclude) if config.dns64 else None
