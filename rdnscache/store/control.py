"""Control events: what a person tells all workers at once, how a worker catches up, and the proof that it is done.

An event is announced on the control channel and kept in the control stream. Each worker applies it and says so on the
channel for acknowledgements. A worker that was away applies what it missed before it uses Redis again.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any, Protocol

import gevent
import hiredis

from rdnscache.dns.names import parse_own_name
from rdnscache.errors import StoreDown
from rdnscache.lifeline import RELOAD, RESTART
from rdnscache.logs import Throttled
from rdnscache.store.contract import EVENTS_KEPT, LOOK, Names
from rdnscache.store.link import Link
from rdnscache.store.scope import Scope

if TYPE_CHECKING:
    from rdnscache.store.shards import Shards

log = logging.getLogger(__name__)

_EVENT_ID = re.compile(rb"[0-9]{1,19}-[0-9]{1,19}")
#: Before the first event.
NO_EVENT = b"0-0"
#: Errors of a server that will be able to tell before long.
PASSING = ("LOADING", "MASTERDOWN", "CLUSTERDOWN")


class Local(Protocol):
    """What control events act on in this worker."""

    def begin_flush(self, scope: Scope) -> None:
        """From now on flights that are meant bring nothing back. Called in the hub, in the order of events."""

    def flushes(self) -> int:
        """How many of them there have been."""

    def upstream_seconds(self) -> float:
        """How long upstreams take to answer; 0 when that is not known."""

    def look(self, name: bytes) -> list[dict[str, Any]]:
        """What L1 holds of a name, in words for people."""

    def sweep(self, scope: Scope, at_once: bool) -> int:
        """Forget what the scope holds; how many entries. Others run meanwhile, unless it is to be done at once."""

    def order(self, what: str, event: str) -> None:
        """Pass on to the supervisor that it is to read the configuration again, or to make way for its next image."""

    def introduce(self) -> None:
        """Say who we are: the link has just been attached."""

    def hold(self) -> None:
        """Answer nobody for a moment: there is a connection again, and what was missed is being learnt."""

    def release(self) -> None:
        """Go on answering."""


class Control:
    """This worker's ear for control events."""

    def __init__(self, names: Names, node: str, worker: int, local: Local) -> None:
        self.channel = names.control
        self._acks = names.acks
        self._node = node
        self._worker = worker
        self._local = local
        self.link: Link | Shards
        #: Whether we know all events up to now; not while the connection is new.
        self.caught_up = False
        #: The last event applied; None before the first attach, when there is nothing yet that a flush could mean.
        self._last: bytes | None = None
        #: What was said that nobody can read.
        self.odd = Throttled(log)
        #: Events learnt after the fact, or not at all.
        self.missed = 0
        #: The newest event there was at the last look.
        self._newest = NO_EVENT

    def hear(self, payload: bytes) -> None:
        """An event that has just been announced. Called in the hub."""
        event_id, _, raw = payload.partition(b" ")
        if event_id == LOOK:
            gevent.spawn(self._look, raw)
            return None
        if _EVENT_ID.fullmatch(event_id) is None:
            return self._unread("not a control event", event_id)
        if self.caught_up:
            self._last = event_id
        told = self._read(raw)
        if told is None:
            return None
        if told["event"] == "flush":
            self._flush(told, event_id, at_once=False)
        elif told["event"] == "reload" and told.get("node") in (None, self._node):
            self._local.order(RELOAD, event_id.decode())
        elif told["event"] == "restart" and told.get("node") in (None, self._node):
            self._local.order(RESTART, event_id.decode())
        return None

    def opened(self) -> None:
        """A new connection: it is to be learnt what was missed before L1 answers again."""
        self.caught_up = False
        self._newest = NO_EVENT
        self._local.hold()

    def compare(self, result: Any) -> None:
        """Take the newest event as XREVRANGE tells it: one that was there at the last look is to be known by now.

        Where messages pass from node to node they can get lost on a connection that lives.
        """
        if self.caught_up and _order(self._last or NO_EVENT) < _order(self._newest):
            self.link.listen_again("an event was not heard")
        events = result[0] if isinstance(result, list) else None
        self._newest = events[0][0] if isinstance(events, list) and events else NO_EVENT

    def closed(self) -> None:
        self._local.release()

    def catch_up(self) -> None:
        """Apply what was missed; forget everything when that cannot be known. Called while the link is attaching."""
        self._learn()
        self.caught_up = True
        self._local.release()

    def _learn(self) -> None:
        (events,) = self.link.setup((b"XRANGE", self.channel, self._last or b"-", b"+"))
        if isinstance(events, hiredis.ReplyError):
            if str(events).startswith(PASSING):
                raise StoreDown(str(events))
            return log.warning("control events cannot be read, a flush may be missed: %s", events)
        first_time, known, self._last = self._last is None, self._last, events[-1][0] if events else NO_EVENT
        if first_time:  # whatever L1 holds may be older than the last flush
            return self._forget() if events else None
        if known != NO_EVENT and (not events or events[0][0] != known):  # Redis lost its memory, or cut the stream
            return self._forget()
        if len(events) >= EVENTS_KEPT:
            return self._forget()
        for event_id, fields in events[1 if known != NO_EVENT else 0 :]:
            self.missed += 1
            told = self._read(fields[1] if len(fields) > 1 else b"")
            if told is not None and told["event"] == "flush":
                self._flush(told, event_id, at_once=True)
        return None

    def _look(self, raw: bytes) -> None:
        """Say what L1 holds of a name."""
        try:
            told = json.loads(raw)
            name, asked = parse_own_name(told["name"]), str(told["id"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return self._unread("a question could not be read", raw)
        held = {"event": asked, "node": self._node, "worker": self._worker, "held": self._local.look(name)}
        return self.link.tell((b"PUBLISH", self._acks, json.dumps(held)))

    def _read(self, raw: bytes) -> dict[str, Any] | None:
        """An event's fields; None, with a warning, when it is none."""
        try:
            told = json.loads(raw)
            if isinstance(told, dict) and isinstance(told.get("event"), str):
                return told
            problem = "no event in it"
        except (ValueError, RecursionError) as error:
            problem = str(error)
        self._unread(f"a control event could not be read ({problem})", raw)
        return None

    def _unread(self, problem: str, raw: bytes) -> None:
        """Anyone who may publish can send as many as they like: the log is not theirs to fill."""
        self.odd.warn(f"{problem}: {raw[:200]!r}", time.monotonic())

    def _forget(self) -> None:
        self._local.begin_flush(Scope())
        self._local.sweep(Scope(), at_once=True)

    def _flush(self, told: dict[str, Any], event_id: bytes, at_once: bool) -> None:
        try:
            scope = Scope.of(told)
        except ValueError as error:
            log.warning("a flush could not be read, so everything is flushed (%s): %.200r", error, told)
            scope = Scope()
        self._local.begin_flush(scope)

        def work() -> None:
            count = self._local.sweep(scope, at_once)
            log.info("flushed %d entries from L1: %s", count, scope)
            done = {"event": event_id.decode(), "node": self._node, "worker": self._worker, "entries": count}
            self.link.tell((b"PUBLISH", self._acks, json.dumps(done)))

        if at_once:
            work()
        else:
            gevent.spawn(work)


def _order(event_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, event_id.split(b"-")))
