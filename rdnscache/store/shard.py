"""One primary of a Redis Cluster, and how a worker learns of all primaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Protocol

import gevent
import hiredis

from rdnscache.errors import StoreDown
from rdnscache.redis_url import Host, RedisUrl
from rdnscache.store.connect import CONNECT_TIMEOUT, AnyStream, OnData, OnEnd, Opener
from rdnscache.store.connection import Connection
from rdnscache.store.contract import Names
from rdnscache.store.marks import Marks
from rdnscache.store.server import RedisServer, ServerSettings
from rdnscache.store.servers import Ask
from rdnscache.store.slots import tag_of

#: Seconds between two checks whether the first slot is known.
STEP = 0.01


class ShardEvents(Protocol):
    """The callbacks of a shard."""

    def shard_attaching(self, shard: Shard) -> None:
        """As `LinkEvents.attaching`."""

    def shard_detached(self, shard: Shard) -> None:
        """As `LinkEvents.detached`."""


class Shard(RedisServer):
    """A primary. No messages are received on its link."""

    def __init__(
        self, url: RedisUrl, host: Host, settings: ServerSettings, events: ShardEvents, names: Names, marks: Marks
    ) -> None:
        label = "{}:{}".format(*host)
        super().__init__(label, ShardOpener(url, host), settings, self, self._probe_name)
        self.host = host
        #: Its first slot; None if it is not known yet.
        self.first: int | None = None
        self._cluster = events
        self._names = names
        self._marks = marks

    def pushed(self, channel: bytes, payload: bytes) -> None:
        pass

    def opened(self) -> None:
        pass

    def attaching(self) -> None:
        self._prepare()
        self._cluster.shard_attaching(self)

    def detached(self) -> None:
        self._cluster.shard_detached(self)

    def check(self, ask: Ask) -> None:
        """Repeat the flushes that it has lost, before it is used. Raises StoreDown."""
        with gevent.Timeout(CONNECT_TIMEOUT, StoreDown("its slots are not known yet")):
            while self.first is None:
                gevent.sleep(STEP)
        self._marks.check(ask, self.first, self.label)

    def touch(self) -> None:
        if self.first is not None:
            self.send((b"GETRANGE", self._marks.name(self.first), 0, 0))

    def _probe_name(self) -> bytes:
        return self._names.probe(tag_of(self.first or 0))


class ShardOpener(Opener):
    def __init__(self, url: RedisUrl, host: Host) -> None:
        super().__init__(url, host)
        self.name = " (shard {}:{})".format(*host)


class EarOpener(Opener):
    """Opens the ear at the primary that `choose` returns."""

    def __init__(self, url: RedisUrl, choose: Callable[[], Host]) -> None:
        super().__init__(url)
        self._choose = choose
        self.at: Host | None = None

    def open(self, client_name: str, on_data: OnData, on_end: OnEnd) -> AnyStream:
        self._host = self.at = self._choose()
        self.name = " (messages from {}:{})".format(*self.at)
        return super().open(client_name, on_data, on_end)


def slots_told(url: RedisUrl, client_name: str, shards: Iterable[Shard]) -> tuple[str, Any]:
    """The host of a node, and its reply to CLUSTER SLOTS. Raises the exception of the last node asked."""
    problem: Exception = StoreDown("no node can be reached")
    for shard in sorted(shards, key=lambda shard: not shard.breaker.closed):
        try:
            (told,) = shard.request((b"CLUSTER", b"SLOTS"))
            if told and not isinstance(told, hiredis.ReplyError):
                return shard.host[0], told
        except StoreDown as error:
            problem = error
    for host in url.hosts:
        try:
            with closing(Connection(url, CONNECT_TIMEOUT, host, client_name)) as node:
                (told,) = node.ask([("CLUSTER", "SLOTS")])
            if isinstance(told, hiredis.ReplyError):
                raise told
            if told:
                return host[0], told
            problem = StoreDown("no slot is assigned to any node")
        except (StoreDown, hiredis.ReplyError, ValueError) as error:
            problem = error
    raise problem
