"""An entry: a stored reply and its times, in the form from which replies to clients are made fastest."""

from __future__ import annotations

from rdnscache.dns.question import VARIANT_DO, qtype, variant
from rdnscache.dns.splice import aged_tail, cut, rebased
from rdnscache.dns.wire import NOERROR, SOA, Reply

_DO, _NOERROR, _SOA = VARIANT_DO, NOERROR, SOA
#: TTL of a stale record on the wire, in seconds (RFC 8767 section 4).
STALE_TTL = 30
#: Minimum TTL for a prefetch: a shorter entry expires before it can be renewed. And a time that is never reached.
RENEWABLE_TTL, FAR = _RENEWABLE, _FAR = 10, 1e300


class Entry:
    """A reply as it is kept in L1.

    `tail` is everything after the question; `aged` seconds have been subtracted from its TTLs so far, at most once a
    second, however many hits there are.
    `stored` is a time of the monotonic clock, `ttl` and `stale` are seconds: it is fresh until `stored + ttl`, and can
    be served stale until `stored + ttl + stale`.
    `origin` says which upstream it came from and which node asked: `from=192.0.2.53 node=n1`.
    `visited` and `hits` belong to the cache: whether it was hit since the hand of SIEVE last passed it, and the number
    of hits, which may be inexact beyond one.
    """

    __slots__ = (
        "action",
        "additional",
        "aged",
        "ancount",
        "arcount",
        "authentic",
        "ede",
        "essential",
        "held_until",
        "hits",
        "key",
        "nscount",
        "origin",
        "rcode",
        "renew_at",
        "renews",
        "scope",
        "stale",
        "stored",
        "tail",
        "ttl",
        "ttls",
        "visited",
    )

    def __init__(self, key: bytes, reply: Reply, stored: float, ttl: int, stale: int, origin: str = "") -> None:
        self.key = key
        self._take(reply)
        self.stored = stored
        self.ttl = ttl
        self.stale = stale
        self.origin = origin
        #: What is done instead of answering with the entry: a value of policy.verdict.
        self.action = 0
        #: The prefix length of client networks for which it is valid; 0 means all (RFC 7871 section 7.3.1).
        self.scope = 0
        self.aged = 0
        #: Until then a stale entry is answered at once, because the upstreams have just failed.
        self.held_until = 0.0
        self.visited = False
        self.hits = 0
        #: An entry in use is prefetched from this moment on, in the last tenth of its life.
        self.renew_at = stored + 0.9 * ttl if ttl >= _RENEWABLE else _FAR
        #: Whether a prefetch brings a full TTL, and not the rest of the old one from an upstream that is a cache.
        self.renews = True

    def _take(self, reply: Reply) -> None:
        """Copy the parts of a reply that an entry needs."""
        end = reply.end
        self.rcode = reply.rcode
        self.authentic = reply.flags & 0x20 != 0
        self.ancount = reply.ancount
        self.nscount = reply.nscount
        self.arcount = reply.arcount
        self.tail = cut(reply.wire, end, len(reply.wire))
        #: Offset in `tail` of the additional section, and of all that can be left out of a reply that is too large:
        #: without DO the authority section of an answer as well (RFC 2181 section 9); with DO it holds proofs.
        self.additional = self.essential = reply.additional - end
        if reply.ancount and not reply.soa_ttl_at and not variant(self.key) & _DO:
            self.essential = reply.authority - end
        self.ttls = rebased(reply.ttls, end)
        #: The INFO-CODE of its Extended DNS Error, -1 without one (RFC 8914).
        self.ede = reply.ede

    def under(self, key: bytes) -> Entry:
        """A copy under another key, which expires at the same time."""
        other = Entry.__new__(Entry)
        other.key = key
        other.rcode, other.authentic, other.ede, other.scope = self.rcode, self.authentic, self.ede, self.scope
        other.ancount, other.nscount, other.arcount = self.ancount, self.nscount, self.arcount
        other.tail, other.ttls, other.aged = self.tail, self.ttls, self.aged
        other.additional, other.essential = self.additional, self.essential
        other.stored, other.ttl, other.stale, other.held_until = self.stored, self.ttl, self.stale, self.held_until
        other.origin, other.renew_at, other.renews = self.origin, self.renew_at, self.renews
        other.action = self.action
        other.visited, other.hits = False, 0
        return other

    def fresh(self, now: float) -> bool:
        return now < self.stored + self.ttl

    def usable(self, now: float) -> bool:
        """Fresh, or stale but inside its window."""
        return now < self.stored + self.ttl + self.stale

    def unfinished(self) -> bool:
        """Whether the answer consists of aliases only, without their target, for a question of another type."""
        if self.ancount == 0 or self.rcode != _NOERROR:
            return False
        asked, tail, ttls = qtype(self.key), self.tail, self.ttls
        for index in range(0, len(ttls), 2):
            at = (ttls[index] << 8 | ttls[index + 1]) - 4
            if (tail[at] << 8 | tail[at + 1]) == (asked if index < 2 * self.ancount else _SOA):
                return False
        return True

    def tail_at(self, age: int) -> bytes:
        """The tail with TTLs reduced by `age` seconds; all are `STALE_TTL` when `age` has reached the entry's TTL."""
        if age >= self.ttl > 0:
            return aged_tail(self.tail, self.ttls, 0, STALE_TTL)
        if age > self.aged:
            self.tail = aged_tail(self.tail, self.ttls, age - self.aged, 0)
            self.aged = age
        return self.tail
