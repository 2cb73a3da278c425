"""The worker as control events see it, and the work it does for the whole cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rdnscache.store.scope import Scope
from rdnscache.store.servers import Servers


class Local(Protocol):
    """The parts of this worker that control events act on."""

    def begin_flush(self, scope: Scope) -> None:
        """From now on flights in the scope store nothing. Called in the hub, in the order of events."""

    def flushes(self) -> int:
        """How often `begin_flush` has been called."""

    def flushed_at(self) -> float:
        """When the last one began (monotonic)."""

    def upstream_seconds(self) -> float:
        """The time in which upstreams answer; 0 if it is not known."""

    def look(self, name: bytes) -> list[dict[str, Any]]:
        """The entries of a name in L1, as JSON objects for people."""

    def sweep(self, scopes: Sequence[Scope], done: Callable[[list[int]], None] = lambda counts: None) -> list[int]:
        """Remove the entries in each scope from L1; returns their numbers. Other greenlets run meanwhile, and do not
        find these entries.

        `done` is called with the numbers at the end, and once before if that takes long.
        """

    def order_policy(self, raw: bytes) -> int | None:
        """Apply the cluster's policy document; returns how many entries that removed, None if a list is still missing.

        Other greenlets run meanwhile, and do not find entries that the policy decides otherwise now.
        """

    def order(self, what: str, event: str) -> None:
        """Pass on one of ORDERS to the supervisor."""

    def introduce(self) -> None:
        """Send a heartbeat now: the link has just been attached."""

    def hold(self) -> None:
        """Take no queries for a moment: there is a new connection, and missed events are being learnt."""

    def release(self) -> None:
        """Take queries again."""


class Chores(Protocol):
    """Work that one worker does for the whole cluster."""

    def announce_again(self, servers: Servers, lost: Sequence[tuple[bytes, Scope]]) -> None:
        """Announce flushes that Redis has lost, with the IDs of their events, again. Returns once their entries are
        deleted; raises StoreDown if that cannot be done now.
        """

    def delete(self, flush: bytes, scope: Scope) -> None:
        """Delete the entries of a flush that is under way, in the background."""
