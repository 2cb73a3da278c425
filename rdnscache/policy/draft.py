"""Builds replies record by record."""

from __future__ import annotations

from struct import Struct

from rdnscache.dns.policy import failure_wire
from rdnscache.dns.question import qname, section
from rdnscache.dns.wire import CNAME, HEADER_SIZE, IN, NOERROR
from rdnscache.dns.zones import is_below

_FIXED = Struct("!HHIH")
#: A compression pointer, and how far it can lead (RFC 1035 section 4.1.4).
_POINTER, _POINTER_REACH = 0xC000, 0x4000
#: The SOA for a name outside of our zones, after its owner: a mailbox that does not exist, serial, refresh, retry,
#: expire; its TTL follows (RFC 2308 section 5).
_NOBODY = b"\x06nobody\x07invalid\x00" + Struct("!IIII").pack(1, 3600, 1200, 604800)


class Draft:
    """A reply to the question of a key, of class IN. Owners that are written already are written as pointers."""

    __slots__ = ("_ancount", "_name", "_nscount", "_places", "rcode", "wire")

    def __init__(self, key: bytes) -> None:
        self._name = qname(key)
        #: Names in the data of aliases, which the next records belong to: where they stand.
        self._places: dict[bytes, int] = {}
        self._ancount = self._nscount = 0
        self.wire = bytearray(HEADER_SIZE) + section(key)
        self.rcode = NOERROR

    def add(self, owner: bytes, rtype: int, ttl: int, rdata: bytes) -> None:
        """A record of the answer section; all of them come before those of the authority section."""
        self._ancount += 1
        self._put(owner, rtype, ttl, rdata)
        if rtype == CNAME:
            self._places[rdata.lower()] = len(self.wire) - len(rdata)

    def add_authority(self, owner: bytes, rtype: int, ttl: int, rdata: bytes) -> None:
        self._nscount += 1
        self._put(owner, rtype, ttl, rdata)

    def stored(self, key: bytes) -> bytes:
        """The stored form of the reply; the caller has to check its size."""
        counts = self._ancount.to_bytes(2, "big") + self._nscount.to_bytes(2, "big")
        self.wire[:HEADER_SIZE] = failure_wire(key, self.rcode)[:6] + counts + b"\0\0"
        return bytes(self.wire)

    def _put(self, owner: bytes, rtype: int, ttl: int, rdata: bytes) -> None:
        at = self._places.get(owner, 0)
        if len(owner) > 1 and is_below(self._name, owner):
            at = HEADER_SIZE + len(self._name) - len(owner)
        self.wire += (_POINTER | at).to_bytes(2, "big") if 0 < at < _POINTER_REACH else owner
        self.wire += _FIXED.pack(rtype, IN, ttl, len(rdata)) + rdata


def nobodys_soa(name: bytes, ttl: int) -> bytes:
    """The data of a SOA that lets clients cache a negative answer for some seconds."""
    return name + _NOBODY + ttl.to_bytes(4, "big")
