"""Work that one worker does for all, while the others wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gevent
import hiredis

from rdnscache.errors import StoreRefused
from rdnscache.store.servers import Ask

#: Milliseconds for which the lock is held unless it is prolonged; seconds between two attempts to get it.
HELD, LOOK = 5000, 0.02
BEGUN = b"deleting"


def by_one(ask: Ask, lock: bytes, done: Callable[[], bool], pages: Callable[[], Iterable[int]]) -> int | None:
    """Do work page by page, unless another worker does; returns the sum of the pages, or None if another did it.

    `done` says whether the work is done. The worker that does it prolongs the lock with each page and leaves it to the
    caller to delete; the lock of one that has died expires. Raises StoreDown, StoreRefused.
    """
    while True:
        (told,) = ask((b"SET", lock, BEGUN, b"NX", b"PX", HELD))
        if told is not None:
            break
        if done():
            return None
        gevent.sleep(LOOK)
    if isinstance(told, hiredis.ReplyError) and "OOM" not in str(told):  # if Redis is full, go on without the lock
        raise StoreRefused.of(told, "what is lost cannot be deleted")
    if done():
        ask((b"DEL", lock))
        return None
    count = 0
    for entries in pages():
        count += entries
        ask((b"PEXPIRE", lock, HELD))
    return count
