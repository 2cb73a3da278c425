"""Response rate limiting: a bound on replies a second to one client over UDP, where a source is easily forged.

In the manner of RRL (Vixie and Schryver, ISC-TN-2012-1), for a resolver: what is counted are all replies to a prefix.
Every n-th reply over the limit is a truncated one ("slip"), so that a client whose address was forged gets through
over TCP (RFC 1035 section 4.2.1); the others are dropped.
"""

from __future__ import annotations

from array import array
from ipaddress import IPv4Network, IPv6Network

from rdnscache.clients.networks import Networks
from rdnscache.dns.wire import read_u32

#: The verdict on a reply: send it, send a truncated one, or send nothing.
PASS, SLIP, DROP = 0, 1, 2

#: Buckets that a prefix may use: enough that a flood of random sources hardly ever occupies all of them.
_WAYS = 8
#: Default number of buckets, 17 octets each.
BUCKETS = 65536

#: Set in the key of an IPv4 prefix. No IPv6 source begins with these bits: it would be a multicast address.
_IPV4 = 0xFF << 56
_WORD = (1 << 64) - 1


class Limiter:
    """Token buckets by client prefix, in a table of fixed size.

    A bucket is one number: the time at which it will be full again. A full bucket is free for another prefix. If none
    of its buckets is free, a prefix takes over the fullest one at its present level: using many addresses gains
    nothing, and a flood of forged sources displaces other forged ones first, and limited clients last
    (the Space-Saving algorithm, Metwally et al., ICDT 2005).
    So replies beyond `buckets * rate` a second to ever new prefixes are limited as if they went to few.
    """

    __slots__ = (
        "_cost", "_exempt", "_factor", "_full", "_keys", "_mask4", "_mask6", "_shift", "_slack", "_slip", "_slipped",
    )  # fmt: skip

    def __init__(
        self,
        rate: float,
        burst: int,
        slip: int,
        seed: int,
        exempt: Networks | None = None,
        prefix4: int = 24,
        prefix6: int = 56,
        buckets: int = BUCKETS,
    ) -> None:
        """`rate` replies a second, `burst` at once after a pause; every `slip`-th over the limit is truncated, 0: none.

        `seed` is a random number of 64 bits; without knowing it nobody can choose sources that share a bucket.
        Raises ValueError for values that make no sense.
        """
        _refuse_nonsense(rate, burst, slip, prefix4, prefix6, buckets)
        self._exempt = exempt
        #: Seconds until a token is back, and how far ahead of now a bucket's time may be for one more;
        #: a thousandth of a token is for rounding.
        self._cost = 1 / rate
        self._slack = (burst - 0.999) / rate
        self._slip = slip
        self._mask4 = _IPV4 | 0xFFFFFFFF >> 32 - prefix4 << 32 - prefix4
        self._mask6 = _WORD >> 64 - prefix6 << 64 - prefix6
        # multiply-shift hashing (Dietzfelbinger et al., 1997): an odd factor, the upper bits of the product
        self._factor = seed & _WORD | 1
        bits = (buckets - 1).bit_length()
        self._shift = 64 - bits + 3
        self._keys = array("Q", bytes(8 << bits))
        self._full = array("d", bytes(8 << bits))
        #: How many replies over the limit since the last truncated one, that one included.
        self._slipped = array("B", bytes(1 << bits))

    def check(self, source: bytes, now: float) -> int:
        """The verdict on a reply to an address of 4 or 16 octets, which is counted. DROP for any other size."""
        if self._exempt is not None and self._exempt.holds(source):
            return PASS
        key = self._key(source)
        if key == _WORD:
            return DROP
        bucket = self._find(key)
        full = self._full[bucket]
        if full > now + self._slack:
            return self._over(bucket)
        self._full[bucket] = (full if full > now else now) + self._cost
        return PASS

    def limited(self, now: float) -> list[str]:
        """The prefixes that have used up their limit except for at most one reply. Walks the whole table."""
        soonest = now + max(self._slack - self._cost, 0)
        return [self._text(key) for key, full in zip(self._keys, self._full, strict=True) if full > soonest]

    def _key(self, source: bytes) -> int:
        """The prefix as a number; _WORD when it is no address."""
        size = len(source)
        if size == 4:
            return (_IPV4 | read_u32(source, 0)) & self._mask4
        if size != 16:
            return _WORD
        high = read_u32(source, 0)
        high = high << 32 | read_u32(source, 4)
        if high == 0 and read_u32(source, 8) == 0xFFFF:  # IPv4-mapped
            return (_IPV4 | read_u32(source, 12)) & self._mask4
        return high & self._mask6

    def _find(self, key: int) -> int:
        """The bucket of a prefix; if it has none, it takes over the fullest of those it may use, at its present
        level."""
        keys, full = self._keys, self._full
        first = (key * self._factor & _WORD) >> self._shift << 3
        fullest = first
        for bucket in range(first, first + _WAYS):
            if keys[bucket] == key:
                return bucket
            if full[bucket] < full[fullest]:
                fullest = bucket
        keys[fullest] = key
        return fullest

    def _over(self, bucket: int) -> int:
        """The first reply over the limit is a truncated one, so that a real client can switch to TCP at once."""
        count = self._slipped[bucket]
        self._slipped[bucket] = count + 1 if count + 1 < self._slip else 0
        return SLIP if count == 0 and self._slip > 0 else DROP

    def _text(self, key: int) -> str:
        if key >= _IPV4:
            return str(IPv4Network((key & 0xFFFFFFFF, (self._mask4 & 0xFFFFFFFF).bit_count())))
        return str(IPv6Network((key << 64, self._mask6.bit_count())))


def _refuse_nonsense(rate: float, burst: int, slip: int, prefix4: int, prefix6: int, buckets: int) -> None:
    for name, value, low, high in (
        ("rate", rate, 0.001, 1e9),
        ("burst", burst, 1, 10**9),
        ("slip", slip, 0, 100),
        ("IPv4 prefix", prefix4, 1, 32),
        ("IPv6 prefix", prefix6, 1, 64),  # the host itself chooses the other bits
        ("number of buckets", buckets, 16, 1 << 24),
    ):
        if not low <= value <= high:
            raise ValueError(f"the {name} of a limit is between {low:g} and {high:g}, not {value}")
