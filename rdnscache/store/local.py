"""The worker as control events see it, and what it does for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rdnscache.store.scope import Scope
from rdnscache.store.servers import Servers


class Local(Protocol):
    """What control events act on in this worker."""

    def begin_flush(self, scope: Scope) -> None:
        """From now on flights that are meant bring nothing back. Called in the hub, in the order of events."""

    def flushes(self) -> int:
        """How many of them there have been."""

    def flushed_at(self) -> float:
        """When the last one began (monotonic)."""

    def upstream_seconds(self) -> float:
        """How long upstreams take to answer; 0 when that is not known."""

    def look(self, name: bytes) -> list[dict[str, Any]]:
        """What L1 holds of a name, in words for people."""

    def sweep(self, scopes: Sequence[Scope], done: Callable[[list[int]], None] = lambda counts: None) -> list[int]:
        """Forget what the scopes hold; how many entries by each. Others run meanwhile, without these entries.

        `done` is told the same at the end; and where that takes long once before, since nobody finds them any more.
        """

    def order_policy(self, raw: bytes) -> int | None:
        """Go by what Redis has as the cluster's policy; how many entries that has forgotten, None: not all of it yet.

        Others run meanwhile, without the entries that are decided otherwise now.
        """

    def order(self, what: str, event: str) -> None:
        """Pass on one of ORDERS to the supervisor."""

    def introduce(self) -> None:
        """Say who we are: the link has just been attached."""

    def hold(self) -> None:
        """Answer nobody for a moment: there is a connection again, and what was missed is being learnt."""

    def release(self) -> None:
        """Go on answering."""


class Chores(Protocol):
    """What a worker does for all."""

    def announce_again(self, servers: Servers, lost: Sequence[tuple[bytes, Scope]]) -> None:
        """Flushes that Redis has lost, with the IDs of their events. Returns when what they mean is deleted.

        Raises StoreDown when that cannot be done now.
        """

    def delete(self, flush: bytes, scope: Scope) -> None:
        """Delete what a flush under way means, beside everything else."""
