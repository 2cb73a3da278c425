"""A flush and its proof: announced and confirmed, deleted from Redis, announced and confirmed again.

The first round makes every flight that is up store nothing, so that what is deleted stays so; the second makes every
local cache forget what a worker may have read from Redis in between. Each alone leaves a way back for an old answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rdnscache.errors import StoreDown
from rdnscache.operator.announcer import Announcer
from rdnscache.operator.entries import Browser
from rdnscache.operator.members import Members
from rdnscache.operator.proof import Proof, Tally
from rdnscache.store.scope import Scope

#: What it means that the second announcement cannot be made.
UNTOLD = "who has read them from Redis since the flush was announced may still answer with them"


@dataclass(slots=True)
class Flush:
    """A flush of the cluster, step by step; every step raises StoreDown. `run` does them all.

    What it has done so far can be read at any time, as when somebody does not want to wait.
    """

    browser: Browser
    cluster: Members
    scope: Scope
    #: Seconds to wait for the workers to confirm, each time.
    patience: float
    #: Whether deleting from Redis has begun; how many entries it is known to have deleted; whether that is all of them.
    begun: bool = False
    deleted: int = 0
    swept: bool = False
    #: Called after each step of the sweep, with about how many keys were looked at.
    step: Callable[[int], None] = lambda looked: None
    _announcer: Announcer = field(init=False)

    def __post_init__(self) -> None:
        self._announcer = Announcer(self.cluster, self.patience)

    @property
    def _tally(self) -> Tally:
        return self._announcer.tally

    @property
    def announced(self) -> int:
        """How often it has been announced."""
        return len(self._tally.rounds)

    def run(self) -> Proof:
        self.browser.try_rights(self.scope)
        with self.cluster.listening(self.patience) as ear:
            self._announcer.round(ear, self._event())
            self._tally.close()
            try:
                self._sweep()
            except StoreDown as error:
                raise StoreDown(f"{error}; {self._left_undone()}") from None
            try:
                self._announcer.round(ear, self._event())
            except StoreDown as error:
                raise StoreDown(f"{error}; {self.deleted} entries are deleted; {UNTOLD}; flush again") from None
        return self._announcer.proof()

    def _left_undone(self) -> str:
        """What is to be said when sweeping failed. Whatever has been deleted is forgotten by the workers as well."""
        told = "every worker is told to forget them"
        try:
            self.announce()
        except StoreDown:
            told = UNTOLD
        return f"{self.deleted} entries are deleted, not all that were meant; {told}; flush again"

    def announce(self) -> None:
        """Tell all workers, and wait for nobody; the second time, that it is done."""
        self._announcer.announce(self._event())

    def _event(self) -> dict[str, str]:
        first = {"of": self._tally.rounds[0].event} if self.swept else {}
        return self.scope.event() | first

    def _sweep(self) -> None:
        self.begun = True
        # everybody has confirmed: no flight from before stores anything
        first, settled = self._tally.rounds[0].event.encode(), self._tally.proof().complete
        for version in sorted(self._announcer.versions):
            for done in self.browser.of_version(version).sweep(self.scope, first, settled):
                self.deleted += done.deleted
                self.step(done.looked)
        self.swept = True
