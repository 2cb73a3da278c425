"""Telling all workers something, and collecting what they say until everybody has confirmed it, or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rdnscache.errors import StoreDown
from rdnscache.operator.ear import Ear
from rdnscache.operator.members import Members
from rdnscache.operator.proof import Proof, Tally
from rdnscache.store.contract import BEAT, VERSION
from rdnscache.store.membership import Member, read_ack
from rdnscache.store.steering import UNCONFIRMED

#: Seconds after which everybody who can has entered itself in a register: in a younger one, somebody may be missing.
SETTLED = BEAT + 1.0
#: Versions of entries that are taken note of.
MOST_VERSIONS = 8
#: How often it is looked again at a register that is young each time.
LOOKS = 3


@dataclass(slots=True)
class Announcer:
    """Rounds of one matter: each announces an event. Every method raises StoreDown when Redis cannot be used."""

    cluster: Members
    #: Seconds to wait for the workers to confirm, each time.
    patience: float
    tally: Tally = field(init=False)
    #: The versions of entries that nodes tell they have.
    versions: set[str] = field(default_factory=lambda: {VERSION})

    def __post_init__(self) -> None:
        self.tally = Tally(self.cluster.breathe)

    def once(self, event: Mapping[str, str]) -> Proof:
        """One round, and who has confirmed it."""
        with self.cluster.listening(self.patience) as ear:
            self.round(ear, lambda: (self.cluster.announce(event), True))
        return self.proof()

    def proof(self) -> Proof:
        """Who has confirmed; where that is not everybody, one who has is told, and counts it in its metrics."""
        proof = self.tally.proof()
        witness = None if proof.complete else self.tally.witness()
        if witness is not None:
            try:
                self.cluster.announce({"event": UNCONFIRMED} | witness)
            except StoreDown:
                pass  # who has ordered it hears of that all the same
        return proof

    def look(self) -> None:
        """See who is there, and which versions of entries they have."""
        self._expect(self.cluster.roll()[1])

    def round(self, ear: Ear, announce: Callable[[], tuple[str, bool]]) -> None:
        """Announce, and collect what the workers say, until nobody is missing or there is no more time.

        `announce` returns the event's ID, and whether anybody can have heard of it.
        """
        tally = self.tally
        age, members = self.cluster.roll()
        self._expect(members)
        event_id, heard = announce()
        tally.begin(event_id, time.monotonic())
        if not heard and not members:  # nobody is there, and who comes learns of it while attaching
            return None
        settled = time.monotonic() + max(SETTLED - age, 0.0)
        looks = LOOKS if age < SETTLED else 0
        while looks or tally.waiting():
            now = time.monotonic()
            if looks and now >= settled:
                age, members = self.cluster.roll()
                self._expect(members)
                looks = looks - 1 if age < SETTLED and members else 0
                settled = now + max(SETTLED - age, 0.0) if looks else now
            elif now >= settled + self.patience:
                return self._hear(ear, 0.0)  # what has come by now counts
            else:
                self._hear(ear, (settled if looks else settled + self.patience) - now)
        return None

    def _expect(self, members: Sequence[Member]) -> None:
        self.tally.expect(members)
        self.versions |= set(sorted({member.contract for member in members} - {""})[:MOST_VERSIONS])

    def _hear(self, ear: Ear, seconds: float) -> None:
        """Take what has been said; if nothing has, wait up to `seconds` for it."""
        for message in ear.hear(seconds):
            self.cluster.breathe()
            told = read_ack(message)
            if told is not None:
                self.tally.note(told, time.monotonic())
