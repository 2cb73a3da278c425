"""NOTIFY messages about changed zones (RFC 1996): which ones are accepted, and the replies to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rdnscache.dns.tsig import Key, signature, signed
from rdnscache.dns.wire import FORMERR, HEADER_SIZE, IN, NOERROR, REFUSED, SOA, Query

NOTAUTH = 9
_OPCODE, _OPCODE_MASK = 0x20, 0x78
#: The prefix of IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"
_ASKED = SOA.to_bytes(2, "big") + IN.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class NotifiedZone:
    """A zone that is transferred: its name on the wire in lower case, its server's address in octets, its TSIG key."""

    #: How the zone is called in messages to the process that transfers it.
    word: str
    name: bytes
    server: bytes
    key: Key | None = None


def is_notify(query: Query) -> bool:
    return query.data[2] & _OPCODE_MASK == _OPCODE


def answer_notify(query: Query, zones: Sequence[NotifiedZone], now: int) -> tuple[bytes, list[str]]:
    """The reply, and the words of the zones that have changed. `now` is in seconds since 1970.

    A message is accepted from the zone's server, or with a valid signature by the zone's key; never with a wrong one.
    """
    data = query.data
    end = _question_end(data)
    if end < 0 or data[end - 4 : end] != _ASKED:
        return _reply(query, HEADER_SIZE, FORMERR), []
    name, request = data[HEADER_SIZE : end - 4].lower(), signature(data)
    named = [zone for zone in zones if zone.name == name]
    if request is not None:
        found = [zone for zone in named if zone.key is not None and request.fits(data, zone.key, now)]
        if not found or found[0].key is None:
            return _reply(query, end, NOTAUTH), []
        return signed(_reply(query, end, NOERROR), found[0].key, request, now), [zone.word for zone in found]
    source = query.source.removeprefix(_MAPPED) if len(query.source) == 16 else query.source
    told = [zone.word for zone in named if zone.server == source]
    return _reply(query, end, NOERROR if told else REFUSED if named else NOTAUTH), told


def _question_end(data: bytes) -> int:
    """The offset just past the only question; -1 unless there is exactly one."""
    if data[4:6] != b"\0\1":
        return -1
    at = HEADER_SIZE
    while at < len(data) and 0 < data[at] < 64:
        at += data[at] + 1
    return at + 5 if at + 5 <= len(data) and data[at] == 0 and at < HEADER_SIZE + 255 else -1


def _reply(query: Query, end: int, rcode: int) -> bytes:
    query.rcode = rcode
    count = b"\0\1" if end > HEADER_SIZE else b"\0\0"
    return query.data[:2] + bytes((0x84 | _OPCODE, rcode)) + count + bytes(6) + query.data[HEADER_SIZE:end]
