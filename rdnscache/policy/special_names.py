"""Special-use names (RFC 6761), which are answered locally: no other server can know anything about them, and asking
would reveal information about users and their networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct

from rdnscache.dns.names import parse_name
from rdnscache.dns.policy import EMPTY_ZONE_TTL, empty_zone, failure_wire
from rdnscache.dns.question import qname, qtype
from rdnscache.dns.wire import AAAA, CNAME, DS, IN, NOERROR, NS, SOA, A
from rdnscache.dns.zones import Zones, suffixes
from rdnscache.policy.dns64 import TTL_WITHOUT_SOA, Dns64

#: Types about zones and keys: the only ones for which names of one label, as top-level domains, are asked elsewhere.
INFRASTRUCTURE = frozenset((NS, SOA, DS, 46, 47, 48, 50, 51, 59, 60, 62, 63))
#: TTL of the denial of a name of one label, in seconds; short, since such a name may be added locally soon.
SINGLE_LABEL_TTL = 60
SINGLE_LABEL = "single-label"

#: How a zone is answered: no name exists in it; it is empty (RFC 6303 section 3); no name in it has data; names in it
#: have the records of its own name.
_DENIED, _EMPTY, _SILENT, _SAME = "denied", "empty", "silent", "same"
_RECORD = Struct("!HHHIH")
_TO_QUESTION = 0xC00C
_PTR = 12
Records = Mapping[tuple[bytes, int], tuple[bytes, ...]]


def _reverse(*networks: str) -> dict[str, str]:
    """Empty zones: `10` is 10.in-addr.arpa, `f:d` is d.f.ip6.arpa."""
    found = {}
    for network in networks:
        labels, root = (network.split(":"), "ip6.arpa") if ":" in network else (network.split("."), "in-addr.arpa")
        found[".".join((*reversed(labels), root))] = _EMPTY
    return found


_ZEROS = ":".join("0" * 31)
#: The zones of each set, and how they are answered. Reverse zones are those of RFC 6303 section 4 and RFC 7793.
_SETS: dict[str, dict[str, str]] = {
    "localhost": {"localhost": _SAME} | _reverse("127", f"{_ZEROS}:1"),
    "private": _reverse("10", *(f"172.{number}" for number in range(16, 32)), "192.168", "f:d",
                        *(f"100.{number}" for number in range(64, 128))),
    "link-local": _reverse("169.254", "f:e:8", "f:e:9", "f:e:a", "f:e:b"),
    "unspecified": _reverse("0", "255.255.255.255", f"{_ZEROS}:0"),
    "documentation": _reverse("192.0.2", "198.51.100", "203.0.113", "2:0:0:1:0:d:b:8", "3:f:f:f:0"),
    "home.arpa": {"home.arpa": _EMPTY},
    "service.arpa": {"service.arpa": _EMPTY},
    "resolver.arpa": {"resolver.arpa": _SILENT},
    "local": {"local": _DENIED},
    "onion": {"onion": _DENIED},
    "invalid": {"invalid": _DENIED},
    "alt": {"alt": _DENIED},
    "test": {"test": _DENIED},
    "example": {"example": _DENIED},
    "internal": {"internal": _DENIED},
    "use-application-dns.net": {"use-application-dns.net": _DENIED},
}  # fmt: skip
#: Zones that reveal the prefix of DNS64.
_IPV4_ONLY = {"ipv4only.arpa": _EMPTY} | _reverse("192.0.0.170", "192.0.0.171")
SETS = tuple(_SETS)
#: Not answered here by default: these names are in use in private networks.
OPTIONAL = ("test", "example", "internal", "use-application-dns.net")
DEFAULT_SETS = tuple(name for name in SETS if name not in OPTIONAL)

_DOMAINS = frozenset(parse_name(zone) for zones in _SETS.values() for zone in zones)

_LOOPBACK, _ARPA = parse_name("localhost"), parse_name("arpa")
_RECORDS: Records = {
    (_LOOPBACK, A): (bytes((127, 0, 0, 1)),),
    (_LOOPBACK, AAAA): (bytes(15) + b"\1",),
    (parse_name("1.0.0.127.in-addr.arpa"), _PTR): (_LOOPBACK,),
    (parse_name("1." + "0." * 31 + "ip6.arpa"), _PTR): (_LOOPBACK,),
}


def read_sets(words: Iterable[str]) -> tuple[str, ...]:
    """The sets given by words: `default`, `all`, `none`, a set's name, or `no-` and its name to remove it.

    If the first word removes a set, it is removed from the default. Raises ValueError.
    """
    groups = {"default": set(DEFAULT_SETS), "all": set(SETS), "none": set[str]()} | {name: {name} for name in SETS}
    found: set[str] | None = None
    for word in words:
        name = word.removeprefix("no-")
        if name not in groups or (name != word and name not in SETS):
            raise ValueError(f"{word[:60]!r} is none of default, all, none, {', '.join(SETS)}, or no- and one of these")
        if found is None:
            found = set() if name == word else set(DEFAULT_SETS)
        found = found | groups[name] if name == word else found - groups[name]
    return tuple(name for name in SETS if name in (found or ()))


@dataclass(frozen=True, slots=True)
class SpecialAnswer:
    """The stored bytes of a reply, and why it is given: `special=home.arpa`. `target` is what an alias leads to: to be
    asked as usual.
    """

    wire: bytes
    why: str
    target: bytes | None = None


@dataclass(frozen=True, slots=True)
class _SpecialZone:
    """A zone of a set."""

    zone: bytes
    kind: str
    name: str


@dataclass(slots=True)
class SpecialNames:
    """`own` are zones that people have servers for: what is in them is not special, whatever its name.

    `single` says whether names of one label are asked elsewhere; `exists` whether a name has local records, or has
    some below it. With `dns64`, `ipv4only.arpa` tells of its prefix (RFC 7050, RFC 8880 section 7).
    """

    sets: Iterable[str]
    own: Iterable[bytes] = ()
    single: bool = True
    exists: Callable[[bytes], bool] | None = None
    dns64: Dns64 | None = None

    _own: Zones[bool] = field(init=False)
    _special_zones: Zones[_SpecialZone | None] = field(init=False)
    _records: dict[tuple[bytes, int], tuple[bytes, ...]] = field(init=False)
    #: Names that exist since there is something at or below them.
    _parents: set[bytes] = field(init=False)

    def __post_init__(self) -> None:
        own = list(self.own)
        self._own = Zones(False, dict.fromkeys(own, True))
        specials = {special.zone: special for name in self.sets for special in _special_zones(name, _SETS[name])}
        if self.dns64 is not None:
            specials |= {special.zone: special for special in _special_zones("ipv4only.arpa", _IPV4_ONLY)}
        closed = [special.zone for special in specials.values() if special.kind != _EMPTY]
        self._special_zones = Zones(None, specials, closed)
        self._records = dict(_RECORDS)
        if self.dns64 is not None:
            self._records |= _records_of_ipv4_only(self.dns64)
        self._parents = {rest for name in (*own, *(name for name, _ in self._records)) for rest in suffixes(name)}

    @property
    def ends(self) -> tuple[bytes, ...]:
        """How all names end that are in a zone, or are those of addresses."""
        return (*self._special_zones.ends, _ARPA)

    def of(self, key: bytes) -> SpecialAnswer | None:
        """The answer to a question; None when it has to be asked as usual."""
        found = self._translated(key)
        if found is not None:
            return found
        name = qname(key)
        special = self._special_zones.of(key)
        if (special is None and (self.single or not _is_host(name, qtype(key)))) or self._own.of(key):
            return None
        if special is None:
            reply = empty_zone(key, name, self._is_there(name), SINGLE_LABEL_TTL)
            return SpecialAnswer(reply.wire, f"special={SINGLE_LABEL}")
        return SpecialAnswer(self._answer(key, name, special), f"special={special.name}")

    def _translated(self, key: bytes) -> SpecialAnswer | None:
        """The name of an IPv6 address that is made of another is an alias of that one's (RFC 6147 section 5.3.1)."""
        target = self.dns64.reversed(qname(key)) if self.dns64 is not None and qtype(key) == _PTR else None
        if target is None or self._own.of(key):
            return None
        return SpecialAnswer(_positive(key, (target,), CNAME, TTL_WITHOUT_SOA), f"dns64={self.dns64}", target)

    def _is_there(self, name: bytes) -> bool:
        return name in self._parents or (self.exists is not None and self.exists(name))

    def _answer(self, key: bytes, name: bytes, special: _SpecialZone) -> bytes:
        found = self._records.get((special.zone if special.kind == _SAME else name, qtype(key)))
        if found is not None:
            return _positive(key, found)
        if special.kind == _EMPTY and name == special.zone and qtype(key) == NS:
            return _positive(key, (name,))
        exists = (
            special.kind in (_SILENT, _SAME)
            or (special.kind == _EMPTY and name == special.zone)
            or self._is_there(name)
        )
        wire = empty_zone(key, special.zone, exists).wire
        if special.kind == _EMPTY and name == special.zone and qtype(key) == SOA:
            return wire[:6] + b"\0\1\0\0" + wire[10:]  # the record is asked for
        return wire


