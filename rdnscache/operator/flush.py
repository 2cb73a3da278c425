"""A flush and its proof: announced and confirmed, deleted from Redis, announced and confirmed again.

The first round makes every flight that is up store nothing, so that what is deleted stays so; the second makes every
local cache forget what a worker may have read from Redis in between. Each alone leaves a way back for an old answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rdnscache.breath import go_on
from rdnscache.errors import StoreDown
from rdnscache.operator.ear import Ear
from rdnscache.operator.entries import Browser
from rdnscache.operator.members import Members
from rdnscache.operator.proof import Proof, Tally
from rdnscache.store.contract import BEAT, VERSION
from rdnscache.store.membership import Member, read_ack
from rdnscache.store.scope import Scope

#: Seconds after which everybody who can has entered itself in a register: in a younger one, somebody may be missing.
SETTLED = BEAT + 1.0
#: Versions of entries of others that are swept for.
MOST_VERSIONS = 8
#: How often a flush looks again at a register that is young each time.
LOOKS = 3


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
    #: Called after each step of the sweep.
    step: Callable[[], None] = go_on
    _tally: Tally = field(init=False)
    #: The versions of entries that are there, by what nodes tell.
    _versions: set[str] = field(default_factory=lambda: {VERSION})

    def __post_init__(self) -> None:
        self._tally = Tally(self.cluster.breathe)

    @property
    def announced(self) -> int:
        """How often it has been announced."""
        return len(self._tally.rounds)

    def run(self) -> Proof:
        self.browser.try_rights(self.scope)
        with self.cluster.listening(self.patience) as ear:
            self._round(ear)
            self._tally.close()
            try:
                self._sweep()
            except StoreDown as error:
                raise StoreDown(f"{error}; {self._left_undone()}") from None
            self._round(ear)
        return self._tally.proof()

    def _left_undone(self) -> str:
        """What is to be said when sweeping failed. Whatever has been deleted is forgotten by the workers as well."""
        told = "every worker is told to forget them"
        try:
            self.announce()
        except StoreDown:
            told = "who has read them from Redis since the flush was announced may still answer with them"
        return f"{self.deleted} entries are deleted, not all that were meant; {told}; flush again"

    def announce(self) -> None:
        """Tell all workers, and wait for nobody; the second time, that it is done."""
        first = {"of": self._tally.rounds[0].event} if self.swept else {}
        self._tally.begin(self.cluster.announce(self.scope.event() | first), time.monotonic())

    def _sweep(self) -> None:
        self.begun = True
        for version in sorted(self._versions):
            for count in self.browser.of_version(version).sweep(self.scope, self._tally.rounds[0].event.encode()):
                self.deleted += count
                self.step()
        self.swept = True

    def _round(self, ear: Ear) -> None:
        """Announce, and collect what the workers say, until nobody is missing or there is no more time."""
        tally = self._tally
        age, members = self.cluster.roll()
        self._expect(members)
        self.announce()
        settled = time.monotonic() + max(SETTLED - age, 0.0)
        looks = LOOKS if age < SETTLED else 0
        while looks or tally.waiting():
            now = time.monotonic()
            if looks and now >= settled:
                age, members = self.cluster.roll()
                self._expect(members)
                looks = looks - 1 if age < SETTLED else 0
                settled = now + max(SETTLED - age, 0.0) if looks else now
            elif now >= settled + self.patience:
                return self._hear(ear, 0.0)  # what has come by now counts
            else:
                self._hear(ear, (settled if looks else settled + self.patience) - now)
        return None

    def _expect(self, members: Sequence[Member]) -> None:
        self._tally.expect(members)
        told = {member.contract for member in members} - {""}
        self._versions |= set(sorted(told)[:MOST_VERSIONS])

    def _hear(self, ear: Ear, seconds: float) -> None:
        """Take what has been said; if nothing has, wait up to `seconds` for it."""
        for message in ear.hear(seconds):
            self.cluster.breathe()
            told = read_ack(message)
            if told is not None:
                self._tally.note(told, time.monotonic())
