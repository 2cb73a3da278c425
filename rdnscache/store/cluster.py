"""Redis Cluster: a `Shard` for every primary, and one more link that receives messages.

The commands of a question go to the shard of its slot, and follow it when it moves. The link for messages, the ear, is
connected to any primary but the one with the control stream, if there is another: so if either of the two dies, a flush
can still be heard or read. Without the ear the shards are used for a short while longer.

If a shard dies or is too slow, only the questions of its slots go without Redis.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from zlib import crc32

import gevent
import hiredis
from gevent.event import Event

from rdnscache.errors import StoreDown
from rdnscache.redis_url import CLUSTER, Host, RedisUrl, parse
from rdnscache.store.breaker import CLOSED
from rdnscache.store.connect import CONNECT_TIMEOUT
from rdnscache.store.contract import Names
from rdnscache.store.flushes import Flushes
from rdnscache.store.link import Link
from rdnscache.store.marks import Marks
from rdnscache.store.sentinel import opener
from rdnscache.store.server import RedisServer, ServerSettings
from rdnscache.store.servers import Ask, Command, Done, Servers, StoreEvents
from rdnscache.store.shard import EarOpener, Shard, slots_told
from rdnscache.store.slots import SLOTS, ranges, slot_of

log = logging.getLogger(__name__)

#: Seconds between two readings of the map of slots: usually, while a shard is away, and at least.
LOOK, LOOK_SOON, LEAST = 15.0, 0.25, 0.05
#: Seconds without the ear after which Redis is not used, since flushes are not heard.
DEAF = 2.0
#: How often a command follows a slot that has moved.
REDIRECTIONS = 3
#: Maximum number of primaries; the documentation of Redis recommends no more.
MOST_SHARDS = 1000
#: A redirection to another server.
_ELSEWHERE = re.compile(r"(?P<kind>MOVED|ASK) (?P<slot>[0-9]{1,5}) (?P<host>[^ ]{0,255}):(?P<port>[0-9]{1,5})")
#: Errors of a server that cannot serve its slots for now.
_AWAY = ("CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN")
#: Commands whose first key is not their first argument.
_SCRIPTS = (b"EVALSHA", b"EVAL")


class RedisCluster(Servers):
    """The primaries of a Redis Cluster; `flushes` are those that this worker knows of."""

    in_order = False
    marked = True

    def __init__(
        self, url: RedisUrl, names: Names, settings: ServerSettings, events: StoreEvents, flushes: Flushes
    ) -> None:
        super().__init__(settings.counters)
        self._url = url
        self._names = names
        self._settings = replace(settings, link=replace(settings.link, channels=()))
        self._client_name = settings.link.client_name
        self._events = events
        self._flushes = flushes
        self._marks = Marks(names, flushes)
        self._slots: list[Shard | None] = [None] * SLOTS
        self._shards: dict[Host, Shard] = {}
        self._ear_opener = EarOpener(url, self._choose)
        self._ear = Link(self._ear_opener, settings.link, self)
        #: Until when the shards are used although the ear is away (monotonic).
        self._deaf_until = 0.0
        self._heard = False
        #: Commands and detachments of shards that have left the cluster.
        self._past = [0, 0]
        self._look = Event()
        self._surveyor: gevent.Greenlet | None = None

    @property
    def attached(self) -> bool:
        return self._ear.attached or time.monotonic() < self._deaf_until

    @property
    def state(self) -> str:
        """Closed if the breaker of any shard is, else a state of one of them."""
        states = {shard.state for shard in self._shards.values()} or {CLOSED}
        return CLOSED if CLOSED in states else min(states)

    @property
    def left_alone(self) -> int:
        return sum(shard.left_alone for shard in self._shards.values())

    @property
    def commands(self) -> int:
        return self._past[0] + sum(link.commands for link in self._links())

    @property
    def detachments(self) -> int:
        return self._past[1] + sum(link.detachments for link in self._links())

    @property
    def latency(self) -> float:
        return max((shard.latency for shard in self._shards.values()), default=0.0)

    def start(self) -> None:
        self._surveyor = gevent.spawn(self._survey)

    def close(self) -> None:
        if self._surveyor is not None:
            self._surveyor.kill(block=False)
        self._ear.close()
        for shard in self._shards.values():
            shard.close()

    def usable(self) -> bool:
        return self.attached

    def let_go(self, reason: str) -> None:
        self._look.set()

    def refused(self, name: bytes, reason: str) -> None:
        shard = self._slots[slot_of(name)]
        if shard is not None:
            shard.failed(reason)

    def ask(self, late: Done, commands: tuple[Command, ...]) -> list[Any] | None:
        shard = self._shard_of(commands[0])
        asking = False
        for _ in range(REDIRECTIONS):
            if shard is None or not shard.usable():
                break
            replies = _ask_at(shard, late, commands, asking)
            if replies is None:
                return None
            problem = next((str(reply) for reply in replies if isinstance(reply, hiredis.ReplyError)), "")
            if not problem.startswith(("MOVED ", "ASK ")):
                if problem.startswith(_AWAY):
                    shard.failed(problem)
                if problem.startswith((*_AWAY, "TRYAGAIN")):
                    self.count_error()
                    raise StoreDown(problem)
                return replies
            shard, asking = self._redirected(shard, problem), problem.startswith("ASK")
        raise StoreDown("the part of the cluster that has it is away")

    def send(self, command: Command, done: Done | None = None) -> None:
        """Send a command to the shard of its key, and once more if the slot has moved; without a key, over the ear."""
        if len(command) == 1:
            return self._ear.send(command, done)
        shard = self._shard_of(command)

        def arrived(result: Any) -> None:
            problem = str(result[0]) if isinstance(result, list) and isinstance(result[0], hiredis.ReplyError) else ""
            if shard is not None and problem.startswith(("MOVED ", "ASK ")):
                try:
                    other = self._redirected(shard, problem)
                except StoreDown as error:
                    return done(error) if done is not None else None
                if problem.startswith("ASK"):
                    other.send((b"ASKING",))
                other.send(command, done)
            elif done is not None:
                done(result)
            return None

        if shard is None:
            arrived(StoreDown("the part of the cluster that has it is away"))
        else:
            shard.send(command, arrived)

    def request(self, *commands: Command) -> list[Any]:
        """Send each command to its shard. If one of several shards is away, its replies are errors."""
        replies: list[Any] = [None] * len(commands)
        parts: dict[Shard | None, list[int]] = {}
        for index, command in enumerate(commands):
            parts.setdefault(self._shard_of(command), []).append(index)
        for shard, indexes in parts.items():
            try:
                if shard is None:
                    raise StoreDown("the part of the cluster that has it is away")
                found = shard.request(*(commands[index] for index in indexes))
            except StoreDown as error:
                if len(parts) == 1:
                    raise
                found = [hiredis.ReplyError(str(error))] * len(indexes)
            for index, reply in zip(indexes, found, strict=True):
                problem = str(reply) if isinstance(reply, hiredis.ReplyError) else ""
                if shard is not None and problem.startswith(("MOVED ", "ASK ")):
                    there = self._redirected(shard, problem)
                    asking = ((b"ASKING",),) if problem.startswith("ASK") else ()
                    reply = there.request(*asking, commands[index])[-1]
                replies[index] = reply
        return replies

    def tell(self, command: Command) -> None:
        """Send over the ear: a node of the cluster forwards messages to all others."""
        self._ear.tell(command)

    def setup(self, *commands: Command) -> list[Any]:
        with gevent.Timeout(CONNECT_TIMEOUT, StoreDown("the control events cannot be read")):
            while (shard := self._shard_of(commands[0])) is None or not shard.attached:
                gevent.sleep(LEAST / 5)
            return self.request(*commands)

    def _links(self) -> Iterable[Link]:
        return [self._ear, *(shard.link for shard in self._shards.values())]

    def _shard_of(self, command: Command) -> Shard | None:
        key = command[3 if command[0] in _SCRIPTS else 1]
        return self._slots[slot_of(key)]  # type: ignore[arg-type]

    def _redirected(self, asked: Shard, problem: str) -> Shard:
        """The shard that a MOVED or ASK names; a MOVED is remembered. Raises StoreDown if it cannot be followed."""
        told = _ELSEWHERE.fullmatch(problem)
        if told is None or int(told["slot"]) >= SLOTS:
            raise StoreDown(f"a redirection that cannot be read: {problem[:100]}")
        shard = self._shard_at((told["host"] or asked.host[0], int(told["port"])))
        if told["kind"] == "MOVED":
            self._slots[int(told["slot"])] = shard
            self._look.set()
        return shard

    def _shard_at(self, host: Host) -> Shard:
        """The shard at an address; a new one is started."""
        shard = self._shards.get(host)
        if shard is None:
            if len(self._shards) >= MOST_SHARDS:
                raise StoreDown(f"the cluster has more than {MOST_SHARDS} primaries")

            shard = self._shards[host] = Shard(self._url, host, self._settings, self, self._names, self._marks)
            shard.start()
        return shard

    def shard_attaching(self, shard: Shard) -> None:
        self._check(shard, shard.setup)
        if shard is self._slots[slot_of(self._names.control)]:
            self._events.stream_back()

    def shard_detached(self, shard: Shard) -> None:
        self._look.set()

    def verify(self) -> None:
        for shard in list(self._shards.values()):
            if shard.attached:
                try:
                    self._check(shard, shard.request)
                except StoreDown as problem:
                    shard.link.give_up(str(problem))

    def _check(self, shard: Shard, ask: Ask) -> None:
        if self._flushes and shard in self._slots:  # a shard without slots gets its keys from one that is checked
            shard.check(ask)

    def touch(self) -> None:
        if self._flushes:
            for shard in self._shards.values():
                shard.touch()

    def _choose(self) -> Host:
        """The primary for the ear: one that works, without the control stream if possible; spread over the workers."""
        keeper = self._slots[slot_of(self._names.control)]
        there = [shard for shard in self._shards.values() if shard.attached and shard.breaker.closed]
        choice = [shard.host for shard in there if shard is not keeper] or [shard.host for shard in there]
        if not choice:
            raise StoreDown("no primary of the cluster can be reached")
        return sorted(choice)[crc32(self._client_name.encode()) % len(choice)]

    def pushed(self, channel: bytes, payload: bytes) -> None:
        self._events.pushed(channel, payload)

    def opened(self) -> None:
        self._events.opened()

    def attaching(self) -> None:
        """The ear is attaching."""
        self._events.attaching()
        self._heard = True

    def detached(self) -> None:
        if self._heard:
            self._heard = False
            self._deaf_until = time.monotonic() + DEAF
        self._events.detached()

    def _survey(self) -> None:
        """Keep the map of slots up to date, for ever."""
        reported, begun = "", False
        while True:
            try:
                self._apply(*slots_told(self._url, self._client_name, self._shards.values()))
                reported = ""
                if not begun:
                    begun = True
                    self._begin()
            except Exception as error:  # without this greenlet the map of slots would never be read again
                if str(error) != reported:
                    reported = str(error)
                    log.warning("the map of slots cannot be read, the last one stays in use: %s", reported)
            away = reported or not all(shard.attached for shard in self._shards.values())
            self._look.wait(LOOK_SOON if away else LOOK)
            self._look.clear()
            gevent.sleep(LEAST)

    def _begin(self) -> None:
        """Start the ear once all shards are attached, or `CONNECT_TIMEOUT` is over."""
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while not all(shard.attached for shard in self._shards.values()) and time.monotonic() < deadline:
            gevent.sleep(LEAST / 5)
        self._ear.start()

    def _apply(self, asked: str, told: Any) -> None:
        """Attach to new primaries, and close the shards of servers that are no longer primaries."""
        slots: list[Shard | None] = [None] * SLOTS
        hosts = set()
        for first, last, addresses in sorted(ranges(asked, told), reverse=True):
            hosts.update(addresses)
            shard = self._shard_at(addresses[0])
            shard.first = first
            slots[first : last + 1] = [shard] * (last + 1 - first)
        self._slots = slots
        for shard in set(self._shards.values()) - set(slots):
            shard.close()
            self._past[0] += shard.commands
            self._past[1] += shard.detachments
            del self._shards[shard.host]
        if self._ear_opener.at not in hosts and self._ear.attached:
            self._ear.let_go("the node is not in the cluster any more")


def _ask_at(shard: Shard, late: Done, commands: tuple[Command, ...], asking: bool) -> list[Any] | None:
    if not asking:
        return shard.ask(late, commands)
    both = tuple(part for command in commands for part in ((b"ASKING",), command))
    replies = shard.ask(lambda told: late(told[1::2] if isinstance(told, list) else told), both)
    return replies and replies[1::2]


def connect(url: str, names: Names, settings: ServerSettings, events: StoreEvents, flushes: Flushes) -> Servers:
    """The servers that a URL names: one server, a sentinel-managed one, or a Redis Cluster."""
    parsed = parse(url)
    if parsed.kind == CLUSTER:
        return RedisCluster(parsed, names, settings, events, flushes)
    return RedisServer("Redis", opener(parsed), settings, events, names.probe)
