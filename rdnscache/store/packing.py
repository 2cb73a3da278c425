"""What is put together for Redis octet by octet: commands, and keys. packing.pyx is the twin that makes no parts."""

from __future__ import annotations

from collections.abc import Sequence

from rdnscache.dns.names import name_text

_SUBNET = b":ecs="


def pack(command: Sequence[bytes | str | int]) -> bytes:
    """A command in wire form (RESP): an array of strings."""
    parts = [b"*%d\r\n" % len(command)]
    for value in command:
        data = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b"%d" % value
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def spell(head: bytes, key: bytes, tail: bytes) -> bytes:
    """The name of a question in presentation form, between two texts. ValueError for one that is too long."""
    return b"%b%b%b" % (head, name_text(key).encode("ascii"), tail)


def widen(entry: bytes, word: bytes) -> bytes:
    """An entry's key without its subnet; or if it has none, with `word` for a type."""
    at = entry.rfind(_SUBNET)
    if at >= 0:
        return entry[:at]
    at = entry.rfind(b"}:") + 2
    if at < 2:
        raise ValueError("not an entry's key")
    more = entry.find(b":", at)
    return entry[:at] + word + (entry[more:] if more >= 0 else b"")
