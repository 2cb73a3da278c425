"""Parts of a worker, made from the configuration."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import get_hub

from rdnscache.cache import Cache
from rdnscache.clients.guard import Guard
from rdnscache.clients.limit import Limiter
from rdnscache.clients.networks import Networks
from rdnscache.config import Config
from rdnscache.decider import Decider
from rdnscache.group_policies import GroupPolicies
from rdnscache.lists.shelf import Shelf, find_directory
from rdnscache.node.inherited import Inherited
from rdnscache.rulebook import Rulebook
from rdnscache.store.contract import Names
from rdnscache.store.policy_document import policy_key
from rdnscache.store.scope import Scope
from rdnscache.store.seal import Seal
from rdnscache.store.servers import Servers
from rdnscache.view import groups_at, tls_names_at

#: Burst of the rate limit: a prefix that has been quiet may receive this many seconds' worth of replies at once.
RATE_BURST = 5.0


def make_rulebook(config: Config, inherited: Inherited, policies: GroupPolicies, seal: Seal | None) -> Rulebook:
    """The policies of a worker, one for each distinct policy, with the node's lists if it has any."""
    shelf = None
    if policies.lists:
        shelf = Shelf(find_directory(config.list_dir), config.node_id, inherited.redis_url or "")
    return Rulebook(policies.different, shelf, policy_key(Names(config.prefix)), seal)


def make_deciders(rulebook: Rulebook, policies: GroupPolicies, cache: Cache, node: str) -> list[Decider]:
    """A decider for each group of clients; groups with the same policy share one."""
    made = [Decider(policy, cache, node) for policy in rulebook.policies]
    return [made[policies.number_of(group)] for group in range(len(policies.groups))]


def make_guards(config: Config) -> list[Guard]:
    """For each listener, who is answered there, as a member of which group, and at what rate."""
    limiter = None
    if config.rate_limit:
        burst = max(round(RATE_BURST * config.rate_limit), 1)
        exempt = Networks(config.rate_limit_exempt)
        limiter = Limiter(config.rate_limit, burst, config.rate_limit_slip, random.getrandbits(64), exempt)
    proxies = Networks(config.proxy_from) if config.proxy_from else None
    groups = [tuple(groups_at(config.view, address)) for address in config.listen]
    known = {each: Networks(config.allow, config.deny, each) for each in groups}  # mostly one for all of them
    named = [tls_names_at(config.view, address) for address in config.listen]
    return [Guard(known[each], limiter, proxies, tls_names=names) for each, names in zip(groups, named, strict=True)]


@dataclass(frozen=True, slots=True)
class Chores:
    """As `operator.chores`, which are rare and take a tenth of a second to load: a thread does that."""

    url: str
    prefix: str

    def announce_again(self, servers: Servers, lost: Sequence[tuple[bytes, Scope]]) -> None:
        self._loaded().announce_again(self.url, self.prefix, servers, lost)

    def delete(self, flush: bytes, scope: Scope) -> None:
        gevent.spawn(lambda: self._loaded().delete(self.url, self.prefix, flush, scope))

    def _loaded(self) -> Any:
        def load() -> Any:
            from rdnscache.operator import chores

            return chores

        return get_hub().threadpool.apply(load)
