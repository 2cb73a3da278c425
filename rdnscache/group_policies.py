"""The policies of all groups of clients: of those in no view, of each view, and of those in each that a response policy
zone lets pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rdnscache.clients.networks import MOST_GROUPS
from rdnscache.config import Config
from rdnscache.errors import ConfigError
from rdnscache.lists.sources import ListSource
from rdnscache.policies import PolicyData, load_policy
from rdnscache.view import OPTIONS


@dataclass(frozen=True, slots=True)
class GroupPolicies:
    """By number of the group, of which 0 is that of everybody in no view. Groups that have all in common share one."""

    groups: tuple[PolicyData, ...] = (PolicyData(),)
    #: The groups behind those of views: by the number of a group and the place of a response policy zone among its
    #: lists, that of the clients in it that a rule of the zone lets pass.
    exempt: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Tells whether anything has changed."""
        return hashlib.blake2b(" ".join(each.digest for each in self.groups).encode(), digest_size=16).hexdigest()

    @property
    def lists(self) -> tuple[ListSource, ...]:
        """Those of all groups, each once."""
        return tuple(dict.fromkeys(source for each in self.groups for source in each.lists))

    @property
    def different(self) -> list[PolicyData]:
        """Each once."""
        return list({id(each): each for each in self.groups}.values())

    def number_of(self, group: int) -> int:
        """The place of a group's policy among those that are different."""
        return [id(each) for each in self.different].index(id(self.groups[group]))


def load_policies(config: Config) -> GroupPolicies:
    """Raises ConfigError as `load_policy` does, with the view that it is about."""
    found = {_policy_of(config): load_policy(config)}
    groups = [found[_policy_of(config)]]
    for view in config.view:
        inside = config.inside_view(view)
        options = _policy_of(inside)
        if options not in found:
            try:
                found[options] = load_policy(inside)
            except ConfigError as error:
                raise ConfigError(f"view {view.name}: {error}") from None
        groups.append(found[options])
    return _with_exempt(groups)


def _with_exempt(groups: list[PolicyData]) -> GroupPolicies:
    """With a group for each in which a zone may let somebody pass, as far as there are numbers for them."""
    exempt, made = {}, dict[tuple[int, int], PolicyData]()
    wanted = [(number, place) for number, data in enumerate(groups) for place in data.zones]
    for number, place in wanted[: max(MOST_GROUPS + 1 - len(groups), 0)]:
        data = groups[number]
        exempt[number, place] = len(groups)
        groups.append(made.setdefault((id(data), place), replace(data, before=place)))
    return GroupPolicies(tuple(groups), exempt)


def _policy_of(config: Config) -> tuple[object, ...]:
    """The options that a policy is made of; whom upstream questions go to is none."""
    return tuple(getattr(config, option) for option in OPTIONS if option != "upstream")
