"""Zones with servers of their own, or with none, as people write them:

corp.example=10.0.0.53,10.0.0.54      on the command line and in the environment
10.0.0.0/8=tls://10.0.0.53#dns.corp.example    a network stands for its reverse zones
home.arpa=none                        never leaves: what is not known does not exist
www.corp.example=default              as if it were in no zone

[[zone]]                              in TOML, where a zone may also have settings of its own
name = ["corp.example", "10.0.0.0/8"]
upstream = ["10.0.0.53", "10.0.0.54"]
policy = "ordered"
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rdnscache.dns.names import name_text, parse_name, shown
from rdnscache.endpoint import Endpoint, split

#: Words in place of servers: nobody is asked about the zone; or the servers that are asked about everything else.
NONE, USUAL = "none", "default"
#: Most zone names of a node.
MOST_NAMES = 100_000
#: If more zones than this have changed, everything is flushed instead of each zone.
MOST_CHANGED = 100
#: The settings of a zone, and the options of a node that they override.
SETTINGS = {
    "policy": "upstream_policy", "timeout": "upstream_timeout", "deadline": "upstream_deadline", "ttl_min": "ttl_min",
    "ttl_max": "ttl_max", "negative_ttl_max": "negative_ttl_max", "failure_ttl": "failure_ttl",
    "stale_window": "stale_window", "ecs": "ecs", "ecs_prefix4": "ecs_prefix4", "ecs_prefix6": "ecs_prefix6",
    "cache": "cache", "rebind_protection": "rebind_protection", "filter_types": "filter_types",
    "dns64": "dns64",
}  # fmt: skip
_NETWORK = re.compile(r"[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?")
#: `10/8`, as some write it; no name of a host is like that.
_SHORT_NETWORK = re.compile(r"[0-9.]+/[0-9]+")

#: Converts a setting into the value of its option, or raises ValueError.
Setting = Callable[[str, Any], Any]


@dataclass(frozen=True, slots=True)
class Zone:
    """Names in presentation form with final dot, and whom to ask: the servers in `upstream`, or what `word` says."""

    names: tuple[str, ...]
    upstream: tuple[Endpoint, ...] = ()
    word: str = ""
    #: Options that the zone sets, and their values.
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{','.join(self.names)}={','.join(self._servers())}"

    def table(self) -> dict[str, Any]:
        """The zone as its table in TOML."""
        words = {option: word for word, option in SETTINGS.items()}
        name = self.names[0] if len(self.names) == 1 else list(self.names)
        told: dict[str, Any] = {"name": name, "upstream": self.word or self._servers()}
        return told | {words[option]: value for option, value in self.settings}

    def _servers(self) -> list[str]:
        return [self.word] if self.word else [str(each) for each in self.upstream]


def read(raw: Any, setting: Setting) -> tuple[Zone, ...]:
    """The zones in tables and in texts, separated by spaces. Raises ValueError with one sentence."""
    items = [raw] if isinstance(raw, str | dict) else raw
    if not isinstance(items, list | tuple):
        raise ValueError(f"{shown(str(raw))} is not a list of zones")
    found: list[Zone] = []
    names: set[str] = set()
    for item in items:
        if isinstance(item, dict):
            zones = [_from_table(item, setting)]
        elif isinstance(item, str):
            zones = [_from_text(word) for word in item.split()]
        else:
            raise ValueError(f"{shown(str(item))} is neither a zone such as corp.example=10.0.0.53 nor a table")
        for zone in zones:
            for name in zone.names:
                if name in names:
                    raise ValueError(f"the zone {name} is given twice")
                names.add(name)
        found += zones
    if len(names) > MOST_NAMES:
        raise ValueError(f"there are {len(names)} names of zones; {MOST_NAMES} is the limit")
    return tuple(found)


def changed(before: Iterable[Zone], after: Iterable[Zone]) -> list[str]:
    """The names of zones whose servers have changed, without those below another; the root when there are too many."""
    old, new = _by_name(before), _by_name(after)
    names = sorted((name for name in {*old, *new} if old.get(name) != new.get(name)), key=len)
    found: set[str] = set()
    for name in names:
        if not any(name[start:] in found for start in _label_starts(name)):
            found.add(name)
    return sorted(found) if len(found) <= MOST_CHANGED else ["."]


def _by_name(zones: Iterable[Zone]) -> dict[str, Any]:
    return {name: (zone.upstream, zone.word, zone.settings) for zone in zones for name in zone.names}


def _label_starts(name: str) -> Iterator[int]:
    """Where each label of a name in our presentation form begins; no label contains a dot there."""
    start = 0
    while start < len(name):
        yield start
        start = name.index(".", start) + 1


def _from_text(text: str) -> Zone:
    names, equals, servers = text.partition("=")
    if not equals:
        raise ValueError(f"{shown(text)} is not a zone and its servers, such as corp.example=10.0.0.53")
    return _zone(names.split(","), split(servers))


def _from_table(table: dict[str, Any], setting: Setting) -> Zone:
    unknown = next((key for key in table if key not in ("name", "upstream", *SETTINGS)), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown.removeprefix("upstream_"), ["name", "upstream", *SETTINGS], 1)
        hint = f"did you mean {close[0]}?" if close else f"there are name, upstream, {', '.join(SETTINGS)}"
        raise ValueError(f"{shown(unknown)} is no key of a zone: {hint}")
    names = _texts(table.get("name"), "the name of a zone, or a list of them, in name")
    try:
        texts = _texts(table.get("upstream"), "its servers, a list, or none, or default, in upstream")
        zone = _zone(names, [server for text in texts for server in split(text)])
        given = [(word, table[word]) for word in SETTINGS if word in table]
        return Zone(zone.names, zone.upstream, zone.word, tuple(_settings(given, setting)))
    except ValueError as error:
        raise ValueError(f"zone {shown(names[0])}: {error}") from None


def _settings(given: Sequence[tuple[str, Any]], setting: Setting) -> Iterator[tuple[str, Any]]:
    for word, value in given:
        try:
            yield SETTINGS[word], setting(SETTINGS[word], value)
        except ValueError as error:
            raise ValueError(f"{word}: {error}") from None


def _texts(value: Any, what: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(each, str) and each for each in texts):
        raise ValueError(f"a zone has {what}")
    return texts


def _zone(names: Sequence[str], servers: Sequence[str]) -> Zone:
    found = tuple(dict.fromkeys(name for each in names for name in _names(each.strip())))
    if not servers:
        raise ValueError(f"the zone {found[0]} has no server: name one, or none, or default")
    words = [each.lower() for each in servers if each.lower() in (NONE, USUAL)]
    if words and len(servers) > 1:
        raise ValueError(f"the zone {found[0]} has {words[0]} beside other servers")
    if words:
        return Zone(found, word=words[0])
    return Zone(found, tuple(dict.fromkeys(endpoint for each in servers for endpoint in Endpoint.parse(each))))


def _names(text: str) -> Iterator[str]:
    """A zone's name; for a network, the names of its reverse zones."""
    if _NETWORK.fullmatch(text) and (":" in text or text.count(".") == 3):
        yield from _reverse_names(text)
        return
    if not text or text == ".":
        raise ValueError(f"{shown(text)} cannot be a zone: names in no zone are asked of the usual upstreams")
    if _SHORT_NETWORK.fullmatch(text):
        raise ValueError(f"{shown(text)} is no network: write all four numbers of its address, such as 10.0.0.0/8")
    if "*" in text:
        raise ValueError(f"{shown(text)} is no name of a zone: a zone is all that is below its name, without '*'")
    yield name_text(parse_name(text))


def _reverse_names(text: str) -> Iterator[str]:
    """The reverse zones of a network (RFC 1035 section 3.5, RFC 3596 section 2.5); several when its prefix ends inside
    a label."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a network{_instead(text)}") from None
    step = 8 if network.version == 4 else 4
    length = -(-network.prefixlen // step) * step
    for part in network.subnets(new_prefix=length):
        labels = part.network_address.reverse_pointer.split(".")
        yield ".".join(labels[(network.max_prefixlen - length) // step :]) + "."


def _instead(text: str) -> str:
    """What is meant by an address with a prefix, if anything."""
    try:
        return f", it is an address in one: write {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return ""
