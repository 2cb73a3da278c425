"""What the value of an option may be: each function makes it from what the command line, the environment or TOML gives.

ValueError, with one sentence, refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv6Network
from typing import Any

from rdnscache.address import Address
from rdnscache.clients.networks import parse_networks
from rdnscache.dns.names import name_text, parse_name, type_number, type_text
from rdnscache.endpoint import Endpoint, split
from rdnscache.files import read_text
from rdnscache.policy.blocking import BlockAnswer
from rdnscache.policy.dns64 import WELL_KNOWN, read_prefix
from rdnscache.policy.local_record import stands_for_data
from rdnscache.policy.special_names import read_sets
from rdnscache.rates import read_rate
from rdnscache.redis_url import canonical, parse

Parser = Callable[[Any], Any]


def _shown(raw: Any) -> str:
    """What is refused, to be repeated in a sentence: cut, since it may be a whole table or file."""
    told = repr(raw)
    return told if len(told) <= 80 else f"{told[:60]}…"


def text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw or any(ord(c) < 32 for c in raw):
        raise ValueError(f"{_shown(raw)} is not a text")
    return raw


def texts(raw: Any) -> tuple[str, ...]:
    """A list; one text is one item, since names of files may have spaces and commas."""
    return tuple(text(each) for each in (raw if isinstance(raw, list | tuple) else [raw]))


def texts_or_files(raw: Any) -> tuple[str, ...]:
    """As `texts`; an item with a newline in it is no file's name, but what could be in one."""
    items = raw if isinstance(raw, list | tuple) else [raw]
    return tuple(each if isinstance(each, str) and "\n" in each else text(each) for each in items)


def block_answer(raw: Any) -> str:
    BlockAnswer.parse(text(raw))
    return str(raw)


def special_names(raw: Any) -> tuple[str, ...]:
    """Sets of names of special use (see `policy.special_names`); as one text, separated by spaces or commas."""
    return read_sets(_items(raw, "sets of names"))


def types(raw: Any) -> tuple[str, ...]:
    """Types of data, without those that zones, aliases and DNSSEC are made of."""
    found = dict.fromkeys(type_text(type_number(item)) for item in _items(raw, "types"))
    refused = next((each for each in found if not stands_for_data(type_number(each)) or each in _STRUCTURE), None)
    if refused is not None:
        raise ValueError(f"{refused} is not a type of data that a name could be without")
    return tuple(found)


def dns64(raw: Any) -> str:
    """A prefix; `yes` stands for the one for everybody, and an empty text for none."""
    if not isinstance(raw, str) or raw.lower() in _SWITCHES:
        return WELL_KNOWN if switch(raw) else ""
    return read_prefix(raw)


def networks6(raw: Any) -> tuple[str, ...]:
    """Networks of IPv6."""
    found = networks(raw)
    try:
        return tuple(str(IPv6Network(each)) for each in found)
    except ValueError as error:
        raise ValueError(f"{error}: not a network of IPv6") from None


#: Types that hold the DNS together.
_STRUCTURE = frozenset(("NS", "CNAME", "SOA", "DNAME", "DS", "RRSIG", "NSEC", "DNSKEY", "NSEC3", "NSEC3PARAM"))


def zones(raw: Any) -> tuple[str, ...]:
    """Names of zones, each with all below it; as one text, separated by spaces or commas."""
    return tuple(name_text(parse_name(item)) for item in _items(raw, "zones"))


def secret(raw: Any) -> str:
    """A text nobody else should see; `file:PATH` is the first line of that file."""
    if not isinstance(raw, str) or not raw or any(ord(c) < 32 for c in raw):
        raise ValueError("a secret is a text on one line, or file:PATH")
    if not raw.startswith("file:"):
        return raw
    found = _lines(raw.removeprefix("file:"))[0].strip()
    if not found:
        raise ValueError(f"{raw} is empty")
    return found


_SECRET = re.compile(r"([A-Za-z0-9_-]{1,16}):(\S{16,})")


