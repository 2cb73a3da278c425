"""The store as its claims see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rdnscache.store.contract import Names
from rdnscache.store.interface import Claim
from rdnscache.store.servers import Command, Servers
from rdnscache.store.trust import Trust


class ClaimStore:
    """A base class rather than a protocol: compiled, its methods are then called without being looked up."""

    names: Names
    node: str
    lease_ms: int
    wake_channel: bytes
    trust: Trust
    servers: Servers
    #: How many flushes this worker has heard of, and when the last began (monotonic).
    flushes: Callable[[], int]
    flushed_at: Callable[[], float]

    def asks(self) -> bool:
        """Whether Redis is asked for answers."""
        raise NotImplementedError

    def follow(self, name: bytes, claim: Claim) -> None:
        """Hear what is said of a question from now on."""
        raise NotImplementedError

    def leave_following(self, name: bytes, claim: Claim) -> None:
        raise NotImplementedError

    def token(self) -> bytes:
        raise NotImplementedError

    def time_text(self) -> str:
        """Now, as people read it."""
        raise NotImplementedError

    def seen(self) -> str:
        """The event that we have heard of last, as an entry tells it."""
        raise NotImplementedError

    def read_command(self, name: bytes) -> Command:
        """What reads an entry for `entry_of`."""
        raise NotImplementedError

    def may_read(self, name: bytes) -> bool:
        """Whether to read an entry rather than to claim at once; not the next time after `lost_with`."""
        raise NotImplementedError

    def lost_with(self, name: bytes) -> None:
        """The connection was lost while an entry was read: perhaps Redis will not send that much."""
        raise NotImplementedError

    def discard(self, name: bytes) -> None:
        """Delete a value that no node can use."""
        raise NotImplementedError

    def refused(self, name: bytes, reply: Any) -> None:
        """Redis answered with an error where we asked for an answer about a key."""
        raise NotImplementedError

    def filled(self, result: Any) -> None:
        """What became of a fill: how many followers were woken."""
        raise NotImplementedError

    def note_odd(self, name: bytes, lifetime: int) -> None:
        """Note an entry whose key cannot be guessed, for this many ms; sent before the command that stores it."""
        raise NotImplementedError
