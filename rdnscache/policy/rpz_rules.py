"""Turns the records of a response policy zone into rules, each a trigger with an action or local data."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from rdnscache.dns.names import name_text, shown, type_text
from rdnscache.dns.wire import CNAME, DNAME, NS, SOA
from rdnscache.dns.zones import is_below
from rdnscache.policy.list_text import MOST_REMARKS, Remark
from rdnscache.policy.rpz_text import ZoneRecord

#: Actions: NXDOMAIN; NODATA; pass, with no further rules; no answer; truncation over UDP; the rule's own records.
NXDOMAIN, NODATA, PASSTHRU, DROP, TCP_ONLY, DATA = range(6)
#: Triggers: the name asked for, or one that an alias leads to; the client; an address in the answer.
QNAME, CLIENT_IP, IP = range(3)
TRIGGERS = ("name", "client", "address")

_ACTIONS = {
    b"\0": NXDOMAIN,
    b"\1*\0": NODATA,
    b"\x0crpz-passthru\0": PASSTHRU,
    b"\x08rpz-drop\0": DROP,
    b"\x0crpz-tcp-only\0": TCP_ONLY,
}
TARGETS = {action: target for target, action in _ACTIONS.items()}
_PASSTHRU = TARGETS[PASSTHRU]
#: The last label of owners that are not names, and their trigger; none for triggers that a forwarder cannot evaluate.
_TRIGGERS = {b"rpz-client-ip": CLIENT_IP, b"rpz-ip": IP, b"rpz-nsdname": -1, b"rpz-nsip": -1}
_WILDCARD = b"\1*"
#: Records that signed zones have anyway, and those that mean nothing in a policy.
_OF_DNSSEC = frozenset((43, 46, 47, 48, 50, 51, 59, 60, 63))
_MEANINGLESS = frozenset((NS, SOA, DNAME))
#: Octets of a rule's own records, so that an answer with them fits into a message.
_MOST_DATA = 60_000
#: A record: type, TTL, and the size of its data, which follow.
_RECORD = Struct("!HIH")


class Network(NamedTuple):
    """Addresses with the same leading bits."""

    #: 4 or 16 octets.
    address: bytes
    prefix: int


class Rule(NamedTuple):
    """The rule of a zone for a trigger."""

    trigger: int
    #: Of QNAME, on the wire: what is asked for, or what it is below.
    name: bytes
    below: bool
    #: Of the other triggers.
    network: Network | None
    action: int
    #: Seconds.
    ttl: int
    #: Of DATA: records as `pack` makes them.
    records: bytes
    #: Counted from 1; 0 in a zone that was transferred.
    line: int


def pack(rtype: int, ttl: int, rdata: bytes) -> bytes:
    return _RECORD.pack(rtype, ttl, len(rdata)) + rdata


def unpack(records: bytes) -> list[tuple[int, int, bytes]]:
    """Type, TTL and data of each record."""
    found, at = [], 0
    while at < len(records):
        rtype, ttl, size = _RECORD.unpack_from(records, at)
        at += _RECORD.size + size
        found.append((rtype, ttl, records[at - size : at]))
    if not found or at != len(records):
        raise IndexError("records that are cut short")
    return found


def action_of(records: bytes) -> int:
    """DATA, or what the only one of some records stands for."""
    rtype, _, size = _RECORD.unpack_from(records)
    alone = rtype == CNAME and _RECORD.size + size == len(records)
    return _ACTIONS.get(records[_RECORD.size :].lower(), DATA) if alone else DATA


class RuleReader:
    """Reads the records of one zone. The first one, a SOA, gives the zone's name; rules are below it."""

    def __init__(self) -> None:
        self.apex = b"\0"
        #: Data of the SOA, empty without one.
        self.soa = b""
        self._faults = self._first_untold = 0

    def rules(self, records: Iterable[ZoneRecord | Remark]) -> Iterator[Rule | Remark]:
        """The rules, and remarks about other records. Records of a name that are not adjacent become several rules."""
        group: list[ZoneRecord] = []
        for found in records:
            if isinstance(found, Remark):
                yield from self._noticed(found)
            elif found.rtype == SOA and not self.soa:
                self.apex, self.soa = found.name, found.rdata
            elif found.name != self.apex and found.rtype not in _OF_DNSSEC:
                if group and found.name != group[0].name:
                    yield from self._rule(group)
                    group.clear()
                group.append(found)
        if group:
            yield from self._rule(group)
        if self._first_untold:
            more = self._faults - MOST_REMARKS
            yield Remark(self._first_untold, f"{more} more were ignored from here on", more)

    def _noticed(self, remark: Remark) -> Iterator[Remark]:
        """Of remarks, the first ones are given one by one."""
        self._faults += remark.lines
        if self._faults <= MOST_REMARKS:
            yield remark
        else:
            self._first_untold = self._first_untold or remark.line

    def _rule(self, group: list[ZoneRecord]) -> Iterator[Rule | Remark]:
        first = group[0]
        try:
            if self.apex == b"\0":
                owner = first.name
            elif is_below(first.name, self.apex):
                owner = first.name[: -len(self.apex)] + b"\0"
            else:
                raise ValueError(f"{name_text(first.name)} is not in the zone {name_text(self.apex)}")
            action, records = _meaning(group, owner)
            if b"rpz-" in owner[-15:]:
                trigger, network = _address_trigger(owner)
                yield Rule(trigger, b"", False, network, action, first.ttl, records, first.line)
            else:
                below = owner.startswith(_WILDCARD)
                yield Rule(QNAME, owner[2:] if below else owner, below, None, action, first.ttl, records, first.line)
        except ValueError as error:
            yield from self._noticed(Remark(first.line, str(error)))


