"""The part of a reply that answers the question: the alias chain and the RRset at its end, or the proof of its absence.

Everything else is dropped before it is stored (RFC 2181 section 5.4.1, RFC 5452 section 6): records of other names,
types and classes, the additional section, and DNSSEC records unless DO is set (RFC 4035 section 3.2.1).
"""

from __future__ import annotations

from rdnscache.dns.question import VARIANT_DO, qclass, qtype, variant
from rdnscache.dns.records import Names, Record, Writer, records_of
from rdnscache.dns.splice import cut
from rdnscache.dns.wire import (
    ANY,
    CNAME,
    DNAME,
    HEADER_SIZE,
    NOERROR,
    NS,
    SOA,
    YXDOMAIN,
    Reply,
)

#: Most aliases followed from the question: other resolvers follow 10 to 16, and send no longer chains.
MAX_CHAIN = 32
#: Types that prove an absence (RFC 4034 section 4, RFC 5155 section 3), and the type of signatures.
NSEC, NSEC3, RRSIG = 47, 50, 46

#: The same for the compiled form, where these are plain numbers.
_ANY, _CNAME, _DNAME, _NS, _SOA, _NSEC, _NSEC3, _RRSIG = ANY, CNAME, DNAME, NS, SOA, NSEC, NSEC3, RRSIG
_NOERROR = NOERROR


def distill(key: bytes, reply: Reply) -> Reply | None:
    """The reply reduced to the part that answers the question of `key`; None when it does not answer it.

    Not an answer is: records that do not match, without an SOA that denies the question; a referral; a chain that
    loops; an RCODE that contradicts the records; more names than can be examined in time.
    A chain whose target is missing, without an SOA, is an answer, which `settle` keeps for a short time only.
    """
    if reply.rcode == _NOERROR and (reply.plain or _usual(key, reply)):
        return reply
    if reply.ancount == 0 and reply.nscount == 1 and reply.arcount == 0 and _denies(key, reply):
        return reply
    return _Distillation(key, reply).result()


def _usual(key: bytes, reply: Reply) -> bool:
    """Whether the answer section has the usual form: aliases one after the other, then the RRset, each owner a pointer
    to the first occurrence of its name. Then the other sections are cut off, except for clients with DO.
    """
    wire, ttls = reply.wire, reply.ttls
    if (reply.nscount and variant(key) & VARIANT_DO) or reply.ancount == 0:
        return False
    start, named_at, at_end, asked, klass = reply.end, HEADER_SIZE, False, qtype(key), qclass(key)
    for index in range(0, 2 * reply.ancount, 2):
        at = ttls[index] << 8 | ttls[index + 1]
        if at - start != 6 or wire[start] < 0xC0 or (wire[start] & 0x3F) << 8 | wire[start + 1] != named_at:
            return False
        if wire[at - 2] << 8 | wire[at - 1] != klass:
            return False
        number = wire[at - 4] << 8 | wire[at - 3]
        if number == asked:
            at_end = True
        elif at_end or number != _CNAME or wire[at + 6] >= 0xC0:
            return False
        else:
            named_at = at + 6
        start = at + 6 + (wire[at + 4] << 8 | wire[at + 5])
    if at_end and (reply.nscount or reply.arcount):
        _cut(reply, reply.ancount, 0, start, start)
    return at_end


def _denies(key: bytes, reply: Reply) -> bool:
    """Whether the only record is the SOA of a zone the question is in, its owner a pointer into the question."""
    wire, at = reply.wire, reply.soa_ttl_at
    if at - reply.end != 6 or wire[at - 2] << 8 | wire[at - 1] != qclass(key):
        return False
    return wire[reply.end] == 0xC0 and wire[reply.end + 1] < reply.end - 4


