"""Applies response policy zones: which rule of which zone takes precedence, and the answer it gives.

The order is: the earlier name in a chain of aliases; the earlier zone; inside a zone the client before the name, and
both before addresses; the exact name before wildcards; the longest wildcard or network
(draft-vixie-dnsop-dns-rpz-00 section 5). A rule with PASSTHRU ends the search like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from rdnscache.dns.policy import failure_wire
from rdnscache.dns.question import qname, qtype
from rdnscache.dns.wire import CNAME, NAME_SIZE, NOERROR, REFUSED, SOA
from rdnscache.dns.wire import NXDOMAIN as NO_SUCH_NAME
from rdnscache.policy.blocking import EDE_BLOCKED
from rdnscache.policy.local_zones import MOST_ALIASES
from rdnscache.policy.rpz_rules import CLIENT_IP, DROP, NODATA, NXDOMAIN, PASSTHRU, TCP_ONLY, unpack
from rdnscache.policy.rpz_table import Hit, RpzTable
from rdnscache.policy.verdict import DROPPED, TRUNCATED, Verdict

#: Extended DNS Error: filtered for this client (RFC 8914 section 4.18).
EDE_FILTERED = 17
_FIXED = Struct("!HHIH")
_TO_QUESTION = b"\xc0\x0c"
_WILDCARD = b"\1*"
#: Of a zone without a SOA.
_NOBODY = b"\x03rpz\x07invalid\0\x06nobody\x07invalid\0" + Struct("!5I").pack(1, 3600, 1200, 604800, 60)


class RpzZone(NamedTuple):
    """A zone: its name in origins, its rules, and its index among the lists of the policy."""

    name: str
    table: RpzTable
    place: int = 0


class RpzHit(NamedTuple):
    """The rule that applies, and its zone."""

    zone: RpzZone
    hit: Hit

    @property
    def passes(self) -> bool:
        return self.hit.action == PASSTHRU

    @property
    def why(self) -> str:
        """`rpz=ads.rpz:17`, or `rpz=rpz.example:*.ads.example.` for a zone that was transferred."""
        return f"rpz={self.zone.name}:{self.hit.line or self.hit.owner}"


class ResponsePolicy:
    """Zones in order of precedence."""

    def __init__(self, zones: Sequence[RpzZone]) -> None:
        self._zones = [zone for zone in zones if len(zone.table)]
        #: Whether any rule is about clients.
        self.about_clients = any(zone.table.about_clients for zone in zones)
        #: Whether a rule may lead to another name, which then has to be asked.
        self.aliases = any(zone.table.aliases for zone in zones)
        #: Whether the addresses of an answer may matter.
        self.about_addresses = any(zone.table.about_addresses for zone in zones)

    def __bool__(self) -> bool:
        return bool(self._zones)

    def of_name(self, name: bytes) -> tuple[RpzHit | None, bool]:
        """The rule for a name, and whether an earlier zone may decide otherwise once there is an answer."""
        waits = False
        for zone in self._zones:
            hit = zone.table.of_name(name)
            if hit is not None:
                return RpzHit(zone, hit), waits
            waits = waits or zone.table.about_addresses > 0
        return None, False

    def of_answer(self, names: Sequence[bytes], addresses: Sequence[bytes]) -> RpzHit | None:
        """The rule for an answer: the name asked for and those that its aliases lead to, and its addresses."""
        last = len(names) - 1
        for number, name in enumerate(names):
            for zone in self._zones:
                hit = zone.table.of_name(name)
                if hit is None and number == last and addresses:
                    hit = zone.table.of_addresses(addresses)
                if hit is not None:
                    return RpzHit(zone, hit)
        return None

    def of_client(self, name: bytes, source: bytes) -> RpzHit | None:
        """The rule for a client, unless an earlier zone has one for the name asked for.

        A rule with PASSTHRU applies in any case: for its clients only the earlier zones remain (see `exempt` in
        `group_policies`).
        """
        for number, zone in enumerate(self._zones):
            hit = zone.table.of_client(source) if zone.table.about_clients else None
            if hit is not None and hit.action == PASSTHRU:
                return RpzHit(zone, hit)
            if hit is not None:
                earlier = any(each.table.of_name(name) for each in self._zones[:number])
                return None if earlier else RpzHit(zone, hit)
        return None

    def verdict(self, key: bytes, found: RpzHit) -> Verdict | None:
        """The answer of a rule; None for PASSTHRU."""
        hit, table, why = found.hit, found.zone.table, found.why
        ede = EDE_FILTERED if hit.trigger == CLIENT_IP else EDE_BLOCKED
        if hit.action == PASSTHRU:
            return None
        if hit.action == DROP:
            return Verdict(failure_wire(key, REFUSED), why, ede, ttl=hit.ttl, action=DROPPED)
        if hit.action == TCP_ONLY:
            return Verdict(failure_wire(key, NOERROR), why, ttl=hit.ttl, action=TRUNCATED)
        if hit.action in (NXDOMAIN, NODATA):
            rcode = NO_SUCH_NAME if hit.action == NXDOMAIN else NOERROR
            return Verdict(_denial(key, table, rcode, hit.ttl), why, ede, ttl=hit.ttl)
        return self._told(key, found, ede)

    def _told(self, key: bytes, found: RpzHit, ede: int) -> Verdict | None:
        """The answer from a rule's own records."""
        records, table = unpack(found.hit.records), found.zone.table
        if records[0][0] == CNAME:
            _, ttl, rdata = records[0]
            target = _target(qname(key), rdata)
            if target == qname(key):
                return None
            if target is None or self._leads_round(target):
                return Verdict(_denial(key, table, NO_SUCH_NAME, ttl), found.why, ede, ttl=ttl)
            wire = _answer(key, table, [(CNAME, ttl, target)])
            return Verdict(wire, found.why, ede, target if qtype(key) != CNAME else None, ttl)
        ttl = min(each for _, each, _ in records)
        fitting = [(rtype, ttl, rdata) for rtype, _, rdata in records if rtype == qtype(key)]
        wire = _answer(key, table, fitting) if fitting else _denial(key, table, NOERROR, ttl)
        return Verdict(wire, found.why, ede, ttl=ttl)

    def _leads_round(self, name: bytes) -> bool:
        """Whether rules form an endless chain from a name."""
        for _ in range(MOST_ALIASES):
            found, _ = self.of_name(name)
            records = unpack(found.hit.records) if found is not None else []
            if not records or records[0][0] != CNAME:
                return False
            target = _target(name, records[0][2])
            if target is None or target == name:
                return False
            name = target
        return True


