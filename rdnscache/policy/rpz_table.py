"""The rules of a response policy zone, compiled once and read by all workers of a node from the same memory.

Names are found in a `NameTable`, networks in an `AddressTable` for each trigger and family. The value of an entry is
the line of the rule and its action with the zone's usual TTL, or a set of records; equal sets are stored once.
"""

from __future__ import annotations

import ipaddress
import json
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from operator import le
from struct import Struct
from struct import error as StructError
from typing import NamedTuple, Protocol

from rdnscache.dns.names import name_text
from rdnscache.dns.wire import CNAME
from rdnscache.policy import name_table
from rdnscache.policy.address_table import MOST_NETWORKS, AddressTable, Found, build_addresses
from rdnscache.policy.list_text import Item, Remark
from rdnscache.policy.name_table import NameTable
from rdnscache.policy.rpz_rules import (
    CLIENT_IP,
    DATA,
    IP,
    QNAME,
    TARGETS,
    Rule,
    RuleReader,
    action_of,
    pack,
    unpack,
)
from rdnscache.policy.rpz_text import ZoneRecord

#: Most sets of records, and most octets of all.
MOST_SETS, MOST_OCTETS = (1 << 22) - DATA, 1 << 30
#: With how many previous sets a new one is compared.
_KNOWN_SETS = 1 << 16
#: Of a value: the line is below; above is the action or, from DATA on, the number of the set.
_SET_SHIFT = 26
_LINE_MASK = (1 << _SET_SHIFT) - 1

#: What it is; octets of the description, the names, the tables of networks, where sets begin, and the sets.
_HEADER = Struct("=Q8Q")
_MAGIC = 0x72646E7372707A31
_FAMILIES = tuple((trigger, width) for trigger in (CLIENT_IP, IP) for width in (4, 16))


class Hit(NamedTuple):
    """A rule of the table."""

    #: QNAME, CLIENT_IP or IP.
    trigger: int
    action: int
    #: Of an action: seconds. DATA has a TTL for each record.
    ttl: int
    records: bytes
    #: Where it stands; 0 in a zone that was transferred.
    line: int
    #: A description of the trigger.
    owner: str


def build_rpz(records: Iterable[ZoneRecord | Remark], key: bytes, note: Note, lined: bool = True) -> bytes:
    """The table of a zone's rules; `key` is that of a `NameTable`. `note` is called for each rule and remark.

    With `lined` a rule is identified by its line, as in a file; otherwise by its trigger.
    """
    return _Builder(note, lined).build(records, key)


class Note(Protocol):
    """Who counts rules and remarks."""

    def note(self, found: Rule | Remark) -> bool:
        """Whether it is a rule."""


class _Builder:
    def __init__(self, note: Note, lined: bool) -> None:
        self._note = note
        self._lined = lined
        self._networks: dict[tuple[int, int], list[tuple[bytes, int, int]]] = {each: [] for each in _FAMILIES}
        self._known: dict[bytes, int] = {}
        self._sets = bytearray()
        self._ends = array("I", [0])
        self._counts = [0, 0, 0]
        self._aliases = False
        #: Of the first rule, in seconds; -1 before it.
        self._ttl = -1

    def build(self, records: Iterable[ZoneRecord | Remark], key: bytes) -> bytes:
        reader = RuleReader()
        names = name_table.build([(0, self._items(reader.rules(records)))], key, self._merged)
        networks = [build_addresses(self._networks[each], each[1]) for each in _FAMILIES]
        told = {"apex": reader.apex.hex(), "soa": reader.soa.hex(),
                "ttl": max(self._ttl, 0), "rules": self._counts, "aliases": self._aliases}  # fmt: skip
        parts = [json.dumps(told).encode(), names, *networks, self._ends.tobytes(), bytes(self._sets)]
        return _HEADER.pack(_MAGIC, *map(len, parts)) + b"".join(parts)

    def _items(self, rules: Iterable[Rule | Remark]) -> Iterator[Item]:
        """Those of names; the others are put down."""
        for rule in rules:
            if not self._note.note(rule) or isinstance(rule, Remark):
                continue
            if self._ttl < 0:
                self._ttl = rule.ttl
            self._counts[rule.trigger] += 1
            what = rule.action
            if what == DATA:
                what = self._set(rule.records)
                self._aliases = self._aliases or unpack(rule.records)[0][0] == CNAME
            elif rule.ttl != self._ttl:
                what = self._set(pack(CNAME, rule.ttl, TARGETS[what]))
            value = what << _SET_SHIFT | (min(rule.line, _LINE_MASK) if self._lined else 0)
            if rule.network is None:
                yield Item(rule.name, rule.below, value, False)
                continue
            address, prefix = rule.network
            found = self._networks[rule.trigger, len(address)]
            if len(found) == MOST_NETWORKS:
                raise ValueError(f"the zone has more than {MOST_NETWORKS} networks")
            found.append((address, prefix, value))

    def _set(self, records: bytes) -> int:
        """The number of a set of records, above those of actions."""
        known = self._known.get(records)
        if known is not None:
            return known
        if len(self._ends) > MOST_SETS or len(self._sets) + len(records) > MOST_OCTETS:
            raise ValueError("the zone has too many records of its own")
        self._sets += records
        self._ends.append(len(self._sets))
        number = len(self._ends) - 2 + DATA
        if len(self._known) < _KNOWN_SETS:
            self._known[records] = number
        return number

    def _merged(self, source: int, first: int, further: int) -> int:
        """Combine two rules for one name: if both have records, the records of both."""
        one, other = first >> _SET_SHIFT, further >> _SET_SHIFT
        if one < DATA or other < DATA or one == other:
            return first
        sets = [bytes(self._sets[self._ends[each - DATA] : self._ends[each - DATA + 1]]) for each in (one, other)]
        if any(rtype == CNAME for each in sets for rtype, _, _ in unpack(each)):
            return first
        return self._set(b"".join(sets)) << _SET_SHIFT | first & _LINE_MASK


