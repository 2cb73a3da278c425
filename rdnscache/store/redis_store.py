"""The store over Redis: a worker's reads, claims, waits and fills, and its membership in the cluster.

Nothing here raises because of Redis. While it is away, a read finds nothing, and every claim leads without a token, so
that nothing is stored.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis
from gevent import get_hub
from gevent.event import Event

from rdnscache import metrics
from rdnscache.dns.entry import Entry
from rdnscache.dns.zones import Zones
from rdnscache.errors import StoreDown
from rdnscache.kernel import Incarnation
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters
from rdnscache.store.budgets import Budgets
from rdnscache.store.claim import RedisClaim
from rdnscache.store.claim_store import ClaimStore
from rdnscache.store.cluster import connect
from rdnscache.store.contract import LEASE, TIME_FORM, Names
from rdnscache.store.decoding import read_wake
from rdnscache.store.events import Control
from rdnscache.store.flushes import Flushes
from rdnscache.store.heat import HEAT
from rdnscache.store.hours import ADD
from rdnscache.store.interface import Claim, OnLate
from rdnscache.store.local import Chores, Local
from rdnscache.store.odd import NOTE
from rdnscache.store.register import Register
from rdnscache.store.seal import Seal
from rdnscache.store.server import ServerSettings
from rdnscache.store.servers import Command, LinkSettings
from rdnscache.store.steering import WorkerId
from rdnscache.store.trust import Terms, Trust
from rdnscache.store.warming import hottest

log = logging.getLogger(__name__)

#: Seconds between two renewals of a lease; two of them may be lost without losing the lease.
RENEWAL = 0.4
#: Maximum number of entries remembered that were being read when the connection was lost.
MOST_LOST = 1000
#: The beginnings of errors from a replica.
REPLICA = ("READONLY", "MASTERDOWN")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How a worker uses Redis."""

    url: str
    prefix: str
    worker_id: WorkerId
    #: The incarnation of the node.
    life: Incarnation
    #: Seconds of a claim's lease.
    lease: float
    #: Seconds without any answer after which the link is given up; seconds that a flight waits for a reply.
    timeout: float
    budget: float
    #: How entries are used, by zone.
    terms: Zones[Terms] = field(default_factory=lambda: Zones(Terms(), {}))
    #: Signs and checks entries, if there are secrets.
    seal: Seal | None = None


