"""The parameters of SVCB and HTTPS records as text (RFC 9460 section 2.1 and appendix A)."""

from __future__ import annotations

import re
from collections.abc import Callable

from rdnscache.dns.names import shown
from rdnscache.policy.odd_text import from_base64, ipv4, ipv6
from rdnscache.policy.words import Words, number, octets

#: RFC 9460 section 14.3.2, RFC 9461, RFC 9540 and the registry.
_KEYS = {
    "mandatory": 0, "alpn": 1, "no-default-alpn": 2, "port": 3, "ipv4hint": 4, "ech": 5, "ipv6hint": 6, "dohpath": 7,
    "ohttp": 8, "tls-supported-groups": 9, "docpath": 10,
}  # fmt: skip
_NO_VALUE = frozenset((2, 8))
_DOCPATH = 10
_TEXT = r'((?:[^"\\]|\\.)*)'
_PARAMETER = re.compile(rf'([a-z0-9-]+)(?:=(?:"{_TEXT}"|{_TEXT}))?', re.IGNORECASE | re.DOTALL)
_ITEM = re.compile(rb"(?:[^\\,]|\\.)+", re.DOTALL)


def parameters(words: Words) -> bytes:
    """All words that are left: in any order as text, on the wire by key."""
    found: dict[int, bytes] = {}
    while len(words):
        text = words.plain("a parameter")
        parts = _PARAMETER.fullmatch(text)
        if parts is None:
            raise ValueError(f"{shown(text)} is not a parameter like port=443")
        key, value = _key(parts[1]), parts[2] if parts[2] is not None else parts[3]
        if key in found:
            raise ValueError(f"{parts[1].lower()} is given twice")
        # A key by its number has its value octet for octet (RFC 9460 section 2.1).
        found[key] = _value(key, octets(value or ""), parts[1].lower() in _KEYS)
    return b"".join(key.to_bytes(2, "big") + len(found[key]).to_bytes(2, "big") + found[key] for key in sorted(found))


def _key(text: str) -> int:
    name = text.lower()
    if name in _KEYS:
        return _KEYS[name]
    digits = name.removeprefix("key")
    if digits == name or (digits.startswith("0") and digits != "0"):
        raise ValueError(f"{shown(text)} is not a service parameter")
    return number(digits, 65535)


def _value(key: int, value: bytes, named: bool) -> bytes:
    read = _VALUES.get(key) if named else None
    if named and key in _NO_VALUE and value:
        raise ValueError("a parameter that has no value is given one")
    if read is not None and not value and key != _DOCPATH:
        raise ValueError("a parameter is without its value")
    data = read(value) if read is not None else value
    if len(data) > 65535:
        raise ValueError("the value of a parameter is too long")
    return data


def _items(value: bytes) -> list[bytes]:
    """The items of a list, whose commas and backslashes are escaped once more (RFC 9460 appendix A.1)."""
    if not value:
        return []
    items = _ITEM.findall(value)
    if b",".join(items) != value:
        raise ValueError(f"{shown(value.decode('ascii', 'backslashreplace'))} is not a list")
    return [re.sub(rb"\\(.)", rb"\1", item, flags=re.DOTALL) for item in items]


def _texts(value: bytes) -> list[str]:
    return [item.decode("ascii", "backslashreplace") for item in _items(value)]


def _strings(value: bytes) -> bytes:
    items = _items(value)
    if any(len(item) > 255 for item in items):
        raise ValueError("an item of a list has more than 255 octets")
    return b"".join(bytes((len(item),)) + item for item in items)


def _mandatory(value: bytes) -> bytes:
    return b"".join(key.to_bytes(2, "big") for key in sorted(map(_key, _texts(value))))


def _numbers(value: bytes) -> bytes:
    return b"".join(number(text, 65535).to_bytes(2, "big") for text in _texts(value))


_VALUES: dict[int, Callable[[bytes], bytes]] = {
    0: _mandatory,
    1: _strings,
    3: lambda value: number(value.decode("ascii", "backslashreplace"), 65535).to_bytes(2, "big"),
    4: lambda value: b"".join(ipv4(text) for text in _texts(value)),
    5: lambda value: from_base64(value.decode("ascii", "backslashreplace")),
    6: lambda value: b"".join(ipv6(text) for text in _texts(value)),
    9: _numbers,
    _DOCPATH: _strings,
}
