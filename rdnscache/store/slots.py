"""Hash tags for slots of a Redis Cluster, and the map of slots in a server's reply. No connection in here."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.redis_url import Host

#: The number of slots of a Redis Cluster.
SLOTS = 16384
#: Octal digits of a tag: six reach every slot.
_DIGITS = 6


def _slot(digits: int) -> int:
    return crc_hqx(b"%0*o" % (_DIGITS, digits), 0) % SLOTS


def _steps() -> list[tuple[int, int]]:
    """The digits to change for each bit of the slot: the CRC is linear, so changes can be combined by XOR."""
    steps: list[tuple[int, int]] = []
    for bit in range(3 * _DIGITS):
        change, digits = _slot(1 << bit) ^ _slot(0), 1 << bit
        for other, others in steps:
            if change ^ other < change:
                change, digits = change ^ other, digits ^ others
        if change:
            steps.append((change, digits))
    return sorted(steps, reverse=True)


_STEPS = _steps()


def slot_of(key: bytes) -> int:
    """The slot of a key; only the text in its first braces counts, if there is any."""
    tag = key.partition(b"{")[2].partition(b"}")
    return crc_hqx(tag[0] if tag[0] and tag[1] else key, 0) % SLOTS


def _text(told: bytes | str) -> str:
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else told


def tag_of(slot: int) -> str:
    """A hash tag whose keys are in a slot."""
    rest, digits = slot ^ _slot(0), 0
    for change, more in _STEPS:
        if rest ^ change < rest:
            rest, digits = rest ^ change, digits ^ more
    return f"{digits:0{_DIGITS}o}"


def ranges(asked: str, told: Any) -> list[tuple[int, int, list[Host]]]:
    """First slot, last slot and addresses, the primary first, from a reply to CLUSTER SLOTS. Raises StoreDown."""
    try:
        found = [
            (first, last, [(_text(node[0] or b"").strip("?") or asked, int(node[1])) for node in nodes])
            for first, last, *nodes in told
        ]
        for first, last, addresses in found:
            if not addresses[0][1]:
                raise StoreDown("the cluster gives port 0 for a primary; over TLS its servers need 'tls-cluster yes'")
            if not 0 <= first <= last < SLOTS:
                raise ValueError
    except (TypeError, ValueError, IndexError, AttributeError):
        raise StoreDown("the map of slots is malformed") from None
    return found
