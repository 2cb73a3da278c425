"""How far a worker has got in going away: one state, for all who behave differently then."""

from __future__ import annotations


class Departure:
    """One for each worker. It goes from serving over lingering to draining, and never back."""

    __slots__ = ("begun", "draining", "succeeded")

    def __init__(self) -> None:
        #: Told to end: it serves on, and tells balancers and those who ask how it is.
        self.begun = False
        #: Nothing new is taken; what is in flight is finished.
        self.draining = False
        #: Another worker reads from the same sockets and has our place in the register: nobody need go elsewhere.
        self.succeeded = False

    @property
    def farewell(self) -> bool:
        """Whether the cluster is to be told that we leave."""
        return self.draining and not self.succeeded
