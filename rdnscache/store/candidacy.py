"""One worker's part in the cluster-wide flight for a question, over Redis: read, claim, follow, fill."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import hiredis
from gevent import get_hub, getcurrent

from rdnscache.dns.entry import Entry
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import Reply
from rdnscache.store.contract import CLAIM, ENTRY, FILL, FOLLOW, LEAD, RENEW, info_text
from rdnscache.store.nostore import Candidacy

if TYPE_CHECKING:
    from rdnscache.store.store import Store


class RedisCandidacy(Candidacy):
    def __init__(self, store: Store, key: bytes, on_late: Callable[[Entry], None]) -> None:
        super().__init__(key, on_late)
        self._store = store
        self._name = store.names.entry(key)
        #: Of the entry, the lead and the followers, once we have claimed.
        self._keys: tuple[bytes, ...] = ()
        self._token = b""
        #: The last one that may have become the leader's.
        self._offered = b""
        self._claimed = 0.0
        self._followed = 0
        #: Whether Redis was too slow for us: it is not waited for again, what it says comes late.
        self._slow = False
        self._mail: Entry | None = None
        self._switch: Callable[[Entry | None], None] | None = None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._keys and self._store.following.get(self._name) is self:
            del self._store.following[self._name]
        if kind is not None and self._offered and self._store.usable:
            # we end in the middle, perhaps before Redis has said that we lead: others need not wait for our lease
            self._store.run_later(RENEW, self._store.filled, *self._keys, self._offered, 0)

    @property
    def claimed(self) -> bool:
        return bool(self._token)

    def read(self) -> Entry | None:
        store, name = self._store, self._name
        if not store.usable:
            return None
        replies = store.ask(self._read_late, (store.read_command(name), (b"PTTL", name)))
        if replies is None:
            self._slow = True
            return None
        return self._entry_of(replies)

    def _entry_of(self, replies: list[Any]) -> Entry | None:
        fields, left = replies
        if isinstance(fields, list) and fields[0] is None and fields[1] is None:
            return None
        if isinstance(fields, list) and isinstance(left, int):
            if left == -2:  # it expired between the two commands
                return None
            entry = self._store.entry_of(self.key, self._name, fields, left)
            if entry is None:
                self._store.discard(self._name)
            return entry
        if str(fields).startswith("WRONGTYPE"):
            self._store.discard(self._name)
        else:
            self._store.refused(fields)
        return None

    def _read_late(self, replies: Any) -> None:
        entry = self._entry_of(replies) if isinstance(replies, list) else None
        if entry is not None and entry.fresh(time.monotonic()):
            self.on_late(entry)

    def claim(self, renewal: int = 0) -> int:
        store = self._store
        self._token = b""
        if not store.usable:
            return LEAD
        if not self._keys:
            name = self._name
            self._keys = (name, name + b"#lead", name + b"#wait")
            store.following[name] = self
        for _ in range(2):  # twice: the first may find, and delete, a value that cannot be used
            token, self._claimed = store.token(), time.monotonic()
            self._offered = token
            told: tuple[bytes | int, ...] = (
                token,
                store.lease_ms,
                store.wake_channel,
                self._followed,
                renewal * 1000,
                *store.mac_field,
            )
            if self._slow:
                store.run_later(CLAIM, self._claim_late, *self._keys, *told)
                self._token = token
                return LEAD
            reply = store.run(CLAIM, self._claim_late, *self._keys, *told)
            if reply is None:
                self._slow = True
                self._token = token
                return LEAD
            if not isinstance(reply, list) or len(reply) < 5:
                store.refused(reply)
                return LEAD
            verdict = self._verdict_of(reply)
            if verdict == LEAD:
                self._token = token
            elif verdict == FOLLOW:
                self._followed = 1
            if verdict != LEAD:
                self._offered = b""
            if verdict != ENTRY or self.entry is not None:
                return verdict
        return LEAD

    def _verdict_of(self, reply: list[Any]) -> int:
        verdict, rest, wire, info, left = reply[:5]
        self.lease_left = max(rest, 0) / 1000
        self.entry = None
        if wire is not None:
            self.entry = self._store.entry_of(self.key, self._name, [wire, info, *reply[5:]], left)
            if self.entry is None:
                self._store.discard(self._name)
        return int(verdict)

    def _claim_late(self, replies: Any) -> None:
        """The claim is answered after all. If we lead, the fill goes by its token anyway."""
        reply = replies[0] if isinstance(replies, list) else None
        if isinstance(reply, list) and len(reply) >= 5 and self._verdict_of(reply) == ENTRY and self.entry is not None:
            self.on_late(self.entry)
        elif isinstance(reply, hiredis.ReplyError):
            self._store.refused(reply)

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
        self.woken = self._mail is not None
        if self._switch is not None:
            self._switch(entry)
        elif entry is not None and self._slow:
            self.on_late(entry)

    def renew(self, moment: float) -> None:
        """If we lead since before this moment, and are at work still: tell Redis."""
        if self._token and self._claimed < moment:
            store = self._store
            store.run_later(RENEW, store.filled, *self._keys, self._token, store.lease_ms)

    def fill(self, kind: bytes, reply: Reply, ttl: int, stale: int, source: str) -> None:
        store = self._store
        if not self._token:
            return
        info = info_text(reply.rcode, ttl, stale, store.time_text(), source, store.node).encode()
        answer = answer_text(reply).encode()
        lifetime = (ttl + stale) * 1000
        seal = store.signed(self._name, info, reply.wire)
        told: tuple[bytes | int, ...] = (self._token, kind, lifetime, info, answer, reply.wire, *seal)
        store.run_later(FILL, store.filled, *self._keys, *told)
