"""Local single flight: at most one resolution per key is in progress in this process, and its result is shared.

The number of waiting clients is bounded, in all and for each client; beyond that queries are shed, unless flights that
have lasted too long can be given up (see `crew`).
Hits come first: however many flights are ready to go on, the sockets are read between their steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from gevent import get_hub

from rdnscache import clock
from rdnscache.clients.networks import client_prefix
from rdnscache.crew import Crew, Task
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import Query
from rdnscache.outcomes import FAILURE, FLIGHT, FULL, GREEDY, JOINED, REPEATED, SHED_CROWDED

log = logging.getLogger(__name__)

#: Seconds for which flights run before the sockets are read.
TURN = 0.00025
#: Replies of a flight sent in one turn of the hub.
SLICE = 100
#: Maximum length of a chain of flights of which each needs the next, such as for an alias of an alias.
MOST_LINKS = 8


class Channel(Protocol):
    """Answers a waiting client: a UDP listener or a TCP connection.

    One that `flies` belongs to a flight that needs the answer to continue, and runs on that flight's greenlet. Its
    `links` and `until` become those of the flight it starts.
    """

    def answer(self, query: Query, client: Any, entry: Entry, layer: int) -> None:
        """Send the reply made from `entry`, which came from `layer`, an index into outcomes.LAYERS."""


class Pilot(Protocol):
    """Resolves flights: the resolver."""

    def fly(self, flight: Flight) -> None:
        """Resolve a flight and land it. Runs on a greenlet of the crew."""

    def joined(self, flight: Flight) -> None:
        """A client joins a flight that was begun as a prefetch."""

    def shed(self, flight: Flight, reason: int) -> None:
        """Land a flight that has queued too long or makes room for others, and count its clients."""

    def give_up(self, flight: Flight) -> Entry:
        """The entry for a flight that `fly` has not landed because of an error."""

    def delay(self, now: float) -> float:
        """By how many seconds the fastest answers come later than before; negative if unknown."""


class Flight(Task):
    """One resolution in progress, and the clients that wait for it."""

    __slots__ = ("asked", "flushed", "links", "needs", "recursion", "renewal", "route", "seen", "stale", "timer",
                 "until", "waiters")  # fmt: skip

    def __init__(self, key: bytes, since: float, client: bytes) -> None:
        # the work of the constructors of Task and Holder, whose calls would cost as much as all the rest
        self.shares = ()
        self.firm = False
        self.key = key
        self.since = self.began = since
        self.client = client
        self.zone = b""
        self.up = True
        self.flyer = None
        #: The route of its question, once it is known.
        self.route: Any = None
        #: Whether a client set RD; else nothing is forwarded.
        self.recursion = False
        #: For a prefetch: the seconds that an entry must have left to count as fresh; else 0.
        self.renewal = 0
        #: The entry to answer with if it takes long or fails; and the timer for that.
        self.stale: Entry | None = None
        self.timer: Any = None
        #: Whether there was a flush of its question: then its result is not kept in L1.
        self.flushed = False
        #: How many flushes had been heard of when its upstream was asked.
        self.asked = 0
        #: The key whose answer it waits for; the length of the chain of flights that need this one; until when the
        #: clients of that chain are to be answered (`clock.now`), 0 if that is not set.
        self.needs = b""
        self.links = 0
        self.until = 0.0
        #: Waiting clients, each with its prefix.
        self.waiters: list[tuple[Channel, Query, Any, bytes]] = []
        #: Channel, address and message of each client over UDP, once they are needed to find repetitions.
        self.seen: set[tuple[Channel, Any, bytes]] | None = None


class Flights:
    """The flights of this worker. `pilot` resolves them, and gets a reference to this object from `worker`."""

    def __init__(
        self,
        pilot: Pilot,
        max_flights: int,
        max_waiting: int,
        max_client_waiting: int,
    ) -> None:
        self._pilot = pilot
        self._max_flights = max_flights
        self._max_waiting = max_waiting
        self._max_client_waiting = max_client_waiting
        #: The flights that can be joined; a flush removes flights before they land.
        self._up: dict[bytes, Flight] = {}
        self._count = 0
        self._crew = Crew(self._fly, self._make_way, max_flights, pilot.delay)
        self._hub = get_hub()
        #: Waiting clients of all flights; and by prefix.
        self.waiting = 0
        self._waiting_of: dict[bytes, int] = {}
        #: Deliveries in progress; whether all are postponed to the next turn, inside a batch.
        self._delivering = 0
        self._quiet = False
        #: Functions that read datagrams.
        self.drains: list[Callable[[], None]] = []
        self._looked = 0.0

    def __len__(self) -> int:
        """The number of flights that have not landed, or whose clients are being answered."""
        return self._count + self._delivering

    def join(self, channel: Channel, query: Query, client: Any, now: float) -> int:
        """Join the flight for a question, or start one. Returns JOINED, REPEATED, GREEDY or FULL.

        `client` is None, or a tuple whose first item is the address for the reply: a query that is repeated from there
        gets one reply.
        """
        prefix, key = client_prefix(query.source), query.key
        flight = self._up.get(key)
        if flight is not None and client is not None and _repeats(flight, (channel, client[0], query.data)):
            return REPEATED
        waits: int = self._waiting_of.get(prefix, 0)
        if waits >= self._max_client_waiting or self.waiting >= self._max_waiting:
            if waits >= self._max_client_waiting and not self._make_client_wait_less(prefix, key, now):
                return GREEDY
            if self.waiting >= self._max_waiting and not self._make_all_wait_less(now):
                return FULL
            flight = self._up.get(key)  # it may be one that was given up
        if flight is None:
            if self._crew.refuses(prefix, key):
                return GREEDY
            if client is None and getattr(channel, "flies", False):
                return self._fly_here(channel, query, now)
            flight = self._begin(key, prefix, now)
        else:
            if flight.seen is not None and client is not None:
                flight.seen.add((channel, client[0], query.data))
            if flight.renewal:
                self._pilot.joined(flight)
        flight.waiters.append((channel, query, client, prefix))
        self.waiting += 1
        if prefix:
            self._waiting_of[prefix] = self._waiting_of.get(prefix, 0) + 1
        if self.waiting * 2 >= self._max_waiting:
            self._crew.press()
        if query.data[2] & 0x01:
            flight.recursion = True
        return JOINED

    def _fly_here(self, channel: Any, query: Query, now: float) -> int:
        """Run a flight that another one needs on the greenlet of that one: waiting for another could be a deadlock."""
        flight = self._up[query.key] = Flight(query.key, now, b"")
        self._count += 1
        self.waiting += 1
        flight.waiters.append((channel, query, None, b""))
        flight.recursion = query.data[2] & 0x01 != 0
        flight.links, flight.until = channel.links, channel.until
        try:
            self._pilot.fly(flight)
        except Exception:
            log.exception("internal error while a question was resolved: its clients get SERVFAIL")
        finally:
            if flight.up:  # after an error, or if the flight that needs it is given up
                self._pilot.shed(flight, SHED_CROWDED)
        return JOINED

    def renew(self, key: bytes, left: int) -> bool:
        """Start a prefetch of an entry that expires within `left` seconds, unless many flights are up.

        Returns whether it was started.
        """
        if key in self._up or self._count >= self._max_flights // 2:
            return False
        flight = self._begin(key, b"", clock.now())
        flight.recursion = True
        flight.renewal = left
        return True

    def _begin(self, key: bytes, prefix: bytes, now: float) -> Flight:
        flight = self._up[key] = Flight(key, now, prefix)
        self._count += 1
        self._crew.start(flight, now)
        return flight

    def _make_client_wait_less(self, prefix: bytes, key: bytes, now: float) -> bool:
        """Give up flights of a client for a new question of its own; returns whether enough clients wait no more."""
        while self._crew.give_up_oldest_of(prefix, key, now):
            if self._waiting_of.get(prefix, 0) < self._max_client_waiting:
                return True
        return False

    def _make_all_wait_less(self, now: float) -> bool:
        """Give up flights that have lasted too long; returns whether enough clients wait no more."""
        while self._crew.give_up_oldest(now):
            if self.waiting < self._max_waiting:
                return True
        return False

    def _make_way(self, flight: Flight, reason: int) -> None:
        """Shed a flight to make room for others; its clients are answered in the next turn of the hub."""
        quiet, self._quiet = self._quiet, True
        try:
            self._pilot.shed(flight, reason)
        finally:
            self._quiet = quiet

    def has(self, flight: Flight) -> bool:
        """Whether a flight has not landed."""
        return flight.up

    def leads_back(self, key: bytes, flight: Flight) -> bool:
        """Whether a flight that waits for this key would wait for itself, or for a chain that is too long."""
        for _ in range(MOST_LINKS):
            other = self._up.get(key)
            if other is None or other is flight:
                return other is flight
            key = other.needs
        return True

    def meant(self, holds: Callable[[bytes], bool]) -> list[Flight]:
        """The flights that can be joined and for whose key `holds` is true."""
        return [flight for key, flight in self._up.items() if holds(key)]

    def set_aside(self, flight: Flight) -> None:
        """Let no more clients join a flight: later questions start a new one. It goes on for those who wait already."""
        if self._up.get(flight.key) is flight:
            del self._up[flight.key]

    def answer(self, flight: Flight, entry: Entry, layer: int) -> None:
        """Answer all clients of a flight that goes on."""
        self._answer_all(flight, entry, layer, layer)

    def land(self, flight: Flight, entry: Entry, layer: int) -> None:
        """End a flight and answer its clients: the first one from `layer`, the others from the layer FLIGHT."""
        self.set_aside(flight)
        flight.up = False
        self._count -= 1
        if flight.timer is not None:
            flight.timer.close()
        self._answer_all(flight, entry, layer, FLIGHT)
        self.step()

    def _answer_all(self, flight: Flight, entry: Entry, layer: int, others: int) -> None:
        """Answer all clients; they count as answered now, even if that takes a few turns of the hub."""
        waiters, flight.waiters, flight.seen = flight.waiters, [], None
        self.waiting -= len(waiters)
        for _, _, _, prefix in waiters:
            if prefix:
                left = self._waiting_of.pop(prefix) - 1
                if left:
                    self._waiting_of[prefix] = left
        if self._crew.pressed and self.waiting * 4 < self._max_waiting:
            self._crew.pressed = False
        if waiters:
            self._delivering += 1
            if self._quiet:
                self._hub.loop.run_callback(self._deliver, waiters, 0, entry, layer, others)
            else:
                self._deliver(waiters, 0, entry, layer, others)

    def _deliver(self, waiters: list[Any], start: int, entry: Entry, layer: int, others: int) -> None:
        """Answer a slice of the clients, the first from `layer` and the rest from `others`; then the next slice."""
        stop = min(start + SLICE, len(waiters))
        for index in range(start, stop):
            channel, query, client, _ = waiters[index]
            try:
                channel.answer(query, client, entry, layer)
            except Exception:
                log.exception("internal error while an answer was sent: it is lost")
            layer = others
        if stop < len(waiters):
            self._hub.loop.run_callback(self._deliver, waiters, stop, entry, layer, others)
            self.step()
        else:
            self._delivering -= 1

    def _fly(self, flight: Flight) -> None:
        """Runs on a greenlet of the crew."""
        self.step()
        try:
            self._pilot.fly(flight)
        except Exception:
            log.exception("internal error while a question was resolved: its clients get SERVFAIL")
        finally:
            if flight.up:
                self.land(flight, self._pilot.give_up(flight), FAILURE)

    def step(self) -> None:
        """Called between the steps of flights: read datagrams if that is due."""
        now = clock.monotonic()
        if now - self._looked >= TURN and not self._quiet:
            self._looked = now
            for drain in self.drains:
                drain()


def _repeats(flight: Flight, asker: tuple[Channel, Any, bytes]) -> bool:
    """Whether a waiting client has sent the same message from the same address."""
    if flight.seen is None:
        flight.seen = {(channel, client[0], query.data) for channel, query, client, _ in flight.waiters if client}
    return asker in flight.seen
