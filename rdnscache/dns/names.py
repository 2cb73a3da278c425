"""Names, types and classes between wire and presentation form.

The presentation form is ours: lower case, a final dot, and every octet of a label outside `[a-z0-9_-]` as `\\DDD`
(RFC 1035 section 5.1), so that no label can look like two, end a Redis hash tag or contain a glob.
"""

from __future__ import annotations

import re

from rdnscache.dns.question import (
    ANY_TYPE,
    VARIANT_CD,
    VARIANT_DO,
    VARIANT_ROUTE,
    VARIANT_SUBNET,
    qclass,
    qtype,
    route_of,
    subnet,
    variant,
)
from rdnscache.dns.subnet import subnet_text

TYPES: dict[int, str] = {
    1: "A", 2: "NS", 3: "MD", 4: "MF", 5: "CNAME", 6: "SOA", 7: "MB", 8: "MG", 9: "MR", 10: "NULL", 11: "WKS",
    12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB", 19: "X25", 20: "ISDN",
    21: "RT", 22: "NSAP", 23: "NSAP-PTR", 24: "SIG", 25: "KEY", 26: "PX", 27: "GPOS", 28: "AAAA", 29: "LOC",
    33: "SRV", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP",
    45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM",
    52: "TLSA", 53: "SMIMEA", 55: "HIP", 59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD",
    64: "SVCB", 65: "HTTPS", 99: "SPF", 104: "NID", 105: "L32", 106: "L64", 107: "LP", 108: "EUI48", 109: "EUI64",
    249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY", 256: "URI",
    257: "CAA", 258: "AVC", 260: "AMTRELAY", 32769: "DLV",
}  # fmt: skip
CLASSES: dict[int, str] = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
RCODES: dict[int, str] = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN",
    7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 16: "BADVERS", 23: "BADCOOKIE",
}  # fmt: skip
#: Written instead of the type in keys of entries that hold for all types of a name: it does not exist.
NAME_WORD = "NXDOMAIN"
_TYPES, _CLASSES = TYPES, CLASSES
_TYPE_NUMBERS = {name: number for number, name in TYPES.items()}
_RCODE_NUMBERS = {name: number for number, name in RCODES.items()}
_CLASS_NUMBERS = {name: number for number, name in CLASSES.items()}

#: The character for an octet of a label: itself or its lower case; 0 if it has to be escaped.
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_SHOWN = bytes(c if c in _PLAIN else c + 32 if c + 32 in _PLAIN and 65 <= c <= 90 else 0 for c in range(256))
_ESCAPED = [b"\\%03d" % c for c in range(256)]


def type_text(number: int) -> str:
    return _TYPES.get(number) or f"TYPE{number}"


def class_text(number: int) -> str:
    return _CLASSES.get(number) or f"CLASS{number}"


def question_text(key: bytes) -> str:
    """A key as text: `www.example.com. A`, with class, flags, route and subnet where they are not the defaults."""
    number, bits = qtype(key), variant(key)
    text = f"{name_text(key)} {NAME_WORD if number == ANY_TYPE else type_text(number)}"
    if qclass(key) != 1:
        text += f" {class_text(qclass(key))}"
    text += (" do" if bits & VARIANT_DO else "") + (" cd" if bits & VARIANT_CD else "")
    text += f" via={route_of(key).hex()}" if bits & VARIANT_ROUTE else ""
    return text + (f" ecs={subnet_text(subnet(key))}" if bits & VARIANT_SUBNET else "")


def rcode_text(number: int) -> str:
    return RCODES.get(number) or f"RCODE{number}"


def rcode_number(text: str) -> int:
    """The number of an RCODE mnemonic or `RCODE7`; ValueError when it is neither, or above 15."""
    number = _number(text.upper(), _RCODE_NUMBERS, "RCODE")
    if number > 15:
        raise ValueError(f"{shown(text)} is not an RCODE that is stored")
    return number


def type_number(text: str) -> int:
    """The number of a type mnemonic or `TYPE123` (RFC 3597 section 5); ValueError when it is neither."""
    return _number(text.upper(), _TYPE_NUMBERS, "TYPE")


def class_number(text: str) -> int:
    return _number(text.upper(), _CLASS_NUMBERS, "CLASS")


def _number(text: str, known: dict[str, int], generic: str) -> int:
    if text in known:
        return known[text]
    digits = text.removeprefix(generic)
    if digits != text and len(digits) <= 5 and digits.isascii() and digits.isdigit() and int(digits) < 65536:
        return int(digits)
    raise ValueError(f"{shown(text)} is not a DNS {generic.lower()}")


def label_text(label: bytes) -> str:
    out = bytearray()
    _spell(out, label, 0, len(label))
    return out.decode("ascii")


