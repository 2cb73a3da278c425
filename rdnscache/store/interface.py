"""The store as the resolver sees it, and what it is without Redis: nothing is found, and every claim leads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import Reply
from rdnscache.outcomes import LEAD, Verdict
from rdnscache.upstream.application import Applicant, Request


class Claim:
    """One worker's part in the cluster-wide flight for a question; without a store it simply leads.

    A context manager: from a claim to its end a wake-up for the question is kept, even one that overtakes the reply.
    `on_late(entry)` is called in the hub when Redis brings an answer after we have gone on without it.
    """

    def __init__(self, key: bytes, on_late: Callable[[Entry], None]) -> None:
        self.key = key
        self.on_late = on_late
        #: What the last claim brought back: fresh with Verdict.ENTRY, else stale or None.
        self.entry: Entry | None = None
        #: Seconds until the present leader's lease runs out.
        self.lease_left = 0.0
        #: Whether a wake-up for us has come.
        self.woken = False

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        pass

    @property
    def alone(self) -> bool:
        """Whether nothing brings the cluster together for this question, so that the node's workers have to.

        Not when we have claimed, or are about to: a sibling might follow us, and we wait for each other.
        """
        return True

    def read(self, last: bool = False) -> Entry | None:
        """The question's entry in L2, fresh or stale; if this is the `last` look, or else the name's NXDOMAIN.

        A claim that follows finds both.
        """
        return None

    def acquire(self, renewal: int = 0) -> Verdict:
        """Ask to lead.

        For a `renewal`, an entry does not count as fresh when it has no more seconds than that. When Redis takes too
        long we lead, and what it says comes late.
        """
        return LEAD

    def wait(self, seconds: float) -> Entry | None:
        """As a follower: the entry the leader's fill brings; None when it is time to claim again."""
        return None

    def fill(self, kind: bytes, reply: Reply, ttl: int, stale: int, source: str, route: str, why: str = "") -> None:
        """As the leader: store the reply and wake the followers. Does not wait.

        `source` is the upstream it comes from, `route` the zone that has upstreams of its own, or nothing; of a
        failure, `why` says what made it a fact about the name.
        """

    def release(self) -> None:
        """As the leader: give the lead to somebody else, since our upstreams cannot be reached. Does not wait."""


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
        """Seconds Redis took for its last PING."""

    @property
    def state(self) -> str:
        """How access to Redis is, in a word; see cluster_status.STATES."""

    @property
    def twins(self) -> set[str]:
        """The incarnations of other nodes that have our name."""

    def claim(self, key: bytes, on_late: Callable[[Entry], None]) -> Claim:
        """This worker's part in the flight for a question; see `Claim`."""

    def ask_for_slots(self, request: Request, applicant: Applicant) -> bool:
        """Ask for a part of what the cluster may ask of a server; see `upstream.application`."""

    def start(self, patience: float) -> None:
        """Begin, and wait up to `patience` seconds until it is known whether there is a Redis."""

    def measure(self) -> None:
        """Bring the counters up to date that are not kept so all the time."""

    def beat(self, report: str) -> None:
        """Tell the cluster about this worker."""

    def heat(self, hottest: Sequence[tuple[bytes, int]]) -> None:
        """Tell the cluster which questions were asked most, and how often."""

    def add_hour(self, minute: int, counts: Mapping[str, int]) -> None:
        """Add to what the cluster has counted in a minute since 1970."""

    def answer_order(self, told: Mapping[str, Any]) -> None:
        """Tell those who ordered it how our supervisor has carried something out."""

    def hottest(self, count: int) -> Iterator[list[Entry]]:
        """The entries of the questions the cluster was asked most, a page at a time."""

    def leave(self) -> None:
        """Say goodbye to the cluster."""

    def close(self) -> None:
        """End; nothing is called afterwards."""


class NullStore:
    """`--redis none`."""

    attached = usable = False
    latency = 0.0
    state = "none"

    @property
    def twins(self) -> set[str]:
        return set()

    def claim(self, key: bytes, on_late: Callable[[Entry], None]) -> Claim:
        return Claim(key, on_late)

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
