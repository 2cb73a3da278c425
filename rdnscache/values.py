"""What the value of an option may be: each function makes it from what the command line, the environment or TOML gives.

ValueError, with one sentence, refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rdnscache.clients.networks import parse_networks
from rdnscache.net import Address

Parser = Callable[[Any], Any]


def text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw or any(ord(c) < 32 for c in raw):
        raise ValueError(f"{raw!r} is not a text")
    return raw


def secret(raw: Any) -> str:
    """A text nobody else should see; `file:PATH` is the first line of that file."""
    found = text(raw)
    if found.startswith("file:"):
        try:
            found = Path(found.removeprefix("file:")).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text"
            raise ValueError(f"{raw} cannot be read: {reason}") from None
        if not found:
            raise ValueError(f"{raw} is empty")
    return found


def word(raw: Any) -> str:
    found = text(raw)
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", found) is None:
        raise ValueError(f"{found!r} may have 1 to 64 letters, digits, '_', '-' and, not first, '.' only")
    return found


def one_of(*choices: str) -> Parser:
    def parse(raw: Any) -> str:
        if raw not in choices:
            raise ValueError(f"{raw!r} is not one of {', '.join(choices)}")
        return str(raw)

    return parse


def switch(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    known = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    if not isinstance(raw, str) or raw.lower() not in known:
        raise ValueError(f"{raw!r} is neither yes nor no")
    return known[raw.lower()]


def number(kind: type[int] | type[float], low: float, high: float) -> Parser:
    def parse(raw: Any) -> int | float:
        try:
            if isinstance(raw, bool) or not isinstance(raw, str | int | float):
                raise ValueError
            found = kind(raw)
            if isinstance(raw, float) and found != raw:
                raise ValueError
        except (ValueError, OverflowError):
            raise ValueError(f"{raw!r} is not a {'whole number' if kind is int else 'number'}") from None
        if not low <= found <= high:
            raise ValueError(f"{raw} is not between {low} and {high}")
        return found

    return parse


def size(raw: Any) -> int:
    """Octets: `64mb`, `1gb`, `500kb` or a number."""
    match = re.fullmatch(r"([0-9]{1,15})(kb|mb|gb|)", str(raw).lower()) if not isinstance(raw, bool) else None
    if match is None:
        raise ValueError(f"{raw!r} is not a size such as 64mb")
    octets = int(match[1]) * {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}[match[2]]
    if octets < 1 << 20:
        raise ValueError(f"{raw!r} is less than 1mb")
    return octets


def address(default_port: int | None) -> Parser:
    def parse(raw: Any) -> Address:
        if not isinstance(raw, str):
            raise ValueError(f"{raw!r} is not an address")
        found = Address.parse(raw, -1 if default_port is None else default_port)
        if found.port == -1:
            raise ValueError(f"{raw!r} has no port")
        return found

    return parse


def addresses(default_port: int | None) -> Parser:
    """A list; as one text, separated by spaces or commas."""
    one = address(default_port)

    def parse(raw: Any) -> tuple[Address, ...]:
        return tuple(one(item) for item in _items(raw, "addresses"))

    return parse


def _items(raw: Any, what: str) -> list[str]:
    """The parts of a text, or of the texts in a list, between spaces and commas."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        raise ValueError(f"{raw!r} is not a list of {what}")
    items = [item for each in texts for item in re.split(r"[\s,]+", each) if item]
    if not items:
        raise ValueError(f"{raw!r} is not a list of {what}")
    return items


def networks(raw: Any) -> tuple[str, ...]:
    """A list; as one text, separated by spaces or commas."""
    items = _items(raw, "networks")
    for item in items:
        parse_networks(item)
    return tuple(items)


#: Spellings of schemes, and what redis-py calls them.
_SCHEMES = {
    "redis": "redis", "rediss": "rediss", "unix": "unix",
    "valkey": "redis", "valkeys": "rediss", "valkey+unix": "unix", "redis+unix": "unix",
}  # fmt: skip


def redis_url(raw: Any) -> str:
    """`embedded`, `none`, or a URL in redis-py's spelling."""
    url = text(raw)
    if url in ("embedded", "none"):
        return url
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in _SCHEMES:
        raise ValueError(f"{mask(url)!r} is neither 'embedded', 'none' nor a URL such as redis://127.0.0.1:6379/0")
    try:
        parts = urlsplit(f"{_SCHEMES[scheme]}://{rest}")
        usable = parts.path.startswith("/") if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{mask(url)!r} does not say where Redis is")
    return f"{_SCHEMES[scheme]}://{rest}"


def mask(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"(://[^/@:]*):[^@/]*@", r"\1:***@", url)
