"""DNS messages as bytes: they are accepted or refused, and their parts located.

Nothing here reads a clock or a socket, and nothing raises whatever a packet holds: one pass, every index checked.
A message that these two scanners refuse reaches no other code; one that they accept has the shape of RFC 1035 section
4. In a reply every name and the data of every known type are checked as well (`rdata`).
"""

from __future__ import annotations

from collections.abc import Callable

from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, VARIANT_SUBNET, section, subnet, variant
from rdnscache.dns.rdata import name_end, no_names, rdata_holds
from rdnscache.dns.splice import splice_key, splice_query, whole
from rdnscache.dns.subnet import SUBNET_OPTION, option

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, YXDOMAIN, BADVERS, BADCOOKIE = 0, 1, 2, 3, 4, 5, 6, 16, 23

A, NS, CNAME, SOA, TXT, AAAA, DNAME, OPT, DS, TSIG, ANY = 1, 2, 5, 6, 16, 28, 39, 41, 43, 250, 255
IN, CH = 1, 3

#: The UDP payload size we announce, and the most we send: it avoids fragmentation (RFC 9715).
UDP_SIZE = 1232
#: The maximum size of a UDP reply to a client without EDNS (RFC 1035 section 4.2.1).
PLAIN_SIZE = 512
#: The largest message TCP's two-byte length can carry (RFC 1035 section 4.2.2).
TCP_SIZE = 65535

HEADER_SIZE = 12
#: The longest name on the wire, root byte included (RFC 1035 section 2.3.4).
NAME_SIZE = 255

#: The EDNS option of Extended DNS Errors (RFC 8914 section 2), and the INFO-CODE of a reply without one.
EDE_OPTION, NO_EDE = 15, -1
#: The EDNS option of cookies (RFC 7873 section 4).
COOKIE_OPTION = 10
#: The EDNS option that asks where an answer came from; a code for local use (RFC 6891 section 9).
TRACE_OPTION = 65300


#: The same for the compiled form, where these are plain numbers.
_A, _SOA, _AAAA, _OPT, _TSIG, _IN = A, SOA, AAAA, OPT, TSIG, IN
_DO, _CD, _SUBNET = VARIANT_DO, VARIANT_CD, VARIANT_SUBNET
_EDE, _COOKIE = EDE_OPTION, COOKIE_OPTION


class Query:
    """One client's query: the offsets of its parts, and what determines the form of the reply.

    `key` is the key of the question (see `question`). It is empty if the message cannot be read that far; `error` is
    then the RCODE of the reply. `rcode` is the RCODE of the reply once that has been composed.
    """

    __slots__ = (
        "data", "do", "echo", "edns", "end", "error", "group", "key", "limit", "note", "qclass", "qtype", "rcode",
        "source", "subnet", "trace", "watch",
    )  # fmt: skip

    def __init__(self, data: bytes, limit: int) -> None:
        self.data = data
        self.key = b""
        #: Offset just past the question; `data[12:end]` has the letter case of the client.
        self.end = HEADER_SIZE
        self.qtype = self.qclass = 0
        self.edns = self.do = False
        #: Maximum size of the reply in octets.
        self.limit = limit
        self.error = self.rcode = NOERROR
        #: The client's address, 4 or 16 octets, and the number of its view; set by the server that received the query.
        self.source, self.group = b"", 0
        #: The data of its Client Subnet option, if any (RFC 7871 section 6); whether the reply repeats it.
        self.subnet: bytes | None = None
        self.echo = False
        #: Whether the client asks where the answer comes from; the text about that for the reply (RFC 8914 EXTRA-TEXT).
        self.trace = False
        self.note = b""
        #: Called with the number of the layer that answered, for queries that are sampled or logged.
        self.watch: Callable[[int], None] | None = None


