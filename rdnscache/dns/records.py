"""The records of a message, with its names as numbers, and the writing of chosen records into a new message."""

from __future__ import annotations

from struct import Struct

from rdnscache.dns.rdata import IN_ONLY, SHAPES
from rdnscache.dns.wire import HEADER_SIZE, IN, NAME_SIZE, TCP_SIZE, Reply, parse_reply

#: Types whose names may be compressed (RFC 3597 section 4: those of RFC 1035).
_COMPRESSED = frozenset((2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15))
_NAME, _STRING = b"ns"
_WIDTHS = {ord("B"): 1, ord("H"): 2, ord("I"): 4, ord("t"): 2, ord("T"): 4}
_FIXED = Struct("!HHIH")
#: Maximum number of labels read in one message, which takes 5 ms: 64 KB can hold 32,000, real answers a tenth of that.
_MOST_LABELS = 7000


class Names:
    """The names of a message as numbers, 0 for the root; names that differ only in letter case have the same number.

    Each label is read once, however many pointers lead to it.
    """

    __slots__ = ("_known", "_numbers", "labels", "parents", "sizes", "spelled", "wire")

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.labels = [b""]
        self.parents = [-1]
        #: The size of each name in octets, not compressed.
        self.sizes = [1]
        #: Labels read so far.
        self.spelled = 0
        #: Numbers by offset; and by the first label in lower case and the number of the parent.
        self._known: dict[int, int] = {}
        self._numbers: dict[tuple[bytes, int], int] = {}

    def read(self, at: int) -> int:
        """The number of the name at an offset, which must be one where `parse_reply` has found a name."""
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
        self.spelled += len(starts)
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

    def crowded(self) -> bool:
        """Whether more labels were read than a real message has: reading on would block the hub for too long."""
        return self.spelled > _MOST_LABELS

    def under(self, name: int, ancestor: int) -> bool:
        """Whether a name is this ancestor or below it."""
        while name > ancestor:  # an ancestor is always numbered before its descendants
            name = self.parents[name]
        return name == ancestor


class Record:
    """One record: its offsets, and its position among those that are kept; -1 if it is dropped.

    A CNAME that is synthesised has `start` 0, and the number of its target.
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
        #: Replaces the TTL in the message unless it is -1.
        self.ttl = -1


def records_of(reply: Reply, names: Names, first: int, count: int, start: int) -> list[Record]:
    """`count` records from index `first` on, which begins at offset `start`; fewer when `names.crowded()`."""
    wire, ttls = reply.wire, reply.ttls
    out = []
    for index in range(first, first + count):
        if names.crowded():
            break
        at = ttls[2 * index] << 8 | ttls[2 * index + 1]
        end = at + 6 + (wire[at + 4] << 8 | wire[at + 5])
        rtype, rclass = wire[at - 4] << 8 | wire[at - 3], wire[at - 2] << 8 | wire[at - 1]
        out.append(Record(start, at, end, names.read(start), rtype, rclass))
        start = end
    return out


class Writer:
    """Writes records of a reply into a new message and compresses their names again."""

    __slots__ = ("_names", "_out", "_reply", "_written")

    def __init__(self, names: Names, reply: Reply) -> None:
        self._names = names
        self._reply = reply
        self._out = bytearray(reply.wire[: reply.end])
        #: The offset at which each name was written first.
        self._written: dict[int, int] = {}

    def write(self, answers: list[Record], authority: list[Record]) -> Reply | None:
        """The reply with these records; None when they do not fit into a message or have too many labels."""
        reply, out = self._reply, self._out
        self._note_question()
        out[6:HEADER_SIZE] = len(answers).to_bytes(2, "big") + len(authority).to_bytes(2, "big") + b"\0\0"
        for record in answers + authority:
            self._record(record)
            if len(out) > TCP_SIZE or self._names.crowded():
                return None
        written = parse_reply(bytes(out))
        if written is not None:
            written.rcode, written.ede, written.subnet = reply.rcode, reply.ede, reply.subnet
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

    def _record(self, record: Record) -> None:
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

    def _data(self, record: Record) -> None:
        """The record's data; only names that may have been compressed are rewritten."""
        wire, out = self._reply.wire, self._out
        at = record.ttl_at + 6
        for start, end in names_of(wire, record.rtype, record.rclass, at, record.end):
            out += wire[at:start]
            self._name(self._names.read(start), record.rtype in _COMPRESSED)
            at = end
        out += wire[at : record.end]


def names_of(wire: bytes, rtype: int, rclass: int, at: int, end: int) -> list[tuple[int, int]]:
    """Start and end of each name in the record data `wire[at:end]` that may be compressed."""
    shape = SHAPES.get(rtype, b"") if rclass == IN or rtype not in IN_ONLY else b""
    found: list[tuple[int, int]] = []
    for letter in shape if _NAME in shape else b"":
        start = at
        if letter == _NAME:
            while 0 < wire[at] < 64:
                at += wire[at] + 1
            at += 1 if wire[at] == 0 else 2
            found.append((start, at))
        else:
            at += wire[at] + 1 if letter == _STRING else _WIDTHS.get(letter, end - at)
    return found


def plain_name(names: Names, number: int) -> bytes:
    """The wire form of a name, in lower case and not compressed."""
    out = bytearray()
    while number > 0:
        label = names.labels[number]
        out += bytes((len(label),)) + label.lower()
        number = names.parents[number]
    return bytes(out) + b"\0"


def plain_data(wire: bytes, names: Names, rtype: int, rclass: int, at: int, end: int) -> bytes:
    """The record data `wire[at:end]` with all names that may be compressed in lower case and expanded."""
    out = bytearray()
    for start, stop in names_of(wire, rtype, rclass, at, end):
        out += wire[at:start] + plain_name(names, names.read(start))
        at = stop
    return bytes(out + wire[at:end])
