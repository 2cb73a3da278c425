"""The store over Redis: read, stand as a candidate to lead, wait as a follower, fill.

Nothing here raises because of Redis. While it is away, a read finds nothing and every candidate leads, with no token to
fill.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import hiredis
from gevent import get_hub
from gevent.event import Event

from rdnscache import metrics
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import Limits
from rdnscache.errors import StoreDown
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters, observe
from rdnscache.process import Incarnation
from rdnscache.store.again import announce_again
from rdnscache.store.breaker import ALWAYS_FINE, Breaker
from rdnscache.store.candidacy import RedisCandidacy
from rdnscache.store.contract import CLAIM, FILL, HEAT, LEASE, RENEW, TIME_FORM, Names, Script
from rdnscache.store.control import Control, Local
from rdnscache.store.decoding import LIMITS, read_wake
from rdnscache.store.link import Link
from rdnscache.store.nostore import Candidacy, NoStore
from rdnscache.store.pipe import Command
from rdnscache.store.register import Register
from rdnscache.store.scope import Scope
from rdnscache.store.seal import Seal
from rdnscache.store.shards import link_to
from rdnscache.store.steering import Place
from rdnscache.store.trust import Trust
from rdnscache.store.warming import hottest

log = logging.getLogger(__name__)

#: Seconds after which a leader that is still at work says so, again and again: two words may be lost.
RENEWAL = 0.4
#: Entries remembered that were being read when the connection was lost.
MOST_LOST = 1000
#: What a server says that is a replica.
REPLICA = ("READONLY", "MASTERDOWN")


class Store(NoStore):
    """Redis through one link, or what looks like one.

    `local` is what control events act on, `seal` signs and checks what is stored.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        place: Place,
        life: Incarnation,
        lease: float,
        timeout: float,
        budget: float,
        local: Local,
        counters: Counters,
        seal: Seal | None = None,
        limits: Limits = LIMITS,
        upstreams: Collection[str] = (),
    ) -> None:
        self.trust = Trust(place.node, upstreams, limits, seal, self.discard, counters)
        self._unusable = Throttled(log)
        self.names = Names(prefix)
        self._counted: dict[int, int] = {}
        self.node = node = place.node
        self.lease_ms = round(min(lease, LEASE) * 1000)
        self.wake_channel = self.names.wake(str(place))
        self.counters = counters
        #: Those who have claimed, by the Redis key of their question: one, but for a flush that begins another.
        self._following: dict[bytes, list[RedisCandidacy]] = {}
        self._token_head = f"{node}.{place.worker}:{os.urandom(4).hex()}:"
        self._tokens = 0
        self._second, self._second_text = 0, ""
        self._register = Register(self.names, place, life, self._noted)
        self._local = local
        #: How many flushes this worker has heard of, and when the last began (monotonic), when called.
        self.flushes, self.flushed_at = local.flushes, local.flushed_at
        self._url, self._prefix = url, prefix
        self._control = Control(self.names, place, local, self._announce_again)
        channels = (self.wake_channel, self._control.channel)
        client_name = f"rdnscache-{node}.{place.worker}"
        callbacks = (self._on_push, self._control.opened, self._on_attach, self._on_detach)
        self.link = link_to(url, self._control.channel, client_name, channels, timeout, *callbacks, budget)
        #: The same where it is one link: compiled, it is called without a look at what it is.
        self._one = self.link if isinstance(self.link, Link) else None
        self._control.use(self.link)
        self._register.link = self.link
        self.breaker = Breaker()
        #: What was being read when the connection was lost. A claim finds it as well, and deletes what is too large.
        self._lost_with: set[bytes] = set()
        self._prober: Any = None
        self._renewer: Any = None
        #: Set once it is known whether there is a Redis.
        self._settled = Event()

    @property
    def attached(self) -> bool:
        return self.link.attached

    @property
    def usable(self) -> bool:
        attached = self.link.attached if self._one is None else self._one.attached
        return attached and self.breaker.closed and not self.trust.clocks.wrong

    @property
    def latency(self) -> float:
        return self.link.latency

    @property
    def twins(self) -> set[str]:
        return self._register.twins

    @property
    def state(self) -> str:
        if not self.link.attached:
            return "away"
        return "clock" if self.trust.clocks.wrong else self.breaker.state

    def start(self, patience: float) -> None:
        self._renewer = get_hub().loop.timer(RENEWAL, RENEWAL)
        self._renewer.start(self._renew)
        self.link.start()
        self._settled.wait(patience)

    def measure(self) -> None:
        counted, link = self._counted, self.link
        self.trust.catch_up()
        for throttled in (self._unusable, self._control.odd):
            throttled.catch_up(time.monotonic())
        self.counters[metrics.REDIS_ATTACHED] = int(link.attached)
        self.counters[metrics.BREAKER_OPEN] = int(link.attached and not self.breaker.closed)
        for column, total in (
            (metrics.REDIS_COMMANDS, link.commands),
            (metrics.REDIS_DETACHMENTS, link.detachments),
            (metrics.EVENTS_MISSED, self._control.missed),
        ):
            self.counters[column] += total - counted.get(column, 0)
            counted[column] = total

    def beat(self, report: str) -> None:
        self._register.beat(report)
        self._control.look()
        if self.trust.mac_field:
            self.link.send((b"TIME",), self._server_time)

    def _announce_again(self, lost: Sequence[tuple[bytes, Scope]]) -> None:
        announce_again(self._url, self._prefix, self.link, lost)

    def _server_time(self, result: Any) -> None:
        told = result[0] if isinstance(result, list) else None
        if isinstance(told, list) and told and isinstance(told[0], bytes) and told[0].isdigit() and len(told[0]) < 16:
            self.trust.server_time(int(told[0]))

    def heat(self, hottest: Sequence[tuple[bytes, int]]) -> None:
        if hottest:
            told = [
                part for key, queries in hottest for part in (self.names.entry(key)[len(self.names.root) :], queries)
            ]
            self.link.send((b"EVAL", HEAT.source, b"1", self.names.hot, *told))

    def hottest(self, count: int) -> Iterator[list[Entry]]:
        try:
            yield from hottest(self.link, self.names, self.trust, count)
        except StoreDown:
            self.count_error()

    def leave(self) -> None:
        try:
            self._register.leave()
        except StoreDown:
            pass  # we shall be missed for an hour

    def close(self) -> None:
        self.link.close()

    def follow(self, name: bytes, candidacy: RedisCandidacy) -> None:
        """Hear what is said of a question from now on."""
        self._following.setdefault(name, []).append(candidacy)

    def leave_following(self, name: bytes, candidacy: RedisCandidacy) -> None:
        there = self._following[name]
        there.remove(candidacy)
        if not there:
            del self._following[name]

    def candidacy(self, key: bytes, on_late: Callable[[Entry], None]) -> Candidacy:
        return RedisCandidacy(self, key, on_late)

    def token(self) -> bytes:
        self._tokens += 1
        return f"{self._token_head}{self._tokens}".encode()

    def time_text(self) -> str:
        """Now, as people read it; made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._second_text = second, time.strftime(TIME_FORM, time.gmtime(second))
        return self._second_text

    def read_command(self, name: bytes) -> Command:
        """What reads an entry for `entry_of`."""
        return (b"HMGET", name, b"wire", b"info", *self.trust.mac_field)

    def may_read(self, name: bytes) -> bool:
        """Whether to read an entry rather than to claim at once; not the next time after `lost_with`."""
        if not self._lost_with or name not in self._lost_with:
            return True
        self._lost_with.discard(name)
        return False

    def lost_with(self, name: bytes) -> None:
        """The connection was lost while an entry was read: perhaps Redis will not send that much."""
        if len(self._lost_with) < MOST_LOST:
            self._lost_with.add(name)

    def discard(self, name: bytes) -> None:
        """Delete a value nobody can use."""
        self.counters[metrics.DISCARDS] += 1
        text = f"deleting a value in Redis that is not a usable entry: {name.decode('ascii')}"
        self._unusable.warn(text, time.monotonic())
        self.link.send((b"UNLINK", name))

    def count_error(self) -> None:
        self.counters[metrics.REDIS_ERRORS] += 1

    def refused(self, reply: Any) -> None:
        """Redis answered with an error where we asked for an answer."""
        self.count_error()
        self._failed(f"{reply}"[:200])
        self._noted(reply)

    def _noted(self, result: Any) -> None:
        """What was to be written; where it was refused by a replica, the primary is looked for again."""
        reply = result[0] if isinstance(result, list) else result
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(REPLICA):
            self.link.let_go(str(reply)[:200])

    def ask(self, late: Callable[[Any], None], commands: tuple[Command, ...]) -> list[Any] | None:
        """Commands of a flight: their replies; None when they do not come soon. Then they may come `late`.

        Raises StoreDown when they cannot be asked, or the connection is lost over it.
        """
        started = time.monotonic()
        try:
            replies = self.link.ask(late, commands) if self._one is None else self._one.ask(late, commands)
        except StoreDown:
            self.count_error()
            raise
        now = time.monotonic()
        if replies is None:
            self.counters[metrics.REDIS_LATE] += 1
            self._failed("it does not answer in time")
            return None
        took = now - started
        observe(self.counters, metrics.REDIS_SECONDS, took, 1)
        lag = self.link.lag if self._one is None else self._one.lag
        own = max(took - lag, 0.0)
        if self.breaker.succeeded(own, now):
            upstream = self._local.upstream_seconds()
            self.link.least_patience = max(upstream, ALWAYS_FINE)
            if self.breaker.compare(upstream, now):
                self._opened()
        return replies

    def run(self, script: Script, late: Callable[[Any], None], *arguments: bytes | int) -> Any:
        """Run a script on its four keys; None when there is no answer soon. Raises StoreDown.

        Its source goes along only when Redis has forgotten it.
        """
        replies = self.ask(late, ((b"EVALSHA", script.sha, b"4", *arguments),))
        if replies and isinstance(replies[0], hiredis.ReplyError) and str(replies[0]).startswith("NOSCRIPT"):
            replies = self.ask(late, ((b"EVAL", script.source, b"4", *arguments),))
        return replies[0] if replies else None

    def run_later(self, script: Script, done: Callable[[Any], None], *arguments: bytes | int) -> None:
        """The same without waiting; `done` is called in the hub with a list of one reply, or a StoreDown."""

        def first(result: Any) -> None:
            reply = result[0] if isinstance(result, list) else result
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self.link.send((b"EVAL", script.source, b"4", *arguments), done)
            else:
                done(result)

        self.link.send((b"EVALSHA", script.sha, b"4", *arguments), first)

    def filled(self, result: Any) -> None:
        """What became of a fill: how many followers were woken."""
        reply = result[0] if isinstance(result, list) else result
        if isinstance(reply, Exception):
            self.count_error()
            self._noted(reply)
        elif isinstance(reply, int) and reply > 0:
            self.counters[metrics.WAKES_SENT] += reply

    def _failed(self, reason: str) -> None:
        if not self.link.several and self.breaker.failed(reason, time.monotonic()):
            self._opened()

    def _opened(self) -> None:
        self.counters[metrics.BREAKER_OPENED] += 1
        log.warning("Redis is left alone for now: %s", self.breaker.reason)
        self._probe_later()

    def _probe_later(self) -> None:
        self._prober = get_hub().loop.timer(self.breaker.pause)
        self._prober.start(self._probe)

    def _probe(self) -> None:
        """See whether Redis does again what we need it for."""
        self._prober.close()
        if self.breaker.closed or not self.link.attached:
            return
        self.breaker.probe()
        started = time.monotonic()

        def probed(result: Any) -> None:
            now = time.monotonic()
            good = isinstance(result, list) and isinstance(result[0], list)
            if self.breaker.closed:
                return
            if self.breaker.probed(now - started if good else None, self._local.upstream_seconds(), now):
                log.info("Redis is used again")
            elif self.link.attached:
                self._probe_later()

        name = self.names.probe
        told = (b"probe", 100, self.wake_channel, 0, 0)
        self.run_later(CLAIM, probed, name, name + b"#lead", name + b"#wait", name + b"#name", *told)

    def _renew(self) -> None:
        """Keep what we lead for as long as it takes; if we die, it is free before long."""
        if self.usable:
            moment = time.monotonic() - RENEWAL / 2
            for candidacy in self._followers():
                candidacy.renew(moment)

    def _on_push(self, channel: bytes, payload: bytes) -> None:
        if channel == self.wake_channel:
            name, info, wire, mac = read_wake(payload)
            for candidacy in list(self._following.get(name, ())):
                candidacy.hear(info, wire, mac)
        else:
            self._control.hear(payload)

    def _on_attach(self) -> None:
        """Load the scripts and catch up with control events; only then may anybody lead or follow."""
        self.breaker.reset(time.monotonic())
        self.link.setup(*((b"SCRIPT", b"LOAD", script.source) for script in (CLAIM, RENEW, FILL)))
        self._control.catch_up()
        get_hub().loop.run_callback(self._look_again)
        get_hub().loop.run_callback(self._local.introduce)

    def _on_detach(self) -> None:
        self._control.closed()
        self._look_again()

    def _look_again(self) -> None:
        """Wake every follower to claim anew: messages may have been lost."""
        self._settled.set()
        for candidacy in self._followers():
            candidacy.wake(None)

    def _followers(self) -> list[RedisCandidacy]:
        return [candidacy for there in self._following.values() for candidacy in there]
