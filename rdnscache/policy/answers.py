"""What becomes of answers before clients have them: refused for the addresses in them, or left without some types."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from rdnscache.dns.entry import Entry
from rdnscache.dns.names import type_text
from rdnscache.dns.policy import failure_wire
from rdnscache.dns.question import qclass, qname, qtype, section
from rdnscache.dns.records import Names, plain_data, plain_name, records_of
from rdnscache.dns.wire import AAAA, IN, NOERROR, REFUSED, SOA, A, Reply, parse_reply
from rdnscache.policy import addresses
from rdnscache.policy.addresses import HTTPS, IPV4_HINT, IPV6_HINT, SVCB
from rdnscache.policy.draft import Draft, nobodys_soa

_RRSIG = 46
#: The parameter of SVCB and HTTPS that has what records of a type would have.
_HINTS = {A: IPV4_HINT, AAAA: IPV6_HINT}


@dataclass(frozen=True, slots=True)
class AnswerTerms:
    """What holds in a zone: whether private addresses are refused, and which types clients do not get."""

    rebind: bool = False
    without: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return self.rebind or bool(self.without)


@dataclass(frozen=True, slots=True)
class Refinement:
    """The stored bytes of what an answer becomes, and why: `rebind=10.0.0.1`, where it is refused, `without=AAAA`."""

    wire: bytes
    why: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """A record of an answer section, its names in lower case and not compressed."""

    owner: bytes
    rtype: int
    ttl: int
    rdata: bytes

    @property
    def covered(self) -> int:
        """The type that a signature is about; -1 of all else."""
        return int.from_bytes(self.rdata[:2]) if self.rtype == _RRSIG else -1


def refine(entry: Entry, terms: AnswerTerms) -> Refinement | None:
    """What an answer becomes; None when it stays as it is."""
    if qclass(entry.key) != IN:
        return None
    address = private_address(entry) if terms.rebind else None
    if address is not None:
        return Refinement(failure_wire(entry.key, REFUSED), f"rebind={ipaddress.ip_address(address)}", True)
    found = without_types(entry, terms.without) if terms.without else None
    return Refinement(found[0], f"without={found[1]}") if found is not None else None


def private_address(entry: Entry) -> bytes | None:
    """The first address in an answer that is private, if there is one."""
    if qtype(entry.key) not in (A, AAAA, SVCB, HTTPS):
        return None
    return next(filter(addresses.is_private, addresses.addresses_in(entry)), None)


def without_types(entry: Entry, types: frozenset[int]) -> tuple[bytes, str] | None:
    """The stored bytes of the answer without records of some types, and which it lost; None when it had none.

    What is left is an alias, or says that there are no data. SVCB and HTTPS lose the hints that stand for addresses.
    """
    asked = qtype(entry.key)
    if entry.rcode != NOERROR or not entry.ancount:
        return None
    if asked in types:
        return _without_answer(entry, asked) if any(rtype == asked for rtype, _, _ in addresses.places(entry)) else None
    hints = {_HINTS[rtype] for rtype in types if rtype in _HINTS}
    if asked in (SVCB, HTTPS) and hints:
        return _without_hints(entry, asked, frozenset(hints))
    return None


def _without_answer(entry: Entry, asked: int) -> tuple[bytes, str]:
    draft, owner, ttl = Draft(entry.key), qname(entry.key), 0
    for record in plain_records(entry):
        if record.rtype == asked:
            owner, ttl = record.owner, record.ttl
        elif record.covered != asked:
            draft.add(record.owner, record.rtype, record.ttl, record.rdata)
    draft.add_authority(owner, SOA, ttl, nobodys_soa(owner, ttl))
    return draft.stored(entry.key), type_text(asked)


def _without_hints(entry: Entry, asked: int, hints: frozenset[int]) -> tuple[bytes, str] | None:
    draft, lost = Draft(entry.key), False
    for record in plain_records(entry):
        rdata = addresses.without_hints(record.rdata, hints) if record.rtype == asked else record.rdata
        lost = lost or rdata != record.rdata
        if record.covered != asked:
            draft.add(record.owner, record.rtype, record.ttl, rdata)
    names = {IPV4_HINT: "ipv4hint", IPV6_HINT: "ipv6hint"}
    return (draft.stored(entry.key), ",".join(names[key] for key in sorted(hints))) if lost else None


def reply_of(entry: Entry) -> Reply | None:
    """An entry as the message it was made of."""
    counts = b"".join(count.to_bytes(2, "big") for count in (1, entry.ancount, entry.nscount, entry.arcount))
    return parse_reply(bytes((0, 0, 0x81, 0x80 | entry.rcode)) + counts + section(entry.key) + entry.tail)


def plain_records(entry: Entry) -> Iterator[PlainRecord]:
    """The records of its answer section."""
    reply = reply_of(entry)
    return records_plainly(reply) if reply is not None else iter(())


def records_plainly(reply: Reply) -> Iterator[PlainRecord]:
    """The records of a reply's answer section."""
    wire, names = reply.wire, Names(reply.wire)
    for record in records_of(reply, names, 0, reply.ancount, reply.end):
        at = record.ttl_at
        rdata = plain_data(wire, names, record.rtype, record.rclass, at + 6, record.end)
        yield PlainRecord(plain_name(names, record.owner), record.rtype, int.from_bytes(wire[at : at + 4]), rdata)
