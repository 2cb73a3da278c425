"""A flush and its proof: announced, confirmed by every worker, and deleted from Redis.

From the moment a worker has heard of it, no flight from before brings anything back, L1 is swept, and what Redis has of
it is passed over. So it is proved as soon as all have confirmed it, and the deletion may take its time: what is not
done within a moment is left to the nodes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rdnscache.errors import StoreDown
from rdnscache.operator.announcer import Announcer
from rdnscache.operator.entries import Browser
from rdnscache.operator.members import Members
from rdnscache.operator.proof import Proof
from rdnscache.store.scope import Scope
from rdnscache.store.sweeping import CAREFUL, CONFIRMED

#: Seconds for which entries are searched for and deleted before the rest is left to the nodes.
MOMENT = 0.5


@dataclass(slots=True)
class Flush:
    """A flush of the cluster, step by step; every step raises StoreDown. `run` does all of them.

    Its progress can be read at any time, for instance when the user interrupts it.
    """

    browser: Browser
    cluster: Members
    scope: Scope
    #: Seconds to wait for the workers to confirm.
    patience: float
    #: How many entries are known to be deleted from Redis; whether that is all of them: the rest is left to the nodes.
    deleted: int = 0
    swept: bool = False
    #: Called after each step of the sweep, with the approximate number of keys examined.
    step: Callable[[int], None] = lambda looked: None
    _event: str = ""
    _announcer: Announcer = field(init=False)

    def __post_init__(self) -> None:
        self._announcer = Announcer(self.cluster, self.patience)

    @property
    def announced(self) -> bool:
        """Whether it is under way: then the nodes bring it to its end."""
        return bool(self._event)

    def run(self) -> Proof:
        self.browser.try_rights(self.scope)
        with self.cluster.listening(self.patience) as ear:
            self._announcer.round(ear, self._begin)
        proof = self._announcer.proof()
        try:
            self._sweep(proof)
        except StoreDown as error:
            told = f"confirmed by {proof}" if proof.confirmed else "nobody has confirmed it"
            raise StoreDown(f"{error}; {self.deleted} entries are deleted, not all that were meant; {told}; "
                            "nodes delete the rest") from None  # fmt: skip
        return proof

    def _begin(self) -> tuple[str, bool]:
        self._event, heard = self.cluster.begin_flush(self.scope)
        return self._event, heard

    def _sweep(self, proof: Proof) -> None:
        """Delete what is meant, all of it where nobody else would."""
        steps = CONFIRMED if proof.complete else CAREFUL
        nobody = not (proof.confirmed or proof.missing)
        alone = nobody or self.scope.name is not None  # the keys of a name are few, and known
        ends = math.inf if alone else time.monotonic() + MOMENT
        for version in sorted(self._announcer.versions):
            for done in self.browser.of_version(version).sweep(self.scope, self._event.encode(), steps):
                self.deleted += done.deleted
                self.step(done.looked)
                if time.monotonic() > ends:
                    return
        self.swept = True
        self.cluster.end_flush(self.scope, self._event)
