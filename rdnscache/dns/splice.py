"""Functions that assemble messages and keys from octets, or cut octets out of them.

splice.pyx has the same functions in compiled form; they copy without slices.
"""

from __future__ import annotations

from struct import Struct

_HEADER = Struct("!HHHHH")
_VARIANTS = (b"\x00", b"\x01", b"\x02", b"\x03")


def splice_key(data: bytes, root: int, variant: int) -> bytes:
    """The key of a query: its name, whose root byte is at `root`, in lower case, type and class, and the variant."""
    return data[12 : root + 1].lower() + data[root + 1 : root + 5] + _VARIANTS[variant]


def splice_view(key: bytes, end: int, number: int) -> bytes:
    """The key of a view's answer: its number is inserted after the name, at `end`, and a bit of the variant is set."""
    return b"%b%c%b%c" % (key[:end], number, key[end:-1], key[-1] | 8)


def splice_type(key: bytes, number: int) -> bytes:
    """The same key with another type."""
    return key[:-5] + number.to_bytes(2, "big") + key[-3:]


def cut(data: bytes, start: int, end: int) -> bytes:
    """The octets from `start` to `end`; IndexError if they are not all in `data`."""
    if not 0 <= start <= end <= len(data):
        raise IndexError(end)
    return data[start:end]


def whole(data: bytearray) -> bytes:
    """All octets, which do not change any more."""
    return bytes(data)


def repeats(data: bytes, end: int, asked: bytes) -> bool:
    """Whether the question section of a message, which ends at `end`, equals `asked` but for letter case."""
    if not 17 <= end <= len(data):
        raise IndexError(end)
    return data[12 : end - 4].lower() + data[end - 4 : end] == asked


def splice_stored(
    wire: bytes, end: int, flags: int, ancount: int, nscount: int, arcount: int, asked: bytes
) -> bytearray:
    """The stored form of a reply: ID 0, flags, counts, the question `asked`, and `wire` from `end` on."""
    if not 12 <= end <= len(wire):
        raise IndexError(end)
    return bytearray(b"".join((b"\0\0", _HEADER.pack(flags, 1, ancount, nscount, arcount), asked, wire[end:])))


def splice_query(ident: bytes, flags: int, asked: bytes, opt: bytes) -> bytes:
    """A query: ID, flags, one question, and an OPT record unless `opt` is empty."""
    if len(ident) != 2:
        raise IndexError(len(ident))
    return b"".join((ident, _HEADER.pack(flags, 1, 0, 0, 1 if opt else 0), asked, opt))


def splice_reply(
    data: bytes, end: int, flags: int, ancount: int, nscount: int, arcount: int, tail: bytes, size: int, opt: bytes
) -> bytes:
    """A reply: ID and question (up to `end`) of the query, flags, counts, `size` octets of the tail, then `opt`."""
    header = _HEADER.pack(flags, 1 if end > 12 else 0, ancount, nscount, arcount)
    return b"".join((data[:2], header, data[12:end], tail[:size], opt))


def aged_tail(tail: bytes, ttls: bytes, seconds: int, fixed: int) -> bytes:
    """`tail` with each TTL less `seconds`, at least 0; or with each TTL `fixed` where that is not 0.

    `ttls` has the offset of each, in two octets.
    """
    out = bytearray(tail)
    for index in range(0, len(ttls), 2):
        at = ttls[index] << 8 | ttls[index + 1]
        if at + 4 > len(tail):
            raise IndexError(at)
        ttl = fixed or max(int.from_bytes(tail[at : at + 4], "big") - seconds, 0)
        out[at : at + 4] = (ttl & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(out)


def rebased(ttls: bytes, end: int) -> bytes:
    """Offsets, of two octets each, counted from `end` on."""
    out = bytearray(ttls)
    for index in range(0, len(ttls), 2):
        at = (ttls[index] << 8 | ttls[index + 1]) - end
        out[index] = at >> 8 & 0xFF
        out[index + 1] = at & 0xFF
    return bytes(out)
