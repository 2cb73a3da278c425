"""The policies of all groups of clients: of those in no view, and of each view."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rdnscache.config import Config
from rdnscache.errors import ConfigError
from rdnscache.policies import ListFacts, PolicyData, load_policy
from rdnscache.policy.rules import Policy
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
    def lists(self) -> Sequence[ListFacts]:
        """Those of all groups, each once."""
        return list({(each.kind, each.file): each for group in self.groups for each in group.lists}.values())

    def policies(self) -> list[Policy | None]:
        """For one worker."""
        made: dict[int, Policy | None] = {}
        for each in self.groups:
            if id(each) not in made:
                made[id(each)] = each.policy()
        return [made[id(each)] for each in self.groups]


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
