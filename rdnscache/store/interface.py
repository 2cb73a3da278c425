"""The store as the resolver sees it, and the store without Redis, which finds nothing and whose claims all lead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import Reply
from rdnscache.outcomes import LEAD, Verdict
from rdnscache.upstream.application import Applicant, Request

OnLate = Callable[[Any, Entry], None]


class Claim:
    """One worker's part in the cluster-wide flight for a question; this base class, without Redis, always leads.

    Until its `end` a wake-up for the question is kept, even one that overtakes the reply to the claim.
    `on_late(flight, entry)` is called in the hub when Redis brings an answer that nobody waits for any more.
    """

    def __init__(self, key: bytes, flight: Any, on_late: OnLate) -> None:
        self.key = key
        self.flight = flight
        self.on_late = on_late
        #: The entry that the last claim found: fresh with Verdict.ENTRY, else stale or None.
        self.entry: Entry | None = None
        #: Seconds until the current leader's lease expires.
        self.lease_left = 0.0
        #: Whether the last wake-up brought an entry.
        self.woken = False

    @property
    def alone(self) -> bool:
        """Whether Redis cannot coordinate this question, so that the node's workers have to do it among themselves.

        False if we hold a claim or may claim: a sibling could follow us while we wait for the sibling.
        """
        return True

    def read(self, last: bool = False) -> Entry | None:
        """The question's entry in L2, fresh or stale; with `last`, the name's NXDOMAIN if there is none.

        `last` means that no claim follows, which would find both.
        """
        return None

    def acquire(self, renewal: int = 0) -> Verdict:
        """Ask to lead.

        For a prefetch, an entry with `renewal` seconds left or fewer does not count as fresh. If Redis takes too long,
        we lead, and its reply is handled when it arrives.
        """
        return LEAD

    def wait(self, seconds: float) -> Entry | None:
        """As a follower: wait for the leader's entry; None when it is time to claim again."""
        return None

    def fill(self, kind: bytes, reply: Reply, ttl: int, stale: int, source: str, route: str, why: str = "") -> None:
        """As the leader: store the reply and wake the followers, without waiting.

        `source` is the upstream it comes from, `route` the zone whose own upstreams were asked, or empty; for a
        failure, `why` says why it is a fact about the name.
        """

    def release(self) -> None:
        """As the leader: give the lead up, because our upstreams cannot be reached. Does not wait."""

    def break_off(self) -> None:
        """We end in the middle: others need not wait for us, if they do. Does not wait; `end` follows."""

    def end(self) -> None:
        """Nobody waits for anything any more."""


class Store(Protocol):
    """The shared cache as the resolver and the worker see it."""

    @property
    def attached(self) -> bool:
        """Whether there is a connection: flushes are heard."""

    @property
    def usable(self) -> bool:
        """Whether Redis is asked for answers."""

    @property
    def latency(self) -> float:
        """Seconds that Redis took to answer the last PING."""

    @property
    def state(self) -> str:
        """The state of the access to Redis, one of cluster_status.STATES."""

    @property
    def twins(self) -> set[str]:
        """The incarnations of other nodes with this node's name."""

    def claim(self, key: bytes, flight: Any, on_late: OnLate) -> Claim:
        """This worker's part in the flight for a question; see `Claim`."""

    def ask_for_slots(self, request: Request, applicant: Applicant) -> bool:
        """Ask for slots of an upstream's budget; see `upstream.application`."""

    def start(self, patience: float) -> None:
        """Start, and wait up to `patience` seconds until it is known whether Redis can be reached."""

    def measure(self) -> None:
        """Update the counters that are not updated all the time."""

    def beat(self, report: str) -> None:
        """Send a heartbeat with this worker's report."""

    def heat(self, hottest: Sequence[tuple[bytes, int]]) -> None:
        """Report the questions asked most, and how often."""

    def add_hour(self, minute: int, counts: Mapping[str, int]) -> None:
        """Add to the cluster's counts of a minute (since 1970)."""

    def answer_order(self, told: Mapping[str, Any]) -> None:
        """Report how this node's supervisor has carried out an order."""

    def hottest(self, count: int) -> Iterator[list[Entry]]:
        """The entries of the questions that the cluster was asked most, a page at a time."""

    def leave(self) -> None:
        """Sign off from the cluster."""

    def close(self) -> None:
        """Close the store; no method is called after that."""


class NullStore:
    """The store for `--redis none`."""

    attached = usable = False
    latency = 0.0
    state = "none"

    @property
    def twins(self) -> set[str]:
        return set()

    def claim(self, key: bytes, flight: Any, on_late: OnLate) -> Claim:
        return Claim(key, flight, on_late)

    def ask_for_slots(self, request: Request, applicant: Applicant) -> bool:
        return False

    def start(self, patience: float) -> None:
        pass

    def measure(self) -> None:
        pass

    def beat(self, report: str) -> None:
        pass

    def heat(self, hottest: Sequence[tuple[bytes, int]]) -> None:
        pass

    def add_hour(self, minute: int, counts: Mapping[str, int]) -> None:
        pass

    def answer_order(self, told: Mapping[str, Any]) -> None:
        pass

    def hottest(self, count: int) -> Iterator[list[Entry]]:
        yield from ()

    def leave(self) -> None:
        pass

    def close(self) -> None:
        pass