class _Distillation:
    """The state of `distill` for one reply."""

    __slots__ = (
        "_aliases",
        "_answers",
        "_authority",
        "_chain",
        "_do",
        "_end",
        "_made",
        "_names",
        "_qclass",
        "_qtype",
        "_reply",
    )

    def __init__(self, key: bytes, reply: Reply) -> None:
        self._reply = reply
        self._names = Names(reply.wire)
        self._qtype = qtype(key)
        self._qclass = qclass(key)
        self._do = variant(key) & VARIANT_DO != 0
        #: The names of the alias chain, each with its position in the reply; and the name at the end of the chain.
        self._chain: dict[int, int] = {}
        self._end = self._names.read(HEADER_SIZE)
        #: The positions of the CNAME and DNAME records followed, by owner and type.
        self._aliases: dict[tuple[int, int], int] = {}
        #: CNAME records that the server should have synthesised.
        self._made: list[Record] = []
        self._answers = records_of(reply, self._names, 0, reply.ancount, reply.end)
        self._authority: list[Record] = []

    def result(self) -> Reply | None:
        reply = self._reply
        if not self._follow():
            return None
        found = self._place_answers()
        if found and reply.rcode != NOERROR:
            return None
        if reply.nscount:
            self._authority = records_of(reply, self._names, reply.ancount, reply.nscount, reply.authority)
        if self._names.crowded():
            return None
        soa = None if found else self._place_soa()
        if not found and soa is None and reply.rcode == NOERROR and not self._says_something():
            return None
        if self._do and self._authority:
            self._place_proofs(soa)
        return self._assembled()

    def _follow(self) -> bool:
        """Follow the aliases from the question; False when they form a loop, or lead nowhere."""
        names, qtype = self._names, self._qtype
        ends: set[int] = set()
        cnames: dict[int, Record] = {}
        dnames: dict[int, Record] = {}
        for record in self._answers:
            if record.rclass != self._qclass:
                continue
            if record.rtype == qtype or qtype == _ANY:
                ends.add(record.owner)
            if record.rtype == _CNAME:
                cnames.setdefault(record.owner, record)
            if record.rtype == _DNAME:
                dnames.setdefault(record.owner, record)
        name = self._end
        while True:
            cname = cnames.get(name)
            dname = self._dname_above(name, dnames) if dnames else None
            if name in ends:
                return self._stop_at(name, cname, dname)
            if name in self._chain or len(self._chain) >= MAX_CHAIN:
                return False
            place = self._chain[name] = 2 * len(self._chain)
            if dname is not None:
                if qtype == _CNAME:  # the record asked for is missing
                    return False
                if dname.place < 0:
                    self._alias(dname, place)
                target = names.moved(name, dname.owner, names.read(dname.ttl_at + 6))
                if target < 0:
                    self._end = name
                    return self._reply.rcode == YXDOMAIN
                self._synthesise(name, target, place + 1, cname, dname)
            elif cname is not None:
                self._alias(cname, place + 1)
                target = names.read(cname.ttl_at + 6)
            else:
                break
            name = target
        self._end = name
        return True

    def _stop_at(self, name: int, cname: Record | None, dname: Record | None) -> bool:
        """End at the RRset asked for. If that is a CNAME synthesised from a DNAME, keep the DNAME with it.

        Returns False when the two contradict each other.
        """
        self._end = name
        if self._qtype != _CNAME or dname is None or cname is None:
            return True
        names = self._names
        if names.moved(name, dname.owner, names.read(dname.ttl_at + 6)) != names.read(cname.ttl_at + 6):
            return False
        if dname.place < 0:
            self._alias(dname, 2 * len(self._chain))
        return True

    def _alias(self, record: Record, place: int) -> None:
        record.place = self._aliases[record.owner, record.rtype] = place

    def _dname_above(self, name: int, dnames: dict[int, Record]) -> Record | None:
        """The DNAME of the nearest ancestor, not of the name itself (RFC 6672 section 2.3)."""
        parents = self._names.parents
        while name > 0:
            name = parents[name]
            dname = dnames.get(name)
            if dname is not None:
                return dname
        return None

    def _synthesise(self, name: int, target: int, place: int, cname: Record | None, dname: Record) -> None:
        """Keep the CNAME synthesised from a DNAME, the server's or one made here; its TTL is the DNAME's (RFC 6672
        section 3.1)."""
        wire = self._reply.wire
        ttl = int.from_bytes(wire[dname.ttl_at : dname.ttl_at + 4], "big")
        if cname is None or self._names.read(cname.ttl_at + 6) != target:
            cname = Record(0, 0, 0, name, CNAME, self._qclass)
            cname.target = target
            self._made.append(cname)
        if not cname.start or wire[cname.ttl_at : cname.ttl_at + 4] != wire[dname.ttl_at : dname.ttl_at + 4]:
            cname.ttl = ttl
        cname.place = place

    def _place_answers(self) -> bool:
        """Assign positions to the RRset at the end of the chain and to signatures; returns whether it exists."""
        qtype, end, last = self._qtype, self._end, 2 * len(self._chain) + 2
        found = False
        for record in self._answers:
            if record.rclass != self._qclass:
                continue
            if record.owner == end and (record.rtype == qtype or qtype == _ANY):
                record.place = last
                found = True
            elif record.rtype == _RRSIG and self._do:
                covered = self._covered(record)
                if record.owner == end and covered == qtype:
                    record.place = last
                elif covered in (_CNAME, _DNAME):
                    record.place = self._aliases.get((record.owner, covered), -1)
        return found

    def _covered(self, rrsig: Record) -> int:
        wire, at = self._reply.wire, rrsig.ttl_at + 6
        return wire[at] << 8 | wire[at + 1]

    def _place_soa(self) -> Record | None:
        """The SOA that makes the reply a negative answer: that of a zone which contains the end of the chain."""
        for record in self._authority:
            if record.rtype == _SOA and record.rclass == self._qclass and self._names.under(self._end, record.owner):
                record.place = 2 * len(self._chain) + 3
                return record
        return None

    def _says_something(self) -> bool:
        """Whether NOERROR without the RRset and without SOA is an answer: if it has a chain, or no answer records.

        The latter is NODATA type 3, but with NS records it is a referral (RFC 2308 section 2.2).
        """
        if len(self._chain) > 1:
            return True
        for record in self._authority:
            if record.rtype == _NS:
                return False
        return not self._answers

    def _place_proofs(self, soa: Record | None) -> None:
        """Keep NSEC and NSEC3 records and signatures, if the signer is a zone that contains a name of the chain."""
        names = self._names
        zones = set()
        for name in (*self._chain, self._end):
            while name >= 0 and name not in zones:
                zones.add(name)
                name = names.parents[name]
        signed = set()
        place = 2 * len(self._chain) + 3
        for record in self._authority:
            if record.rtype == _RRSIG and record.rclass == self._qclass:
                covered = self._covered(record)
                ours = soa is not None and record.owner == soa.owner if covered == _SOA else covered in (_NSEC, _NSEC3)
                if ours:
                    signer = names.read(record.ttl_at + 24)
                    if signer in zones and names.under(record.owner, signer):
                        record.place = place
                        signed.add((record.owner, covered))
        for record in self._authority:
            if record.rtype in (_NSEC, _NSEC3) and (record.owner, record.rtype) in signed:
                record.place = place if record.rclass == self._qclass else -1

    def _assembled(self) -> Reply | None:
        """The reply with the records that have a position: unchanged if all have one, cut after them, or rewritten."""
        reply = self._reply
        answers, authority = _kept(self._answers), _kept(self._authority)
        if self._made or not self._in_order(answers) or not self._first(answers, authority):
            return Writer(self._names, reply).write(sorted(answers + self._made, key=_place), authority)
        if len(answers) + len(authority) < len(reply.ttls) // 2:
            start = end = reply.end
            for record in answers[-1:]:
                start = end = record.end
            for record in authority[-1:]:
                end = record.end
            _cut(reply, len(answers), len(authority), start, end)
        for record in answers:
            if record.ttl >= 0:
                wire, at = reply.wire, record.ttl_at
                reply.wire = wire[:at] + record.ttl.to_bytes(4, "big") + wire[at + 4 :]
        return reply

    def _in_order(self, answers: list[Record]) -> bool:
        """Whether each alias comes before its target: some clients read an answer in one pass from top to bottom."""
        place = 0
        for record in answers:
            if record.place < place:
                return False
            place = record.place
        return True

    def _first(self, answers: list[Record], authority: list[Record]) -> bool:
        """Whether the records kept are the first ones of the message: no pointer in them leads to what follows."""
        if answers and answers[-1] is not self._answers[len(answers) - 1]:
            return False
        if not authority:
            return True
        return len(answers) == len(self._answers) and authority[-1] is self._authority[len(authority) - 1]


def _kept(records: list[Record]) -> list[Record]:
    kept = []
    for record in records:
        if record.place >= 0:
            kept.append(record)
    return kept


def _place(record: Record) -> int:
    return record.place


def _cut(reply: Reply, ancount: int, nscount: int, authority: int, end: int) -> None:
    """End the reply at offset `end`, after `ancount` and `nscount` records; the authority section is at `authority`."""
    reply.ancount, reply.nscount, reply.arcount = ancount, nscount, 0
    reply.authority, reply.additional = authority, end
    reply.wire = cut(reply.wire, 0, end)
    reply.ttls = cut(reply.ttls, 0, 2 * (ancount + nscount))
    reply.types = reply.types[:ancount]
    if reply.soa_ttl_at >= end:
        reply.soa_ttl_at = reply.soa_minimum = 0
