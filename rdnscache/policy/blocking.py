"""The answers for blocked names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from struct import Struct

from rdnscache.dns.policy import failure_wire
from rdnscache.dns.question import qname, qtype
from rdnscache.dns.wire import AAAA, NOERROR, NXDOMAIN, REFUSED, SOA, A

#: TTL of these answers in seconds; short, so that a name works again soon after it is unblocked.
BLOCK_TTL = 60
#: Extended DNS Error: blocked by the operator of the resolver (RFC 8914 section 4.16).
EDE_BLOCKED = 15
_RECORD = Struct("!HHHIH")
_TO_QUESTION = 0xC00C
_TIMES = Struct("!IIIII").pack(1, 3600, 1200, 604800, BLOCK_TTL)
_NOBODY = b"\x07blocked\x07invalid\x00"


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """Blocked names are answered with `addresses`; without any, with NXDOMAIN or REFUSED."""

    refuses: bool = False
    addresses: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, text: str) -> BlockAnswer:
        """`nxdomain`, `null` (0.0.0.0 and ::), `refused`, or addresses between commas. Raises ValueError."""
        if text == "nxdomain":
            return cls()
        if text == "refused":
            return cls(refuses=True)
        if text == "null":
            return cls(addresses=(bytes(4), bytes(16)))
        try:
            found = tuple(ipaddress.ip_address(each.strip()).packed for each in text.split(","))
        except ValueError:
            raise ValueError(f"{text[:60]!r} is neither nxdomain, null, refused, nor an address") from None
        if len({len(each) for each in found}) != len(found):
            raise ValueError(f"{text[:60]!r} has more than one address of a family")
        return cls(addresses=found)

    def wire(self, key: bytes) -> bytes:
        """The stored form of the reply to a question. A negative one has a SOA, so that it can be cached (RFC 2308)."""
        if self.refuses:
            return failure_wire(key, REFUSED)
        size = {A: 4, AAAA: 16}.get(qtype(key), 0)
        address = next((each for each in self.addresses if len(each) == size), b"")
        if address:
            record = _RECORD.pack(_TO_QUESTION, qtype(key), 1, BLOCK_TTL, size) + address
            head = failure_wire(key, NOERROR)
            return head[:6] + b"\0\1" + head[8:] + record
        head = failure_wire(key, NOERROR if self.addresses else NXDOMAIN)
        rdata = (_TO_QUESTION.to_bytes(2, "big") if len(qname(key)) > 1 else b"\0") + _NOBODY + _TIMES
        return head[:8] + b"\0\1" + head[10:] + _RECORD.pack(_TO_QUESTION, SOA, 1, BLOCK_TTL, len(rdata)) + rdata
