"""Flushes that Redis has lost because it went back in time: announced once more, and their entries deleted, by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gevent

from rdnscache.errors import StoreDown
from rdnscache.store.breath import Breath
from rdnscache.store.browse import Browser, redis_errors
from rdnscache.store.cluster import Cluster
from rdnscache.store.flushing import Flush
from rdnscache.store.scope import Scope

if TYPE_CHECKING:
    from rdnscache.store.link import Link
    from rdnscache.store.shards import Shards

log = logging.getLogger(__name__)

#: Seconds for which nobody else does what one has begun: deleting, announcing; to wait for workers to confirm.
DELETING, OURS, PATIENCE = 5.0, 600, 2.0
#: Seconds between two looks whether what another deletes is gone; to wait until the link is attached.
LOOK, ATTACH = 0.02, 10.0
BEGUN, GONE = b"deleting", b"gone"


def announce_again(url: str, prefix: str, link: Link | Shards, lost: Sequence[tuple[bytes, Scope]]) -> None:
    """Delete what lost flushes mean, then begin to announce them, unless another worker does so already.

    Called while attaching: it returns when the entries are gone, so that nobody who knows of a flush reads them.
    """
    browser = Browser(url, prefix)
    ours = []
    for event_id, scope in lost:
        try:
            deleted = _delete(browser, browser.names.again(event_id.decode()), scope)
            if deleted is not None:
                ours.append((event_id, scope, deleted))
        except StoreDown as error:
            log.error("what the flush of %s meant, which Redis has lost, could not be deleted: %s", scope, error)
    if ours:
        gevent.spawn(_announce, browser, link, ours)


def _delete(browser: Browser, mark: bytes, scope: Scope) -> int | None:
    """How many entries; None when somebody else did it. Whoever does not get it done in time is not waited for."""
    deadline = time.monotonic() + DELETING
    with redis_errors():
        ours = bool(browser.redis.set(mark, BEGUN, nx=True, ex=round(DELETING)))
    while not ours and time.monotonic() < deadline:
        with redis_errors():
            if browser.redis.get(mark) == GONE:
                return None
        gevent.sleep(LOOK)
    deleted = browser.flush(scope)
    with redis_errors():
        browser.redis.set(mark, GONE, ex=OURS)
    return deleted


def _announce(browser: Browser, link: Link | Shards, lost: Sequence[tuple[bytes, Scope, int]]) -> None:
    deadline = time.monotonic() + ATTACH
    while not link.attached and time.monotonic() < deadline:
        gevent.sleep(0.05)
    for event_id, scope, deleted in lost:
        try:
            _flush(browser, scope, deleted)
        except StoreDown as error:
            link.send((b"DEL", browser.names.again(event_id.decode())))
            log.error("the flush of %s, which Redis has lost, could not be announced again: %s", scope, error)


def _flush(browser: Browser, scope: Scope, deleted: int) -> None:
    flush = Flush(browser, Cluster(browser.redis, browser.names, Breath().take), scope, PATIENCE)
    proof = flush.run()
    log.warning("flushed %s again: %d entries in Redis, confirmed by %s", scope, deleted + flush.deleted, proof)
    for problem in proof.problems:
        log.warning("%s", problem)
