"""Local single flight: at most one resolution per key leaves this process, everybody else waits for what it brings.

Flights are flown by long-lived greenlets: a new greenlet costs more than everything else a miss does.
They are made when needed, up to a bound, and stay. The number of waiting clients is bounded as well; beyond it we shed.
Hits come first: however many flights want to go on at once, the sockets are looked at between their steps.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent import get_hub, getcurrent

from rdnscache import clock, metrics
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import Query

log = logging.getLogger(__name__)

#: Seconds that flights may go on before the sockets get a turn.
TURN = 0.00025


class Channel(Protocol):
    """Where a waiting client is answered: a UDP listener or a TCP connection."""

    def answer(self, query: Query, client: Any, entry: Entry | None, layer: int) -> None:
        """Send the reply made from `entry`; None is REFUSED: recursion was not desired and nothing is cached.

        `layer` is the column of metrics.LAYERS to count it under.
        """


class Flight:
    """One resolution in progress, and everyone who waits for it. `since` is a moment of `clock.now`."""

    __slots__ = ("flushed", "key", "recursion", "renewal", "since", "stale", "timer", "up", "waiters")

    def __init__(self, key: bytes, since: float) -> None:
        self.key = key
        self.since = since
        #: Whether somebody set RD; without, nothing is forwarded.
        self.recursion = False
        #: Seconds an entry must have left to count as fresh: nobody waits, one that is about to end is asked for anew.
        self.renewal = 0
        #: What those who wait are answered with when it takes long, or fails; and the timer that goes off then.
        self.stale: Entry | None = None
        self.timer: Any = None
        #: Whether it was up during a flush that means its question: what it brings is for those who wait, nobody else.
        self.flushed = False
        #: Until it has landed.
        self.up = True
        self.waiters: list[tuple[Channel, Query, Any]] = []


class Flights:
    """The flights up in this worker.

    `resolve` takes a flight and ends by landing it; when it fails to, `give_up` is asked for an entry to land with.
    """

    def __init__(
        self,
        resolve: Callable[[Flight], None],
        give_up: Callable[[Flight], Entry],
        max_greenlets: int,
        max_waiting: int,
    ) -> None:
        self._resolve = resolve
        self._give_up = give_up
        self._max_greenlets = max_greenlets
        self._max_waiting = max_waiting
        #: Those that can be joined; a flush takes flights out of here before they land.
        self._up: dict[bytes, Flight] = {}
        self._count = 0
        self._queue: deque[Flight] = deque()
        self._idle: list[Callable[[Flight], None]] = []
        self._crew: list[gevent.Greenlet] = []
        self._hub = get_hub()
        #: Clients waiting, over all flights.
        self.waiting = 0
        #: Called with a flight that somebody joins though it was begun with nobody waiting.
        self.on_join: Callable[[Flight], None] = lambda flight: None
        #: What to call so that datagrams get their turn.
        self.drains: list[Callable[[], None]] = []
        self._looked = 0.0

    def __len__(self) -> int:
        return self._count

    def join(self, channel: Channel, query: Query, client: Any) -> bool:
        """Wait on the flight for this question, started if need be. False when too many clients wait already."""
        if self.waiting >= self._max_waiting:
            return False
        self.waiting += 1
        flight = self._up.get(query.key)
        if flight is None:
            flight = self._up[query.key] = Flight(query.key, clock.now())
            self._start(flight)
        elif flight.renewal:
            self.on_join(flight)
        flight.waiters.append((channel, query, client))
        if query.data[2] & 0x01:
            flight.recursion = True
        return True

    def renew(self, key: bytes, left: int) -> bool:
        """Ask anew for what is still fresh, but not for `left` seconds more. Not when much is going on; True if so."""
        if key in self._up or len(self._up) >= self._max_greenlets // 2:
            return False
        flight = self._up[key] = Flight(key, clock.now())
        flight.recursion = True
        flight.renewal = left
        self._start(flight)
        return True

    def has(self, flight: Flight) -> bool:
        """Whether it is still up."""
        return flight.up

    def meant(self, holds: Callable[[bytes], bool]) -> list[Flight]:
        """The flights that can be joined whose key is meant."""
        return [flight for key, flight in self._up.items() if holds(key)]

    def set_aside(self, flight: Flight) -> None:
        """Let nobody join it any more: whoever asks from now on starts anew. It lands for those who wait already."""
        if self._up.get(flight.key) is flight:
            del self._up[flight.key]

    def answer(self, flight: Flight, entry: Entry, layer: int) -> None:
        """Answer everybody on a flight that goes on."""
        waiters, flight.waiters = flight.waiters, []
        self.waiting -= len(waiters)
        for channel, query, client in waiters:
            try:
                channel.answer(query, client, entry, layer)
            except Exception:
                log.exception("an answer could not be sent")

    def _start(self, flight: Flight) -> None:
        self._count += 1
        if self._idle:
            self._hub.loop.run_callback(self._idle.pop(), flight)
            return
        self._queue.append(flight)
        if len(self._crew) < self._max_greenlets:
            self._crew.append(gevent.spawn(self._fly))

    def _fly(self) -> None:
        """One greenlet of the crew: flight after flight."""
        switch = getcurrent().switch
        while True:
            if self._queue:
                flight = self._queue.popleft()
            else:
                self._idle.append(switch)
                flight = self._hub.switch()
            self.step()
            try:
                self._resolve(flight)
            except Exception:
                log.exception("a flight failed")
            finally:
                if self.has(flight):
                    self.land(flight, self._give_up(flight), metrics.FAILURE)

    def land(self, flight: Flight, entry: Entry | None, layer: int) -> None:
        """End a flight: whoever asks from now on finds L1 or starts a new one; then everybody is answered.

        `layer` is where the entry comes from; those who joined have it from the flight.
        """
        self.set_aside(flight)
        flight.up = False
        self._count -= 1
        if flight.timer is not None:
            flight.timer.close()
        self.waiting -= len(flight.waiters)
        for channel, query, client in flight.waiters:
            try:
                channel.answer(query, client, entry, layer)
            except Exception:
                log.exception("an answer could not be sent")
            layer = metrics.FLIGHT
        self.step()

    def step(self) -> None:
        """Called between the steps of flights."""
        now = time.monotonic()
        if now - self._looked >= TURN:
            self._looked = now
            for drain in self.drains:
                drain()