def secrets(raw: Any) -> tuple[str, ...]:
    """Secrets with an ID each, `ID:TEXT`; `file:PATH` stands for those in a file, one a line.

    What is refused is not repeated: it may be a secret with a slip of the pen.
    """
    found: list[str] = []
    try:
        items = _items(raw, "secrets")
    except ValueError:
        items = []
    for item in items:
        lines = _lines(item.removeprefix("file:")) if item.startswith("file:") else [item]
        found += [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    matches = [_SECRET.fullmatch(each) for each in found]
    idents = [match[1] for match in matches if match]
    if not found or len(idents) != len(found) or len(set(idents)) != len(idents):
        raise ValueError("a secret is ID:TEXT, the ID a word of up to 16 letters and digits, of its own for each, the "
                         "TEXT at least 16 characters without space or comma")  # fmt: skip
    return tuple(found)


def _lines(path: str) -> list[str]:
    try:
        return read_text(path).split("\n")
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def word(raw: Any) -> str:
    found = text(raw)
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", found) is None:
        raise ValueError(f"{_shown(found)} may have 1 to 64 letters, digits, '_', '-' and, not first, '.' only")
    return found


def one_of(*choices: str) -> Parser:
    def parse(raw: Any) -> str:
        if isinstance(raw, bool) and {"yes", "no"} <= {*choices}:  # as TOML has them for what is only that
            return "yes" if raw else "no"
        if raw not in choices:
            raise ValueError(f"{_shown(raw)} is not one of {', '.join(choices)}")
        return str(raw)

    return parse


_SWITCHES = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


def switch(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if not isinstance(raw, str) or raw.lower() not in _SWITCHES:
        raise ValueError(f"{_shown(raw)} is neither yes nor no")
    return _SWITCHES[raw.lower()]


def number(kind: type[int] | type[float], low: float, high: float) -> Parser:
    def parse(raw: Any) -> int | float:
        try:
            if isinstance(raw, bool) or not isinstance(raw, str | int | float):
                raise ValueError
            found = kind(raw)
            if isinstance(raw, float) and found != raw:
                raise ValueError
        except (ValueError, OverflowError):
            raise ValueError(f"{_shown(raw)} is not a {'whole number' if kind is int else 'number'}") from None
        if not low <= found <= high:
            raise ValueError(f"{raw!s:.60} is not between {low} and {high}")
        return found

    return parse


def size(raw: Any) -> int:
    """Octets: `64mb`, `1gb`, `500kb` or a number."""
    match = re.fullmatch(r"([0-9]{1,15})(kb|mb|gb|)", str(raw).lower()) if not isinstance(raw, bool) else None
    if match is None:
        raise ValueError(f"{_shown(raw)} is not a size such as 64mb")
    octets = int(match[1]) * {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}[match[2]]
    if octets < 1 << 20:
        raise ValueError(f"{_shown(raw)} is less than 1mb")
    return octets


def rate(raw: Any) -> float:
    """Events a second: `500/s`, `30000/m`, or a number."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError(f"{_shown(raw)} is not a number of queries a second, such as 500/s")
    return read_rate(str(raw))


def address(default_port: int | None) -> Parser:
    def parse(raw: Any) -> Address:
        if not isinstance(raw, str):
            raise ValueError(f"{_shown(raw)} is not an address")
        found = Address.parse(raw, -1 if default_port is None else default_port)
        if found.port == -1:
            raise ValueError(f"{_shown(raw)} has no port")
        return found

    return parse


def addresses(default_port: int | None) -> Parser:
    """A list; as one text, separated by spaces or commas."""
    one = address(default_port)

    def parse(raw: Any) -> tuple[Address, ...]:
        return tuple(one(item) for item in _items(raw, "addresses"))

    return parse


def upstreams(raw: Any) -> tuple[Endpoint, ...]:
    """A list of addresses and URLs (see `endpoint`); as one text, separated by spaces or commas."""
    return tuple(found for item in _items(raw, "addresses", split) for found in Endpoint.parse(item))


def _between(text: str) -> list[str]:
    return [item for item in re.split(r"[\s,]+", text) if item]


def _items(raw: Any, what: str, parted: Callable[[str], list[str]] = _between) -> list[str]:
    """The parts of a text, or of the texts in a list, between spaces and commas."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        raise ValueError(f"{_shown(raw)} is not a list of {what}")
    items = [item for each in texts for item in parted(each)]
    if not items:
        raise ValueError(f"{_shown(raw)} is not a list of {what}")
    return items


_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*")


def hosts(raw: Any) -> tuple[str, ...]:
    """Host names as they are in a browser's address bar, without port; as one text, separated by spaces or commas."""
    items = _items(raw, "host names")
    for item in items:
        if _HOST.fullmatch(item) is None:
            raise ValueError(f"{item!r} is not a host name without a port")
    return tuple(items)


def networks(raw: Any) -> tuple[str, ...]:
    """A list; as one text, separated by spaces or commas."""
    items = _items(raw, "networks")
    for item in items:
        parse_networks(item)
    return tuple(items)


def redis_url(raw: Any) -> str:
    """`embedded`, `none`, or a URL (see `redis_url`), with redis-py's scheme."""
    url = text(raw)
    if url in ("embedded", "none"):
        return url
    parse(url)
    return canonical(url)
