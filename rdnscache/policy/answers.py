"""Changes answers before clients get them: refused because of addresses in them, or with some types removed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from rdnscache.dns.entry import Entry
from rdnscache.dns.names import type_text
from rdnscache.dns.policy import failure_wire
from rdnscache.dns.question import qname, qtype
from rdnscache.dns.wire import AAAA, NO_EDE, NOERROR, REFUSED, SOA, A
from rdnscache.policy import addresses
from rdnscache.policy.addresses import HTTPS, IPV4_HINT, IPV6_HINT, SVCB
from rdnscache.policy.dns64 import Dns64
from rdnscache.policy.draft import Draft, nobodys_soa
from rdnscache.policy.plain_records import plain_records

#: Extended DNS Error for removed types (RFC 8914 section 4.18), the one other resolvers use.
EDE_FILTERED = 17
#: The parameter of SVCB and HTTPS with the same addresses as records of a type.
_HINTS = {A: IPV4_HINT, AAAA: IPV6_HINT}


@dataclass(frozen=True, slots=True)
class AnswerTerms:
    """The rules of a zone: whether private addresses are refused, which types are removed, and how IPv6 addresses are
    synthesized.
    """

    rebind: bool = False
    without: frozenset[int] = frozenset()
    dns64: Dns64 | None = None

    def __bool__(self) -> bool:
        return self.rebind or bool(self.without) or self.dns64 is not None

    def words(self) -> list[str]:
        """The rules as text."""
        types = ", ".join(map(type_text, sorted(self.without)))
        return [
            *(["refused, if it has a private address (rebind)"] if self.rebind else []),
            *([f"{types} removed (without)"] if types else []),
            *([f"AAAA are made from A if there are none ({self.dns64})"] if self.dns64 is not None else []),
        ]


@dataclass(frozen=True, slots=True)
class Refinement:
    """The stored form of a changed answer, and the reason: `rebind=10.0.0.1` if it is refused, or `without=AAAA`."""

    wire: bytes
    why: str
    refused: bool = False
    ede: int = NO_EDE


def refine(entry: Entry, terms: AnswerTerms) -> Refinement | None:
    """The changed form of an answer of class IN; None when it is not changed."""
    address = private_address(entry) if terms.rebind else None
    if address is not None:
        return Refinement(failure_wire(entry.key, REFUSED), f"rebind={ipaddress.ip_address(address)}", True)
    trimmed = terms.dns64.trimmed(entry) if terms.dns64 is not None else None
    if trimmed is not None:
        return Refinement(trimmed, "without=excluded")
    found = without_types(entry, terms.without) if terms.without else None
    if found is None:
        return None
    return Refinement(
        found[0], f"without={found[1]}", ede=EDE_FILTERED if qtype(entry.key) in terms.without else NO_EDE
    )


def private_address(entry: Entry) -> bytes | None:
    """The first address in an answer that is private, if there is one."""
    if qtype(entry.key) not in (A, AAAA, SVCB, HTTPS):
        return None
    return next(filter(addresses.is_private, addresses.addresses_in(entry)), None)


def without_types(entry: Entry, types: frozenset[int]) -> tuple[bytes, str] | None:
    """The stored bytes of the answer without records of some types, and which it lost; None when it had none.

    The result is an alias or NODATA. SVCB and HTTPS lose the hints with addresses of such a type.
    """
    asked = qtype(entry.key)
    if entry.rcode != NOERROR or not entry.ancount:
        return None
    if asked in types:
        return (
            _without_answer(entry, asked) if any(rtype == asked for rtype, _, _ in addresses.offsets(entry)) else None
        )
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
