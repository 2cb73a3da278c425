"""Announces an event to all workers, and collects their confirmations until all have arrived or time is up."""

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

#: Age of a register in seconds after which every running worker is in it; a younger one may be incomplete.
SETTLED = BEAT + 1.0
#: Most versions of entries that are considered.
MOST_VERSIONS = 8
#: How often a register is read again that is young each time.
LOOKS = 3


@dataclass(slots=True)
class Announcer:
    """The rounds of one operation, each of which announces an event. Every method raises StoreDown without Redis."""

    cluster: Members
    #: Seconds to wait for the workers to confirm, each time.
    patience: float
    tally: Tally = field(init=False)
    #: The versions of entries that nodes report.
    versions: set[str] = field(default_factory=lambda: {VERSION})

    def __post_init__(self) -> None:
        self.tally = Tally(self.cluster.breathe)

    def once(self, event: Mapping[str, str]) -> Proof:
        """Run one round; returns who has confirmed it."""
        with self.cluster.listening(self.patience) as ear:
            self.round(ear, lambda: self.cluster.announce_and_see(event))
        return self.proof()

    def proof(self) -> Proof:
        """The result so far. If somebody is missing, one worker that has confirmed counts that in its metrics."""
        proof = self.tally.proof()
        witness = None if proof.complete else self.tally.witness()
        if witness is not None:
            try:
                self.cluster.announce({"event": UNCONFIRMED} | witness)
            except StoreDown:
                pass  # the caller gets the result in any case
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
                return self._hear(ear, 0.0)  # include confirmations that have arrived by now
            else:
                self._hear(ear, (settled if looks else settled + self.patience) - now)
        return None

    def _expect(self, members: Sequence[Member]) -> None:
        self.tally.expect(members)
        self.versions |= set(sorted({member.contract for member in members} - {""})[:MOST_VERSIONS])

    def _hear(self, ear: Ear, seconds: float) -> None:
        """Process the messages that have arrived; if there are none, wait for them for up to `seconds`."""
        for message in ear.hear(seconds):
            self.cluster.breathe()
            told = read_ack(message)
            if told is not None:
                self.tally.note(told, time.monotonic())
