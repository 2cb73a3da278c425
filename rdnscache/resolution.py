"""What a resolver is made of, and what it goes by."""

from __future__ import annotations

from dataclasses import dataclass

from rdnscache.cache import Cache
from rdnscache.decider import Decider
from rdnscache.store.interface import Store
from rdnscache.upstream.routes import Routes
from rdnscache.upstream.siblings import Siblings
from rdnscache.views import Views


@dataclass(frozen=True, slots=True)
class Terms:
    """What a resolver goes by. Times are in seconds."""

    #: After this a stale entry is better than none.
    stale_after: float
    #: This node's name, as stored with what it asks for.
    node: str
    #: Who decides before anybody is asked: for everybody, or for each view.
    decider: Decider | Views


@dataclass(frozen=True, slots=True)
class Sources:
    """Where answers come from, the nearest first."""

    cache: Cache
    store: Store
    siblings: Siblings
    routes: Routes
