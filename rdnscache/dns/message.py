"""DNS messages as dnslib has them: what a person asks, and what people are shown. None of it is on the path of a query.

Octets come here after `wire.parse_reply` has accepted them, so every name and all data of known types have their shape.
What dnslib gets wrong is put right over its public tables: mnemonics, how names are read and written, and the text of the
types in which it loses or misquotes something. Whatever still raises gives the generic form of RFC 3597 section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dnslib import CLASS, EDNS0, LOC, QTYPE, RD, RDMAP, RR, DNSBuffer, DNSHeader, DNSLabel, DNSQuestion, EDNSOption

from rdnscache.dns.names import CLASSES, TYPES, class_text, label_text, type_text
from rdnscache.dns.rdata import IN_ONLY
from rdnscache.dns.text import MOST_TEXT, bounded, generic_text, rdata_text
from rdnscache.dns.wire import EDE_OPTION, HEADER_SIZE, IN, OPT, UDP_SIZE, VARIANT_CD, VARIANT_DO, Reply

#: The types whose data dnslib writes as we do. Of the others it knows, it leaves quotes as they are in TXT, CAA and
#: NAPTR, shortens the wrong zeros of an AAAA, takes no name with other octets in RRSIG, and spends 20 ms on an NSEC.
RIGHT = frozenset(("A", "NS", "CNAME", "PTR", "SOA", "MX", "SRV", "RP", "DNSKEY"))
_DO = "do"

_EDE_NAMES = {
    0: "Other", 1: "Unsupported DNSKEY Algorithm", 2: "Unsupported DS Digest Type", 3: "Stale Answer",
    4: "Forged Answer", 5: "DNSSEC Indeterminate", 6: "DNSSEC Bogus", 7: "Signature Expired",
    8: "Signature Not Yet Valid", 9: "DNSKEY Missing", 10: "RRSIGs Missing", 11: "No Zone Key Bit Set",
    12: "NSEC Missing", 13: "Cached Error", 14: "Not Ready", 15: "Blocked", 16: "Censored", 17: "Filtered",
    18: "Prohibited", 19: "Stale NXDOMAIN Answer", 20: "Not Authoritative", 21: "Not Supported",
    22: "No Reachable Authority", 23: "Network Error", 24: "Invalid Data",
}  # fmt: skip


class Name(DNSLabel):  # type: ignore[misc]
    """A name of any octets, in our presentation form: dnslib writes a dot inside a label like one between two."""

    def __str__(self) -> str:
        return "".join(f"{label_text(label)}." for label in self.label) or "."

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DNSLabel) and str(Name(other.label)) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))


class Octets(DNSBuffer):  # type: ignore[misc]
    """A message to be read. dnslib refuses labels that are not UTF-8, and follows chains of pointers for seconds."""

    def __init__(self, wire: bytes, offset: int) -> None:
        super().__init__(wire)
        self.wire = wire
        self.offset = offset

    def decode_name(self, last: int = -1) -> Name:
        """The name here. Pointers lead back, as the scanner has seen to; an octet read twice would be a fault of ours."""
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


class Shaped(RD):  # type: ignore[misc]
    """Data of a type that `text` writes."""

    rtype = 0

    @classmethod
    def parse(cls, buffer: Octets, length: int) -> Shaped:
        start = buffer.offset
        found = cls(buffer.get(length))
        found.text = rdata_text(buffer.wire, cls.rtype, start, start + length)
        return found

    def __repr__(self) -> str:
        return str(self.text)


class Generic(RD):  # type: ignore[misc]
    """Data of a type, or of a shape, that nobody knows."""

    def __repr__(self) -> str:
        return generic_text(self.data)


class Location(LOC):  # type: ignore[misc]
    """dnslib drops what is left of a second below one."""

    @staticmethod
    def _reprcoord(value: int, c: str) -> str:
        minutes, thousandths = divmod(abs(value - 0x80000000), 60_000)
        return f"{minutes // 60} {minutes % 60} {thousandths / 1000:.3f} {c}"


def _put_right() -> None:
    for table, ours in ((QTYPE, TYPES), (CLASS, CLASSES)):
        table.forward.update(ours)
        table.reverse.update({name: number for number, name in ours.items()})
    for number, name in TYPES.items():
        if name not in RIGHT:
            RDMAP[name] = Location if name == "LOC" else type(name, (Shaped,), {"rtype": number})


_put_right()


def build_query(ident: int, key: bytes, options: Iterable[EDNSOption] = ()) -> bytes:
    """A person's query for a key: RD and AD set, CD and DO as the key says."""
    header = DNSHeader(id=ident, rd=1, ad=1, cd=int(key[-1] & VARIANT_CD != 0), q=1, ar=1)
    buffer = DNSBuffer()
    header.pack(buffer)
    name = Octets(key, 0).decode_name()
    DNSQuestion(name, key[-5] << 8 | key[-4], key[-3] << 8 | key[-2]).pack(buffer)
    flags = _DO if key[-1] & VARIANT_DO else ""
    EDNS0(udp_len=UDP_SIZE, flags=flags, opts=list(options)).pack(buffer)
    return bytes(buffer.data)


