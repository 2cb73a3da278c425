"""The store over Redis: read, stand as a candidate to lead, wait as a follower, fill.

Nothing here raises because of Redis. While it is away, a read finds nothing and every candidate leads, with no token to
fill.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import hiredis
from gevent import get_hub, getcurrent

from rdnscache import metrics
from rdnscache.dns.entry import Entry
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import Reply
from rdnscache.errors import StoreDown
from rdnscache.metrics import Counters
from rdnscache.store.contract import (
    CLAIM,
    ENTRY,
    FILL,
    FOLLOW,
    HEAT,
    JUST_STORED,
    LEAD,
    LEAVE,
    MEMBER_TTL,
    Names,
    Script,
    decode,
    info_text,
)
from rdnscache.store.control import Control, Local
from rdnscache.store.link import Link
from rdnscache.store.nostore import Candidacy, NoStore

log = logging.getLogger(__name__)

#: Entries read in one go.
PAGE = 100


class Store(NoStore):
    """Redis through one link. `local` is what control events act on."""

    def __init__(
        self,
        url: str,
        prefix: str,
        node: str,
        worker: int,
        lease: float,
        timeout: float,
        local: Local,
        counters: Counters,
    ) -> None:
        self.names = Names(prefix)
        self._counted: dict[int, int] = {}
        self.node = node
        self.lease_ms = round(lease * 1000)
        self.wake_channel = self.names.wake(node, worker)
        self.counters = counters
        self.following: dict[bytes, RedisCandidacy] = {}
        self._token_head = f"{node}.{worker}:{os.urandom(4).hex()}:"
        self._tokens = 0
        self._second, self._second_text = 0, ""
        self._place = f"{node}.{worker}".encode()
        self._member = self.names.node(node, worker)
        self._local = local
        self._control = Control(self.names, node, worker, local)
        channels = (self.wake_channel, self._control.channel)
        client_name = f"rdnscache-{node}.{worker}"
        callbacks = (self._on_push, self._control.opened, self._on_attach, self._on_detach)
        self.link = Link(url, client_name, channels, timeout, *callbacks)
        self._control.link = self.link

    @property
    def attached(self) -> bool:
        return self.link.attached

    @property
    def latency(self) -> float:
        return self.link.latency

    def start(self) -> None:
        self.link.start()

    @property
    def state(self) -> str:
        return "attached" if self.link.attached else "away"

    def measure(self) -> None:
        counted, link = self._counted, self.link
        self.counters[metrics.REDIS_ATTACHED] = int(link.attached)
        for column, total in (
            (metrics.REDIS_COMMANDS, link.commands),
            (metrics.REDIS_DETACHMENTS, link.detachments),
            (metrics.EVENTS_MISSED, self._control.missed),
        ):
            self.counters[column] += total - counted.get(column, 0)
            counted[column] = total

    def beat(self, report: str) -> None:
        self.link.send((b"SET", self._member, report, b"EX", MEMBER_TTL))
        self.link.send((b"SADD", self.names.nodes, self._place))

    def heat(self, hottest: Sequence[tuple[bytes, int]]) -> None:
        if hottest:
            told = [
                part for key, queries in hottest for part in (self.names.entry(key)[len(self.names.root) :], queries)
            ]
            self.link.send((b"EVAL", HEAT.source, b"1", self.names.hot, *told))

    def hottest(self, count: int) -> Iterator[list[Entry]]:
        try:
            (members,) = self.link.request((b"ZREVRANGE", self.names.hot, 0, count - 1))
            texts = [member.decode("utf-8", "replace") for member in members] if isinstance(members, list) else []
            keys = [key for text in texts if (key := self.names.question(self.names.root + text)) is not None]
            for start in range(0, len(keys), PAGE):
                page = keys[start : start + PAGE]
                names = [self.names.entry(key) for key in page]
                commands = [part for name in names for part in ((b"HMGET", name, b"wire", b"info"), (b"PTTL", name))]
                replies = self.link.request(*commands)
                now = time.monotonic()
                read = zip(page, replies[::2], replies[1::2], strict=True)
                found = [decode(key, told[1], told[0], left, now) for key, told, left in read if isinstance(told, list)]
                yield [entry for entry in found if entry is not None]
        except StoreDown:
            self.count_error()

    def leave(self) -> None:
        try:
            (deleted,) = self.link.request((b"EVAL", LEAVE.source, b"1", self._member, os.getpid()))
            if deleted == 1:
                self.link.request((b"SREM", self.names.nodes, self._place))
        except StoreDown:
            pass  # we shall be missed for an hour

    def close(self) -> None:
        self.link.close()

    def read(self, key: bytes) -> Entry | None:
        """The entry for a question, fresh or stale. A plain read, which may go to a replica."""
        if not self.link.attached:
            return None
        name = self.names.entry(key)
        started = time.monotonic()
        try:
            fields, left = self.link.request((b"HMGET", name, b"wire", b"info"), (b"PTTL", name))
        except StoreDown:
            self.count_error()
            return None
        metrics.observe(self.counters, metrics.REDIS_SECONDS, time.monotonic() - started, 1)
        if isinstance(fields, list) and fields[0] is None and fields[1] is None:
            return None
        if isinstance(fields, list) and isinstance(left, int):
            entry = decode(key, fields[1], fields[0], left, time.monotonic())
            if entry is None and left != -2:  # -2: it expired between the two commands
                self.discard(name)
            return entry
        if str(fields).startswith("WRONGTYPE"):
            self.discard(name)
        else:
            self.count_error()
        return None

    def candidacy(self, key: bytes) -> Candidacy:
        return RedisCandidacy(self, key)

    def token(self) -> bytes:
        self._tokens += 1
        return f"{self._token_head}{self._tokens}".encode()

    def time_text(self) -> str:
        """Now, as people read it; made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        return self._second_text

    def discard(self, name: bytes) -> None:
        """Delete a value nobody can use."""
        self.counters[metrics.DISCARDS] += 1
        log.warning("deleting a value in Redis that is not a usable entry: %s", name.decode("ascii"))
        self.link.send((b"UNLINK", name))

    def count_error(self) -> None:
        self.counters[metrics.REDIS_ERRORS] += 1

    def run(self, script: Script, *arguments: bytes | int) -> Any:
        """Run a script on its three keys; its source goes along only when Redis has forgotten it."""
        (reply,) = self.link.request((b"EVALSHA", script.sha, b"3", *arguments))
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            (reply,) = self.link.request((b"EVAL", script.source, b"3", *arguments))
        return reply

    def run_later(self, script: Script, *arguments: bytes | int) -> None:
        """The same without waiting."""

        def done(result: Any, retry: bool = True) -> None:
            reply = result[0] if isinstance(result, list) else result
            if retry and isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self.link.send((b"EVAL", script.source, b"3", *arguments), lambda again: done(again, False))
            elif isinstance(reply, Exception):
                self.count_error()
            elif reply > 0:
                self.counters[metrics.WAKES_SENT] += reply

        self.link.send((b"EVALSHA", script.sha, b"3", *arguments), done)

    def _on_push(self, channel: bytes, payload: bytes) -> None:
        if channel == self.wake_channel:
            name, _, rest = payload.partition(b"\n")
            info, _, wire = rest.partition(b"\n")
            candidacy = self.following.get(name)
            if candidacy is None:
                return
            entry = decode(candidacy.key, info, wire, JUST_STORED, time.monotonic())
            if entry is not None:
                self.counters[metrics.WAKES] += 1
                candidacy.wake(entry)
        else:
            self._control.hear(payload)

    def _on_attach(self) -> None:
        """Load the scripts and catch up with control events; only then may anybody lead or follow."""
        self.link.setup(*((b"SCRIPT", b"LOAD", script.source) for script in (CLAIM, FILL)))
        self._control.catch_up()
        get_hub().loop.run_callback(self._look_again)
        get_hub().loop.run_callback(self._local.introduce)

    def _on_detach(self) -> None:
        self._control.closed()
        self._look_again()

    def _look_again(self) -> None:
        """Wake every follower to claim anew: messages may have been lost."""
        for candidacy in list(self.following.values()):
            candidacy.wake(None)


