"""The proof of a flush: who has to confirm, who has confirmed, and who has not. Uses no connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rdnscache.printable import natural
from rdnscache.store.membership import Ack, Member

#: Most nodes whose confirmations are recorded: twice the workers that are read from a register.
MOST_NODES = 4000
#: A node, by name and incarnation.
Life = tuple[str, str]


@dataclass(slots=True)
class Proof:
    """The nodes that have applied a flush, and those that have not, by name."""

    #: Seconds until all workers of a node had confirmed all announcements.
    confirmed: dict[str, float] = field(default_factory=dict)
    #: Why a node has not confirmed.
    missing: dict[str, str] = field(default_factory=dict)
    #: Number of entries dropped by workers.
    entries: int = 0

    @property
    def complete(self) -> bool:
        """Whether there is a node, and all have confirmed."""
        return bool(self.confirmed) and not self.missing

    def joined(self, other: Proof) -> Proof:
        """The proof of two flushes in sequence: a node has to confirm both."""
        missing = self.missing | {node: why for node, why in other.missing.items() if node not in self.missing}
        both = {**self.confirmed, **other.confirmed}
        times = {node: self.confirmed.get(node, 0.0) + other.confirmed.get(node, 0.0) for node in both}
        confirmed = {node: seconds for node, seconds in times.items() if node not in missing}
        return Proof(confirmed, missing, self.entries + other.entries)

    @property
    def problems(self) -> list[str]:
        """A sentence for each reason why it is not complete."""
        if not self.confirmed and not self.missing:
            return ["no node has confirmed: none is running"]
        return [f"{node} has not confirmed: {reason}" for node, reason in self.missing.items()]

    def as_json(self) -> dict[str, Any]:
        times = {node: round(seconds * 1000, 1) for node, seconds in self.confirmed.items()}
        return {"local_entries": self.entries, "confirmed_ms": times, "missing": self.missing}

    def __str__(self) -> str:
        total = len(self.confirmed) + len(self.missing)
        slowest = max(self.confirmed.values(), default=0.0) * 1000
        text = f"{len(self.confirmed)}/{total} node{'' if total == 1 else 's'}"
        return f"{text}, {slowest:.0f} ms" if self.confirmed else text


@dataclass(slots=True)
class Round:
    """One announcement of an event, with the confirmations of workers, in seconds since the announcement."""

    event: str
    started: float
    acks: dict[Life, dict[int, float]] = field(default_factory=dict)
    entries: int = 0
    #: Whether further confirmations are too late: deleting has begun, and a worker that had not heard of the flush may
    #: have stored something since.
    closed: bool = False

    def note(self, told: Ack, now: float) -> None:
        """Record a confirmation. A worker that learnt of the event while attaching stored nothing before, so it is
        never late.
        """
        life = told.node, told.incarnation
        if life not in self.acks and len(self.acks) >= MOST_NODES:
            return
        workers = self.acks.setdefault(life, {})
        if told.worker not in workers and (not self.closed or told.learnt):
            workers[told.worker] = now - self.started
            self.entries += told.entries

    def lacks(self, life: Life, workers: Iterable[int]) -> list[int]:
        return sorted(set(workers) - self.acks.get(life, {}).keys())

    def seconds(self, life: Life) -> float:
        return max(self.acks.get(life, {}).values(), default=0.0)


class Tally:
    """All workers that were in the register during a flush, and their confirmations.

    `breathe` is called after every short step.
    """

    def __init__(self, breathe: Callable[[], None] = lambda: None) -> None:
        self._breathe = breathe
        self.rounds: list[Round] = []
        #: The workers each node has to have, and for how long it had been silent when last read.
        self._workers: dict[Life, set[int]] = {}
        self._silent: dict[Life, float] = {}
        #: Nodes that were not in the register when it was last read.
        self._gone: set[Life] = set()

    def begin(self, event: str, now: float) -> None:
        """Add an announcement."""
        self.rounds.append(Round(event, now))

    def close(self) -> None:
        """Further confirmations of the announcements so far are too late from now on."""
        for each in self.rounds:
            each.closed = True

    def note(self, told: Ack, now: float) -> None:
        for each in self.rounds:
            if each.event == told.event:
                each.note(told, now)

    def expect(self, members: Sequence[Member]) -> None:
        """Take the current register; workers seen before are still expected."""
        seen: dict[Life, list[Member]] = {}
        for member in members:
            seen.setdefault((member.node, member.incarnation), []).append(member)
        self._gone = self._workers.keys() - seen.keys()
        for life, workers in seen.items():
            self._breathe()
            age = min(member.age for member in workers)
            present = any(member.present for member in workers)
            self._silent.pop(life, None)
            if not present:
                self._silent[life] = age
            self._workers[life] = {member.worker for member in workers if member.present}
            if not any(member.leaves for member in workers):  # otherwise some have ended in order
                self._workers[life] |= set(range(min(workers, key=lambda member: member.age).workers))

    def waiting(self) -> bool:
        """Whether a registered worker has not confirmed the last round, and its confirmation would still count."""
        earlier, last = self.rounds[:-1], self.rounds[-1]
        for life, workers in self._workers.items():
            self._breathe()
            if life in self._silent or life in self._gone:
                continue
            if last.lacks(life, workers) and not any(each.lacks(life, workers) for each in earlier):
                return True
        return False

    def proof(self) -> Proof:
        """The proof so far: a node is confirmed when all its workers have confirmed every round."""
        proof = Proof(entries=sum(each.entries for each in self.rounds))
        names = called(self._workers)
        for life, workers in sorted(self._workers.items(), key=lambda item: natural(" ".join(item[0]))):
            self._breathe()
            lacking = next((found for each in self.rounds if (found := each.lacks(life, workers))), [])
            if workers and not lacking:
                proof.confirmed[names[life]] = sum(each.seconds(life) for each in self.rounds)
            else:
                proof.missing[names[life]] = self._reason(life, lacking)
        return proof

    def witness(self) -> dict[str, str | int] | None:
        """A worker that has confirmed a round, preferably the last; None if there is none."""
        for each in reversed(self.rounds):
            for (node, incarnation), workers in each.acks.items():
                if workers and (node, incarnation) in self._workers:
                    return {"node": node, "incarnation": incarnation, "worker": min(workers)}
        return None

    def _reason(self, life: Life, lacking: list[int]) -> str:
        if life in self._silent:
            return f"no report for {self._silent[life]:.0f} s"
        if life in self._gone:
            return "it has left meanwhile"
        return f"no confirmation from worker {', '.join(map(str, lacking))}"


def called(lives: Iterable[Life]) -> dict[Life, str]:
    """The display name of each node: its name, with its incarnation when another node has the same name."""
    lives = list(lives)
    counts = Counter(node for node, _ in lives)
    return {(node, life): f"{node} ({life})" if counts[node] > 1 else node for node, life in lives}
