"""Rules that DNS leaves to the implementation: how long a reply may be kept, which queries are answered locally."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from rdnscache.dns.compose import compose_error, compose_local
from rdnscache.dns.distill import distill as distill  # noqa: PLC0414 - callers have it from here
from rdnscache.dns.question import VARIANT_CD, qname, qtype, section, subnet, variant
from rdnscache.dns.splice import splice_stored, whole
from rdnscache.dns.subnet import is_nobody, scope_of
from rdnscache.dns.wire import (
    ANY,
    CH,
    FORMERR,
    NO_EDE,
    NOERROR,
    NXDOMAIN,
    OPT,
    REFUSED,
    SERVFAIL,
    SOA,
    TXT,
    YXDOMAIN,
    Query,
    Reply,
    build_query,
    parse_reply,
    read_u32,
)

_SOA_RECORD = Struct("!HHIH")
_HINFO, _TKEY, _TSIG, _IXFR, _AXFR, _MAILB, _MAILA = 13, 249, 250, 251, 252, 253, 254
_CLASS_NONE, _CLASS_ANY = 254, 255
#: The same for the compiled form, where these are plain numbers.
_NOERROR, _NXDOMAIN, _YXDOMAIN, _CD = NOERROR, NXDOMAIN, YXDOMAIN, VARIANT_CD
_CH, _OPT, _ANY = CH, OPT, ANY

#: How long clients may keep the HINFO of RFC 8482, in seconds.
ANY_TTL = 3600


class Limits:
    """Bounds on the time a reply is kept, all in seconds."""

    __slots__ = ("failure_ttl", "keep", "negative_ttl_max", "stale", "ttl_max", "ttl_min")

    def __init__(
        self,
        ttl_min: int = 0,
        ttl_max: int = 86400,
        negative_ttl_max: int = 3600,
        failure_ttl: int = 5,
        stale: int = 3600,
        keep: bool = True,
    ) -> None:
        self.ttl_min = ttl_min
        self.ttl_max = ttl_max
        self.negative_ttl_max = negative_ttl_max
        #: The TTL of failures and of negative replies without SOA.
        self.failure_ttl = failure_ttl
        self.stale = stale
        #: Whether replies are kept at all; failures always are.
        self.keep = keep

    def __repr__(self) -> str:
        """Part of what digests of routes are made of, which all nodes compare: the same in every version."""
        ttls = f"ttl_min={self.ttl_min}, ttl_max={self.ttl_max}, negative_ttl_max={self.negative_ttl_max}"
        return f"Limits({ttls}, failure_ttl={self.failure_ttl}, stale={self.stale}, keep={self.keep})"


def usable(reply: Reply) -> bool:
    """Whether a reply is an answer; with any other RCODE the next server is asked."""
    return answers(reply.rcode)


def answers(rcode: int) -> bool:
    """Whether an RCODE is an answer about the name, and not a failure."""
    return rcode in (_NOERROR, _NXDOMAIN, _YXDOMAIN)


def holds_for_name(reply: Reply) -> bool:
    """Whether a reply says that the name asked for does not exist, and not the target of an alias."""
    return reply.rcode == _NXDOMAIN and reply.ancount == 0


def holds_widely(key: bytes, reply: Reply) -> bool:
    """Whether a reply is valid for more than the question: see `wider_key`.

    A reply to a query with source prefix length 0 says nothing about other networks (RFC 7871 section 7.3.1).
    """
    network = subnet(key)
    if network:
        return scope_of(reply.subnet) == 0 and not is_nobody(network)
    return holds_for_name(reply)


def negative(reply: Reply, qtype: int) -> bool:
    """NXDOMAIN, or NODATA (RFC 2308 sections 2.1 and 2.2).

    A CNAME without its target and without SOA is positive: an authoritative server answered only as far as its zone.
    """
    if reply.rcode == _NXDOMAIN:
        return True
    if reply.rcode != _NOERROR or qtype in reply.types:
        return False
    return reply.soa_ttl_at != 0 or reply.ancount == 0


def settle(key: bytes, reply: Reply, limits: Limits) -> tuple[bytes, int]:
    """The reply's bytes as they are stored, and for how many seconds they are fresh; with 0 they must not be stored.

    Stored bytes have ID 0, a lower-case question, no AA, no OPT, and TTLs within the limits.
    A TTL with its top bit set is 0 (RFC 2181 section 8). The SOA of a negative reply gets the TTL of that reply,
    the lesser of its own and its MINIMUM (RFC 2308 section 5).
    The answer section and that SOA determine the time; other records, mostly DNSSEC proofs, get at least that TTL.
    An alias whose target is neither present nor denied is kept for its own TTL: `aliases` asks for the target.
    """
    ancount, nscount, arcount = reply.ancount, reply.nscount, reply.arcount
    wire = splice_stored(reply.wire, reply.end, stored_flags(key, reply), ancount, nscount, arcount, section(key))
    asked = qtype(key)
    is_negative = negative(reply, asked)
    ttl_min, ttl_max, negative_max = limits.ttl_min, limits.ttl_max, limits.negative_ttl_max
    ttl, answers = ttl_max, 2 * reply.ancount
    for index in range(0, len(reply.ttls), 2):
        at = reply.ttls[index] << 8 | reply.ttls[index + 1]
        if index >= answers and not (is_negative and at == reply.soa_ttl_at):
            continue
        seconds = _sane(read_u32(reply.wire, at))
        if index >= answers:
            seconds = min(seconds, _sane(reply.soa_minimum), negative_max)
        seconds = min(max(seconds, ttl_min), ttl_max)
        _put_u32(wire, at, seconds)
        ttl = min(ttl, seconds)
    for index in range(answers, len(reply.ttls), 2):
        at = reply.ttls[index] << 8 | reply.ttls[index + 1]
        if not (is_negative and at == reply.soa_ttl_at):
            _put_u32(wire, at, min(max(_sane(read_u32(reply.wire, at)), ttl_min, ttl), ttl_max))
    if is_negative:
        ttl = min(ttl, negative_max if reply.soa_ttl_at else limits.failure_ttl)
    elif not answers:
        ttl = min(ttl, limits.failure_ttl)
    return whole(wire), ttl


def _put_u32(wire: bytearray, at: int, number: int) -> None:
    wire[at] = number >> 24 & 0xFF
    wire[at + 1] = number >> 16 & 0xFF
    wire[at + 2] = number >> 8 & 0xFF
    wire[at + 3] = number & 0xFF


def stored_flags(key: bytes, reply: Reply) -> int:
    """The flags of a stored reply: QR, RD, RA, the reply's AD and RCODE, the key's CD."""
    return 0x8180 | reply.flags & 0x20 | (0x10 if variant(key) & _CD else 0) | reply.rcode & 0x0F


def _sane(ttl: int) -> int:
    return 0 if ttl >> 31 else ttl


def failure_wire(key: bytes, rcode: int = SERVFAIL) -> bytes:
    """The stored form of a failure: SERVFAIL or the RCODE of upstreams, without records (RFC 9520 section 3)."""
    query = build_query(b"\0\0", key, edns=False)
    return bytes((0, 0, query[2] | 0x80, query[3] & 0x10 | 0x80 | rcode)) + query[4:]


#: TTL of answers from an empty zone, in seconds (RFC 6303 section 3).
EMPTY_ZONE_TTL = 10800
#: The fields of its SOA after the names: serial, refresh, retry, expire; the minimum follows.
_EMPTY_ZONE_TIMES = Struct("!IIII").pack(1, 3600, 1200, 604800)
_NOBODY = b"\x06nobody\x07invalid\x00"


def empty_zone(key: bytes, zone: bytes, exists: bool, ttl: int = EMPTY_ZONE_TTL) -> Reply:
    """The answer of an empty zone to a question inside it (RFC 6303 section 3).

    NXDOMAIN, or NODATA if the name `exists`: if it is the zone's own, or another zone is below it.
    """
    apex = (0xC000 | 12 + len(qname(key)) - len(zone)).to_bytes(2, "big")
    rdata = apex + _NOBODY + _EMPTY_ZONE_TIMES + ttl.to_bytes(4, "big")
    record = apex + _SOA_RECORD.pack(SOA, 1, ttl, len(rdata)) + rdata
    head = failure_wire(key, NOERROR if exists else NXDOMAIN)
    return _read(head[:8] + b"\0\1" + head[10:] + record)


def without_records(key: bytes, rcode: int, ede: int = NO_EDE) -> Reply:
    """A reply that has only an RCODE and an Extended DNS Error."""
    reply = _read(failure_wire(key, rcode))
    reply.ede = ede
    return reply


def _read(wire: bytes) -> Reply:
    reply = parse_reply(wire)
    assert reply is not None
    return reply


@dataclass(frozen=True, slots=True)
class Identity:
    """Information about this server in class CH; an empty text gives REFUSED."""

    version: str = ""
    node: str = ""

    def text(self, name: bytes) -> str:
        if name in (b"\x07version\x04bind\x00", b"\x07version\x06server\x00"):
            return self.version
        if name in (b"\x02id\x06server\x00", b"\x08hostname\x04bind\x00"):
            return self.node
        return ""


def answer_ourselves(query: Query, identity: Identity) -> bytes | None:
    """The reply to a query that never goes to the cache or an upstream; None for all others."""
    if query.error:
        return compose_error(query, query.error)
    if query.qclass == _CH:
        text = identity.text(qname(query.key)).encode()[:255]
        if text and query.qtype in (TXT, ANY):
            return compose_local(query, bytes((len(text),)) + text, TXT, CH, 0)
        return compose_error(query, REFUSED)
    if query.qtype in (_AXFR, _IXFR) or query.qclass in (0, _CLASS_NONE, _CLASS_ANY):
        return compose_error(query, REFUSED)
    if query.qtype in (0, _OPT, _TKEY, _TSIG, _MAILB, _MAILA):
        return compose_error(query, FORMERR)
    if query.qtype == _ANY:
        return compose_local(query, b"\x07RFC8482\x00", _HINFO, query.qclass, ANY_TTL)
    return None
