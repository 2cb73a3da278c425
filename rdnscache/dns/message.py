"""DNS messages for people, with dnslib: the queries of commands, and replies as text. The data path does not use it.

Only messages that `wire.parse_reply` has accepted are read here, so names and the data of known types are well formed.
Errors of dnslib are corrected through its public tables: mnemonics, how names are read and written, and the text of
types that it loses or misquotes. Data on which it still raises is shown in the generic form of RFC 3597 section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import dnslib

from rdnscache.dns.names import CLASSES, TYPES, class_text, label_text, type_text
from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, qclass, qtype, variant
from rdnscache.dns.rdata import IN_ONLY
from rdnscache.dns.text import MOST_TEXT, bounded, generic_text, rdata_text
from rdnscache.dns.wire import EDE_OPTION, HEADER_SIZE, IN, OPT, UDP_SIZE, Reply, parse_reply

#: The types whose data dnslib writes as we do. Of the others it does not escape quotes in TXT, CAA and NAPTR, shortens
#: the wrong run of zeros in AAAA, refuses names in RRSIG that are not ASCII, and is slow with a long NSEC.
RIGHT = frozenset(("A", "NS", "CNAME", "PTR", "SOA", "MX", "SRV", "RP", "DNSKEY"))

_EDE_NAMES = {
    0: "Other", 1: "Unsupported DNSKEY Algorithm", 2: "Unsupported DS Digest Type", 3: "Stale Answer",
    4: "Forged Answer", 5: "DNSSEC Indeterminate", 6: "DNSSEC Bogus", 7: "Signature Expired",
    8: "Signature Not Yet Valid", 9: "DNSKEY Missing", 10: "RRSIGs Missing", 11: "No Zone Key Bit Set",
    12: "NSEC Missing", 13: "Cached Error", 14: "Not Ready", 15: "Blocked", 16: "Censored", 17: "Filtered",
    18: "Prohibited", 19: "Stale NXDOMAIN Answer", 20: "Not Authoritative", 21: "Not Supported",
    22: "No Reachable Authority", 23: "Network Error", 24: "Invalid Data",
}  # fmt: skip


class Name(dnslib.DNSLabel):  # type: ignore[misc]
    """A name of any octets, in our presentation form: dnslib does not escape a dot inside a label."""

    def __str__(self) -> str:
        return "".join(f"{label_text(label)}." for label in self.label) or "."

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dnslib.DNSLabel) and str(Name(other.label)) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))


class Octets(dnslib.DNSBuffer):  # type: ignore[misc]
    """A message to be read. dnslib refuses labels that are not UTF-8, and may follow pointers for seconds."""

    def __init__(self, wire: bytes, offset: int) -> None:
        super().__init__(wire)
        self.wire = wire
        self.offset = offset

    def decode_name(self, last: int = -1) -> Name:
        """The name at the current position. The scanner has checked pointers, except in parts it does not read."""
        labels, at, end, lowest = list[bytes](), self.offset, 0, self.offset
        while size := self.wire[at]:
            if size < 64:
                labels.append(self.wire[at + 1 : at + 1 + size])
                at += 1 + size
                continue
            end = end or at + 2
            at = (size & 0x3F) << 8 | self.wire[at + 1]
            if at >= lowest:
                raise ValueError("a pointer that does not lead back")
            lowest = at
        self.offset = end or at + 1
        return Name(labels)


class Shaped(dnslib.RD):  # type: ignore[misc]
    """Record data of a type whose text is made by `text`."""

    rtype = 0

    @classmethod
    def parse(cls, buffer: Octets, length: int) -> Shaped:
        start = buffer.offset
        found = cls(buffer.get(length))
        found.text = rdata_text(buffer.wire, cls.rtype, start, start + length)
        return found

    def __repr__(self) -> str:
        return str(self.text)


class Generic(dnslib.RD):  # type: ignore[misc]
    """Record data of an unknown type or shape."""

    def __repr__(self) -> str:
        return generic_text(self.data)


class Location(dnslib.LOC):  # type: ignore[misc]
    """dnslib drops fractions of a second."""

    @staticmethod
    def _reprcoord(value: int, c: str) -> str:
        minutes, thousandths = divmod(abs(value - 0x80000000), 60_000)
        return f"{minutes // 60} {minutes % 60} {thousandths / 1000:.3f} {c}"


def _put_right() -> None:
    for table, ours in ((dnslib.QTYPE, TYPES), (dnslib.CLASS, CLASSES)):
        table.forward.update(ours)
        table.reverse.update({name: number for number, name in ours.items()})
    for number, name in TYPES.items():
        if name not in RIGHT:
            dnslib.RDMAP[name] = Location if name == "LOC" else type(name, (Shaped,), {"rtype": number})


_put_right()


def build_query(ident: int, key: bytes, options: Iterable[int] = ()) -> bytes:
    """The wire form of a command's query for a key: RD and AD set, CD and DO as in the key.

    `options` are the codes of EDNS options, which are sent empty.
    """
    checking, flags = variant(key) & VARIANT_CD, "do" if variant(key) & VARIANT_DO else ""
    query = dnslib.DNSRecord(
        dnslib.DNSHeader(id=ident, rd=1, ad=1, cd=int(checking != 0)),
        q=dnslib.DNSQuestion(Octets(key, 0).decode_name(), qtype(key), qclass(key)),
        ar=[dnslib.EDNS0(udp_len=UDP_SIZE, flags=flags, opts=[dnslib.EDNSOption(code, b"") for code in options])],
    )
    return bytes(query.pack())


def read(data: bytes) -> dnslib.DNSRecord | None:
    """A complete reply; None if the message is not a well-formed reply."""
    reply = parse_reply(data)
    if reply is None:
        return None
    asked = Octets(reply.wire, HEADER_SIZE)
    question = dnslib.DNSQuestion(asked.decode_name(), *asked.unpack("!HH"))
    found, cut = list(records(reply)), reply.ancount + reply.nscount
    header = dnslib.DNSHeader(id=data[0] << 8 | data[1], bitmap=reply.flags)
    parts = found[: reply.ancount], found[reply.ancount : cut], found[cut:] + _opt(reply, data)
    return dnslib.DNSRecord(header, [question], rr=parts[0], auth=parts[1], ar=parts[2])


def _opt(reply: Reply, data: bytes) -> list[dnslib.RR]:
    """The OPT record of the message `data`; it begins where the reply's wire ends."""
    if data[10] << 8 | data[11] == reply.arcount:
        return []
    try:
        found = dnslib.RR.parse(Octets(data, len(reply.wire)))
    except Exception:  # its options cannot be read
        return []
    return [found] if found.rtype == OPT else []


