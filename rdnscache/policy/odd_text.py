"""Parses the data of types with a special text form, which is not a sequence of fields.

All functions raise ValueError with a reason that can follow a line number.
"""

from __future__ import annotations

import base64
import re
from ipaddress import IPv4Address, IPv6Address

from rdnscache.dns.names import shown
from rdnscache.policy.words import Words, number

_APL_ITEM = re.compile(r"(!?)([12]):([^/]+)/([0-9]{1,3})")
_LENGTH = re.compile(r"(-?)([0-9]{1,8})(?:\.([0-9]{0,2})[0-9]{0,3})?m?", re.IGNORECASE)
_SECOND = re.compile(r"([0-9]{1,2})(?:\.([0-9]{1,3}))?")
_PROTOCOLS = {"ICMP": 1, "TCP": 6, "UDP": 17}


def ipv4(text: str) -> bytes:
    try:
        return IPv4Address(text).packed
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IPv4 address") from None


def ipv6(text: str) -> bytes:
    """The octets of an address; one with a zone (`fe80::1%eth0`) means nothing on another host."""
    try:
        if "%" not in text:
            return IPv6Address(text).packed
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IPv6 address") from None
    raise ValueError(f"{shown(text)} has a zone, which an address in the DNS cannot have")


def from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not hexadecimal, two digits an octet") from None


def from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(f"{shown(text)} is not base64") from None


def nsap(words: Words) -> bytes:
    """`0x47.0005.80…` (RFC 1706 section 7), or without what is for the eye."""
    return from_hex(re.sub(r"^0[xX]|\.", "", words.joined("an NSAP address")))


def prefixes(words: Words) -> bytes:
    """The items of APL, `!1:192.0.2.0/24` (RFC 3123 section 5)."""
    out = bytearray()
    while len(words):
        text = words.plain("a prefix")
        parts = _APL_ITEM.fullmatch(text)
        if parts is None:
            raise ValueError(f"{shown(text)} is not a prefix like 1:192.0.2.0/24")
        address = ipv4(parts[3]) if parts[2] == "1" else ipv6(parts[3])
        data = address.rstrip(b"\0")
        out += bytes((0, int(parts[2]), number(parts[4], 8 * len(address)), (0x80 if parts[1] else 0) | len(data)))
        out += data
    return bytes(out)


def location(words: Words) -> bytes:
    """LOC (RFC 1876 section 3): `52 14 5.1 N 0 8 50 E 10m 20m 100m 10m`, all from the minutes on if needed."""
    latitude, longitude = _angle(words, 90, "NS"), _angle(words, 180, "EW")
    altitude = _centimetres(words.plain("an altitude")) + 10_000_000
    if not 0 <= altitude < 1 << 32:
        raise ValueError("the altitude is not one from -100000.00 to 42849672.95 metres")
    sizes = [100, 1_000_000, 1000]  # in centimetres, where nothing is said
    for index in range(min(len(words), 3)):
        sizes[index] = _centimetres(words.plain("a size"))
    packed = b"".join(each.to_bytes(4, "big") for each in (latitude, longitude, altitude))
    return bytes((0, *map(_power, sizes))) + packed


def _angle(words: Words, most: int, sides: str) -> int:
    """Degrees, perhaps minutes and seconds, and the side of the equator or of Greenwich; in thousandths of a second."""
    degrees, minutes, thousandths = number(words.plain("degrees"), most), 0, 0
    text = words.plain(f"minutes, or one of {sides}").upper()
    if text.isdigit():
        minutes, text = number(text, 59), words.plain(f"seconds, or one of {sides}").upper()
    if text[:1].isdigit():
        parts = _SECOND.fullmatch(text)
        if parts is None or int(parts[1]) > 59:
            raise ValueError(f"{shown(text)} is not a number of seconds below 60")
        thousandths = int(parts[1]) * 1000 + int((parts[2] or "").ljust(3, "0"))
        text = words.plain(f"one of {sides}").upper()
    if len(text) != 1 or text not in sides:
        raise ValueError(f"{shown(text)} is not one of {sides}")
    angle = (degrees * 60 + minutes) * 60_000 + thousandths
    return 0x80000000 + (angle if text in "NE" else -angle)


def _centimetres(text: str) -> int:
    parts = _LENGTH.fullmatch(text)
    if parts is None:
        raise ValueError(f"{shown(text)} is not a length in metres")
    found = int(parts[2]) * 100 + int((parts[3] or "").ljust(2, "0"))
    return -found if parts[1] else found


def _power(size: int) -> int:
    """One digit and a power of ten, as LOC has sizes."""
    exponent = 0
    if size < 0:
        raise ValueError("a size is not negative")
    while size > 9:
        size //= 10
        exponent += 1
    if exponent > 9:
        raise ValueError("a size is at most 90000000 metres")
    return size << 4 | exponent


def services(words: Words) -> bytes:
    """WKS (RFC 1035 section 3.4.2): address, protocol, and the ports by number."""
    address, protocol = ipv4(words.plain("an IPv4 address")), words.number(255, _PROTOCOLS)
    bitmap = bytearray()
    while len(words):
        port = words.number(65535)
        bitmap += bytes(max(port // 8 + 1 - len(bitmap), 0))
        bitmap[port // 8] |= 0x80 >> port % 8
    return address + bytes((protocol,)) + bytes(bitmap)


def host_identity(words: Words) -> bytes:
    """HIP (RFC 8005 section 6): algorithm, identity as hex, key as base64, rendezvous servers."""
    algorithm = words.number(255)
    identity, key = from_hex(words.plain("a host identity tag")), from_base64(words.plain("a public key"))
    if len(identity) > 255 or len(key) > 65535:
        raise ValueError("the identity or the key is too long")
    servers = bytearray()
    while len(words):
        servers += words.name()
    return bytes((len(identity), algorithm)) + len(key).to_bytes(2, "big") + identity + key + bytes(servers)


def relay(words: Words) -> bytes:
    """AMTRELAY (RFC 8777 section 4.3): precedence, whether discovery is optional, kind of relay, the relay."""
    precedence, optional, kind = words.number(255), words.number(1), words.number(127)
    return bytes((precedence, optional << 7 | kind)) + gateway(words, kind)


def gateway(words: Words, kind: int) -> bytes:
    """Nothing, an address or a name, as its kind says (RFC 4025 section 3.1)."""
    if kind > 3:
        raise ValueError(f"{kind} is not a kind of gateway: 0 none, 1 IPv4, 2 IPv6, 3 a name")
    if kind == 3:
        return words.name()
    text = words.plain("a gateway")
    if kind == 0 and text != ".":
        raise ValueError(f"{shown(text)} stands where a gateway of kind 0 is a dot")
    return b"" if kind == 0 else ipv4(text) if kind == 1 else ipv6(text)
