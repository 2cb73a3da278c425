"""What one worker of all does for the others, who wait until it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gevent
import hiredis

from rdnscache.errors import StoreRefused
from rdnscache.store.servers import Ask

#: Milliseconds for which nobody else does what one has begun, unless it goes on; seconds between two looks.
HELD, LOOK = 5000, 0.02
BEGUN = b"deleting"


def by_one(ask: Ask, lock: bytes, done: Callable[[], bool], pages: Callable[[], Iterable[int]]) -> int | None:
    """Do something page by page unless another worker does; the sum of the pages, None when it was another.

    Who does it keeps the lock, to be deleted or replaced; for one that has stopped or died it is not kept. Raises
    StoreDown, StoreRefused.
    """
    while True:
        (told,) = ask((b"SET", lock, BEGUN, b"NX", b"PX", HELD))
        if told is not None:
            break
        if done():
            return None
        gevent.sleep(LOOK)
    if isinstance(told, hiredis.ReplyError) and "OOM" not in str(told):  # full: all do it, rather than nobody
        raise StoreRefused.of(told, "what is lost cannot be deleted")
    if done():
        ask((b"DEL", lock))
        return None
    count = 0
    for entries in pages():
        count += entries
        ask((b"PEXPIRE", lock, HELD))
    return count