def _special_zones(name: str, zones: dict[str, str]) -> Iterator[_SpecialZone]:
    for zone, kind in zones.items():
        yield _SpecialZone(parse_name(zone), kind, name)


def _is_host(name: bytes, rtype: int) -> bool:
    """Whether a name has one label, and the type is one of hosts. Special-use names that are asked count as domains."""
    return name[0] > 0 and name[0] + 2 == len(name) and rtype not in INFRASTRUCTURE and name not in _DOMAINS


def _records_of_ipv4_only(dns64: Dns64) -> Records:
    addresses = tuple(bytes((192, 0, 0, last)) for last in (170, 171))
    name = parse_name("ipv4only.arpa")
    back = {(parse_name(zone), _PTR): (name,) for zone in _IPV4_ONLY if zone != "ipv4only.arpa"}
    return {(name, A): addresses, (name, AAAA): tuple(map(dns64.embed, addresses))} | back


def _positive(key: bytes, rdatas: tuple[bytes, ...], rtype: int = 0, ttl: int = EMPTY_ZONE_TTL) -> bytes:
    head = failure_wire(key, NOERROR)
    records = (_RECORD.pack(_TO_QUESTION, rtype or qtype(key), IN, ttl, len(rdata)) + rdata for rdata in rdatas)
    return head[:6] + len(rdatas).to_bytes(2, "big") + head[8:] + b"".join(records)