def parse_query(data: bytes, stream: bool) -> Query | None:
    """Read a query; None when it must not be answered (it is too short, or a reply).

    `stream` says that it came over TCP, where the reply may have 65,535 octets.
    """
    length = len(data)
    if length < HEADER_SIZE or data[2] & 0x80:
        return None
    query = Query(data, TCP_SIZE if stream else PLAIN_SIZE)
    if data[2] & 0x78:  # an opcode other than QUERY
        query.error = NOTIMP
        _find_opt(query, data, length, stream)
        return query
    if data[4] != 0 or data[5] != 1 or data[6] | data[7] | data[8] | data[9]:  # RFC 9619: one question
        query.error = FORMERR
        _find_opt(query, data, length, stream)
        return query
    root = _name_end(data, HEADER_SIZE, length, False) - 1
    end = root + 5
    if root < 0 or end > length:
        query.error = FORMERR
        return query
    query.end = end
    query.qtype = data[root + 1] << 8 | data[root + 2]
    query.qclass = data[root + 3] << 8 | data[root + 4]
    if data[10] | data[11] or end != length:
        _read_additional(query, data, end, length, stream)
    bits = (_DO if query.do else 0) | (_CD if data[3] & 0x10 else 0)
    query.key = splice_key(data, root, bits)
    return query


def _read_additional(query: Query, data: bytes, position: int, length: int, stream: bool) -> None:
    """Read the OPT record in the additional section, if any; other records are ignored (RFC 6891 section 6.1.1)."""
    version = 0
    for _ in range(data[10] << 8 | data[11]):
        start = position
        position = _name_end(data, position, length, True)
        if position < 0 or position + 10 > length:
            query.error = FORMERR
            return
        if data[position] == 0 and data[position + 1] == OPT:
            if query.edns or position != start + 1:  # a second OPT, or one not owned by the root
                query.error = FORMERR
                return
            version = data[position + 5]
            _note_opt(query, data, position, stream)
            stop = position + 10 + (data[position + 8] << 8 | data[position + 9])
            if stop <= length:
                _read_options(query, data, position + 10, stop)
        position += 10 + (data[position + 8] << 8 | data[position + 9])
    if position != length:
        query.error = FORMERR
    elif version != 0:
        query.error = BADVERS


def _note_opt(query: Query, data: bytes, position: int, stream: bool) -> None:
    """Note DO and the payload size of the OPT record whose type is at `position` (RFC 6891 section 6.1.2)."""
    query.edns = True
    query.do = data[position + 6] & 0x80 != 0
    if not stream:
        size = data[position + 2] << 8 | data[position + 3]
        query.limit = min(max(size, PLAIN_SIZE), UDP_SIZE)


def _find_opt(query: Query, data: bytes, length: int, stream: bool) -> None:
    """Find the OPT record of a query that is refused for its header: the reply must have one too (RFC 6891 section 7).

    All opcodes have the same sections (RFC 1035 section 4, RFC 2136 section 2). An unreadable message has no OPT.
    """
    position = HEADER_SIZE
    for _ in range(data[4] << 8 | data[5]):
        position = _name_end(data, position, length, True) + 4
        if position < HEADER_SIZE:
            return
    passed = (data[6] << 8 | data[7]) + (data[8] << 8 | data[9])
    for index in range(passed + (data[10] << 8 | data[11])):
        start = position
        position = _name_end(data, position, length, True)
        if position < 0 or position + 10 > length:
            return
        if index >= passed and position == start + 1 and data[position] == 0 and data[position + 1] == OPT:
            _note_opt(query, data, position, stream)
            return
        position += 10 + (data[position + 8] << 8 | data[position + 9])


def _read_options(query: Query, data: bytes, position: int, stop: int) -> None:
    """Note the trace and the first Client Subnet option of an OPT record (RFC 6891 section 6.1.2)."""
    while position + 4 <= stop:
        code = data[position] << 8 | data[position + 1]
        start = position + 4
        position = start + (data[position + 2] << 8 | data[position + 3])
        if code == TRACE_OPTION:
            query.trace = True
        elif code == SUBNET_OPTION and query.subnet is None:
            query.subnet = data[start : min(position, stop)]


def _name_end(data: bytes, start: int, length: int, pointers: bool) -> int:
    """Offset just past the name at `start`, or -1.

    A compression pointer ends a name and must lead backwards (RFC 1035 section 4.1.4: "a prior occurrence"),
    so that code which follows pointers later terminates.
    """
    position = start
    while position < length:
        size = data[position]
        if size == 0:
            return position + 1 if position - start < NAME_SIZE else -1
        if size < 64:
            position += size + 1
        elif size >= 192 and pointers and position + 1 < length:
            return position + 2 if (size & 0x3F) << 8 | data[position + 1] < start else -1
        else:
            return -1
    return -1