class RedisCandidacy(Candidacy):
    def __init__(self, store: Store, key: bytes) -> None:
        super().__init__(key)
        self._store = store
        self._name = name = store.names.entry(key)
        self._keys = (name, name + b"#lead", name + b"#wait")
        self._token = b""
        self._followed = 0
        self._mail: Entry | None = None
        self._switch: Callable[[Entry | None], None] | None = None

    def __enter__(self) -> Candidacy:
        self._store.following[self._name] = self
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        del self._store.following[self._name]

    def claim(self) -> int:
        store = self._store
        self._token = b""
        if not store.attached:
            return LEAD
        for _ in range(2):  # twice: the first may find, and delete, a value that cannot be used
            started = time.monotonic()
            try:
                token = store.token()
                told = (token, store.lease_ms, store.wake_channel, self._followed)
                reply = store.run(CLAIM, *self._keys, *told)
                metrics.observe(store.counters, metrics.REDIS_SECONDS, time.monotonic() - started, 1)
            except StoreDown:
                reply = None
            if not isinstance(reply, list) or len(reply) != 5:
                store.count_error()
                return LEAD
            verdict, rest, wire, info, left = reply
            self.lease_left = max(rest, 0) / 1000
            self.entry = None if wire is None else decode(self.key, info, wire, left, time.monotonic())
            if wire is not None and self.entry is None:
                store.discard(self._name)
            if verdict == LEAD:
                self._token = token
            elif verdict == FOLLOW:
                self._followed = 1
            if verdict != ENTRY or self.entry is not None:
                return int(verdict)
        return LEAD

    def wait(self, seconds: float) -> Entry | None:
        if self._mail is not None:
            return self._mail
        hub = get_hub()
        self._switch = getcurrent().switch
        timer = hub.loop.timer(seconds)
        try:
            timer.start(self._switch, None)
            hub.switch()
        finally:
            self._switch = None
            timer.stop()
            timer.close()
        return self._mail

    def wake(self, entry: Entry | None) -> None:
        """Called in the hub: hand over what a message brought, or None to make the follower look again."""
        self._mail = entry or self._mail
        if self._switch is not None:
            self._switch(entry)

    def fill(self, kind: bytes, reply: Reply, ttl: int, stale: int, source: str) -> None:
        store = self._store
        if not self._token:
            return
        info = info_text(reply.rcode, ttl, stale, store.time_text(), source, store.node).encode()
        answer = answer_text(reply).encode()
        lifetime = (ttl + stale) * 1000
        store.run_later(FILL, *self._keys, self._token, kind, lifetime, info, answer, reply.wire)