class RedisStore(ClaimStore):
    """`local` is what control events act on; `chores` is what this worker does for all of them, see `Control`."""

    def __init__(self, settings: StoreSettings, local: Local, chores: Chores, counters: Counters) -> None:
        node, worker = settings.worker_id.node, settings.worker_id.worker
        self.names = Names(settings.prefix)
        self.node = node
        self._worker_id = settings.worker_id
        self.counters = counters
        self.lease_ms = round(min(settings.lease, LEASE) * 1000)
        self.wake_channel = self.names.wake(str(settings.worker_id))
        flushes = Flushes()
        self.trust = Trust(node, settings.terms, settings.seal, self.discard, counters, flushes.under_way)
        self._unusable = Throttled(log)
        self._counted: dict[int, int] = {}
        #: Those who have claimed, by the Redis key of their question: one, but for a flush that begins another.
        self._following: dict[bytes, list[Any]] = {}
        self._token_head = f"{node}.{worker}:{os.urandom(4).hex()}:"
        self._tokens = 0
        self._second, self._second_text = 0, ""
        self._local = local
        #: Functions: how many flushes this worker has heard of, and when the last one began (monotonic).
        self.flushes, self.flushed_at = local.flushes, local.flushed_at
        channels = (self.wake_channel, self.names.control)
        link = LinkSettings(f"rdnscache-{node}.{worker}", channels, settings.timeout, settings.budget)
        #: The Redis servers.
        self.servers = connect(
            settings.url, self.names, ServerSettings(link, counters, local.upstream_seconds), self, flushes
        )
        self._control = Control(self.names, settings.worker_id, local, flushes, self.servers, chores)
        self._register = Register(self.names, settings.worker_id, settings.life, self.servers, self._noted)
        self._budgets = Budgets(self.names, settings.worker_id, self.servers, self._noted)
        self.ask_for_slots = self._budgets.ask
        #: Entries that were being read when the connection was lost: perhaps one is too large. They are claimed without
        #: a read next time, since a claim deletes what is too large.
        self._lost_with: set[bytes] = set()
        self._renewer: Any = None
        #: Set once it is known whether Redis can be reached.
        self._settled = Event()

    @property
    def attached(self) -> bool:
        return self.servers.attached

    @property
    def usable(self) -> bool:
        return self.asks()

    def asks(self) -> bool:
        return self.servers.usable() and not self.trust.clocks.wrong

    @property
    def latency(self) -> float:
        return self.servers.latency

    @property
    def twins(self) -> set[str]:
        return self._register.twins

    @property
    def state(self) -> str:
        if not self.servers.attached:
            return "away"
        return "clock" if self.trust.clocks.wrong else self.servers.state

    def start(self, patience: float) -> None:
        self._renewer = get_hub().loop.timer(RENEWAL, RENEWAL)
        self._renewer.start(self._renew)
        self.servers.start()
        self._settled.wait(patience)

    def measure(self) -> None:
        counted, servers = self._counted, self.servers
        self.trust.catch_up()
        for throttled in (self._unusable, self._control.odd):
            throttled.catch_up(time.monotonic())
        self.counters[metrics.REDIS_ATTACHED] = int(servers.attached)
        self.counters[metrics.BREAKER_OPEN] = int(servers.left_alone > 0)
        for column, total in (
            (metrics.REDIS_COMMANDS, servers.commands),
            (metrics.REDIS_DETACHMENTS, servers.detachments),
            (metrics.EVENTS_MISSED, self._control.missed),
            (metrics.FLUSHES_UNCONFIRMED, self._control.unconfirmed),
        ):
            self.counters[column] += total - counted.get(column, 0)
            counted[column] = total

    def beat(self, report: str) -> None:
        self._register.beat(report)
        self._control.look()
        self.servers.send((b"ZCARD", self.names.odd))  # reading it prevents its eviction
        if self.trust.mac_field:
            self.servers.send((b"TIME",), self._server_time)

    def _server_time(self, result: Any) -> None:
        told = result[0] if isinstance(result, list) else None
        if isinstance(told, list) and told and isinstance(told[0], bytes) and told[0].isdigit() and len(told[0]) < 16:
            self.trust.server_time(int(told[0]))

    def heat(self, hottest: Sequence[tuple[bytes, int]]) -> None:
        if hottest:
            told = [
                part for key, queries in hottest for part in (self.names.entry(key)[len(self.names.root) :], queries)
            ]
            self.servers.send((b"EVAL", HEAT.source, b"1", self.names.hot, *told))

    def add_hour(self, minute: int, counts: Mapping[str, int]) -> None:
        told = [part for counted in counts.items() for part in counted]
        self.servers.send((b"EVAL", ADD.source, ADD.keys, self.names.hour(minute), *told), self._noted)

    def answer_order(self, told: Mapping[str, Any]) -> None:
        who = self._worker_id
        for event in told["events"]:
            said = {"event": event, "node": who.node, "incarnation": who.incarnation, "worker": who.worker}
            self.servers.tell((b"PUBLISH", self.names.acks, json.dumps(said | {"order": told})))

    def hottest(self, count: int) -> Iterator[list[Entry]]:
        try:
            yield from hottest(self.servers, self.names, self.trust, count)
        except StoreDown:
            self.servers.count_error()

    def leave(self) -> None:
        self._budgets.leave()
        try:
            self._register.leave()
        except StoreDown:
            pass  # the register forgets this worker after an hour

    def close(self) -> None:
        self.servers.close()

    def follow(self, name: bytes, claim: Claim) -> None:
        self._following.setdefault(name, []).append(claim)

    def leave_following(self, name: bytes, claim: Claim) -> None:
        there = self._following[name]
        there.remove(claim)
        if not there:
            del self._following[name]

    def claim(self, key: bytes, flight: Any, on_late: OnLate) -> Claim:
        return RedisClaim(self, key, flight, on_late)

    def token(self) -> bytes:
        self._tokens += 1
        return f"{self._token_head}{self._tokens}".encode()

    def time_text(self) -> str:
        """Made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._second_text = second, time.strftime(TIME_FORM, time.gmtime(second))
        return self._second_text

    def seen(self) -> str:
        return self._control.seen

    def note_odd(self, name: bytes, lifetime: int) -> None:
        self.servers.send((b"EVAL", NOTE.source, NOTE.keys, self.names.odd, name, lifetime), self.filled)

    def read_command(self, name: bytes) -> Command:
        return (b"HMGET", name, b"wire", b"info", *self.trust.mac_field)

    def may_read(self, name: bytes) -> bool:
        if not self._lost_with or name not in self._lost_with:
            return True
        self._lost_with.discard(name)
        return False

    def lost_with(self, name: bytes) -> None:
        if len(self._lost_with) < MOST_LOST:
            self._lost_with.add(name)

    def discard(self, name: bytes) -> None:
        self.counters[metrics.DISCARDS] += 1
        text = f"deleting a value in Redis that is not a usable entry: {name.decode('ascii')}"
        self._unusable.warn(text, time.monotonic())
        self.servers.send((b"UNLINK", name))

    def refused(self, name: bytes, reply: Any) -> None:
        self.servers.count_error()
        self.servers.refused(name, f"{reply}"[:200])
        self._noted(reply)

    def _noted(self, result: Any) -> None:
        """Take the reply to a write; if a replica refused it, look for the primary again."""
        reply = result[0] if isinstance(result, list) else result
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(REPLICA):
            self.servers.let_go(str(reply)[:200])

    def filled(self, result: Any) -> None:
        reply = result[0] if isinstance(result, list) else result
        if isinstance(reply, Exception):
            self.servers.count_error()
            self._noted(reply)
        elif isinstance(reply, int) and reply > 0:
            self.counters[metrics.WAKES_SENT] += reply

    def _renew(self) -> None:
        """Renew the leases of this worker's claims."""
        if self.usable:
            moment = time.monotonic() - RENEWAL / 2
            for claim in self._followers():
                claim.renew(moment)

    def pushed(self, channel: bytes, payload: bytes) -> None:
        if channel == self.wake_channel:
            name, info, wire, mac = read_wake(payload)
            for claim in list(self._following.get(name, ())):
                claim.hear(info, wire, mac)
        else:
            self._control.hear(payload)

    def opened(self) -> None:
        self._control.opened()

    def attaching(self) -> None:
        """Catch up with control events before claims may be made."""
        self._control.catch_up()
        get_hub().loop.run_callback(self._look_again)
        get_hub().loop.run_callback(self._local.introduce)

    def detached(self) -> None:
        self._control.closed()
        self._budgets.detached()
        self._look_again()

    def stream_back(self) -> None:
        self._control.learn_anew()

    def _look_again(self) -> None:
        """Wake all followers so that they claim again: messages may have been lost."""
        self._settled.set()
        for claim in self._followers():
            claim.wake(None)

    def _followers(self) -> list[Any]:
        return [claim for there in self._following.values() for claim in there]