class Reply:
    """One reply, from an upstream or from Redis, and the offsets of its parts.

    `wire` ends before OPT and TSIG, which are hop-by-hop (RFC 6891 section 6.2.1, RFC 8945 section 5.1).
    `ttls` holds the offset of each record's TTL, two octets each, most significant first.
    """

    __slots__ = (
        "additional", "ancount", "arcount", "authority", "cookie", "ede", "end", "flags", "nscount", "plain", "rcode",
        "soa_minimum", "soa_ttl_at", "subnet", "ttls", "types", "wire",
    )  # fmt: skip

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.flags = wire[2] << 8 | wire[3]
        self.rcode = wire[3] & 0x0F
        #: Offset just past the question.
        self.end = HEADER_SIZE
        self.ancount = self.nscount = self.arcount = 0
        #: Offsets of the authority and the additional section.
        self.authority = 0
        self.additional = 0
        self.ttls = b""
        #: The types in the answer section, in order.
        self.types: list[int] = []
        #: Offset of the TTL of the first SOA in the authority section, 0 without one; and its MINIMUM field.
        self.soa_ttl_at = 0
        self.soa_minimum = 0
        #: The INFO-CODE of its first Extended DNS Error, -1 without one (RFC 8914 section 2).
        self.ede = NO_EDE
        #: The data of its Client Subnet option, empty without one (RFC 7871 section 6).
        self.subnet = b""
        #: The data of its first Cookie option, client and server cookie (RFC 7873 section 4); empty without one.
        self.cookie = b""
        #: Whether all records answer the question directly: no alias chain, no other sections.
        self.plain = False

    @property
    def truncated(self) -> bool:
        return self.flags & 0x0200 != 0

    @property
    def authentic(self) -> bool:
        return self.flags & 0x0020 != 0

    def question(self) -> bytes:
        """Name (lower-cased), type and class: a key without its last byte."""
        return self.wire[HEADER_SIZE : self.end - 4].lower() + self.wire[self.end - 4 : self.end]


def parse_reply(data: bytes) -> Reply | None:
    """Read a reply with exactly one question; None when it is malformed.

    Octets after the last record are ignored, as in other resolvers.
    """
    length = len(data)
    if length < HEADER_SIZE or length > TCP_SIZE or data[2] & 0xF8 != 0x80 or data[4] != 0 or data[5] != 1:
        return None
    seen = no_names(length)
    position = name_end(data, HEADER_SIZE, length, seen, False) + 4
    if position < HEADER_SIZE + 5 or position > length:
        return None
    reply = Reply(data)
    reply.end = reply.authority = reply.additional = position
    reply.ancount = data[6] << 8 | data[7]
    reply.nscount = data[8] << 8 | data[9]
    ttls = bytearray()
    if not _read_records(reply, data, position, length, ttls, seen):
        return None
    reply.ttls = whole(ttls)
    return reply


def parse_error(key: bytes, data: bytes) -> Reply | None:
    """Read an error reply without a question section as the reply to the question of `key`.

    None for anything else: without a question only an error without records (except OPT) is accepted (RFC 5452
    section 9.1).
    """
    if len(data) < HEADER_SIZE or data[4:10] != b"\0\0\0\0\0\0":
        return None
    reply = parse_reply(data[:4] + b"\0\1" + data[6:HEADER_SIZE] + section(key) + data[HEADER_SIZE:])
    if reply is None or reply.arcount or reply.rcode in (NOERROR, NXDOMAIN, YXDOMAIN):
        return None
    return reply


