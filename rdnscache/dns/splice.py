"""The places where the bytes of a hit are put together. splice.pyx is the twin that copies without slices."""

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


def splice_reply(
    data: bytes, end: int, flags: int, ancount: int, nscount: int, arcount: int, tail: bytes, size: int, opt: bytes
) -> bytes:
    """A reply: ID and question (up to `end`) of the query, flags, counts, `size` octets of the tail, an OPT or none."""
    header = _HEADER.pack(flags, 1 if end > 12 else 0, ancount, nscount, arcount)
    return b"".join((data[:2], header, data[12:end], tail[:size], opt))
