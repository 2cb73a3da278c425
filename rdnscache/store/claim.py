"""One worker's part in the cluster-wide flight for a question, over Redis: read, claim, follow, fill."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gevent import get_hub, getcurrent

from rdnscache import clock
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import holds_widely
from rdnscache.dns.question import subnet, wider_key
from rdnscache.dns.subnet import scope_of
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import SERVFAIL, Reply
from rdnscache.errors import StoreDown
from rdnscache.outcomes import ENTRY, FOLLOW, LEAD, Verdict
from rdnscache.store.claim_store import ClaimStore
from rdnscache.store.contract import (
    CLAIM,
    FAILURE,
    FILL,
    NOTHING_FRESH,
    RELEASE,
    RENEW,
    STORE,
    STORE_NAME,
)
from rdnscache.store.decoding import NO_SCOPE, Lifetime, info_text
from rdnscache.store.interface import Claim, OnLate
from rdnscache.store.odd import guessable

#: Verdicts by the number in the script's reply.
_VERDICTS = {int(verdict): verdict for verdict in Verdict}


#: Seconds after a flush for which the content of wake messages is ignored, if they arrive on another connection than
#: replies: such a message may have been sent before the flush, for an earlier flight of this worker.
WARY = 20.0


class RedisClaim(Claim):
    def __init__(self, store: ClaimStore, key: bytes, flight: Any, on_late: OnLate) -> None:
        super().__init__(key, flight, on_late)
        self._store = store
        self._name = store.names.entry(key)
        #: The keys of the entry, the lead, the followers and the name's NXDOMAIN, once we have claimed.
        self._keys: tuple[bytes, ...] = ()
        self._token = b""
        #: The last token sent that may have become the leader's.
        self._offered = b""
        self._claimed = 0.0
        self._followed = 0
        #: Whether Redis was too slow: no later reply is waited for.
        self._slow = False
        #: For a claim whose reply was not waited for: the number of flushes before it, whether Redis has said that we
        #: lead, and the fill that waits for that.
        self._late = self._leads = False
        self._flushes = 0
        self._held: tuple[bytes | int, ...] = ()
        #: Whether Redis could not be asked about this question at all.
        self._away = False
        #: Whether the entry in Redis is not trusted: the next claim ignores it.
        self._unbelieved = False
        #: Whether its key cannot be guessed, once we have claimed.
        self._odd = False
        #: Whether there is something in Redis.
        self._known = False
        #: Whether wake messages may be from before a flush that this flight began after.
        self._wary = False
        self._mail: Entry | None = None
        self._switch: Callable[[Entry | None], None] | None = None

    def break_off(self) -> None:
        if self._offered and self._store.asks():  # perhaps Redis has not replied yet that we lead
            self._token = self._offered
            self.release()

    def end(self) -> None:
        if self._keys:
            self._store.leave_following(self._name, self)

    @property
    def alone(self) -> bool:
        return not self._token and (self._away or not self._store.asks())

    def read(self, last: bool = False) -> Entry | None:
        entry = self._read(self.key, self._name, self._read_late)
        if last and entry is None:
            key = wider_key(self.key)
            return self._read(key, self._store.names.entry(key), _ignore)
        return entry

    def _read(self, key: bytes, name: bytes, late: Callable[[Any], None]) -> Entry | None:
        store = self._store
        if not store.asks() or not store.may_read(name):
            return None
        try:
            # PTTL first: then an entry that is replaced in between looks too old, never too young
            replies = store.servers.ask(late, ((b"PTTL", name), store.read_command(name)))
        except StoreDown:
            store.lost_with(name)
            self._away = True
            return None
        if replies is None:
            self._slow = True
            return None
        return self._entry_of(key, name, replies)

    def _entry_of(self, key: bytes, name: bytes, replies: list[Any]) -> Entry | None:
        left, fields = replies
        if isinstance(fields, list) and len(fields) >= 2 and isinstance(left, int):
            if fields[0] is None and fields[1] is None:
                return None
            self._known = True
            return self._believed(key, name, fields, left)
        if str(fields).startswith("WRONGTYPE"):
            self._store.discard(name)
        else:
            self._store.refused(name, fields)
        return None

    def _believed(self, key: bytes, name: bytes, fields: list[Any], left: int) -> Entry | None:
        """The entry if it is trusted; if not, None, and the next claim ignores it."""
        entry = self._store.trust.entry_of(key, name, fields, left)
        if entry is not None and (entry.rcode != SERVFAIL or self._store.trust.believes(entry)):
            return entry
        self._unbelieved = True
        return None

    def _read_late(self, replies: Any) -> None:
        entry = self._entry_of(self.key, self._name, replies) if isinstance(replies, list) else None
        if entry is not None and entry.fresh(clock.now()):
            self.on_late(self.flight, entry)

    def acquire(self, renewal: int = 0) -> Verdict:
        store = self._store
        self._token = b""
        if not store.asks():
            self._away = True
            return LEAD
        if not self._keys:
            name = self._name
            self._keys = (name, name + b"#lead", name + b"#wait", store.names.wider_entry(name))
            store.follow(name, self)
            self._odd = not guessable(self.key)
            if self._odd:
                store.note_odd(name, store.lease_ms)
            self._wary = not store.servers.in_order and time.monotonic() - store.flushed_at() < WARY
        for _ in range(2):  # twice: the first may find what cannot be used, or not be believed
            if not store.asks():  # it may have shown that our clock is wrong
                break
            token, self._claimed, self._flushes = store.token(), time.monotonic(), store.flushes()
            self._offered = token
            try:
                verdict = self._claim(renewal)
            except StoreDown:
                self._away = True
                return LEAD
            if verdict is None:
                self._slow = self._late = True
                self._token = token
                return LEAD
            if verdict is LEAD:
                self._token = token
            else:
                self._offered = b""
                self._followed |= verdict is FOLLOW
            if verdict is not ENTRY or self.entry is not None:
                return verdict
        self._away = True
        return LEAD

    def _claim(self, renewal: int) -> Verdict | None:
        """The verdict of Redis; None if it is late. Raises StoreDown, also for an error reply.

        Unless an entry is known to be there, plain commands are tried first: see `contract`.
        """
        store, keys = self._store, self._keys
        if self._slow:
            store.servers.run_later(CLAIM, self._claim_late, *keys, *self._claim_words(renewal))
            return None
        if not (renewal or self._known or self._followed):
            lead = (b"SET", keys[1], self._offered, b"NX", b"PX", store.lease_ms)
            tried = store.servers.ask(self._tried_late, (lead, (b"EXISTS", keys[0], keys[3])))
            if tried is None:
                return None
            if _is_lead(tried):
                self.entry = None
                return LEAD
        reply = store.servers.run(CLAIM, self._claim_late, *keys, *self._claim_words(renewal))
        if reply is None:
            return None
        if not _is_verdict(reply):
            store.refused(self._name, reply)
            raise StoreDown("claims are refused")
        return self._verdict_of(reply)

    def _claim_words(self, renewal: int) -> tuple[bytes | int, ...]:
        """The arguments of the script."""
        store = self._store
        left = NOTHING_FRESH if self._unbelieved else renewal * 1000
        claim = (self._offered, store.lease_ms, store.wake_channel, self._followed, left)
        return (*claim, *store.trust.mac_field)

    def _verdict_of(self, reply: list[Any]) -> Verdict:
        self.entry = None
        verdict, rest, left, wide, wire, info = reply[:6]
        self.lease_left = max(rest, 0) / 1000
        if wire is not None and not self._unbelieved:
            key, name = (wider_key(self.key), self._keys[3]) if wide else (self.key, self._name)
            self.entry = self._believed(key, name, [wire, info, *reply[6:]], left)
        return _VERDICTS[verdict]

    def _tried_late(self, replies: Any) -> None:
        """The plain commands were answered after all, or failed."""
        if isinstance(replies, list) and _is_lead(replies):
            self._lead_late()
        elif isinstance(replies, list) and self._token:  # another leads, or there is an entry: the script tells which
            self._store.servers.run_later(CLAIM, self._claim_late, *self._keys, *self._claim_words(0))
        else:
            self._claim_late(replies)

    def _claim_late(self, replies: Any) -> None:
        """The claim was answered after all, or failed."""
        reply = replies[0] if isinstance(replies, list) else None
        verdict: Verdict | None = None
        if reply is not None and _is_verdict(reply):
            verdict = self._verdict_of(reply)
            if verdict is ENTRY and self.entry is not None:
                self.on_late(self.flight, self.entry)
        elif reply is not None:
            self._store.refused(self._name, reply)
        if verdict is LEAD:
            return self._lead_late()
        self._token, self._held = b"", ()
        return None

    def _lead_late(self) -> None:
        held, self._held = self._held, ()
        self._leads = True
        if held:
            self._send_fill(held)

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

    def hear(self, info: bytes, wire: bytes, mac: bytes | None) -> None:
        """Called in the hub with a wake message for this question; `wire` is empty if the claim was given back."""
        if not wire or self._wary:
            return self.wake(None)
        if subnet(self.key):
            wide = b" scope=" not in info
        else:
            wide = info.startswith(b"rcode=NXDOMAIN ") and wire[6:8] == b"\0\0"
        key, name = (wider_key(self.key), self._keys[3]) if wide else (self.key, self._name)
        entry = self._store.trust.entry_of(key, name, [wire, info, mac], Lifetime.WHOLE)
        if entry is not None and entry.rcode == SERVFAIL and not self._store.trust.believes(entry):
            self._unbelieved = True
            return self.wake(None)
        if entry is not None:
            self.wake(entry)
        return None

    def wake(self, entry: Entry | None) -> None:
        """Called in the hub: wake the follower with an entry, or with None to make it claim again."""
        self._mail = entry or self._mail
        self.woken = self._mail is not None
        if self._switch is not None:
            self._switch(entry)
        elif entry is not None:  # nobody waits here any more
            self.on_late(self.flight, entry)

    def renew(self, moment: float) -> None:
        """Renew the lease if we have led since before this time (monotonic)."""
        if self._token and self._claimed < moment:
            store = self._store
            store.servers.run_later(RENEW, store.filled, *self._keys, self._token, store.lease_ms)

    def fill(self, kind: bytes, reply: Reply, ttl: int, stale: int, source: str, route: str, why: str = "") -> None:
        store = self._store
        if not self._token:
            return
        name = self._name
        scope = scope_of(reply.subnet) if subnet(self.key) else NO_SCOPE
        if kind != FAILURE and holds_widely(self.key, reply):
            name, scope = self._keys[3], NO_SCOPE
            kind = STORE_NAME if kind == STORE else kind
        stored = store.time_text()
        seen = store.seen()
        info = info_text(
            reply.rcode, ttl, stale, stored, source, store.node, why, reply.ede, route, scope, seen
        ).encode()
        answer = answer_text(reply).encode()
        lifetime = (ttl + stale) * 1000
        seal = store.trust.signed(name, info, reply.wire)
        if self._odd:
            store.note_odd(name, lifetime)
        self._send_fill((self._token, kind, lifetime, info, answer, reply.wire, *seal))

    def _send_fill(self, told: tuple[bytes | int, ...]) -> None:
        """Send the fill, unless the answer may be older than a flush.

        A flush takes all existing claims away. A late claim may arrive after it, although its upstream was asked before
        it. So the answer of a late claim is stored only after Redis has said that we lead, and if no flush was heard of
        by then. With one connection a flush is heard before that reply; with several there is no order, so the claim
        is given back.
        """
        store = self._store
        if self._late and (not store.servers.in_order or store.flushes() != self._flushes):
            return self.release()
        if self._late and not self._leads:
            self._held = told
            return None
        return store.servers.run_later(FILL, store.filled, *self._keys, *told)

    def release(self) -> None:
        """Give the claim back, so that a follower can lead at once. An answer found later is not stored."""
        if self._token:
            store, token = self._store, self._token
            self._token = b""
            store.servers.run_later(FILL, store.filled, *self._keys, token, RELEASE, 0, b"", b"", b"")


def _is_lead(replies: list[Any]) -> bool:
    """Whether the plain commands of a claim made us the leader: there was neither a lead nor an entry."""
    return bool(replies[0] == b"OK" and replies[1] == 0)


def _ignore(told: Any) -> None:
    pass


def _is_verdict(reply: Any) -> bool:
    """Whether a reply has the form of a reply of CLAIM."""
    if not isinstance(reply, list) or not 6 <= len(reply) <= 7:
        return False
    for index, each in enumerate(reply):
        if not isinstance(each, int) if index < 4 else not (each is None or isinstance(each, bytes)):
            return False
    return reply[0] in _VERDICTS
