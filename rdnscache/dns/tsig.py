"""TSIG, signatures of messages by a shared secret (RFC 8945), as far as one query and its reply need it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from struct import Struct

from rdnscache.dns.names import parse_name
from rdnscache.dns.wire import HEADER_SIZE, NAME_SIZE, TSIG

#: Seconds by which the two clocks may differ (RFC 8945 section 5.2.3).
FUDGE = 300
_ANY = 255
_FIXED = Struct("!HHIH")
#: Type, class and TTL of a signature.
_HEAD = TSIG.to_bytes(2, "big") + b"\0\xff" + bytes(4)
_NAMES = {"hmac-md5": "hmac-md5.sig-alg.reg.int."}


@dataclass(frozen=True, slots=True)
class Key:
    """A secret with its name, in lower-case wire form, and an algorithm such as `hmac-sha256`."""

    name: bytes
    algorithm: str
    secret: bytes = field(repr=False)

    @property
    def algorithm_name(self) -> bytes:
        return parse_name(_NAMES.get(self.algorithm, self.algorithm + "."))

    def mac(self, data: bytes) -> bytes:
        return hmac.new(self.secret, data, self.algorithm.removeprefix("hmac-")).digest()


@dataclass(frozen=True, slots=True)
class Signature:
    """The TSIG record of a message: its offset and its fields."""

    start: int
    name: bytes
    algorithm: bytes
    #: Time signed (6 octets) and fudge (2 octets).
    times: bytes
    mac: bytes
    ident: bytes
    #: Error, other length and other data.
    rest: bytes

    def fits(self, wire: bytes, key: Key, now: int) -> bool:
        """Whether a query was signed with a key within its fudge of `now`, in seconds since 1970."""
        if self.name != key.name or self.algorithm != key.algorithm_name:
            return False
        count = int.from_bytes(wire[10:12], "big") - 1
        signed = self.ident + wire[2:10] + count.to_bytes(2, "big") + wire[HEADER_SIZE : self.start]
        expected = key.mac(signed + _variables(key, self.times, self.rest))
        moment, fudge = int.from_bytes(self.times[:6], "big"), int.from_bytes(self.times[6:], "big")
        return hmac.compare_digest(expected, self.mac) and abs(now - moment) <= fudge


def signature(wire: bytes) -> Signature | None:
    """The signature of a message; None if there is none or it cannot be read."""
    try:
        return _read(wire)
    except IndexError:
        return None


def signed(reply: bytes, key: Key, request: Signature, now: int) -> bytes:
    """A reply to a signed query, signed with the same key."""
    times, rest = now.to_bytes(6, "big") + FUDGE.to_bytes(2, "big"), bytes(4)
    before = len(request.mac).to_bytes(2, "big") + request.mac
    mac = key.mac(before + reply + _variables(key, times, rest))
    rdata = key.algorithm_name + times + len(mac).to_bytes(2, "big") + mac + reply[:2] + rest
    count = int.from_bytes(reply[10:12], "big") + 1
    record = key.name + _FIXED.pack(TSIG, _ANY, 0, len(rdata)) + rdata
    return reply[:10] + count.to_bytes(2, "big") + reply[12:] + record


def _variables(key: Key, times: bytes, rest: bytes) -> bytes:
    """The TSIG variables, which are signed together with the message (RFC 8945 section 4.3.3)."""
    return key.name + b"\0\xff\0\0\0\0" + key.algorithm_name + times + rest


def _read(wire: bytes) -> Signature | None:
    """The signature of a message; None if there is none, IndexError if the message ends too early."""
    at, start, end = HEADER_SIZE, 0, HEADER_SIZE
    for _ in range(int.from_bytes(wire[4:6], "big")):
        at = _behind_name(wire, at) + 4
    counts = [int.from_bytes(wire[each : each + 2], "big") for each in (6, 8, 10)]
    for _ in range(sum(counts)):
        start, at = at, _behind_name(wire, at)
        end = at + 10 + (wire[at + 8] << 8 | wire[at + 9])
        fixed, at = at, end
    if not counts[2] or end != len(wire) or wire[fixed : fixed + 8] != _HEAD:
        return None
    name, data = _name(wire, start), wire[fixed + 10 :]
    split = _behind_name(data, 0)
    size = data[split + 8] << 8 | data[split + 9]
    mac_end = split + 10 + size
    if len(data) < mac_end + 6:
        return None
    return Signature(start, name, data[:split].lower(), data[split : split + 8], data[split + 10 : mac_end],
                     data[mac_end : mac_end + 2], data[mac_end + 2 :])  # fmt: skip


def _name(wire: bytes, at: int) -> bytes:
    """A name in lower case, not compressed. IndexError for a name that is too long, leaves the message, or has a
    pointer that does not lead backwards."""
    out, before = bytearray(), at
    while size := wire[at]:
        if size >= 192:
            at = (size & 0x3F) << 8 | wire[at + 1]
            if at >= before:
                raise IndexError
            before = at
            continue
        out += wire[at : at + size + 1]
        at += size + 1
        if len(out) > NAME_SIZE:
            raise IndexError
    return bytes(out).lower() + b"\0"


def _behind_name(wire: bytes, at: int) -> int:
    """Offset just past a name, which a pointer ends. IndexError if it is malformed or leaves the message."""
    start = at
    while size := wire[at]:
        if size >= 192:
            return at + 2
        if size > 63 or at - start > NAME_SIZE:
            raise IndexError
        at += size + 1
    return at + 1
