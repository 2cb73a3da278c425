"""What of a reply answers the question: the chain from it and the RRset at its end, or what says that there is none.

Everything else is dropped before it is stored (RFC 2181 section 5.4.1, RFC 5452 section 6): records of other names,
types and classes, the additional section, DNSSEC records nobody asked for (RFC 4035 section 3.2.1).
"""

from __future__ import annotations

from struct import Struct

from rdnscache.dns.rdata import IN_ONLY, SHAPES
from rdnscache.dns.wire import (
    ANY,
    CNAME,
    DNAME,
    HEADER_SIZE,
    IN,
    NAME_SIZE,
    NOERROR,
    NS,
    SOA,
    TCP_SIZE,
    VARIANT_DO,
    YXDOMAIN,
    Reply,
    parse_reply,
)

#: The most aliases followed from the question: other resolvers follow 10 to 16 and send no longer chains.
MAX_CHAIN = 32
#: Types that prove an absence (RFC 4034 section 4, RFC 5155 section 3), and the one that signs.
NSEC, NSEC3, RRSIG = 47, 50, 46

#: The same for the compiled form, where these are plain numbers.
_ANY, _CNAME, _DNAME, _NS, _SOA, _NSEC, _NSEC3, _RRSIG = ANY, CNAME, DNAME, NS, SOA, NSEC, NSEC3, RRSIG
#: Types whose names may be compressed (RFC 3597 section 4: those of RFC 1035).
_COMPRESSED = frozenset((2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15))
_NAME, _STRING = b"ns"
_WIDTHS = {ord("B"): 1, ord("H"): 2, ord("I"): 4, ord("t"): 2, ord("T"): 4}
_FIXED = Struct("!HHIH")


class _Names:
    """The names of a message by number, 0 for the root: equal names have one number, whatever their case.

    Each label is looked at once, wherever pointers to it come from.
    """

    __slots__ = ("_known", "_numbers", "labels", "parents", "sizes", "wire")

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.labels = [b""]
        self.parents = [-1]
        #: The octets of each name, not compressed.
        self.sizes = [1]
        #: By offset; and by label in lower case and number of the rest.
        self._known: dict[int, int] = {}
        self._numbers: dict[tuple[bytes, int], int] = {}

    def read(self, at: int) -> int:
        """The number of the name at an offset where `parse_reply` has found one."""
        wire = self.wire
        starts: list[int] = []
        while True:
            number = self._known.get(at, -1)
            if number >= 0:
                break
            size = wire[at]
            if size == 0:
                number = 0
                break
            if size < 64:
                starts.append(at)
                at += size + 1
            else:
                at = (size & 0x3F) << 8 | wire[at + 1]
        while starts:
            at = starts.pop()
            number = self.child(wire[at + 1 : at + 1 + wire[at]], number)
            self._known[at] = number
        return number

    def child(self, label: bytes, parent: int) -> int:
        key = (label.lower(), parent)
        number = self._numbers.get(key, -1)
        if number < 0:
            number = self._numbers[key] = len(self.labels)
            self.labels.append(label)
            self.parents.append(parent)
            self.sizes.append(self.sizes[parent] + len(label) + 1)
        return number

    def moved(self, name: int, old: int, new: int) -> int:
        """The name with its ancestor `old` replaced by `new`; -1 when it would be too long (RFC 6672 section 2.2)."""
        if self.sizes[name] - self.sizes[old] + self.sizes[new] > NAME_SIZE:
            return -1
        labels = []
        while name != old:
            labels.append(self.labels[name])
            name = self.parents[name]
        for label in reversed(labels):
            new = self.child(label, new)
        return new

    def under(self, name: int, ancestor: int) -> bool:
        """Whether a name is this ancestor or below it."""
        while name > ancestor:  # an ancestor is always numbered before its descendants
            name = self.parents[name]
        return name == ancestor


class _Record:
    """One record: where it is, and its place among those that are kept; -1 for one that is dropped.

    One that is to be made has `start` 0, and the number of its target.
    """

    __slots__ = ("end", "owner", "place", "rclass", "rtype", "start", "target", "ttl", "ttl_at")

    def __init__(self, start: int, ttl_at: int, end: int, owner: int, rtype: int, rclass: int) -> None:
        self.start = start
        self.ttl_at = ttl_at
        self.end = end
        self.owner = owner
        self.rtype = rtype
        self.rclass = rclass
        self.place = -1
        self.target = 0
        #: In place of its own where that is not -1.
        self.ttl = -1


def distill(key: bytes, reply: Reply) -> Reply | None:
    """The reply reduced to what answers the question of `key`; None when it is no answer to it.

    No answer are: records none of which answers, without an SOA that says there are none; a referral; a chain that
    comes back to itself; an RCODE that the records contradict.
    A chain without its end and without SOA is an answer of which `settle` thinks little.
    """
    if reply.plain and reply.rcode == NOERROR:
        return reply
    return _Distillation(key, reply).result()


