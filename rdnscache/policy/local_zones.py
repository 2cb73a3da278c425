"""Answers from local records: for names that have some, and for whole zones if there is a SOA.

Nothing else about such a name or zone is taken from upstreams. All other names are asked as usual, including those that
only have local names below them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rdnscache.dns.names import name_text, type_text
from rdnscache.dns.policy import failure_wire
from rdnscache.dns.question import qclass, qname, qtype, question_key
from rdnscache.dns.wire import (
    CNAME,
    DNAME,
    HEADER_SIZE,
    IN,
    NAME_SIZE,
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    SOA,
    TCP_SIZE,
    YXDOMAIN,
    read_u32,
)
from rdnscache.policy.draft import Draft, nobodys_soa
from rdnscache.policy.local_record import LocalRecord, ZoneTextError
from rdnscache.policy.local_tree import Node, RecordSet, Tree

#: Aliases followed for one question.
MOST_ALIASES = 16

#: A type that no name has.
_NO_TYPE = 0


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """`wire` is the stored form of a reply. `target` is where its aliases leave the local data: to be asked as usual,
    and its records to be added. `line` is that of the record which decided.
    """

    wire: bytes
    target: bytes | None
    line: int


class LocalZones:
    """Raises ZoneTextError for records that cannot be answered with."""

    def __init__(self, records: Iterable[LocalRecord]) -> None:
        self._tree = Tree(records)
        for name, node in self._tree.nodes.items():
            _check_sizes(name, node)
        for name, node in self._tree.nodes.items():
            if CNAME in node and self._follow(question_key(name, _NO_TYPE, IN, 0)).rcode == SERVFAIL:
                reason = f"lead in a circle, or are more than {MOST_ALIASES}"
                raise ZoneTextError(node.line, f"the aliases from {name_text(name)} on {reason}")

    def __len__(self) -> int:
        """How many names have records."""
        return len(self._tree.nodes)

    def exists(self, name: bytes) -> bool:
        """Whether a name has records, or has names with some below it."""
        return self._tree.encloser(name) == name

    def answer(self, key: bytes) -> LocalAnswer | None:
        """The answer from local records; None when the question has to be asked as usual."""
        if qclass(key) != IN:
            return None
        reply = self._follow(key)
        if not reply.line:
            return None
        if reply.rcode == SERVFAIL or len(reply.wire) > TCP_SIZE:
            return LocalAnswer(failure_wire(key), None, reply.line)
        return LocalAnswer(reply.stored(key), reply.target, reply.line)

    def _follow(self, key: bytes) -> _Draft:
        """The reply, or SERVFAIL when aliases do not end. Without any local data it has no line."""
        name, rtype = qname(key), qtype(key)
        reply, seen = _Draft(key), set[bytes]()
        while name not in seen and len(seen) <= MOST_ALIASES:
            seen.add(name)
            target = self._step(name, rtype, reply)
            if target is None:
                return reply
            name = target
        reply.rcode = SERVFAIL
        return reply

    def _step(self, name: bytes, rtype: int, reply: _Draft) -> bytes | None:
        """Add the records of one name; returns the next name if it is an alias."""
        tree = self._tree
        encloser = tree.encloser(name)
        exists = encloser == name
        node = tree.nodes.get(encloser)
        if not exists:
            if node is not None and DNAME in node:
                return _redirect(name, rtype, encloser, node[DNAME], reply)
            node = tree.wildcard(encloser)
        zone = tree.zone(encloser)
        if node is None:
            if zone is None:
                reply.target = name if reply.line else None
            else:
                reply.deny_in_zone(zone, tree.nodes[zone][SOA], NOERROR if exists else NXDOMAIN)
            return None
        if rtype in node:
            reply.add_all(name, rtype, node[rtype])
        elif CNAME in node:
            reply.add_all(name, CNAME, node[CNAME])
            return next(iter(node[CNAME].rdatas)).lower()
        elif zone is not None:
            reply.deny_in_zone(zone, tree.nodes[zone][SOA], NOERROR, node.line)
        else:
            reply.deny_alone(name, node)
        return None


def _redirect(name: bytes, rtype: int, owner: bytes, found: RecordSet, reply: _Draft) -> bytes | None:
    """What a DNAME makes of a name below it (RFC 6672 section 3.2); the name it leads to."""
    reply.add_all(owner, DNAME, found)
    target = name[: len(name) - len(owner)] + next(iter(found.rdatas)).lower()
    if len(target) > NAME_SIZE:
        reply.rcode = YXDOMAIN
        return None
    reply.add(name, CNAME, found.ttl, target)
    return target if rtype != CNAME else None


class _Draft(Draft):
    """A draft with the additions of replies from local records."""

    __slots__ = ("line", "target")

    def __init__(self, key: bytes) -> None:
        Draft.__init__(self, key)
        self.target: bytes | None = None
        self.line = 0

    def add_all(self, owner: bytes, rtype: int, found: RecordSet) -> None:
        self.line = self.line or found.line
        for rdata in found.rdatas:
            self.add(owner, rtype, found.ttl, rdata)

    def deny_in_zone(self, zone: bytes, soa: RecordSet, rcode: int, line: int = 0) -> None:
        """Add the SOA, with the TTL of a negative answer (RFC 2308 section 3)."""
        rdata = next(iter(soa.rdatas))
        self._deny(zone, min(soa.ttl, read_u32(rdata, len(rdata) - 4)), rdata, rcode, line or soa.line)

    def deny_alone(self, name: bytes, node: Node) -> None:
        """Add a SOA for NODATA about a name outside of local zones."""
        self._deny(name, node.ttl, nobodys_soa(name, node.ttl), NOERROR, node.line)

    def _deny(self, owner: bytes, ttl: int, rdata: bytes, rcode: int, line: int) -> None:
        self.rcode = rcode
        self.line = self.line or line
        self.add_authority(owner, SOA, ttl, rdata)


def _check_sizes(name: bytes, node: Node) -> None:
    """Check that the records of each type fit into a message; for a wildcard, with the longest name it may match."""
    longest = NAME_SIZE if name.startswith(b"\1*") else len(name)
    for rtype, found in node.items():
        size = HEADER_SIZE + longest + 4 + sum(len(rdata) + 12 for rdata in found.rdatas)
        if size > TCP_SIZE:
            what = f"{name_text(name)} {type_text(rtype)}"
            raise ZoneTextError(found.line, f"the records of {what} need {size} octets, and a message has {TCP_SIZE}")