def rcode(message: dnslib.DNSRecord) -> int:
    """The extended RCODE, with the upper bits from the OPT record (RFC 6891 section 6.1.3)."""
    upper = next((record.edns_rcode for record in message.ar if record.rtype == OPT), 0)
    return int(upper) << 4 | int(message.header.rcode)


def lines(found: Iterable[dnslib.RR]) -> list[str]:
    """Records in zone-file form, OPT left out."""
    return [line(record) for record in found if record.rtype != OPT]


def records(reply: Reply, first: int = 0, most: int = 0) -> Iterator[dnslib.RR]:
    """The records of a reply from `first` on.

    With `most`, the first record whose data has more octets is yielded without data, and no record after it.
    """
    buffer = Octets(reply.wire, reply.end)
    for index in range(len(reply.ttls) // 2):
        at = reply.ttls[2 * index] << 8 | reply.ttls[2 * index + 1]
        name = buffer.decode_name() if index >= first else None
        buffer.offset = at - 4
        rtype, rclass, ttl, length = buffer.unpack("!HHIH")
        if name is None:
            buffer.offset += length
            continue
        large = most and length > most
        yield dnslib.RR(name, rtype, rclass, ttl, dnslib.RD() if large else _data(buffer, rtype, rclass, length))
        if large:
            return


def _data(buffer: Octets, rtype: int, rclass: int, length: int) -> dnslib.RD:
    """The data of a record; in generic form where the type is unknown or dnslib does not read the data correctly."""
    start, stop = buffer.offset, buffer.offset + length
    known = rclass == IN or rtype not in IN_ONLY
    try:
        kind = dnslib.RDMAP.get(type_text(rtype), Generic) if known and length else Generic
        found = kind.parse(buffer, length)
        found.text = found.toZone()
    except Exception:  # dnslib raises many kinds; the scanner has accepted the data, so it is shown in generic form
        found = None
    if found is None or buffer.offset != stop:
        buffer.offset = stop
        found = Generic(buffer.wire[start:stop])
        found.text = found.toZone()
    return found


def line(record: dnslib.RR) -> str:
    """A record in zone-file form."""
    words = record.rname, record.ttl, class_text(record.rclass), type_text(record.rtype), record.rdata.text
    return " ".join(map(str, words))


def answer_lines(reply: Reply, whole: bool) -> list[str]:
    """The answer section, or the authority section if it is empty, a record each; bounded unless `whole`."""
    first, count = (0, reply.ancount) if reply.ancount else (reply.ancount, reply.nscount)
    found = zip(range(count), records(reply, first, 0 if whole else MOST_TEXT), strict=False)
    lines = ("" if type(record.rdata) is dnslib.RD else line(record) for _, record in found)
    return list(lines) if whole else bounded(lines, count)


def extended_errors(message: dnslib.DNSRecord) -> list[str]:
    """The Extended DNS Errors of a message, a line each (RFC 8914 section 2)."""
    options = [option for record in message.ar if record.rtype == OPT for option in record.rdata]
    return [_error_text(option.data) for option in options if option.code == EDE_OPTION and len(option.data) >= 2]


def _error_text(data: bytes) -> str:
    info, words = data[0] << 8 | data[1], data[2:].decode("utf-8", "backslashreplace")
    return f"EDE {info} ({_EDE_NAMES.get(info, '?')})" + (f": {words}" if words else "")
