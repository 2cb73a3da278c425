"""Parts of a worker, made from the configuration."""

from __future__ import annotations

import random

from rdnscache.clients.guard import Guard
from rdnscache.clients.limit import Limiter
from rdnscache.clients.networks import Networks
from rdnscache.config import Config
from rdnscache.lists.shelf import Shelf, find_directory
from rdnscache.node.inherited import Inherited
from rdnscache.policies import PolicyData
from rdnscache.rulebook import Rulebook
from rdnscache.store.contract import Names
from rdnscache.store.policy_document import policy_key
from rdnscache.store.seal import Seal

#: A prefix that has paused may have the replies of this many seconds at once.
RATE_BURST = 5.0


def make_rulebook(config: Config, inherited: Inherited, policy: PolicyData, seal: Seal | None) -> Rulebook:
    """What is decided about names, by the lists of the node, if it has any."""
    shelf = None
    if policy.lists:
        shelf = Shelf(find_directory(config.list_dir), config.node_id, inherited.redis_url or "")
    return Rulebook([policy], shelf, policy_key(Names(config.prefix)), seal)


def make_guard(config: Config) -> Guard:
    """Who is answered, and how often."""
    limiter = None
    if config.rate_limit:
        burst = max(round(RATE_BURST * config.rate_limit), 1)
        exempt = Networks(config.rate_limit_exempt)
        limiter = Limiter(config.rate_limit, burst, config.rate_limit_slip, random.getrandbits(64), exempt)
    proxies = Networks(config.proxy_from) if config.proxy_from else None
    return Guard(Networks(config.allow, config.deny), limiter, proxies)
