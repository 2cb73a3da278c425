"""Records as text in zone-file form, one a line: a fill stores it for people with redis-cli. `message` has the rest.

Text can be much longer than the record, since compressed names are written in full; so its characters and records are
bounded, and none is made beyond the bound.
A record of an unknown type, or without the shape of its type, is shown in the generic form of RFC 3597 section 5. The
shapes are in `rdata`; those without a text here are shown in the generic form too.
"""

from __future__ import annotations

import base64
import ipaddress
import time
from collections.abc import Callable, Iterable
from itertools import islice
from struct import error as StructError
from struct import unpack_from

from rdnscache.dns.names import class_text, read_name, type_text
from rdnscache.dns.rdata import IN_ONLY, SHAPES
from rdnscache.dns.wire import HEADER_SIZE, IN, A, Reply, read_u32

#: Maximum characters and records of an answer's text, unless the whole is asked for.
MOST_TEXT, MOST_RECORDS = 4096, 50
#: Records with more fields than this are shown in the generic form.
_MANY = 512

Field = Callable[[bytes, int, int], tuple[str, int]]


def answer_text(reply: Reply) -> str:
    """The answer section, or the authority section where there is no answer; one record a line."""
    count = reply.ancount or reply.nscount
    if count == 1:
        line = _lines(reply, 1)[0]
        if line and len(line) < MOST_TEXT:
            return line
    return "\n".join(bounded(_lines(reply, min(count, MOST_RECORDS)), count))


def bounded(lines: Iterable[str], count: int) -> list[str]:
    """The first lines of `count` records, and a last one that says how many are left out.

    Lines end at `MOST_TEXT` characters, at `MOST_RECORDS` records, or at an empty line.
    """
    room = MOST_TEXT
    shown: list[str] = []
    for line in islice(lines, MOST_RECORDS):
        room -= len(line) + 1
        if not line or room < 0:
            break
        shown.append(line)
    if len(shown) < count:
        shown.append(f"; {count - len(shown)} more: rdnscache cache get shows all")
    return shown


def _lines(reply: Reply, count: int) -> list[str]:
    """The lines of the first `count` records, up to the one that exceeds `MOST_TEXT`.

    A record whose data alone has more octets than that becomes an empty line, to save the work.
    """
    wire, ttls, owner_at, room = reply.wire, reply.ttls, reply.end, MOST_TEXT
    asked = _owner_text(wire, HEADER_SIZE)
    out: list[str] = []
    for index in range(count):
        at = ttls[2 * index] << 8 | ttls[2 * index + 1]
        end = at + 6 + (wire[at + 4] << 8 | wire[at + 5])
        if room < 0 or end - at > MOST_TEXT:
            out.append("")
            break
        to_question = wire[owner_at] == 0xC0 and wire[owner_at + 1] == HEADER_SIZE
        owner = asked if to_question else _owner_text(wire, owner_at)
        rtype, rclass = wire[at - 4] << 8 | wire[at - 3], wire[at - 2] << 8 | wire[at - 1]
        known = rclass == IN or rtype not in IN_ONLY
        data = rdata_text(wire, rtype, at + 6, end) if known else generic_text(wire[at + 6 : end])
        line = f"{owner} {read_u32(wire, at)} {class_text(rclass)} {type_text(rtype)} {data}"
        room -= len(line) + 1
        out.append(line)
        owner_at = end
    return out


def _owner_text(wire: bytes, start: int) -> str:
    """An owner name; `\\?` if it exceeds the limits once its pointers are followed."""
    try:
        return read_name(wire, start)[0]
    except (ValueError, IndexError):
        return "\\?"


def rdata_text(wire: bytes, rtype: int, start: int, stop: int) -> str:
    """The text of the record data in `wire[start:stop]`."""
    if rtype == A and stop - start == 4:
        return _ipv4(wire, start, stop)[0]
    shape = SHAPES.get(rtype)
    if shape is not None:
        try:
            parts, position = [], start
            for letter in shape:
                part, position = _FIELDS[letter](wire, position, stop)
                if position > stop:
                    raise ValueError("a field leaves its record")
                parts.append(part)
            if position == stop:
                return " ".join([part for part in parts if part])
        except (ValueError, KeyError, IndexError, StructError):
            pass  # it does not have the shape of its type
    return generic_text(wire[start:stop])


def generic_text(data: bytes) -> str:
    """Record data of an unknown type or shape (RFC 3597 section 5)."""
    return f"\\# {len(data)} {data.hex()}".rstrip()


def _number(code: str, size: int) -> Field:
    def read(wire: bytes, at: int, stop: int) -> tuple[str, int]:
        return str(unpack_from(code, wire, at)[0]), at + size

    return read


def _rest(render: Callable[[bytes], str]) -> Field:
    def read(wire: bytes, at: int, stop: int) -> tuple[str, int]:
        if at >= stop:
            raise ValueError("nothing left for the last field")
        return render(wire[at:stop]), stop

    return read


