"""A Redis server: the link to it, its circuit breaker, and the probe that closes the breaker again.

A plain Redis is one of these; a Redis Cluster has one for each primary.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis
from gevent import get_hub

from rdnscache import metrics
from rdnscache.errors import StoreDown
from rdnscache.metrics import Counters, observe
from rdnscache.store.breaker import ALWAYS_FINE, Breaker
from rdnscache.store.connect import Opener
from rdnscache.store.contract import CLAIM, FILL, RENEW
from rdnscache.store.link import Link
from rdnscache.store.servers import Command, Done, LinkEvents, LinkSettings, Servers

log = logging.getLogger(__name__)

#: Replies to a probe that redirect to another server: the server works, but does not have the key's slot.
_ELSEWHERE = ("MOVED ", "ASK ", "TRYAGAIN")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings that all servers of a worker share."""

    link: LinkSettings
    counters: Counters
    #: The time in which upstreams answer, in seconds; 0 if it is not known.
    upstream_seconds: Callable[[], float]


class RedisServer(Servers):
    """`label` is its name in log lines; `probe` returns the key with which it is probed.

    The events of its link are passed on to `events`.
    """

    def __init__(
        self, label: str, opener: Opener, settings: ServerSettings, events: LinkEvents, probe: Callable[[], bytes]
    ) -> None:
        super().__init__(settings.counters)
        self.label = label
        self.breaker = Breaker()
        self.link = Link(opener, settings.link, self)
        self._upstream_seconds = settings.upstream_seconds
        self._events = events
        self._probe_key = probe
        self._prober: Any = None

    @property
    def attached(self) -> bool:
        return self.link.attached

    @property
    def state(self) -> str:
        return self.breaker.state

    @property
    def left_alone(self) -> int:
        return int(self.link.attached and not self.breaker.closed)

    @property
    def commands(self) -> int:
        return self.link.commands

    @property
    def detachments(self) -> int:
        return self.link.detachments

    @property
    def latency(self) -> float:
        return self.link.latency

    def start(self) -> None:
        self.link.start()

    def close(self) -> None:
        if self._prober is not None:
            self._prober.close()
        self.link.close()

    def usable(self) -> bool:
        return self.link.attached and self.breaker.closed

    def ask(self, late: Done, commands: tuple[Command, ...]) -> list[Any] | None:
        try:
            replies = self.link.ask(late, commands)
        except StoreDown:
            self.count_error()
            raise
        if replies is None:
            self.counters[metrics.REDIS_LATE] += 1
            self.failed("it does not answer in time")
            return None
        took, now = self.link.took, time.monotonic()
        observe(self.counters, metrics.REDIS_SECONDS, took, 1)
        if self.breaker.succeeded(max(took - self.link.lag, 0.0), now):
            upstream = self._upstream_seconds()
            self.link.least_patience = max(upstream, ALWAYS_FINE)
            if self.breaker.compare(upstream, now):
                self._opened()
        return replies

    def request(self, *commands: Command) -> list[Any]:
        return self.link.request(*commands)

    def setup(self, *commands: Command) -> list[Any]:
        return self.link.setup(*commands)

    def send(self, command: Command, done: Done | None = None) -> None:
        self.link.send(command, done)

    def tell(self, command: Command) -> None:
        self.link.tell(command)

    def refused(self, name: bytes, reason: str) -> None:
        self.failed(reason)

    def let_go(self, reason: str) -> None:
        self.link.let_go(reason)

    def failed(self, reason: str) -> None:
        """Note a time-out or an error."""
        if self.breaker.failed(reason, time.monotonic()):
            self._opened()

    def pushed(self, channel: bytes, payload: bytes) -> None:
        self._events.pushed(channel, payload)

    def opened(self) -> None:
        self._events.opened()

    def attaching(self) -> None:
        self._prepare()
        self._events.attaching()

    def detached(self) -> None:
        self._events.detached()

    def _prepare(self) -> None:
        """Reset the breaker and load the scripts on a new connection."""
        self.breaker.reset(time.monotonic())
        self.link.setup(*((b"SCRIPT", b"LOAD", script.source) for script in (CLAIM, RENEW, FILL)))

    def _opened(self) -> None:
        self.counters[metrics.BREAKER_OPENED] += 1
        log.warning("%s is not used until a probe succeeds: %s", self.label, self.breaker.reason)
        self._probe_later()

    def _probe_later(self) -> None:
        self._prober = get_hub().loop.timer(self.breaker.pause)
        self._prober.start(self._probe)

    def _probe(self) -> None:
        """Send a claim as a probe; if it fails, the next one follows later."""
        self._prober.close()
        if self.breaker.closed or not self.link.attached:
            return
        self.breaker.probe()
        started = time.monotonic()

        def probed(result: Any) -> None:
            now = time.monotonic()
            if self.breaker.closed:
                return
            took = now - started if _works(result) else None
            if self.breaker.probed(took, self._upstream_seconds(), now):
                log.info("%s is used again", self.label)
            elif self.link.attached:
                self._probe_later()

        name = self._probe_key()
        told = (b"probe", 100, b"probe", 0, 0)
        self.run_later(CLAIM, probed, name, name + b"#lead", name + b"#wait", name + b"#name", *told)


def _works(result: Any) -> bool:
    reply = result[0] if isinstance(result, list) else None
    return isinstance(reply, list) or (isinstance(reply, hiredis.ReplyError) and str(reply).startswith(_ELSEWHERE))
