"""How far a worker has got in shutting down: one state, for every part that behaves differently then."""

from __future__ import annotations


class Departure:
    """One per worker. It goes from serving to lingering to draining, and never back."""

    __slots__ = ("begun", "draining", "succeeded")

    def __init__(self) -> None:
        #: Told to end: it still serves, and tells balancers and health checks that it is about to go.
        self.begun = False
        #: No new queries are accepted; those in flight are finished.
        self.draining = False
        #: Another worker reads from the same sockets and is in the register in our place: clients need not go
        #: elsewhere.
        self.succeeded = False

    @property
    def farewell(self) -> bool:
        """Whether the cluster should be told that we leave."""
        return self.draining and not self.succeeded
