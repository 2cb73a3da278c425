"""A local record, in the form that all parsers produce."""

from __future__ import annotations

from dataclasses import dataclass

from rdnscache.dns.names import type_text
from rdnscache.dns.rdata import no_names, rdata_holds
from rdnscache.dns.wire import HEADER_SIZE, IN, OPT, TCP_SIZE

#: Records of one file or text.
MOST_RECORDS = 100_000

#: Further than a compression pointer reaches (RFC 1035 section 4.1.4): data checked there have no pointers, and no name
#: in them is remembered.
_BEYOND = 0x4000
_PADDING, _NO_NAMES = bytes(_BEYOND), no_names(_BEYOND)
#: The question without its name, and an owner that is a pointer to it with type, class, TTL and length behind it.
_AROUND = HEADER_SIZE + 4 + 12


@dataclass(frozen=True, slots=True)
class LocalRecord:
    """One record of class IN."""

    #: On the wire, in lower case.
    name: bytes
    rtype: int
    #: Seconds.
    ttl: int
    #: Without compression.
    rdata: bytes
    #: Where it was written, counted from 1.
    line: int


class ZoneTextError(ValueError):
    """A mistake in local records: where, and why it is one."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def stands_for_data(rtype: int) -> bool:
    """Whether there are records of a type: not of those for questions and for transport (RFC 6895 section 3.1)."""
    return rtype != 0 and rtype != OPT and not 128 <= rtype < 256


def check(name: bytes, rtype: int, rdata: bytes) -> None:
    """Check that the data satisfy the scanner of replies, and fit into a message; ValueError with the reason."""
    if not rdata_holds(_PADDING + rdata, rtype, IN, _BEYOND, _BEYOND + len(rdata), _NO_NAMES):
        raise ValueError(f"these data do not have the form of {type_text(rtype)}")
    if _AROUND + len(name) + len(rdata) > TCP_SIZE:
        raise ValueError(f"{len(rdata)} octets of data do not fit into a message")
