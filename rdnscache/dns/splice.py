"""The places where octets of messages and keys are put together, or cut out.

splice.pyx is the twin that copies without slices.
"""

from __future__ import annotations

from struct import Struct

_HEADER = Struct("!HHHHH")
_VARIANTS = (b"\x00", b"\x01", b"\x02", b"\x03")


def splice_key(data: bytes, root: int, variant: int) -> bytes:
    """A key: the name up to its root byte in lower case, the four octets of type and class, the variant."""
    return data[12 : root + 1].lower() + data[root + 1 : root + 5] + _VARIANTS[variant]


def splice_view(key: bytes, end: int, number: int) -> bytes:
    """The key of what a view answers: its number behind the name, which ends at `end`, and a bit in the variant."""
    return b"%b%c%b%c" % (key[:end], number, key[end:-1], key[-1] | 8)


def splice_type(key: bytes, number: int) -> bytes:
    """The same key with another type."""
    return key[:-5] + number.to_bytes(2, "big") + key[-3:]


def cut(data: bytes, start: int, end: int) -> bytes:
    """The octets from `start` to `end`, which are there."""
    if not 0 <= start <= end <= len(data):
        raise IndexError(end)
    return data[start:end]


def repeats(data: bytes, end: int, asked: bytes) -> bool:
    """Whether the question of a message, which ends at `end`, is the section `asked`, in whatever letter case."""
    if not 17 <= end <= len(data):
        raise IndexError(end)
    return data[12 : end - 4].lower() + data[end - 4 : end] == asked


def splice_stored(
    wire: bytes, end: int, flags: int, ancount: int, nscount: int, arcount: int, asked: bytes
) -> bytearray:
    """A reply as it is kept: ID 0, flags, counts, the question, and what follows the one that ends at `end`."""
    if not 12 <= end <= len(wire):
        raise IndexError(end)
    return bytearray(b"".join((b"\0\0", _HEADER.pack(flags, 1, ancount, nscount, arcount), asked, wire[end:])))


def splice_query(ident: bytes, flags: int, asked: bytes, opt: bytes) -> bytes:
    """A query: ID, flags, one question, an OPT or none."""
    if len(ident) != 2:
        raise IndexError(len(ident))
    return b"".join((ident, _HEADER.pack(flags, 1, 0, 0, 1 if opt else 0), asked, opt))


def splice_reply(
    data: bytes, end: int, flags: int, ancount: int, nscount: int, arcount: int, tail: bytes, size: int, opt: bytes
) -> bytes:
    """A reply: ID and question (up to `end`) of the query, flags, counts, `size` octets of the tail, an OPT or none."""
    header = _HEADER.pack(flags, 1 if end > 12 else 0, ancount, nscount, arcount)
    return b"".join((data[:2], header, data[12:end], tail[:size], opt))