class _Distillation:
    """One reply at work."""

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
        self._names = _Names(reply.wire)
        self._qtype = key[-5] << 8 | key[-4]
        self._qclass = key[-3] << 8 | key[-2]
        self._do = key[-1] & VARIANT_DO != 0
        #: The aliases followed, each with its place; and where they end.
        self._chain: dict[int, int] = {}
        self._end = self._names.read(HEADER_SIZE)
        #: The places of the CNAME and DNAME records followed, by owner and type.
        self._aliases: dict[tuple[int, int], int] = {}
        #: Records that the server should have sent.
        self._made: list[_Record] = []
        self._answers = self._records(0, reply.ancount, reply.end)
        self._authority: list[_Record] = []

    def result(self) -> Reply | None:
        reply = self._reply
        if not self._follow():
            return None
        found = self._place_answers()
        if found and reply.rcode != NOERROR:
            return None
        if reply.nscount:
            self._authority = self._records(reply.ancount, reply.nscount, reply.authority)
        soa = None if found else self._place_soa()
        if not found and soa is None and reply.rcode == NOERROR and not self._says_something():
            return None
        if self._do and self._authority:
            self._place_proofs(soa)
        return self._assembled()

    def _records(self, first: int, count: int, start: int) -> list[_Record]:
        """The records of one section; the additional one is of no interest."""
        wire, ttls, names = self._reply.wire, self._reply.ttls, self._names
        out = []
        for index in range(first, first + count):
            at = ttls[2 * index] << 8 | ttls[2 * index + 1]
            end = at + 6 + (wire[at + 4] << 8 | wire[at + 5])
            rtype, rclass = wire[at - 4] << 8 | wire[at - 3], wire[at - 2] << 8 | wire[at - 1]
            out.append(_Record(start, at, end, names.read(start), rtype, rclass))
            start = end
        return out

    def _follow(self) -> bool:
        """Follow the aliases from the question; False when they lead round in a circle, or nowhere."""
        names, qtype = self._names, self._qtype
        ends: set[int] = set()
        cnames: dict[int, _Record] = {}
        dnames: dict[int, _Record] = {}
        for record in self._answers:
            if record.rclass != self._qclass:
                continue
            if record.rtype == qtype or qtype == _ANY:
                ends.add(record.owner)
            elif record.rtype == _CNAME:
                cnames.setdefault(record.owner, record)
            if record.rtype == _DNAME:
                dnames.setdefault(record.owner, record)
        name = self._end
        while name not in ends:
            if name in self._chain or len(self._chain) >= MAX_CHAIN:
                return False
            place = self._chain[name] = 2 * len(self._chain)
            cname = cnames.get(name)
            dname = self._dname_above(name, dnames) if dnames else None
            if dname is not None:
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

    def _alias(self, record: _Record, place: int) -> None:
        record.place = self._aliases[record.owner, record.rtype] = place

    def _dname_above(self, name: int, dnames: dict[int, _Record]) -> _Record | None:
        """The DNAME of the nearest ancestor, not of the name itself (RFC 6672 section 2.3)."""
        parents = self._names.parents
        while name > 0:
            name = parents[name]
            dname = dnames.get(name)
            if dname is not None:
                return dname
        return None

    def _synthesise(self, name: int, target: int, place: int, cname: _Record | None, dname: _Record) -> None:
        """The CNAME a DNAME stands for, with the DNAME's TTL (RFC 6672 section 3.1): the server's, or one made here."""
        wire = self._reply.wire
        ttl = int.from_bytes(wire[dname.ttl_at : dname.ttl_at + 4], "big")
        if cname is None or self._names.read(cname.ttl_at + 6) != target:
            cname = _Record(0, 0, 0, name, CNAME, self._qclass)
            cname.target = target
            self._made.append(cname)
        if not cname.start or wire[cname.ttl_at : cname.ttl_at + 4] != wire[dname.ttl_at : dname.ttl_at + 4]:
            cname.ttl = ttl
        cname.place = place

    def _place_answers(self) -> bool:
        """Give the RRset at the end of the chain its place, and signatures theirs; whether there is one."""
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

    def _covered(self, rrsig: _Record) -> int:
        wire, at = self._reply.wire, rrsig.ttl_at + 6
        return wire[at] << 8 | wire[at + 1]

    def _place_soa(self) -> _Record | None:
        """The SOA that makes it a negative answer: of a zone the end of the chain is in."""
        for record in self._authority:
            if record.rtype == _SOA and record.rclass == self._qclass and self._names.under(self._end, record.owner):
                record.place = 2 * len(self._chain) + 3
                return record
        return None

    def _says_something(self) -> bool:
        """Whether a NOERROR without the RRset and without SOA is an answer: a chain, or nothing at all.

        Nothing at all is NODATA of the third kind, but not with NS: that is a referral (RFC 2308 section 2.2).
        """
        if len(self._chain) > 1:
            return True
        for record in self._authority:
            if record.rtype == _NS:
                return False
        return not self._answers

    def _place_proofs(self, soa: _Record | None) -> None:
        """Keep what proves an absence, or that a wildcard was in order, where a zone of the chain has signed it."""
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
        """The reply with what has a place: itself when that is all, cut off where the rest begins, or written anew."""
        reply = self._reply
        answers, authority = _kept(self._answers), _kept(self._authority)
        if self._made or not self._in_order(answers) or not self._first(answers, authority):
            return _Writer(self._names, reply).write(sorted(answers + self._made, key=_place), authority)
        if len(answers) + len(authority) < len(reply.ttls) // 2:
            _cut(reply, answers, authority)
        for record in answers:
            if record.ttl >= 0:
                wire, at = reply.wire, record.ttl_at
                reply.wire = wire[:at] + record.ttl.to_bytes(4, "big") + wire[at + 4 :]
        return reply

    def _in_order(self, answers: list[_Record]) -> bool:
        """Whether each alias comes before what it leads to: some clients read an answer once, from top to bottom."""
        place = 0
        for record in answers:
            if record.place < place:
                return False
            place = record.place
        return True

    def _first(self, answers: list[_Record], authority: list[_Record]) -> bool:
        """Whether the records kept are the first ones of the message: no pointer in them leads to what follows."""
        if answers and answers[-1] is not self._answers[len(answers) - 1]:
            return False
        if not authority:
            return True
        return len(answers) == len(self._answers) and authority[-1] is self._authority[len(authority) - 1]


