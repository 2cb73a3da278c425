"""Local single flight: at most one resolution per key leaves this process, everybody else waits for what it brings.

How many clients may wait is bounded, in all and for each client; beyond that we shed, once nothing is left that has
taken long (see `crew`).
Hits come first: however many flights want to go on at once, the sockets are looked at between their steps.
"""

from __future__ import annotations

import logging
import time
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

#: Seconds that flights may go on before the sockets get a turn.
TURN = 0.00025
#: Replies sent before others get theirs.
SLICE = 100
#: Longest chain of flights of which each needs the next, such as for an alias of an alias.
MOST_LINKS = 8


class Channel(Protocol):
    """Where a waiting client is answered: a UDP listener or a TCP connection.

    One that `flies` belongs to a flight that needs the answer to go on: it is called on that flight's greenlet. Its
    `links` and `until` become those of the flight it starts.
    """

    def answer(self, query: Query, client: Any, entry: Entry, layer: int) -> None:
        """Send the reply made from `entry`, which `layer` had; one of outcomes.LAYERS."""


class Pilot(Protocol):
    """Who resolves flights: the resolver."""

    def fly(self, flight: Flight) -> None:
        """Resolve it, and end by landing it. Runs on a greenlet of the crew."""

    def joined(self, flight: Flight) -> None:
        """A client joins a flight that was begun with nobody waiting."""

    def shed(self, flight: Flight, reason: int) -> None:
        """Land one that has waited too long or makes room for others, and count those who waited."""

    def give_up(self, flight: Flight) -> Entry:
        """What to land one with that `fly` has left unlanded, by an error."""

    def delay(self, now: float) -> float:
        """By how many seconds the quickest answers come later than they did; negative when that is not known."""


class Flight(Task):
    """One resolution in progress, and everyone who waits for it."""

    __slots__ = ("asked", "flushed", "links", "needs", "recursion", "renewal", "route", "seen", "stale", "timer",
                 "until", "waiters")  # fmt: skip

    def __init__(self, key: bytes, since: float, client: bytes) -> None:
        # what Task and Holder do; their constructors cost as much as all else about a flight that begins
        self.shares = ()
        self.firm = False
        self.key = key
        self.since = self.began = since
        self.client = client
        self.zone = b""
        self.up = True
        self.flyer = None
        #: Where its question goes, once it is known.
        self.route: Any = None
        #: Whether somebody set RD; without, nothing is forwarded.
        self.recursion = False
        #: Seconds an entry must have left to count as fresh: nobody waits, an entry about to expire is being refreshed.
        self.renewal = 0
        #: What those who wait are answered with when it takes long, or fails; and the timer that goes off then.
        self.stale: Entry | None = None
        self.timer: Any = None
        #: Whether it was up during a flush that means its question: L1 keeps nothing that it brings.
        self.flushed = False
        #: How many flushes had been heard of when its upstream was asked.
        self.asked = 0
        #: The key whose answer it is waiting for; how long the chain of flights is that need this one; and when the
        #: clients of that chain are answered at the latest (`clock.now`), 0 if that is not set.
        self.needs = b""
        self.links = 0
        self.until = 0.0
        #: With the prefix of each client.
        self.waiters: list[tuple[Channel, Query, Any, bytes]] = []
        #: Who waits over UDP, by channel, address and message, once there are several.
        self.seen: set[tuple[Channel, Any, bytes]] | None = None


class Flights:
    """The flights up in this worker.

    `pilot` resolves them. It has to know this object in turn, to land them: `worker` tells it.
    """

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
        #: Those that can be joined; a flush takes flights out of here before they land.
        self._up: dict[bytes, Flight] = {}
        self._count = 0
        self._crew = Crew(self._fly, self._make_way, max_flights, pilot.delay)
        self._hub = get_hub()
        #: Clients waiting, over all flights; and by prefix.
        self.waiting = 0
        self._waiting_of: dict[bytes, int] = {}
        #: Deliveries that go on in the next turn; whether all have to, because we are in the middle of a batch.
        self._delivering = 0
        self._quiet = False
        #: What to call so that datagrams get their turn.
        self.drains: list[Callable[[], None]] = []
        self._looked = 0.0

    def __len__(self) -> int:
        """Flights that have not landed, and those whose clients are being answered."""
        return self._count + self._delivering

    def join(self, channel: Channel, query: Query, client: Any, now: float) -> int:
        """Wait on the flight for this question, started if need be: JOINED, REPEATED, or GREEDY or FULL.

        `client` is None, or a tuple whose first item is the address the reply goes to: who repeats a query from there
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
            flight = self._up.get(key)  # it may be the one that has just made room
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
        """Fly what a flight needs on its own greenlet: if it waited for another one, all could wait for each other."""
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
            if flight.up:  # an error, or the flight that needs it makes way, and this one with it
                self._pilot.shed(flight, SHED_CROWDED)
        return JOINED

    def renew(self, key: bytes, left: int) -> bool:
        """Start a prefetch of an entry that expires within `left` seconds, unless we are busy; True if started."""
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
        """Whether enough of a client's flights could be given up for a question of its own."""
        while self._crew.give_up_oldest_of(prefix, key, now):
            if self._waiting_of.get(prefix, 0) < self._max_client_waiting:
                return True
        return False

    def _make_all_wait_less(self, now: float) -> bool:
        """Whether enough flights could be given up that have lasted too long."""
        while self._crew.give_up_oldest(now):
            if self.waiting < self._max_waiting:
                return True
        return False

    def _make_way(self, flight: Flight, reason: int) -> None:
        """Land a flight for the sake of others; not now, but in the next turn those who wait are answered."""
        quiet, self._quiet = self._quiet, True
        try:
            self._pilot.shed(flight, reason)
        finally:
            self._quiet = quiet

    def has(self, flight: Flight) -> bool:
        """Whether it is still up."""
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
        """The flights that can be joined whose key is meant."""
        return [flight for key, flight in self._up.items() if holds(key)]

    def set_aside(self, flight: Flight) -> None:
        """Let nobody join it any more: later questions start a new flight. It lands for those who wait already."""
        if self._up.get(flight.key) is flight:
            del self._up[flight.key]

    def answer(self, flight: Flight, entry: Entry, layer: int) -> None:
        """Answer everybody on a flight that goes on."""
        self._answer_all(flight, entry, layer, layer)

    def land(self, flight: Flight, entry: Entry, layer: int) -> None:
        """End a flight: later questions find L1 or start a new one; then everybody who waits is answered.

        `layer` is where the entry comes from; those who joined have it from the flight.
        """
        self.set_aside(flight)
        flight.up = False
        self._count -= 1
        if flight.timer is not None:
            flight.timer.close()
        self._answer_all(flight, entry, layer, FLIGHT)
        self.step()

    def _answer_all(self, flight: Flight, entry: Entry, layer: int, others: int) -> None:
        """Whom we answer counts as waiting no more, though it takes a few turns when they are many."""
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
        """Answer a slice of those who waited, the first from `layer` and the rest from `others`; then the next."""
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
        """Called between the steps of flights."""
        now = time.monotonic()
        if now - self._looked >= TURN and not self._quiet:
            self._looked = now
            for drain in self.drains:
                drain()


def _repeats(flight: Flight, asker: tuple[Channel, Any, bytes]) -> bool:
    """Whether somebody who waits has asked in the very same words, from the same place."""
    if flight.seen is None:
        flight.seen = {(channel, client[0], query.data) for channel, query, client, _ in flight.waiters if client}
    return asker in flight.seen