def _spell(out: bytearray, wire: bytes, start: int, stop: int) -> None:
    """Append the label `wire[start:stop]` in presentation form."""
    for index in range(start, stop):
        if _SHOWN[wire[index]] != wire[index] or not wire[index]:
            return _escape(out, wire, start, stop)
    out += wire[start:stop]  # as nearly all labels are


def _escape(out: bytearray, wire: bytes, start: int, stop: int) -> None:
    for index in range(start, stop):
        if _SHOWN[wire[index]]:
            out.append(_SHOWN[wire[index]])
        else:
            out += _ESCAPED[wire[index]]


def name_text(wire: bytes) -> str:
    """The presentation form of an uncompressed wire name, root byte included."""
    return read_name(wire, 0)[0]


#: Maximum number of pointers followed for one name: real names need one or two, longer chains are an attack.
MAX_HOPS = 32


def read_name(wire: bytes, start: int) -> tuple[str, int]:
    """The name at `start` in presentation form, pointers followed, and the offset just past it.

    Raises ValueError for a name that is too long, a pointer that does not lead backwards, or too many of them,
    IndexError for a name that runs past the end of the message.
    """
    out = bytearray()
    position, end, lowest, total, hops = start, 0, start, 0, 0
    while True:
        size = wire[position]
        if size == 0:
            return out.decode("ascii") if out else ".", end or position + 1
        if size < 64:
            total += size + 1
            if total > 254 or position + 1 + size > len(wire):
                raise ValueError("name too long")
            _spell(out, wire, position + 1, position + 1 + size)
            out.append(46)
            position += size + 1
        elif size >= 192:
            end = end or position + 2
            position = (size & 0x3F) << 8 | wire[position + 1]
            hops += 1
            if position >= lowest or hops > MAX_HOPS:
                raise ValueError("pointers lead nowhere")
            lowest = position
        else:
            raise ValueError("unknown label type")


_LABEL = r"(?:\\[0-9]{3}|\\[^0-9]|[^\\.])+"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.DOTALL)
_LABELS = re.compile(_LABEL, re.DOTALL)
_LABEL_PART = re.compile(r"\\([0-9]{3})|\\(.)|([^\\]+)", re.DOTALL)
#: Maximum characters of a name in presentation form: every octet as `\DDD` and the dots, rounded up.
LONGEST_TEXT = 1100


def parse_name(text: str) -> bytes:
    """The lower-case wire form of a name that a person typed; `\\DDD` and `\\.` as in zone files, non-ASCII by IDNA.

    Raises ValueError with a sentence for that person.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{shown(text)} is not a domain name: it has {len(text)} characters")
    text = re.sub("[\u3002\uff0e\uff61]", ".", text)  # IDNA treats these as dots (RFC 3490 section 3.1)
    if text == ".":
        return b"\0"
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not a domain name")
    labels = [_label_bytes(label, text) for label in _LABELS.findall(text)]
    if any(len(label) > 63 for label in labels):
        raise ValueError(f"{shown(text)} is not a domain name: a label has at most 63 octets")
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(wire) > 255:
        raise ValueError(f"{shown(text)} is not a domain name: it has {len(wire)} octets, 255 is the limit")
    return wire


def _label_bytes(label: str, text: str) -> bytes:
    if not label.isascii():
        from rdnscache.dns.idn import a_label

        try:
            return a_label(label)
        except ValueError as error:
            raise ValueError(f"{shown(text)} is not a domain name: {shown(label)} has no IDNA form: {error}") from None
    if "\\" not in label:
        return label.lower().encode("ascii")
    out = bytearray()
    for digits, char, plain in _LABEL_PART.findall(label):
        if digits and int(digits) > 255:
            raise ValueError(f"{shown(text)} is not a domain name: \\{digits} is above 255")
        out += bytes((int(digits),)) if digits else (char or plain).encode("ascii")
    return bytes(out).lower()


#: Matches names in our own presentation form.
OWN_NAME = r"(?:\.|(?:(?:[a-z0-9_-]|\\[0-9]{3})+\.)+)"
_OWN_NAME = re.compile(OWN_NAME)


def parse_own_name(text: str) -> bytes:
    """The wire form of a name in exactly our own presentation form, as nodes write it into Redis.

    Raises ValueError for anything else. Others may write there too, so the work is linear and bounded by LONGEST_TEXT.
    """
    if len(text) > LONGEST_TEXT or _OWN_NAME.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not a name as nodes write it")
    wire = parse_name(text)
    if name_text(wire) != text:  # it has an escape where none is needed
        raise ValueError(f"{shown(text)} is not a name as nodes write it")
    return wire


def shown(text: str) -> str:
    """Invalid input for an error message: quoted, escaped and cut."""
    return repr(text) if len(text) <= 80 else f"{text[:60]!r}…"
