"""The names that have local records, with the semantics of the DNS: wildcards, empty non-terminals, zones.

Names are kept in canonical order, label by label from the root, so that all names below a name follow it. For a name
that is not there, the longer one of the suffixes shared with its two neighbours is the closest encloser (RFC 4592
section 3.3.1). So empty non-terminals take no memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from rdnscache.dns.names import name_text, type_text
from rdnscache.dns.wire import CNAME, DNAME, SOA
from rdnscache.policy.local_record import LocalRecord, ZoneTextError

_RRSIG, _NSEC = 46, 47
_WILDCARD = b"\1*"


@dataclass(slots=True)
class RecordSet:
    """The records of a name and type (RFC 2181 section 5), in the order in which they were written."""

    #: The lowest of theirs, in seconds (RFC 2181 section 5.2).
    ttl: int
    #: Where the first was written.
    line: int
    rdatas: dict[bytes, None] = field(default_factory=dict)


class Node(dict[int, RecordSet]):
    """A name's records by type; there is at least one."""

    __slots__ = ()

    @property
    def line(self) -> int:
        return next(iter(self.values())).line

    @property
    def ttl(self) -> int:
        return min(each.ttl for each in self.values())


class Tree:
    """Raises ZoneTextError for records that cannot stand beside each other."""

    def __init__(self, records: Iterable[LocalRecord]) -> None:
        self.nodes: dict[bytes, Node] = {}
        for record in records:
            _add(self.nodes.setdefault(record.name, Node()), record)
        self._order = sorted(map(_from_root, self.nodes))
        self._apexes = {name for name, node in self.nodes.items() if SOA in node}
        for name, node in self.nodes.items():
            _check_aliases(name, node)
        if any(DNAME in node for node in self.nodes.values()):
            self._check_below_dnames()

    def encloser(self, name: bytes) -> bytes:
        """A name itself if it exists, else the longest end of it that does (RFC 4592 section 3.3.1)."""
        if name in self.nodes:
            return name
        wanted = _from_root(name)
        at, shared = bisect_left(self._order, wanted), 0
        for neighbour in self._order[max(at - 1, 0) : at + 1]:
            shared = max(shared, _shared(wanted, neighbour))
        return name[len(wanted) - shared :]

    def wildcard(self, encloser: bytes) -> Node | None:
        """The wildcard right below a closest encloser (RFC 4592 section 3.3.1)."""
        return self.nodes.get(_WILDCARD + encloser)

    def zone(self, name: bytes) -> bytes | None:
        """The local zone that a name is in."""
        if self._apexes:
            start = 0
            while True:
                if name[start:] in self._apexes:
                    return name[start:]
                if not name[start]:
                    break
                start += name[start] + 1
        return None

    def _check_below_dnames(self) -> None:
        for name, node in self.nodes.items():
            start = 0
            while name[start]:
                start += name[start] + 1
                above = self.nodes.get(name[start:])
                if above is not None and DNAME in above:
                    owner = name_text(name[start:])
                    raise ZoneTextError(node.line, f"{name_text(name)} has records, but is below the DNAME of {owner}")


def _add(node: Node, record: LocalRecord) -> None:
    found = node.get(record.rtype)
    if found is None:
        found = node[record.rtype] = RecordSet(record.ttl, record.line)
    found.ttl = min(found.ttl, record.ttl)
    found.rdatas[record.rdata] = None
    if len(found.rdatas) > 1 and record.rtype in (CNAME, DNAME, SOA):
        name = name_text(record.name)
        raise ZoneTextError(record.line, f"{name} has a {type_text(record.rtype)} already, and there can be only one")


def _check_aliases(name: bytes, node: Node) -> None:
    """An alias has no other data but those of DNSSEC (RFC 2181 section 10.1, RFC 4034 section 2.5)."""
    if CNAME in node:
        for rtype, found in node.items():
            if rtype not in (CNAME, _RRSIG, _NSEC):
                line = max(found.line, node[CNAME].line)
                raise ZoneTextError(line, f"{name_text(name)} has a CNAME, so it can have no {type_text(rtype)}")
    if DNAME in node and name.startswith(_WILDCARD):
        raise ZoneTextError(node[DNAME].line, "a DNAME at a wildcard means nothing (RFC 6672 section 3.3)")


def _from_root(name: bytes) -> bytes:
    """The labels of a name from the root down."""
    labels, start = [], 0
    while size := name[start]:
        labels.append(name[start : start + size + 1])
        start += size + 1
    labels.reverse()
    return b"".join(labels)


def _shared(one: bytes, other: bytes) -> int:
    """How many octets the first labels have that two names from the root share."""
    at = 0
    while at < len(one):
        end = at + one[at] + 1
        if one[at:end] != other[at:end]:
            break
        at = end
    return at