def _ipv4(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    return f"{wire[at]}.{wire[at + 1]}.{wire[at + 2]}.{wire[at + 3]}", at + 4


def _ipv6(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    return str(ipaddress.IPv6Address(wire[at : at + 16])), at + 16


def _name(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    return read_name(wire, at)


def _quoted(data: bytes) -> str:
    out = []
    for c in data:
        if c in b'"\\':
            out.append("\\" + chr(c))
        else:
            out.append(chr(c) if 32 <= c < 127 else f"\\{c:03d}")
    return f'"{"".join(out)}"'


def _piece(wire: bytes, at: int, stop: int) -> tuple[bytes, int]:
    """A string and its end; it follows its one-octet length (RFC 1035 section 3.3)."""
    end = at + 1 + wire[at]
    if end > stop:
        raise ValueError("string leaves its record")
    return wire[at + 1 : end], end


def _string(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    piece, end = _piece(wire, at, stop)
    return _quoted(piece), end


def _word(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    piece, end = _piece(wire, at, stop)
    if not piece.isalnum():
        raise ValueError("not a word")
    return piece.decode("ascii"), end


def _strings(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    out: list[str] = []
    while at < stop or not out:
        text, at = _string(wire, at, stop)
        out.append(text)
    return " ".join(out), at


def _eui(data: bytes) -> str:
    if len(data) not in (6, 8):
        raise ValueError("not an EUI-48 or EUI-64")
    return data.hex("-")


def _salt(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    piece, end = _piece(wire, at, stop)
    return piece.hex() or "-", end


def _base32(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    piece, end = _piece(wire, at, stop)
    if not piece:
        raise ValueError("an empty hash")
    return base64.b32hexencode(piece).decode().lower().rstrip("="), end


def _type(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    return type_text(unpack_from("!H", wire, at)[0]), at + 2


def _moment(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(unpack_from("!I", wire, at)[0])), at + 4


def _bitmap(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    """The types of an NSEC record (RFC 4034 section 4.1.2)."""
    out: list[str] = []
    last_window = -1
    while at < stop:
        window, size = wire[at], wire[at + 1]
        after = at + 2 + size
        if not 1 <= size <= 32 or window <= last_window or after > stop or not wire[after - 1]:
            raise ValueError("bad type bitmap")
        for index, octet in enumerate(wire[at + 2 : after]):
            out += [type_text(window << 8 | index << 3 | bit) for bit in range(8) if octet & 0x80 >> bit]
        if len(out) > _MANY:
            raise ValueError("too many types")
        at, last_window = after, window
    return " ".join(out), at


def _service_parameters(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    """The parameters of SVCB and HTTPS (RFC 9460 section 2.1); those without a form of their own as `keyN="..."`."""
    out: list[str] = []
    last = -1
    while at < stop:
        key, size = unpack_from("!HH", wire, at)
        value, at = wire[at + 4 : at + 4 + size], at + 4 + size
        if at > stop or key <= last:
            raise ValueError("bad service parameters")
        last = key
        if key == 3 and size == 2:
            out.append(f"port={value[0] << 8 | value[1]}")
        elif key in (4, 6) and size and size % (4 if key == 4 else 16) == 0:
            step, label = (4, "ipv4hint") if key == 4 else (16, "ipv6hint")
            hints = [str(ipaddress.ip_address(value[i : i + step])) for i in range(0, size, step)]
            out.append(f"{label}={','.join(hints)}")
        elif key == 1 and (names := _alpn(value)):
            out.append(f"alpn={','.join(names)}")
        else:
            out.append(f"key{key}={_quoted(value)}" if value else f"key{key}")
    return " ".join(out), at


def _alpn(value: bytes) -> list[str]:
    """The protocol names; none if one of them needs quoting."""
    out, at = [], 0
    while at < len(value):
        piece, at = _piece(value, at, len(value))
        if not piece or not all(c in b"/.-+" or chr(c).isalnum() for c in piece) or not piece.isascii():
            return []
        out.append(piece.decode("ascii"))
    return out


def _group(wire: bytes, at: int, stop: int) -> tuple[str, int]:
    """Eight octets as ILNP writes them (RFC 6742 section 2.1.2)."""
    return wire[at : at + 8].hex(":", 2), at + 8


_LETTERS: dict[str, Field] = (
    {
        "B": _number("!B", 1),
        "H": _number("!H", 2),
        "I": _number("!I", 4),
        "4": _ipv4,
        "6": _ipv6,
        "8": _group,
        "n": _name,
        "u": _name,
        "s": _string,
        "S": _strings,
        "w": _word,
        "t": _type,
        "T": _moment,
        "h": _salt,
        "o": _base32,
        "m": _bitmap,
        "p": _service_parameters,
        "b": _rest(lambda data: base64.b64encode(data).decode()),
    }
    | dict.fromkeys("xdDkc", _rest(bytes.hex))
    | dict.fromkeys("qQ", _rest(_quoted))
    | dict.fromkeys("eE", _rest(_eui))
)
_FIELDS = {ord(letter): field for letter, field in _LETTERS.items()}