def _meaning(group: list[ZoneRecord], owner: bytes) -> tuple[int, bytes]:
    """The action of an owner's records, and the records if they are the answer."""
    if len(group) == 1 and group[0].rtype == CNAME:
        target = group[0].rdata.lower()
        action = _ACTIONS.get(target, DATA)
        if action != DATA:
            return action, b""
        if target in (owner, _without_last(owner)):  # how PASSTHRU was written at first
            return PASSTHRU, b""
        if _last(target).startswith(b"rpz-"):
            raise ValueError(f"{name_text(target)} is not an action that is known")
    records = bytearray()
    for record in group:
        if record.rtype in _MEANINGLESS:
            raise ValueError(f"{type_text(record.rtype)} means nothing at {name_text(record.name)}")
        if record.rtype == CNAME and len(group) > 1:
            raise ValueError(f"{name_text(record.name)} has a CNAME, so it can have no other record")
        records += pack(record.rtype, record.ttl, record.rdata)
    if len(records) > _MOST_DATA:
        raise ValueError(f"the records of {name_text(owner)} need more than {_MOST_DATA} octets")
    return DATA, bytes(records)


def _labels(name: bytes) -> list[bytes]:
    labels, at = [], 0
    while size := name[at]:
        labels.append(name[at + 1 : at + 1 + size])
        at += size + 1
    return labels


def _last(name: bytes) -> bytes:
    labels = _labels(name)
    return labels[-1] if labels else b""


def _without_last(name: bytes) -> bytes:
    return name[: len(name) - len(_last(name)) - 2] + b"\0"


def _address_trigger(owner: bytes) -> tuple[int, Network]:
    """The trigger of an owner such as 24.0.2.0.192.rpz-ip."""
    *labels, kind = _labels(owner)
    trigger = _TRIGGERS.get(kind)
    if trigger is None:
        raise ValueError(f"{name_text(owner)} is not a trigger that is known")
    if trigger < 0:
        raise ValueError(f"{name_text(owner)} is about name servers, which a forwarder does not see")
    return trigger, _network([label.decode("latin-1") for label in labels])


def _network(words: list[str]) -> Network:
    """The words have the prefix length first, and the address from its end."""
    text = ".".join(words)
    try:
        prefix = int(words[0]) if words[0].isascii() and words[0].isdigit() else -1
        parts = words[:0:-1]
        address: ipaddress.IPv4Address | ipaddress.IPv6Address
        if len(parts) == 4 and "zz" not in parts:
            address = ipaddress.IPv4Address(".".join(parts))
        else:
            address = ipaddress.IPv6Address(_colons(parts))
        network = ipaddress.ip_network((address, prefix))
    except (ValueError, IndexError):
        raise ValueError(f"{shown(text)} is not a network like 24.0.2.0.192 or 32.zz.db8.2001") from None
    return Network(network.network_address.packed, prefix)


def _colons(parts: list[str]) -> str:
    """An IPv6 address as it is usually written: `zz` stands for the zeros that are left out."""
    if not all(part == "zz" or (part.isascii() and part.isalnum() and len(part) <= 4) for part in parts):
        raise ValueError
    text = ":".join("" if part == "zz" else part for part in parts)
    if parts[0] == "zz":
        text = ":" + text
    return text + ":" if parts[-1] == "zz" else text