def _read_records(reply: Reply, data: bytes, position: int, length: int, ttls: bytearray, seen: bytearray) -> bool:
    """Read all three sections once; False when a record does not fit or does not have the shape of its type."""
    first_additional = reply.ancount + reply.nscount
    asked = read_u32(data, position - 4)
    opt_seen = False
    cut = 0
    reply.plain = first_additional == reply.ancount and reply.ancount > 0
    for index in range(first_additional + (data[10] << 8 | data[11])):
        start = position
        position = name_end(data, position, length, seen, True)
        if position < 0 or position + 10 > length:
            return False
        rtype = data[position] << 8 | data[position + 1]
        stop = position + 10 + (data[position + 8] << 8 | data[position + 9])
        if stop > length:
            return False
        if rtype in (_OPT, _TSIG):
            if index < first_additional or (rtype == _OPT and (opt_seen or position != start + 1)):
                return False
            if rtype == _OPT:
                opt_seen = True
                reply.rcode |= data[position + 4] << 4  # the upper eight bits (RFC 6891 section 6.1.3)
                if stop > position + 10:
                    _note_options(reply, data, position + 10, stop)
            cut = cut or start
            position = stop
            continue
        if not _record_holds(data, rtype, position, stop, seen):
            return False
        if not cut:  # records after OPT or TSIG are cut off with it: no pointer before can lead to them
            ttls.append(position + 4 >> 8)
            ttls.append(position + 4 & 0xFF)
            if index < reply.ancount:
                reply.types.append(rtype)
                if data[start] != 0xC0 or data[start + 1] != HEADER_SIZE or read_u32(data, position) != asked:
                    reply.plain = False
            elif index >= first_additional:
                reply.arcount += 1
                reply.plain = False
            elif rtype == _SOA and not reply.soa_ttl_at:
                reply.soa_ttl_at = position + 4
                reply.soa_minimum = read_u32(data, stop - 4)
        position = stop
        if index < first_additional:
            reply.additional = position
            if index < reply.ancount:
                reply.authority = position
    if cut or position != length:
        reply.wire = data[: cut or position]
    return True


def _record_holds(data: bytes, rtype: int, position: int, stop: int, seen: bytearray) -> bool:
    """Whether the data of the record whose type is at `position` has the shape of that type."""
    rclass = data[position + 2] << 8 | data[position + 3]
    if rclass == _IN:
        if rtype == _A:
            return stop - position == 14
        if rtype == _AAAA:
            return stop - position == 26
    return rdata_holds(data, rtype, rclass, position + 10, stop, seen)


def _note_options(reply: Reply, data: bytes, position: int, stop: int) -> None:
    """Note the first Extended DNS Error, Cookie and Client Subnet among the options of an OPT record."""
    while position + 4 <= stop:
        size = data[position + 2] << 8 | data[position + 3]
        if size > stop - position - 4:
            return
        if data[position] == 0:
            code = data[position + 1]
            if code == _EDE and size >= 2 and reply.ede < 0:
                reply.ede = data[position + 4] << 8 | data[position + 5]
            elif code == _COOKIE and not reply.cookie:
                reply.cookie = data[position + 4 : position + 4 + size]
            elif code == SUBNET_OPTION and not reply.subnet:
                reply.subnet = data[position + 4 : position + 4 + size]
        position += 4 + size


def read_u32(data: bytes, at: int) -> int:
    """The four octets at `at` as an unsigned number."""
    first = data[at]  # unsigned in C, so that the shift cannot overflow
    return first << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


def build_query(
    ident: bytes, key: bytes, edns: bool, options: bytes = b"", block: int = 0, asked: bytes = b""
) -> bytes:
    """Our own query for a key: RD set, AD set to request it (RFC 6840 section 5.7), CD and DO as in the key.

    `options` are those of the OPT record, each with its code and size. Over encrypted transports the query is padded to
    a multiple of `block` octets (RFC 7830), since its size would give hints at the name. Without EDNS there is neither.
    `asked` replaces the question section, when its letter case is random.
    """
    bits, asked = variant(key), asked or section(key)
    flags = 0x130 if bits & _CD else 0x120
    if not edns:
        return splice_query(ident, flags, asked, b"")
    opt = OPT_DO if bits & _DO else OPT_PLAIN
    if bits & _SUBNET:
        options = option(subnet(key)) + options
    if options or block:
        if block:
            padding = -(HEADER_SIZE + len(asked) + len(opt) + len(options) + 4) % block
            options += b"\0\x0c" + padding.to_bytes(2, "big") + bytes(padding)  # last (RFC 8467 section 3)
        opt = opt[:-2] + len(options).to_bytes(2, "big") + options
    return splice_query(ident, flags, asked, opt)


OPT_PLAIN = b"\0\0\x29" + UDP_SIZE.to_bytes(2, "big") + b"\0\0\0\0\0\0"
OPT_DO = b"\0\0\x29" + UDP_SIZE.to_bytes(2, "big") + b"\0\0\x80\0\0\0"
