"""Replies to clients, made from an entry, an error, or on the spot. Their RCODE is stored in the query."""

from __future__ import annotations

from struct import Struct

from rdnscache.dns.entry import Entry
from rdnscache.dns.splice import splice_reply
from rdnscache.dns.wire import AAAA, NO_EDE, NXDOMAIN, OPT_DO, OPT_PLAIN, TCP_SIZE, A, Query

#: Extended DNS Errors (RFC 8914 section 4).
EDE_STALE, EDE_NOT_READY, EDE_PROHIBITED, EDE_STALE_NXDOMAIN, EDE_NO_REACHABLE_AUTHORITY = 3, 14, 18, 19, 22
EDE_OTHER = 0
#: No INFO-CODE is registered for this one: it is sent as Other with a text.
EDE_OVER_BUDGET, OVER_BUDGET = 0x10000, b"the budget for upstreams is used up"

#: Type, class, TTL and length of a record.
_RECORD = Struct("!HHIH")


def compose(query: Query, entry: Entry, now: float, rotate: bool = False) -> bytes:
    """The reply to `query` from `entry`: its ID, spelling, RD and CD, aged TTLs, an OPT if it sent one.

    AA is clear and RA set; AD goes to those who asked with AD or DO (RFC 6840 sections 5.7 and 5.8).
    A reply that is too large loses its optional records first, without TC (RFC 2181 section 9), then all records, with
    TC. Over TCP the OPT is left out first: a message of maximal size is better complete than empty.
    With `rotate` the ID decides which address comes first.
    """
    data = query.data
    age = int(now - entry.stored)
    tail = entry.tail_at(age)
    query.rcode = entry.rcode
    if rotate and entry.ancount > 1:
        tail = _rotated(tail, entry, query.qtype, data[0] << 8 | data[1])
    flags = 0x8080 | (data[2] & 0x01) << 8 | data[3] & 0x10 | entry.rcode
    if entry.authentic and (query.do or data[3] & 0x20):
        flags |= 0x20
    opt = opt_record(query, _entry_ede(entry, age)) if query.edns else b""
    if query.echo:
        opt = _with_subnet(opt, query.subnet, entry.scope)
    room = query.limit - query.end - len(opt)
    ancount, nscount, arcount = entry.ancount, entry.nscount, entry.arcount
    size = len(tail)
    if size > room and opt and query.limit == TCP_SIZE and size <= room + len(opt):
        room += len(opt)
        opt = b""
    if size > room:
        arcount = 0
        size = entry.additional
        if size > room:
            nscount = nscount if entry.essential == size else 0
            size = entry.essential
        if size > room:
            flags |= 0x0200
            ancount = nscount = 0
            size = 0
    if opt:
        arcount += 1
    return splice_reply(data, query.end, flags, ancount, nscount, arcount, tail, size, opt)


def _with_subnet(opt: bytes, told: bytes | None, scope: int) -> bytes:
    """`opt` with the client's own subnet and the answer's scope prefix length (RFC 7871 section 7.2.1)."""
    if told is None or not opt:
        return opt
    size = (opt[9] << 8 | opt[10]) + 4 + len(told)
    data = told[:3] + bytes((scope,)) + told[4:]
    return opt[:9] + size.to_bytes(2, "big") + opt[11:] + b"\0\x08" + len(told).to_bytes(2, "big") + data


def _entry_ede(entry: Entry, age: int) -> int:
    """The Extended DNS Error of an entry: Stale (NXDOMAIN) Answer past its TTL, else the one the upstream sent."""
    if age < entry.ttl or entry.ttl == 0:
        return entry.ede
    return EDE_STALE_NXDOMAIN if entry.rcode == NXDOMAIN else EDE_STALE


def _rotated(tail: bytes, entry: Entry, qtype: int, ident: int) -> bytes:
    """`tail` with the addresses of the answer rotated by `ident` positions; other types stay as they are.

    Only the data moves: all owners are equal, and no compression pointer leads into an address.
    """
    if qtype not in (A, AAAA):
        return tail
    size = 4 if qtype == A else 16
    offsets: list[int] = []
    for index in range(0, 2 * entry.ancount, 2):
        at = entry.ttls[index] << 8 | entry.ttls[index + 1]
        if tail[at - 4] == 0 and tail[at - 3] == qtype and tail[at + 5] == size:
            offsets.append(at + 6)
    if len(offsets) < 2 or ident % len(offsets) == 0:
        return tail
    out = bytearray(tail)
    source = ident % len(offsets)
    for offset in offsets:
        at = offsets[source]
        out[offset : offset + size] = tail[at : at + size]
        source = source + 1 if source + 1 < len(offsets) else 0
    return bytes(out)


def opt_record(query: Query, ede: int, rcode: int = 0) -> bytes:
    """Our OPT record: size 1232, version 0, the client's DO, the upper bits of the RCODE, and the EDE if there is one.

    The query's note is sent as EXTRA-TEXT, with the code Other if there is no EDE (RFC 8914 sections 2 and 4.1).
    """
    opt = OPT_DO if query.do else OPT_PLAIN
    if rcode > 15:
        opt = opt[:5] + bytes((rcode >> 4,)) + opt[6:]
    if ede != NO_EDE or query.note:
        text = query.note
        if ede == EDE_OVER_BUDGET:
            ede = EDE_OTHER
            text = OVER_BUDGET + b"; " + text if text else OVER_BUDGET
        told = max(ede, EDE_OTHER).to_bytes(2, "big") + text
        size = len(told)
        opt = opt[:9] + (size + 4).to_bytes(2, "big") + b"\x00\x0f" + size.to_bytes(2, "big") + told
    return opt


def compose_error(query: Query, rcode: int, ede: int = NO_EDE) -> bytes:
    """A reply without records. The question is repeated if it could be read.

    Opcode and RD are copied from the query; RA and CD are defined for the opcode QUERY only.
    """
    data = query.data
    query.rcode = rcode
    flags = 0x8000 | (data[2] & 0x79) << 8 | rcode & 0x0F
    if data[2] & 0x78 == 0:
        flags |= 0x80 | data[3] & 0x10
    opt = opt_record(query, ede, rcode) if query.edns else b""
    return splice_reply(data, query.end, flags, 0, 0, 1 if opt else 0, b"", 0, opt)


def compose_truncated(query: Query) -> bytes:
    """A reply without records and with TC set, which makes a client with a genuine address retry over TCP."""
    flags = 0x8280 | (query.data[2] & 0x01) << 8 | query.data[3] & 0x10
    opt = opt_record(query, NO_EDE) if query.edns else b""
    return splice_reply(query.data, query.end, flags, 0, 0, 1 if opt else 0, b"", 0, opt)


def compose_local(query: Query, rdata: bytes, rtype: int, qclass: int, ttl: int) -> bytes:
    """A reply with one record of our own, owned by the name asked for."""
    record = b"\xc0\x0c" + _RECORD.pack(rtype, qclass, ttl, len(rdata)) + rdata
    flags = 0x8080 | (query.data[2] & 0x01) << 8 | query.data[3] & 0x10
    opt = opt_record(query, NO_EDE) if query.edns else b""
    return splice_reply(query.data, query.end, flags, 1, 0, 1 if opt else 0, record, len(record), opt)
