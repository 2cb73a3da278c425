"""One primary of a Redis Cluster: the link to it, and whether it is worth asking; and where the ear is opened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import hiredis

from rdnscache.errors import StoreDown
from rdnscache.place import Host, Place
from rdnscache.store.breaker import Breaker
from rdnscache.store.link import Link
from rdnscache.store.opening import AnyStream, OnData, OnEnd, Opener, connection

log = logging.getLogger(__name__)

#: Seconds until another question is let through, when nothing has come of the last.
PROBE = 1.0


class Shard:
    """A primary: the link to it, and whether it is worth asking."""

    def __init__(self, host: Host, link: Link) -> None:
        self.host = host
        self.link = link
        #: The first slot it has, where that is known.
        self.first: int | None = None
        self.breaker = Breaker()
        self._rests_until = 0.0

    def usable(self) -> bool:
        """Whether to ask it. While its breaker is open, one question after each pause is let through to see."""
        if self.breaker.closed:
            return True
        now = time.monotonic()
        if now < self._rests_until:
            return False
        self._rests_until = now + PROBE
        self.breaker.probe()
        return True

    def tried(self, problem: str) -> None:
        """What came of asking; an empty text when it answered."""
        breaker, now = self.breaker, time.monotonic()
        if not problem:
            if not breaker.closed:
                breaker.reset(now)
                log.info("%s:%d is used again", *self.host)
        elif breaker.closed:
            if breaker.failed(problem, now):
                log.warning("%s:%d is left alone for now: %s", *self.host, problem)
        else:
            breaker.probed(None, 0.0, now)
        if not breaker.closed:
            self._rests_until = now + breaker.pause


class ShardOpener(Opener):
    def __init__(self, place: Place, host: Host) -> None:
        super().__init__(place, host)
        self.name = " (shard {}:{})".format(*host)


class EarOpener(Opener):
    """Opens the ear at a primary of its own choice."""

    def __init__(self, place: Place, choose: Callable[[], Host]) -> None:
        super().__init__(place)
        self._choose = choose
        self.at: Host | None = None

    def open(self, client_name: str, on_data: OnData, on_end: OnEnd) -> AnyStream:
        self._host = self.at = self._choose()
        self.name = " (messages from {}:{})".format(*self.at)
        return super().open(client_name, on_data, on_end)


def slots_told(place: Place, client_name: str, shards: Iterable[Shard]) -> tuple[str, Any]:
    """The host of a node, and what it says of who has which slots. Raises what the last one asked did."""
    problem: Exception = StoreDown("no node can be reached")
    for shard in sorted(shards, key=lambda shard: not shard.breaker.closed):
        try:
            (told,) = shard.link.request((b"CLUSTER", b"SLOTS"))
            if told and not isinstance(told, hiredis.ReplyError):
                return shard.host[0], told
        except StoreDown as error:
            problem = error
    for host in place.hosts:
        try:
            node = connection(place, host, client_name)
            try:
                node.send_command("CLUSTER", "SLOTS")
                told = node.read_response()
            finally:
                node.disconnect()
            if told:
                return host[0], told
            problem = StoreDown("no slot is assigned to any node")
        except Exception as error:  # redis-py's own, and the system's
            problem = error
    raise problem
