"""Control events: what a person tells all workers at once, how a worker catches up, and the proof that it is done.

An event is announced on the control channel and kept in the control stream. Each worker applies it and says so on the
channel for acknowledgements. A worker that was away applies what it missed before it uses Redis again; one that has
missed a single message notices by the next, or by looking at the newest event with each heartbeat.

Where a worker knows of events that the stream does not have, Redis has gone back in time, and what these events had
deleted may be there again: they are announced once more.
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
#: Where there is none yet.
FIRST = [(NO_EVENT, NOT_READ)]
#: Events that are for the supervisor: it reads its configuration again, or makes way for its next image.
ORDERS = ("reload", "restart")
#: The event that says that names are decided otherwise.
POLICY = "policy"
#: Flushes that wait to be applied; with more of them everything is forgotten.
MOST_WAITING = 64
#: Of the events a worker learns of at once, as many are confirmed.
CONFIRMED = 20
#: Seconds between two looks into the stream, doubled as often while messages keep being missed. When it could not be
#: read as often, L1 is forgotten.
AGAIN, MOST_FAILURES = 0.05, 5
#: Seconds that a register may be older than our last look at it, for being new.
NEW = 1.0


def _first_of(told: dict[str, Any], event_id: bytes) -> bytes:
    """The event that announced a flush for the first time: this one, unless it says that it is the second."""
    first = str(told.get("of", "")).encode("ascii", "replace")
    return first if _EVENT_ID.fullmatch(first) and order(first) < order(event_id) else event_id


def _is_policy(raw: bytes) -> bool:
    try:
        return read_object(raw, LONGEST_EVENT).get("event") == POLICY
    except ValueError:
        return False


class Control:
    """This worker's ear for control events; `flushes` are those that it knows of."""

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
        #: Whether we know all events up to now; not while the connection is new.
        self.caught_up = False
        #: The last event applied; None before the first attach, when there is nothing yet that a flush could mean.
        self._last: bytes | None = None
        #: When that was last seen in the stream (monotonic).
        self._sure = 0.0
        self.flushes = flushes
        #: What was said that nobody can read.
        self.odd = Throttled(log)
        #: Events learnt after the fact, or not at all.
        self.missed = 0
        #: Events of which we were told that not everybody confirmed them.
        self.unconfirmed = 0
        #: The event after our last one, as of the last look, if there was one.
        self._later = b""
        #: Whether our last event could not be read: then it may be of any size, and is not asked for again.
        self._bulky = False
        #: Flushes of L1 that are still to be done, each with the events it is for.
        self._waiting: deque[tuple[Scope, Sequence[bytes]]] = deque()
        self._forgetting = Forgetting(lambda ids: self._begin(Scope(), ids))
        self._sweeper: gevent.Greenlet | None = None
        self._looks = Looks(names, self._worker_id, local, servers, self._unread)
        #: Whether something has been missed, and who sees to it.
        self._gap = False
        self._mender: gevent.Greenlet | None = None

    @property
    def seen(self) -> str:
        """The event that we have heard of last; empty when there was none."""
        last = self._last or NO_EVENT
        return last.decode() if last != NO_EVENT else ""

    def hear(self, payload: bytes) -> None:
        """An event that has just been announced. Called in the hub."""
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
        """Note an event, if it is the next one; else find out what happened in between."""
        last = self._last or NO_EVENT
        if not self.caught_up or order(event_id) <= order(last):  # it will be learnt, or has been
            return
        if told is not None and str(told.get("after")).encode("ascii", "replace") == last:
            self._set_last(event_id, raw)
        else:
            self.learn_anew()

    def opened(self) -> None:
        """A new connection: it is to be learnt what was missed before L1 answers again."""
        self.caught_up = False
        self._later = b""
        self._local.hold()

    def look(self) -> None:
        """See whether we know all events there are, and what is to be deleted still."""
        self._servers.touch()
        self._servers.send(self.stream.look_under_way(), self._under_way)
        last = self._last or NO_EVENT
        told = (last, int(last != NO_EVENT and not self._bulky))
        self._servers.send(
            (b"EVAL", SEEN.source, b"1", self.channel, *told), lambda result: self._compare(last, result)
        )

    def _compare(self, last: bytes, result: Any) -> None:
        """Take what Redis tells of the event that was our last.

        One after it that was there at the look before is to be known by now: where messages pass from node to node they
        can get lost on a connection that lives. And the one that we know cannot be missing.
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
        """Unless another worker does it."""
        if isinstance(result, list) and result[0] in (b"OK", "OK"):
            self._chores.delete(flush, scope)

    def closed(self) -> None:
        self._local.release()

    def catch_up(self) -> None:
        """Apply what was missed; forget everything when that cannot be known. Called while the link is attaching.

        Raises StoreDown when Redis will be able to tell before long.
        """
        self._learn(attaching=True)
        self._policy.learn()
        self.caught_up = True
        self._local.release()

    def learn_anew(self) -> None:
        """A message was lost, or may have been: learn what it was, without letting go of the connection."""
        self._gap = True
        if self._mender is None:
            self._mender = gevent.spawn(self._mend)

    def _mend(self) -> None:
        """Until nothing is missing, or the connection is lost: then it is learnt while attaching."""
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
        """Read the stream from the last event on."""
        known, under_way = self._last, self.flushes.under_way
        heard = list(under_way)
        try:
            events = self.stream.latest(REMEMBERED) if known is None else self.stream.since(known)
            told = self.stream.under_way()
        except StoreRefused as problem:
            log.warning("flush events cannot be read, so L1 is emptied: %s", problem)
            return self._forget()
        if known is None:  # whatever L1 holds may be older than the last flush
            self._first_look(events)
        elif len(events) > EVENTS_KEPT:  # more than anybody keeps: not all have been read
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
        """Note what there is, and which flushes were done before: a shard that goes back could bring them back."""
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
        """Events that were missed, in their order."""
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
        """The last event we know is not in the stream: too many came since, or Redis does not know of it any more.

        Nothing is taken for known before what was lost is deleted again. Raises StoreDown when that cannot be done.
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
        """The flushes that Redis has forgotten; none when it has forgotten the entries as well."""
        if self.stream.register_age() < time.monotonic() - self._sure + NEW:
            return []  # a new register: Redis has restarted empty
        return self.flushes.lost(known, self.stream.before(known))

    def _set_last(self, event_id: bytes, raw: bytes) -> None:
        self._last, self._bulky, self._sure = event_id, not raw, time.monotonic()

    def _read(self, raw: bytes) -> dict[str, Any] | None:
        """An event's fields; None, with a warning, when it cannot be read: then it could mean anything."""
        try:
            told = read_object(raw, LONGEST_EVENT)
            if isinstance(told.get("event"), str):
                return told
            problem = "no event in it"
        except ValueError as error:
            problem = str(error)
        self._unread(f"a control event could not be read, so L1 is forgotten ({problem})", raw)
        return None

    def _scope(self, told: dict[str, Any]) -> Scope:
        try:
            return Scope.of(told)
        except ValueError as error:
            self._unread(f"a flush could not be read, so everything is flushed ({error})", str(told).encode())
            return Scope()

    def _unread(self, problem: str, raw: bytes) -> None:
        """Anyone who may publish can send as many as they like: the log is not theirs to fill."""
        self.odd.warn(f"{problem}: {raw[:200]!r}", time.monotonic())

    def _forget(self) -> None:
        self._local.begin_flush(Scope())
        self._local.sweep([Scope()])

    def _note(self, event_id: bytes, scope: Scope, first: bytes) -> bool:
        """Note a flush; returns whether L1 is to be swept: not at its end, when it has been under way for us."""
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
        """Take flights out of the way now, and sweep L1 as soon as it is its turn."""
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
                breath.take()  # many small ones are long as well
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
