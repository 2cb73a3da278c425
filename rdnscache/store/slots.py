"""Hash tags for slots of a Redis Cluster, and the map of slots as a server tells it. No connection in here."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.redis_url import Host

#: What a Redis Cluster divides its keys into.
SLOTS = 16384
#: Octal digits of a tag: six reach every slot.
_DIGITS = 6


def _slot(digits: int) -> int:
    return crc_hqx(b"%0*o" % (_DIGITS, digits), 0) % SLOTS


def _steps() -> list[tuple[int, int]]:
    """What to change in the digits to change one bit of the slot: the CRC is linear, so changes add up by XOR."""
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
    """The slot of a key: that of what is in its first braces, if there is something."""
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
    """First and last slot and who has them, the primary in front, from what CLUSTER SLOTS tells. Raises StoreDown."""
    try:
        found = [
            (first, last, [(_text(node[0] or b"").strip("?") or asked, int(node[1])) for node in nodes])
            for first, last, *nodes in told
        ]
        for first, last, places in found:
            if not places[0][1]:
                raise StoreDown("the cluster tells port 0 of a primary; over TLS its servers need 'tls-cluster yes'")
            if not 0 <= first <= last < SLOTS:
                raise ValueError
    except (TypeError, ValueError, IndexError, AttributeError):
        raise StoreDown("what it tells of its slots makes no sense") from None
    return found
