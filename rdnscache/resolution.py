"""The settings of a resolver, and the sources it gets answers from."""

from __future__ import annotations

from dataclasses import dataclass

from rdnscache.aliases import Aliases
from rdnscache.cache import Cache
from rdnscache.decider import Decider
from rdnscache.store.interface import Store
from rdnscache.upstream.routes import Routes
from rdnscache.upstream.siblings import Siblings
from rdnscache.views import Views


@dataclass(frozen=True, slots=True)
class Terms:
    """Settings of a resolver. Times are in seconds."""

    #: After this a stale entry is used instead of waiting longer.
    stale_after: float
    #: This node's name, which is stored in the origin of entries it fetches.
    node: str
    #: Policy, applied before anybody is asked: for everybody, or for each view.
    decider: Decider | Views


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of answers, nearest first."""

    cache: Cache
    store: Store
    siblings: Siblings
    routes: Routes
    aliases: Aliases