def _target(name: bytes, rdata: bytes) -> bytes | None:
    """The target of a rule's alias; an asterisk as in *.garden.example stands for the name asked for. None if too
    long."""
    target = rdata.lower()
    if not target.startswith(_WILDCARD):
        return target
    target = name[:-1] + target[len(_WILDCARD) :]
    return target if len(target) <= NAME_SIZE else None


def _owner(key: bytes) -> bytes:
    return _TO_QUESTION if len(qname(key)) > 1 else b"\0"


def _record(owner: bytes, rtype: int, ttl: int, rdata: bytes) -> bytes:
    return owner + _FIXED.pack(rtype, 1, ttl, len(rdata)) + rdata


def _signature(table: RpzTable, ttl: int) -> bytes:
    """Add the zone's SOA to the additional section, to show which policy gave the answer."""
    return _record(table.apex, SOA, ttl, table.soa) if table.soa else b""


def _counts(answers: int, authority: int, table: RpzTable) -> bytes:
    return b"".join(each.to_bytes(2, "big") for each in (answers, authority, 1 if table.soa else 0))


def _answer(key: bytes, table: RpzTable, records: list[tuple[int, int, bytes]]) -> bytes:
    head = failure_wire(key, NOERROR)
    found = b"".join(_record(_owner(key), *record) for record in records)
    return head[:6] + _counts(len(records), 0, table) + head[12:] + found + _signature(table, records[0][1])


def _denial(key: bytes, table: RpzTable, rcode: int, ttl: int) -> bytes:
    """NXDOMAIN or NODATA. Clients may cache it according to the zone's SOA (RFC 2308)."""
    soa = (table.soa or _NOBODY)[:-4] + ttl.to_bytes(4, "big")
    head = failure_wire(key, rcode)
    record = _record(_owner(key), SOA, ttl, soa)
    return head[:6] + _counts(0, 1, table) + head[12:] + record + _signature(table, ttl)
