"""Control events: orders to all workers, how a worker catches up with them, and its confirmations.

An event is announced on the control channel and kept in the control stream. Each worker applies it and confirms that on
the channel for acknowledgements. A worker that was away applies the events it missed before it uses Redis again; one
that has missed a single message notices at the next one, or when it looks at the stream with each heartbeat.

If a worker knows of events that the stream lacks, Redis has gone back in time, and entries that these events deleted
may be back: the events are announced again.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import gevent

from rdnscache.breath import Breath
from rdnscache.errors import StoreDown, StoreRefused
from rdnscache.logs import Throttled
from rdnscache.store.alone import BEGUN, HELD
from rdnscache.store.contract import EVENTS_KEPT, LOOK, Names
from rdnscache.store.event_stream import NO_EVENT, NOT_READ, Stream
from rdnscache.store.flushes import MOST_MISSED, REMEMBERED, Flushes
from rdnscache.store.foreign_json import read_object
from rdnscache.store.forgetting import Forgetting
from rdnscache.store.local import Chores, Local
from rdnscache.store.looks import Looks
from rdnscache.store.policy_events import PolicyEvents
from rdnscache.store.scope import Scope
from rdnscache.store.servers import Servers
from rdnscache.store.steering import LONGEST_EVENT, SEEN, UNCONFIRMED, WorkerId, order

log = logging.getLogger(__name__)

_EVENT_ID = re.compile(rb"[0-9]{1,19}-[0-9]{1,19}")
#: The last event of an empty stream.
FIRST = [(NO_EVENT, NOT_READ)]
#: Events for the supervisor: it reads its configuration again, or is replaced by its next image.
ORDERS = ("reload", "restart")
#: The event that says that the policy for names has changed.
POLICY = "policy"
#: Flushes that wait to be applied; with more of them everything is flushed.
MOST_WAITING = 64
#: When a worker learns of several events at once, the last CONFIRMED of them are confirmed.
CONFIRMED = 20
#: Seconds between two readings of the stream, doubled up to MOST_FAILURES times while messages keep being missed. After
#: MOST_FAILURES failures in a row L1 is flushed.
AGAIN, MOST_FAILURES = 0.05, 5
#: Tolerance in seconds when deciding whether the register is newer than our last look at the stream.
NEW = 1.0


def _first_of(told: dict[str, Any], event_id: bytes) -> bytes:
    """The event that announced a flush first: this one, unless it says that it is the second."""
    first = str(told.get("of", "")).encode("ascii", "replace")
    return first if _EVENT_ID.fullmatch(first) and order(first) < order(event_id) else event_id


def _is_policy(raw: bytes) -> bool:
    try:
        return read_object(raw, LONGEST_EVENT).get("event") == POLICY
    except ValueError:
        return False


class Control:
    """Receives and applies control events in this worker; `flushes` are those that it knows of."""

    def __init__(
        self, names: Names, worker_id: WorkerId, local: Local, flushes: Flushes, servers: Servers, chores: Chores
    ) -> None:
        self.channel = names.control
        self.stream = Stream(names, servers)
        self._names = names
        self._acks = names.acks
        self._node = worker_id.node
        self._worker_id = {"node": worker_id.node, "incarnation": worker_id.incarnation, "worker": worker_id.worker}
        self._local = local
        self._chores = chores
        self._policy = PolicyEvents(names, servers, local, self._confirm)
        self._servers = servers
        #: Whether all events up to now are known; not while the connection is new.
        self.caught_up = False
        #: The last event applied; None before the first attach, when L1 is still empty.
        self._last: bytes | None = None
        #: When that was last seen in the stream (monotonic).
        self._sure = 0.0
        self.flushes = flushes
        #: Warnings about unreadable messages.
        self.odd = Throttled(log)
        #: Events learnt late, or not at all.
        self.missed = 0
        #: Events reported to this worker as not confirmed by all.
        self.unconfirmed = 0
        #: The event after our last one at the last look; empty if there was none.
        self._later = b""
        #: Whether our last event could not be read: then it may be of any size, and is not read again.
        self._bulky = False
        #: Flushes of L1 that wait to be done, each with its events.
        self._waiting: deque[tuple[Scope, Sequence[bytes]]] = deque()
        self._forgetting = Forgetting(lambda ids: self._begin(Scope(), ids))
        self._sweeper: gevent.Greenlet | None = None
        self._looks = Looks(names, self._worker_id, local, servers, self._unread)
        #: Whether an event has been missed, and the greenlet that learns which.
        self._gap = False
        self._mender: gevent.Greenlet | None = None

    @property
    def seen(self) -> str:
        """The last event heard of; empty if there was none."""
        last = self._last or NO_EVENT
        return last.decode() if last != NO_EVENT else ""

    def hear(self, payload: bytes) -> None:
        """Apply an event that has just been announced. Called in the hub."""
        event_id, _, raw = payload[: LONGEST_EVENT + 100].partition(b" ")
        if event_id == LOOK:
            return self._looks.ask(raw)
        if _EVENT_ID.fullmatch(event_id) is None:
            return self._unread("not a control event", event_id)
        told = self._read(raw)
        self._follow_on(event_id, raw, told)
        if told is None:
            self._flush(Scope(), event_id, event_id)
        elif told["event"] == "flush":
            self._flush(self._scope(told), event_id, _first_of(told, event_id))
        elif told["event"] == POLICY:
            self._policy.order([event_id])
        elif told["event"] == UNCONFIRMED:
            self.unconfirmed += self._worker_id.items() <= told.items()
        elif told["event"] in ORDERS and told.get("node") in (None, self._node):
            self._local.order(told["event"], event_id.decode())
        return None

    def _follow_on(self, event_id: bytes, raw: bytes, told: dict[str, Any] | None) -> None:
        """Note an event if it is the next one; else learn which ones were missed."""
        last = self._last or NO_EVENT
        if not self.caught_up or order(event_id) <= order(last):  # it is learnt while catching up, or is known
            return
        if told is not None and str(told.get("after")).encode("ascii", "replace") == last:
            self._set_last(event_id, raw)
        else:
            self.learn_anew()

    def opened(self) -> None:
        """There is a new connection: L1 does not answer until missed events are known."""
        self.caught_up = False
        self._later = b""
        self._local.hold()

    def look(self) -> None:
        """Check with each heartbeat whether all events are known, and which flushes still have entries to delete."""
        self._servers.touch()
        self._servers.send(self.stream.look_under_way(), self._under_way)
        last = self._last or NO_EVENT
        told = (last, int(last != NO_EVENT and not self._bulky))
        self._servers.send(
            (b"EVAL", SEEN.source, b"1", self.channel, *told), lambda result: self._compare(last, result)
        )

    def _compare(self, last: bytes, result: Any) -> None:
        """Take the reply about the event that was our last one.

        If the stream lacks it, or has a later one that was there at the previous look already, messages were missed:
        between the nodes of a Redis Cluster they can get lost although our connection works.
        """
        reply = result[0] if isinstance(result, list) else result
        if not self.caught_up or not isinstance(reply, list) or last != (self._last or NO_EVENT):
            return
        there, later = reply
        if there:
            self._sure = time.monotonic()
        if not there or (later and later == self._later):
            self.learn_anew()
        self._later = later

    def _under_way(self, result: Any) -> None:
        told = result[0] if isinstance(result, list) else None
        if self.caught_up and isinstance(told, list):
            for flush, scope in self.flushes.under_way.take(told):
                lock = (b"SET", self._names.deleting(flush.decode()), BEGUN, b"NX", b"PX", HELD)
                self._servers.send(lock, partial(self._delete, flush, scope))

    def _delete(self, flush: bytes, scope: Scope, result: Any) -> None:
        """Delete the entries of a flush if the lock was obtained; else another worker does it."""
        if isinstance(result, list) and result[0] in (b"OK", "OK"):
            self._chores.delete(flush, scope)

    def closed(self) -> None:
        self._local.release()

    def catch_up(self) -> None:
        """Apply missed events; flush everything if they cannot be known. Called while the link is attaching.

        Raises StoreDown if Redis is likely to answer soon.
        """
        self._learn(attaching=True)
        self._policy.learn()
        self.caught_up = True
        self._local.release()

    def learn_anew(self) -> None:
        """Read the stream because a message may have been lost; the connection is kept."""
        self._gap = True
        if self._mender is None:
            self._mender = gevent.spawn(self._mend)

    def _mend(self) -> None:
        """Read the stream until nothing is missing, or the connection is lost: then `catch_up` does it."""
        failures = looks = 0
        try:
            while self._gap and self.caught_up and self._servers.attached:
                try:
                    self._gap = False
                    self._learn(attaching=False)
                    failures = 0
                except StoreDown:
                    self._gap, failures = True, failures + 1
                    if failures == MOST_FAILURES:
                        self._forget()
                gevent.sleep(AGAIN * 2 ** min(looks, MOST_FAILURES))
                looks += 1
        finally:
            self._mender = None

    def _learn(self, attaching: bool) -> None:
        """Read the stream from the last known event on and apply the events after it."""
        known, under_way = self._last, self.flushes.under_way
        heard = list(under_way)
        try:
            events = self.stream.latest(REMEMBERED) if known is None else self.stream.since(known)
            told = self.stream.under_way()
        except StoreRefused as problem:
            log.warning("flush events cannot be read, so L1 is emptied: %s", problem)
            return self._forget()
        if known is None:  # entries in L1 may be older than the last flush
            self._first_look(events)
        elif len(events) > EVENTS_KEPT:  # not all of them have been read
            self.missed += len(events)
            events = self.stream.newest(CONFIRMED)
            self._set_last(*(events or FIRST)[-1])
            self._forget()
        elif known != NO_EVENT and (not events or events[0][0] != known):
            self._lose(known, events)
        else:
            events = events[1:] if known != NO_EVENT else events
            if events:
                self._set_last(*events[-1])
            events = [event for event in events if event[0] not in self.flushes]
            self._apply(events)
        under_way.take(told)
        under_way.cap(heard, self._last or NO_EVENT)
        self._servers.verify()
        orders = [event_id for event_id, raw in events if _is_policy(raw)]
        if orders or not attaching:
            self._policy.order(orders)
        self._confirm([event_id for event_id, _ in events[-CONFIRMED:] if event_id not in orders], 0, attaching)
        return None

    def _first_look(self, events: list[tuple[bytes, bytes]]) -> None:
        """Note the last event and the flushes done before: a shard that goes back in time could undo them."""
        self._set_last(*(events or FIRST)[-1])
        last = self._last or NO_EVENT
        self.flushes.begin(last, last)
        for event_id, raw in events:
            told = self._read(raw) if raw else None
            if told is not None and told["event"] == "flush" and (first := _first_of(told, event_id)) != event_id:
                self.flushes.note_done(first, self._scope(told))
        if events:
            self._forget()

    def _apply(self, events: list[tuple[bytes, bytes]]) -> None:
        """Apply missed events in their order."""
        self.missed += len(events)
        scopes = []
        for event_id, raw in events:
            told = self._read(raw)
            if told is None or told["event"] == "flush":
                scope = self._scope(told) if told is not None else Scope()
                if self._note(event_id, scope, _first_of(told or {}, event_id)):
                    scopes.append(scope)
        if len(scopes) > MOST_MISSED:
            scopes = [Scope()]
        for scope in scopes:
            self._local.begin_flush(scope)
        if scopes:
            count = sum(self._local.sweep(scopes))
            log.info("flushed %d entries from L1, of flushes that were missed: %s", count, "; ".join(map(str, scopes)))

    def _lose(self, known: bytes, events: list[tuple[bytes, bytes]]) -> None:
        """Handle a stream without our last event: too many came since, or Redis has gone back in time.

        Events become known only after the entries of lost flushes are deleted again. Raises StoreDown if that fails.
        """
        lost = self._lost(known) if len(events) < EVENTS_KEPT - 1 else []
        self._forget()
        if lost:
            log.warning("Redis has lost the flush of %s: it is announced again", lost[-1][1])
            self._chores.announce_again(self._servers, lost)
        self._set_last(*(events or self.stream.newest(1) or FIRST)[-1])
        self.missed += len(events)
        self.flushes.begin(self._last or NO_EVENT, known)

    def _lost(self, known: bytes) -> list[tuple[bytes, Scope]]:
        """The flushes that Redis has lost; none if it has lost the entries as well."""
        if self.stream.register_age() < time.monotonic() - self._sure + NEW:
            return []  # the register is new: Redis has restarted empty
        return self.flushes.lost(known, self.stream.before(known))

    def _set_last(self, event_id: bytes, raw: bytes) -> None:
        self._last, self._bulky, self._sure = event_id, not raw, time.monotonic()

    def _read(self, raw: bytes) -> dict[str, Any] | None:
        """An event's fields; None, with a warning, if it cannot be read: then it counts as a flush of everything."""
        try:
            told = read_object(raw, LONGEST_EVENT)
            if isinstance(told.get("event"), str):
                return told
            problem = "it has no field `event`"
        except ValueError as error:
            problem = str(error)
        self._unread(f"a control event cannot be read, so L1 is emptied ({problem})", raw)
        return None

    def _scope(self, told: dict[str, Any]) -> Scope:
        try:
            return Scope.of(told)
        except ValueError as error:
            self._unread(f"a flush cannot be read, so everything is flushed ({error})", str(told).encode())
            return Scope()

    def _unread(self, problem: str, raw: bytes) -> None:
        """Log a message that cannot be read; throttled, since anyone who may publish can send any number of them."""
        self.odd.warn(f"{problem}: {raw[:200]!r}", time.monotonic())

    def _forget(self) -> None:
        self._local.begin_flush(Scope())
        self._local.sweep([Scope()])

    def _note(self, event_id: bytes, scope: Scope, first: bytes) -> bool:
        """Note a flush; returns whether L1 has to be swept: not at its end, if its beginning was heard."""
        self.flushes.note(event_id, scope, first)
        if first != event_id:
            return not self.flushes.under_way.end(first)
        self.flushes.under_way.begin(event_id, scope)
        return True

    def _flush(self, scope: Scope, event_id: bytes, first: bytes) -> None:
        if not self._note(event_id, scope, first):
            self._confirm([event_id], 0, learnt=False)
        elif scope.everything:
            self._forgetting.order([event_id])
        else:
            self._begin(scope, [event_id])

    def _begin(self, scope: Scope, ids: Sequence[bytes]) -> None:
        """Begin a flush for flights now, and sweep L1 after the flushes that wait already."""
        self._local.begin_flush(scope)
        self._waiting.append((scope, ids))
        if len(self._waiting) > MOST_WAITING:
            ids = [each for _, ids in self._waiting for each in ids]
            self._waiting.clear()
            self._forgetting.order(ids)
        if self._sweeper is None:
            self._sweeper = gevent.spawn(self._sweep)

    def _sweep(self) -> None:
        breath = Breath()
        try:
            while self._waiting:
                breath.take()  # many short sweeps take long as well
                waiting = list(self._waiting)
                self._waiting.clear()
                events = [ids for _, ids in waiting]
                counts = self._local.sweep([scope for scope, _ in waiting], partial(self._swept, events))
                for (scope, _), count in zip(waiting, counts, strict=True):
                    if count:
                        log.info("flushed %d entries from L1: %s", count, scope)
        finally:
            self._sweeper = None

    def _swept(self, events: list[Sequence[bytes]], counts: list[int]) -> None:
        while events:
            self._confirm(events.pop(0), counts[-len(events) - 1], learnt=False)

    def _confirm(self, ids: Sequence[bytes], entries: int, learnt: bool) -> None:
        breath = Breath()
        for event_id in ids:
            breath.take()
            done = {"event": event_id.decode(), **self._worker_id, "entries": entries, "learnt": learnt}
            self._servers.tell((b"PUBLISH", self._acks, json.dumps(done)))