class RpzTable:
    """Finds rules in a table that lies in memory, which is not copied."""

    def __init__(self, data: bytes | memoryview) -> None:
        """ValueError when it is no table of rules, or one cut short."""
        view = memoryview(data).cast("B").toreadonly()
        if len(view) < _HEADER.size or _HEADER.unpack_from(view)[0] != _MAGIC:
            raise ValueError("it is not a table of rules")
        ends = list(accumulate(_HEADER.unpack_from(view)[1:], initial=_HEADER.size))
        if ends[-1] != len(view):
            raise ValueError("the table of rules is damaged")
        parts = [view[start:end] for start, end in pairwise(ends)]
        try:
            told = json.loads(bytes(parts[0]))
            self.apex, self.soa = bytes.fromhex(told["apex"]), bytes.fromhex(told["soa"])
            self._ttl = int(told["ttl"])
            #: Whether a rule has an alias of its own.
            self.aliases = bool(told["aliases"])
            #: How many rules are about names, clients and addresses in answers.
            self.about_names, self.about_clients, self.about_addresses = map(int, told["rules"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError("the table of rules is damaged") from None
        self._names = NameTable(parts[1])
        tables = [AddressTable(part, width) for part, (_, width) in zip(parts[2:6], _FAMILIES, strict=True)]
        self._networks = dict(zip(_FAMILIES, tables, strict=True))
        self._ends, self._sets = parts[6].cast("I"), parts[7]

    def __len__(self) -> int:
        """Its rules."""
        return self.about_names + self.about_clients + self.about_addresses

    def check(self) -> None:
        """ValueError unless no look-up can leave the table; needed for one from disk or from another node."""
        self._names.check()
        last = len(self._ends) - 2 + DATA
        values = [self._names.values(), *(table.values() for table in self._networks.values())]
        in_order = self._ends[0] == 0 and self._ends[-1] == len(self._sets)
        in_order = in_order and all(map(le, self._ends, self._ends[1:]))
        if not in_order or any(max(each, default=0) >> _SET_SHIFT > last for each in values):
            raise ValueError("the table of rules is damaged")
        try:
            for start, end in pairwise(self._ends):
                unpack(bytes(self._sets[start:end]))
        except (IndexError, StructError):
            raise ValueError("the table of rules is damaged") from None

    def of_name(self, name: bytes) -> Hit | None:
        """The rule for a name."""
        match = self._names.first(name) if self.about_names else None
        if match is None:
            return None
        owner = name_text(match.name)
        return self._hit(match.line, QNAME, owner if match.name == name else f"*.{owner.removeprefix('.')}")

    def of_client(self, address: bytes) -> Hit | None:
        """The rule for a client at an address of 4 or 16 octets."""
        found = self._networks[CLIENT_IP, len(address)].find(address)
        return self._of_network(CLIENT_IP, address, found) if found is not None else None

    def of_addresses(self, addresses: Iterable[bytes]) -> Hit | None:
        """The rule for the addresses of an answer: the longest prefix, then the lowest address."""
        best: tuple[bytes, Found] | None = None
        for address in addresses:
            found = self._networks[IP, len(address)].find(address)
            if found is None:
                continue
            if best is None or (-found.prefix, address) < (-best[1].prefix, best[0]):
                best = (address, found)
        return self._of_network(IP, *best) if best is not None else None

    def _of_network(self, trigger: int, address: bytes, found: Found) -> Hit:
        network = ipaddress.ip_network((address, found.prefix), strict=False)
        return self._hit(found.value, trigger, str(network))

    def _hit(self, value: int, trigger: int, owner: str) -> Hit:
        what, line = value >> _SET_SHIFT, value & _LINE_MASK
        if what < DATA:
            return Hit(trigger, what, self._ttl, b"", line, owner)
        start, end = self._ends[what - DATA], self._ends[what - DATA + 1]
        records = bytes(self._sets[start:end])
        return Hit(trigger, action_of(records), unpack(records)[0][1], records, line, owner)
