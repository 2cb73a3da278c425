"""All entries of a server, page by page: what SCAN finds is read by commands that are sent together.

A page is small, so that Redis serves nodes between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rdnscache.dns.wire import TCP_SIZE
from rdnscache.errors import StoreDown
from rdnscache.operator.redis_clients import line
from rdnscache.store.complaint import sentence
from rdnscache.store.connection import packed

#: Keys per page, and octets of a value: none of an entry has more.
KEYS, LONGEST = 300, TCP_SIZE

#: What Redis says of a key that is no hash, or has just been moved to another server of a Redis Cluster.
_NO_ENTRY = ("WRONGTYPE", "MOVED", "ASK", "TRYAGAIN")

#: A key, its remaining time in ms, its fields.
Row = tuple[str, int, list[Any]]


class Page(list[Row]):
    """Rows of the keys that match a pattern, and the number of matching keys of any type."""

    keys = 0


def read(server: Any, pattern: str, *fields: str) -> Iterator[Page]:
    """The hashes whose keys match a pattern; reads ahead by one page. Raises the client's errors, and StoreDown."""
    asking = _asking(fields)
    with line(server) as one:
        cursor, keys = _found(one.ask((b"SCAN", b"0", b"MATCH", pattern, b"COUNT", KEYS))[0])
        ahead = _ask(one, asking, keys, cursor, pattern)
        while True:
            told, page = one.replies(2 * len(keys)), Page()
            page.keys = len(keys)
            page += _rows(keys, told)
            if not ahead:
                yield page
                return
            cursor, keys = _found(one.receive())
            ahead = _ask(one, asking, keys, cursor, pattern)
            yield page


def _asking(fields: Sequence[str]) -> bytes:
    """The commands that read a key, with places for its length and itself, twice."""
    rest = b"".join(b"$%d\r\n%s\r\n" % (len(field), field.encode()) for field in fields)
    return b"*2\r\n$4\r\nPTTL\r\n$%%d\r\n%%s\r\n*%d\r\n$5\r\nHMGET\r\n$%%d\r\n%%s\r\n%s" % (2 + len(fields), rest)


def _ask(one: Any, asking: bytes, keys: Sequence[bytes], cursor: bytes, pattern: str) -> bool:
    """Ask for the values of keys, and for further keys; returns whether there may be any."""
    ahead = cursor != b"0"
    further = packed([(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", KEYS)]) if ahead else b""
    one.send_packed(b"".join([asking % (len(key), key, len(key), key) for key in keys]) + further)
    return ahead


def _found(reply: Any) -> tuple[bytes, list[bytes]]:
    """The cursor and the keys that SCAN has told."""
    if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], list):
        raise StoreDown(sentence(reply) if isinstance(reply, Exception) else "entries cannot be read")
    return reply[0], [key for key in reply[1] if isinstance(key, bytes)]


def _rows(keys: Sequence[bytes], told: Sequence[Any]) -> Iterator[Row]:
    for key, left, values in zip(keys, told[::2], told[1::2], strict=True):
        if is_row(values, left):
            yield key.decode("utf-8", "replace"), left, values
        elif isinstance(values, Exception) and not str(values).startswith(_NO_ENTRY):
            raise StoreDown(sentence(values))


def is_row(values: Any, left: Any) -> bool:
    """Whether these are the values of a hash, none larger than those of an entry, and a remaining time."""
    return isinstance(values, list) and isinstance(left, int) and left != -2 and all(map(_is_value, values))


def _is_value(value: Any) -> bool:
    return value is None or (isinstance(value, bytes) and len(value) <= LONGEST)