def records(reply: Reply, first: int = 0, most: int = 0) -> Iterator[RR]:
    """The records of a reply from `first` on.

    With `most`, the first one whose data have more octets than that is the last, and empty: it is not worth its making.
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
        yield RR(name, rtype, rclass, ttl, RD() if large else _data(buffer, rtype, rclass, length))
        if large:
            return


def _data(buffer: Octets, rtype: int, rclass: int, length: int) -> RD:
    """The data of a record; generic where their type has no text, or this reading of them went wrong."""
    start, stop = buffer.offset, buffer.offset + length
    known = rclass == IN or rtype not in IN_ONLY
    try:
        found = RDMAP.get(type_text(rtype), Generic).parse(buffer, length) if known and length else Generic()
        if buffer.offset == stop and found.toZone():
            return found
    except Exception:  # dnslib raises a dozen kinds; the scanner has accepted the record, so it is shown as it came
        pass
    buffer.offset = stop
    return Generic(buffer.wire[start:stop])


def line(record: RR) -> str:
    """A record in zone-file form."""
    words = record.rname, record.ttl, class_text(record.rclass), type_text(record.rtype), record.rdata.toZone()
    return " ".join(map(str, words))


def section_texts(reply: Reply) -> tuple[list[str], list[str], list[str]]:
    """The lines of the answer, authority and additional sections."""
    lines = [line(record) for record in records(reply)]
    cut = reply.ancount + reply.nscount
    return lines[: reply.ancount], lines[reply.ancount : cut], lines[cut:]


def answer_lines(reply: Reply, whole: bool) -> list[str]:
    """The answer section, or the authority section where there is no answer; bounded, unless the whole is wanted."""
    first, count = (0, reply.ancount) if reply.ancount else (reply.ancount, reply.nscount)
    found = zip(range(count), records(reply, first, 0 if whole else MOST_TEXT), strict=False)
    lines = ("" if type(record.rdata) is RD else line(record) for _, record in found)
    return list(lines) if whole else bounded(lines, count)


def extended_errors(reply: Reply, data: bytes) -> list[str]:
    """The Extended DNS Errors of the octets a reply was read from, a line each (RFC 8914 section 2)."""
    try:
        record = RR.parse(Octets(data, len(reply.wire)))
        options = record.rdata if record.rtype == OPT else []
    except Exception:  # there is none, or it cannot be read
        return []
    return [_error_text(option.data) for option in options if option.code == EDE_OPTION and len(option.data) >= 2]


def _error_text(data: bytes) -> str:
    info, words = data[0] << 8 | data[1], data[2:].decode("utf-8", "backslashreplace")
    return f"EDE {info} ({_EDE_NAMES.get(info, '?')})" + (f": {words}" if words else "")
