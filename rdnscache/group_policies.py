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
    """Policies by the number of the group; 0 is everybody in no view. Groups with the same options share one."""

    groups: tuple[PolicyData, ...] = (PolicyData(),)
    #: The groups after those of views: for a group's number and the index of a response policy zone among its lists,
    #: the number of the group of those clients that a rule of the zone lets pass.
    exempt: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A digest that differs whenever any of the policies does."""
        return hashlib.blake2b(" ".join(each.digest for each in self.groups).encode(), digest_size=16).hexdigest()

    @property
    def lists(self) -> tuple[ListSource, ...]:
        """The lists of all groups, each once."""
        return tuple(dict.fromkeys(source for each in self.groups for source in each.lists))

    @property
    def different(self) -> list[PolicyData]:
        """Each once."""
        return list({id(each): each for each in self.groups}.values())

    def number_of(self, group: int) -> int:
        """The index of a group's policy in `different`."""
        return [id(each) for each in self.different].index(id(self.groups[group]))


def load_policies(config: Config) -> GroupPolicies:
    """Raises ConfigError as `load_policy` does, naming the view it concerns."""
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
    """Add groups for clients that a zone may let pass, up to the number of groups there may be."""
    exempt, made = {}, dict[tuple[int, int], PolicyData]()
    wanted = [(number, place) for number, data in enumerate(groups) for place in data.zones]
    for number, place in wanted[: max(MOST_GROUPS + 1 - len(groups), 0)]:
        data = groups[number]
        exempt[number, place] = len(groups)
        groups.append(made.setdefault((id(data), place), replace(data, before=place)))
    return GroupPolicies(tuple(groups), exempt)


def _policy_of(config: Config) -> tuple[object, ...]:
    """The options that a policy is made of. Which upstreams are asked is not one of them."""
    return tuple(getattr(config, option) for option in OPTIONS if option != "upstream")
