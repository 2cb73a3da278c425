"""Redis Cluster: a link to every primary, and one more that hears messages. The same face as one `Link`.

Each question's commands go to the link of its slot; where that has moved, they follow. The link for messages, the ear,
is at any primary but the one that keeps the control stream, if there is another: so when either of the two dies, a
flush is still heard or can still be read. Without the ear the shards are asked for a short while longer.

A shard that dies, or answers too late, makes only the questions of its slots go without Redis.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from zlib import crc32

import gevent
import hiredis
from gevent.event import Event
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from rdnscache.errors import StoreDown
from rdnscache.place import CLUSTER, Host, Place, parse
from rdnscache.store.breaker import ALWAYS_FINE
from rdnscache.store.contract import CLAIM, FILL, RENEW
from rdnscache.store.link import Link
from rdnscache.store.marks import Marks
from rdnscache.store.opening import CONNECT_TIMEOUT, opener
from rdnscache.store.pipe import Command
from rdnscache.store.shard import EarOpener, Shard, ShardOpener, slots_told
from rdnscache.store.slots import ranges
from rdnscache.store.sweeping import Ask

log = logging.getLogger(__name__)

#: Seconds between two looks at who has which slots: usually, while a shard is away, and at least.
LOOK, LOOK_SOON, LEAST = 15.0, 0.25, 0.05
#: Seconds without the ear after which Redis is not used: flushes are not heard.
DEAF = 2.0
#: How often a command follows a slot that has moved.
REDIRECTIONS = 3
#: Primaries of a cluster: Redis' own documents name this bound.
MOST_SHARDS = 1000
#: What a server says that sends us to another.
_ELSEWHERE = re.compile(r"(?P<kind>MOVED|ASK) (?P<slot>[0-9]{1,5}) (?P<host>[^ ]{0,255}):(?P<port>[0-9]{1,5})")
#: What a server says that cannot serve its slots for now.
_AWAY = ("CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN")
#: Commands whose first key is not their first argument.
_SCRIPTS = (b"EVALSHA", b"EVAL")

Late = Callable[[Any], None]


class Shards:
    """All links of a worker. `stream` is the key of the control stream; the other arguments are as for `Link`."""

    #: Each has a breaker of its own.
    several = True

    def __init__(
        self,
        place: Place,
        stream: bytes,
        client_name: str,
        channels: Sequence[bytes],
        timeout: float,
        on_push: Callable[[bytes, bytes], None],
        on_open: Callable[[], None],
        on_attach: Callable[[], None],
        on_detach: Callable[[], None],
        budget: float,
    ) -> None:
        self.budget = budget
        self._least_patience = ALWAYS_FINE
        self._place = place
        self._client_name = client_name
        self._stream = stream
        self._timeout = timeout
        self._on_attach = on_attach
        self._on_detach = on_detach
        self._slots: list[Shard | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._shards: dict[Host, Shard] = {}
        self._ear_opener = EarOpener(place, self._choose)
        ear = (self._ear_opener, client_name, channels, timeout, on_push, on_open, self._hears, self._deaf, budget)
        self._ear = Link(*ear)
        #: Until when the shards are asked though the ear is away.
        self._deaf_until = 0.0
        self._heard = False
        #: Commands and detachments of links there were.
        self._past = [0, 0]
        #: What shards that go back in time have lost; called when the shard with the control stream is there (again).
        self.marks: Marks | None = None
        self.on_stream: Callable[[], None] = _ignore
        self._look = Event()
        self._surveyor: gevent.Greenlet | None = None

    @property
    def attached(self) -> bool:
        """Whether Redis may be used: flushes are heard, or were a moment ago."""
        return self._ear.attached or time.monotonic() < self._deaf_until

    @property
    def commands(self) -> int:
        return self._past[0] + sum(link.commands for link in self._links())

    @property
    def detachments(self) -> int:
        return self._past[1] + sum(link.detachments for link in self._links())

    @property
    def latency(self) -> float:
        return max((shard.link.latency for shard in self._shards.values()), default=0.0)

    @property
    def lag(self) -> float:
        return max((shard.link.lag for shard in self._shards.values()), default=0.0)

    @property
    def least_patience(self) -> float:
        return self._least_patience

    @least_patience.setter
    def least_patience(self, seconds: float) -> None:
        self._least_patience = seconds
        for shard in self._shards.values():
            shard.link.least_patience = seconds

    def start(self) -> None:
        self._surveyor = gevent.spawn(self._survey)

    def close(self) -> None:
        if self._surveyor is not None:
            self._surveyor.kill(block=False)
        for link in self._links():
            link.close()

    def let_go(self, reason: str) -> None:
        """A replica was written to: look again who has which slots."""
        self._look.set()

    def ask(self, late: Late, commands: tuple[Command, ...]) -> list[Any] | None:
        """As `Link.ask`; all commands are about the same question."""
        shard = self._shard_of(commands[0])
        asking = False
        for _ in range(REDIRECTIONS):
            if shard is None or not shard.usable():
                break
            replies = self._ask_at(shard, late, commands, asking)
            if replies is None:
                return None
            problem = next((str(reply) for reply in replies if isinstance(reply, hiredis.ReplyError)), "")
            if not problem.startswith(("MOVED ", "ASK ")):
                shard.tried(problem if problem.startswith(_AWAY) else "")
                if problem.startswith((*_AWAY, "TRYAGAIN")):
                    raise StoreDown(problem)
                return replies
            shard, asking = self._redirected(shard, problem), problem.startswith("ASK")
        raise StoreDown("the part of the cluster that has it is away")

    @staticmethod
    def _ask_at(shard: Shard, late: Late, commands: tuple[Command, ...], asking: bool) -> list[Any] | None:
        try:
            if asking:
                both = tuple(part for command in commands for part in ((b"ASKING",), command))
                replies = shard.link.ask(lambda told: late(told[1::2] if isinstance(told, list) else told), both)
                replies = replies and replies[1::2]
            else:
                replies = shard.link.ask(late, commands)
        except StoreDown as error:
            if not shard.breaker.closed:
                shard.tried(str(error))
            raise
        if replies is None:
            shard.tried("it does not answer in time")
        return replies

    def send(self, command: Command, done: Callable[[Any], None] | None = None) -> None:
        """As `Link.send`; follows a slot that has moved once. What is about no key goes where the ear is."""
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
                    other.link.send((b"ASKING",))
                other.link.send(command, done)
            elif done is not None:
                done(result)
            return None

        if shard is None:
            arrived(StoreDown("the part of the cluster that has it is away"))
        else:
            shard.link.send(command, arrived)

    def request(self, *commands: Command) -> list[Any]:
        """As `Link.request`, at as many shards as it takes. Where one of several is away, errors stand for replies."""
        replies: list[Any] = [None] * len(commands)
        parts: dict[Shard | None, list[int]] = {}
        for index, command in enumerate(commands):
            parts.setdefault(self._shard_of(command), []).append(index)
        for shard, indexes in parts.items():
            try:
                if shard is None:
                    raise StoreDown("the part of the cluster that has it is away")
                found = shard.link.request(*(commands[index] for index in indexes))
            except StoreDown as error:
                if len(parts) == 1:
                    raise
                found = [hiredis.ReplyError(str(error))] * len(indexes)
            for index, reply in zip(indexes, found, strict=True):
                problem = str(reply) if isinstance(reply, hiredis.ReplyError) else ""
                if shard is not None and problem.startswith(("MOVED ", "ASK ")):
                    there = self._redirected(shard, problem).link
                    asking = ((b"ASKING",),) if problem.startswith("ASK") else ()
                    reply = there.request(*asking, commands[index])[-1]
                replies[index] = reply
        return replies

    def tell(self, command: Command) -> None:
        """As `Link.tell`, for messages: any node passes them on to all others."""
        self._ear.tell(command)

    def setup(self, *commands: Command) -> list[Any]:
        """As `Link.setup`: scripts where the ear is, keys where they belong."""
        if commands[0][0] == b"SCRIPT":
            return self._ear.setup(*commands)
        with gevent.Timeout(CONNECT_TIMEOUT, StoreDown("the control events cannot be read")):
            while (shard := self._shard_of(commands[0])) is None or not shard.link.attached:
                gevent.sleep(LEAST / 5)
            return self.request(*commands)

    def _links(self) -> Iterable[Link]:
        return [self._ear, *(shard.link for shard in self._shards.values())]

    def _shard_of(self, command: Command) -> Shard | None:
        key = command[3 if command[0] in _SCRIPTS else 1]
        return self._slots[key_slot(key)]  # type: ignore[arg-type]

    def _redirected(self, asked: Shard, problem: str) -> Shard:
        """The shard a MOVED or ASK names; the former is remembered. Raises StoreDown when it leads nowhere."""
        told = _ELSEWHERE.fullmatch(problem)
        if told is None or int(told["slot"]) >= REDIS_CLUSTER_HASH_SLOTS:
            raise StoreDown(f"sent elsewhere, but not where to: {problem[:100]}")
        shard = self._shard_at((told["host"] or asked.host[0], int(told["port"])))
        if told["kind"] == "MOVED":
            self._slots[int(told["slot"])] = shard
            self._look.set()
        return shard

    def _shard_at(self, host: Host) -> Shard:
        """The shard there; a new one is attached to."""
        shard = self._shards.get(host)
        if shard is None:
            if len(self._shards) >= MOST_SHARDS:
                raise StoreDown(f"the cluster has more than {MOST_SHARDS} primaries")

            def attached() -> None:
                link.setup(*((b"SCRIPT", b"LOAD", script.source) for script in (CLAIM, RENEW, FILL)))
                self._check(known, link.setup)
                known.breaker.reset(time.monotonic())
                if known is self._slots[key_slot(self._stream)]:
                    self.on_stream()

            link = Link(
                ShardOpener(self._place, host), self._client_name, (), self._timeout,
                _ignore, _ignore, attached, self._look.set, self.budget,
            )  # fmt: skip
            link.least_patience = self._least_patience
            shard = known = self._shards[host] = Shard(host, link)
            link.start()
        return shard

    def verify(self) -> None:
        """Look what the shards that are there have lost, now that more flushes are known."""
        for shard in list(self._shards.values()):
            if shard.link.attached:
                try:
                    self._check(shard, shard.link.request)
                except StoreDown as problem:
                    shard.link.give_up(str(problem))

    def _check(self, shard: Shard, ask: Ask) -> None:
        """Have a shard swept for the flushes it has lost, before it is read from. Raises StoreDown."""
        if not self.marks or shard not in self._slots:  # one that has no slots yet gets its keys from one that has
            return
        with gevent.Timeout(CONNECT_TIMEOUT, StoreDown("which slots it has is not known yet")):
            while shard.first is None:
                gevent.sleep(LEAST / 5)
        self.marks.check(ask, shard.first, "{}:{}".format(*shard.host))

    def touch(self) -> None:
        """Keep the marks from being evicted: they are hardly ever read."""
        for shard in self._shards.values():
            if self.marks and shard.first is not None:
                shard.link.send((b"GETRANGE", self.marks.name(shard.first), 0, 0))

    def _choose(self) -> Host:
        """Where the ear is to be: spread over the workers, not with the control stream, not where nothing answers."""
        keeper = self._slots[key_slot(self._stream)]
        there = [shard for shard in self._shards.values() if shard.link.attached and shard.breaker.closed]
        choice = [shard.host for shard in there if shard is not keeper] or [shard.host for shard in there]
        if not choice:
            raise StoreDown("no primary of the cluster can be reached")
        return sorted(choice)[crc32(self._client_name.encode()) % len(choice)]

    def _hears(self) -> None:
        self._on_attach()
        self._heard = True

    def _deaf(self) -> None:
        """The ear is lost, or could not be attached."""
        if self._heard:
            self._heard = False
            self._deaf_until = time.monotonic() + DEAF
        self._on_detach()

    def _survey(self) -> None:
        """Keep the map of slots, for ever."""
        reported, begun = "", False
        while True:
            try:
                self._apply(*slots_told(self._place, self._client_name, self._shards.values()))
                reported = ""
                if not begun:
                    begun = True
                    self._begin()
            except Exception as error:  # this greenlet is all that knows where the slots are
                if str(error) != reported:
                    reported = str(error)
                    log.warning("who has which slots of the cluster is not known: %s", reported)
            away = reported or not all(shard.link.attached for shard in self._shards.values())
            self._look.wait(LOOK_SOON if away else LOOK)
            self._look.clear()
            gevent.sleep(LEAST)

    def _begin(self) -> None:
        """Start to listen when the shards are there, or could have been."""
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while not all(shard.link.attached for shard in self._shards.values()) and time.monotonic() < deadline:
            gevent.sleep(LEAST / 5)
        self._ear.start()

    def _apply(self, asked: str, told: Any) -> None:
        """Attach to new primaries, and leave those that are none any more."""
        slots: list[Shard | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        hosts = set()
        for first, last, places in sorted(ranges(asked, told), reverse=True):
            hosts.update(places)
            shard = self._shard_at(places[0])
            shard.first = first
            slots[first : last + 1] = [shard] * (last + 1 - first)
        self._slots = slots
        for shard in set(self._shards.values()) - set(slots):
            shard.link.close()
            self._past[0] += shard.link.commands
            self._past[1] += shard.link.detachments
            del self._shards[shard.host]
        if self._ear_opener.at not in hosts and self._ear.attached:
            self._ear.let_go("the node is not in the cluster any more")


def _ignore(*told: Any) -> None:
    pass


def link_to(url: str, stream: bytes, client_name: str, channels: Sequence[bytes], *more: Any) -> Link | Shards:
    """What a URL asks for; the control stream's key, and the arguments of `Link` from the client's name on."""
    place = parse(url)
    if place.kind == CLUSTER:
        return Shards(place, stream, client_name, channels, *more)
    return Link(opener(place), client_name, channels, *more)
