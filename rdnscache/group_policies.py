"""The policies of all groups of clients: of those in no view, and of each view."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from rdnscache.config import Config
from rdnscache.errors import ConfigError
from rdnscache.lists.sources import ListSource
from rdnscache.policies import PolicyData, load_policy
from rdnscache.view import OPTIONS


@dataclass(frozen=True, slots=True)
class GroupPolicies:
    """By number of the group, of which 0 is that of everybody in no view. Groups that have all in common share one."""

    groups: tuple[PolicyData, ...] = (PolicyData(),)

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
    return GroupPolicies(tuple(groups))


def _policy_of(config: Config) -> tuple[object, ...]:
    """The options that a policy is made of; whom upstream questions go to is none."""
    return tuple(getattr(config, option) for option in OPTIONS if option != "upstream")