def _kept(records: list[_Record]) -> list[_Record]:
    kept = []
    for record in records:
        if record.place >= 0:
            kept.append(record)
    return kept


def _place(record: _Record) -> int:
    return record.place


def _cut(reply: Reply, answers: list[_Record], authority: list[_Record]) -> None:
    """End the reply behind the last record kept."""
    reply.ancount, reply.nscount, reply.arcount = len(answers), len(authority), 0
    reply.authority = reply.additional = reply.end
    for record in answers[-1:]:
        reply.authority = reply.additional = record.end
    for record in authority[-1:]:
        reply.additional = record.end
    reply.wire = reply.wire[: reply.additional]
    reply.ttls = reply.ttls[: 2 * (reply.ancount + reply.nscount)]
    reply.types = reply.types[: reply.ancount]
    if reply.soa_ttl_at >= reply.additional:
        reply.soa_ttl_at = reply.soa_minimum = 0


class _Writer:
    """Writes records of one message into another, names compressed anew."""

    __slots__ = ("_names", "_out", "_reply", "_written")

    def __init__(self, names: _Names, reply: Reply) -> None:
        self._names = names
        self._reply = reply
        self._out = bytearray(reply.wire[: reply.end])
        #: Where each name has been written.
        self._written: dict[int, int] = {}

    def write(self, answers: list[_Record], authority: list[_Record]) -> Reply | None:
        """The reply with these records; None when it does not fit into a message any more."""
        reply, out = self._reply, self._out
        self._note_question()
        out[6:HEADER_SIZE] = len(answers).to_bytes(2, "big") + len(authority).to_bytes(2, "big") + b"\0\0"
        for record in answers + authority:
            self._record(record)
            if len(out) > TCP_SIZE:
                return None
        written = parse_reply(bytes(out))
        if written is not None:
            written.rcode, written.ede = reply.rcode, reply.ede
        return written

    def _note_question(self) -> None:
        at, name = HEADER_SIZE, self._names.read(HEADER_SIZE)
        while name > 0:
            self._written[name] = at
            at += self._out[at] + 1
            name = self._names.parents[name]

    def _name(self, name: int, compressed: bool) -> None:
        names, out = self._names, self._out
        while name > 0:
            at = self._written.get(name, -1)
            if compressed and at >= 0:
                out += (0xC000 | at).to_bytes(2, "big")
                return
            if at < 0 and len(out) < 0x4000:
                self._written[name] = len(out)
            label = names.labels[name]
            out.append(len(label))
            out += label
            name = names.parents[name]
        out.append(0)

    def _record(self, record: _Record) -> None:
        wire, out = self._reply.wire, self._out
        self._name(record.owner, True)
        ttl = record.ttl if record.ttl >= 0 else int.from_bytes(wire[record.ttl_at : record.ttl_at + 4], "big")
        out += _FIXED.pack(record.rtype, record.rclass, ttl, 0)
        start = len(out)
        if record.start:
            self._data(record)
        else:
            self._name(record.target, True)
        size = len(out) - start
        if size < TCP_SIZE:
            out[start - 2 : start] = size.to_bytes(2, "big")

    def _data(self, record: _Record) -> None:
        """The record's data; only names that may have come compressed are written anew."""
        wire, out = self._reply.wire, self._out
        at, end = record.ttl_at + 6, record.end
        known = record.rclass == IN or record.rtype not in IN_ONLY
        shape = SHAPES.get(record.rtype, b"") if known else b""
        for letter in shape if _NAME in shape else b"":
            if letter == _NAME:
                self._name(self._names.read(at), record.rtype in _COMPRESSED)
                while 0 < wire[at] < 64:
                    at += wire[at] + 1
                at += 1 if wire[at] == 0 else 2
                continue
            size = wire[at] + 1 if letter == _STRING else _WIDTHS.get(letter, end - at)
            out += wire[at : at + size]
            at += size
        out += wire[at:end]
