"""A Redis server: the link to it, the breaker that says whether it is worth asking, and the probe that closes it again.

A plain Redis is one of these, a Redis Cluster has one for each primary.
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

#: What a server says that sends us to another: it is well, but it cannot be probed with that key.
_ELSEWHERE = ("MOVED ", "ASK ", "TRYAGAIN")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What all servers of a worker have in common."""

    link: LinkSettings
    counters: Counters
    #: How long upstreams take to answer, in seconds; 0 when that is not known.
    upstream_seconds: Callable[[], float]


class RedisServer(Servers):
    """`label` is what the log calls it; `probe` returns the key it is probed with, or none when that is not known yet.

    It passes on to `events` what its link tells.
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
        """It did not answer in time, or with what is no answer."""
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
        """A new connection is a new beginning."""
        self.breaker.reset(time.monotonic())
        self.link.setup(*((b"SCRIPT", b"LOAD", script.source) for script in (CLAIM, RENEW, FILL)))

    def _opened(self) -> None:
        self.counters[metrics.BREAKER_OPENED] += 1
        log.warning("%s is left alone until a probe succeeds: %s", self.label, self.breaker.reason)
        self._probe_later()

    def _probe_later(self) -> None:
        self._prober = get_hub().loop.timer(self.breaker.pause)
        self._prober.start(self._probe)

    def _probe(self) -> None:
        """See whether it does again what we need it for."""
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
