"""Converts the text of record data into wire form: the reverse of `dns.text`, with the same table of shapes.

dnslib is not used because it does not read escapes in names, splits quoted strings, and knows only half of the types.
All functions raise ValueError with a reason that can follow a line number.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime

from rdnscache.dns.names import TYPES, shown, type_number, type_text
from rdnscache.dns.rdata import SHAPES
from rdnscache.policy.odd_text import (
    from_base64,
    from_hex,
    gateway,
    host_identity,
    ipv4,
    ipv6,
    location,
    nsap,
    prefixes,
    relay,
    services,
)
from rdnscache.policy.service_text import parameters
from rdnscache.policy.words import Word, Words, number, octets, seconds, string

#: What the first word of data in the generic form is (RFC 3597 section 5).
GENERIC = Word("\\#")
_SOA, _MOST = 6, 0xFFFFFFFF
_SIZES = {"B": 1, "H": 2, "I": 4}
_WHOLE: dict[int, Callable[[Words], bytes]] = {
    11: services, 22: nsap, 29: location, 42: prefixes, 55: host_identity, 260: relay,
}  # fmt: skip

#: Names of numbers (RFC 8624 section 3.1, RFC 4398 section 2.1), and the fields that they stand in.
_ALGORITHMS = {
    "RSAMD5": 1, "DH": 2, "DSA": 3, "RSASHA1": 5, "DSA-NSEC3-SHA1": 6, "RSASHA1-NSEC3-SHA1": 7, "NSEC3RSASHA1": 7,
    "RSASHA256": 8, "RSASHA512": 10, "ECC-GOST": 12, "ECDSAP256SHA256": 13, "ECDSAP384SHA384": 14, "ED25519": 15,
    "ED448": 16, "INDIRECT": 252, "PRIVATEDNS": 253, "PRIVATEOID": 254,
}  # fmt: skip
_CERTIFICATES = {
    "PKIX": 1, "SPKI": 2, "PGP": 3, "IPKIX": 4, "ISPKI": 5, "IPGP": 6, "ACPKIX": 7, "IACPKIX": 8, "URI": 253,
    "OID": 254,
}  # fmt: skip
_NAMED = {(rtype, 1): _ALGORITHMS for rtype in (24, 43, 46, 59, 32769)} | {
    **{(rtype, 2): _ALGORITHMS for rtype in (25, 37, 48, 60)},
    (37, 0): _CERTIFICATES,
}


def rdata_wire(rtype: int, written: list[Word], origin: bytes) -> bytes:
    """The data given by the words after a type; relative names are below `origin`. The result is verified by
    `check`."""
    words = Words(written, origin)
    if written and written[0] == GENERIC:
        return _generic(words)
    shape = SHAPES.get(rtype)
    if shape is None or rtype not in TYPES:
        raise ValueError(f"data of {type_text(rtype)} are written as \\# LENGTH HEX (RFC 3597)")
    whole = _WHOLE.get(rtype)
    data = whole(words) if whole is not None else _fields(rtype, shape, words)
    if len(words):
        raise ValueError(f"{shown(words.take('nothing').text)} stands behind the end of the data")
    return data


def _generic(words: Words) -> bytes:
    words.take("\\#")
    size = words.number(65535)
    data = from_hex(words.joined("data in hexadecimal")) if size or len(words) else b""
    if len(data) != size:
        raise ValueError(f"there are {len(data)} octets of data where {size} are announced")
    return data


def _fields(rtype: int, shape: bytes, words: Words) -> bytes:
    out = bytearray()
    for index, letter in enumerate(shape.decode()):
        size = _SIZES.get(letter, 0)
        if size:
            if rtype == _SOA and index > 2:  # refresh, retry, expire, minimum
                out += seconds(words.plain("a time"), _MOST).to_bytes(4, "big")
            else:
                out += words.number((1 << 8 * size) - 1, _NAMED.get((rtype, index))).to_bytes(size, "big")
        elif letter == "g":
            out += gateway(words, out[1])
        else:
            out += _FIELDS[letter](words)
    return bytes(out)


def _string(words: Words) -> bytes:
    return string(words.take("a string").text)


def _strings(words: Words) -> bytes:
    out = bytearray(_string(words))
    while len(words):
        out += _string(words)
    return bytes(out)


def _bare(words: Words) -> bytes:
    """A string that is the rest, and has no length of its own."""
    return octets(words.take("a string").text)


def _word(words: Words) -> bytes:
    return string(words.plain("a word"))


def _type(words: Words) -> bytes:
    return type_number(words.plain("a type")).to_bytes(2, "big")


def _moment(words: Words) -> bytes:
    """`YYYYMMDDHHmmSS`, or seconds since 1970 (RFC 4034 section 3.2)."""
    text = words.plain("a time")
    if len(text) != 14 or not (text.isascii() and text.isdigit()):
        return number(text, _MOST).to_bytes(4, "big")
    try:
        found = int(datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        found = -1
    if not 0 <= found <= _MOST:
        raise ValueError(f"{shown(text)} is not a time from 1970 to 2106")
    return found.to_bytes(4, "big")


def _salt(words: Words) -> bytes:
    text = words.plain("a salt, or -")
    return _behind_length(b"" if text == "-" else from_hex(text))


def _hash(words: Words) -> bytes:
    text = words.plain("a hash in base32")
    try:
        return _behind_length(base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8)))
    except ValueError:
        raise ValueError(f"{shown(text)} is not a hash in base32") from None


def _behind_length(data: bytes) -> bytes:
    if len(data) > 255:
        raise ValueError(f"{len(data)} octets stand where there are at most 255")
    return bytes((len(data),)) + data


def _bitmap(words: Words) -> bytes:
    """The types of an NSEC record (RFC 4034 section 4.1.2)."""
    windows: dict[int, bytearray] = {}
    while len(words):
        rtype = type_number(words.plain("a type"))
        bits = windows.setdefault(rtype >> 8, bytearray())
        at = (rtype & 0xFF) // 8
        bits += bytes(max(at + 1 - len(bits), 0))
        bits[at] |= 0x80 >> rtype % 8
    return b"".join(bytes((window, len(bits))) + bits for window, bits in sorted(windows.items()))


def _eui(words: Words) -> bytes:
    """`00-00-5e-00-53-2a` (RFC 7043 section 3.2)."""
    text = words.plain("an EUI-48 or EUI-64")
    if any(len(pair) != 2 for pair in text.split("-")):
        raise ValueError(f"{shown(text)} is not an EUI like 00-00-5e-00-53-2a")
    return from_hex(text.replace("-", ""))


def _groups(words: Words) -> bytes:
    """Eight octets as ILNP writes them: `2001:db8:1140:1000` (RFC 6742 section 2.1.2)."""
    text = words.plain("four groups of hexadecimal digits")
    groups = text.split(":")
    if len(groups) != 4 or not all(0 < len(group) <= 4 for group in groups):
        raise ValueError(f"{shown(text)} is not one like 2001:db8:1140:1000")
    return from_hex("".join(group.zfill(4) for group in groups))


_FIELDS: dict[str, Callable[[Words], bytes]] = (
    {
        "4": lambda words: ipv4(words.plain("an IPv4 address")),
        "6": lambda words: ipv6(words.plain("an IPv6 address")),
        "8": _groups,
        "s": _string,
        "S": _strings,
        "i": lambda words: _string(words) if len(words) else b"",
        "w": _word,
        "t": _type,
        "T": _moment,
        "h": _salt,
        "o": _hash,
        "m": _bitmap,
        "p": parameters,
        "f": lambda words: _string(words) + _string(words) + _string(words),
        "b": lambda words: from_base64(words.joined("data in base64")),
    }
    | dict.fromkeys("nu", Words.name)
    | dict.fromkeys("xdDkcz", lambda words: from_hex(words.joined("data in hexadecimal")))
    | dict.fromkeys("qQ", _bare)
    | dict.fromkeys("eE", _eui)
)
