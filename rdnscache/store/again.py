"""Flushes that Redis has lost because it went back in time: announced once more, and their entries deleted, by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gevent

from rdnscache.errors import StoreDown
from rdnscache.store.browse import Browser
from rdnscache.store.cluster import Cluster
from rdnscache.store.flushing import Flush
from rdnscache.store.scope import Scope

if TYPE_CHECKING:
    from rdnscache.store.link import Link
    from rdnscache.store.shards import Shards

log = logging.getLogger(__name__)

#: Seconds for which nobody else announces a lost event; to wait until the link is attached; for workers to confirm.
OURS, ATTACH, PATIENCE = 600, 10.0, 2.0


def announce_again(url: str, prefix: str, link: Link | Shards, lost: Sequence[tuple[bytes, Scope]]) -> None:
    """Begin to announce flushes, each with the ID it had; where another worker does so already, leave it to that one.

    Called while attaching, it does not wait.
    """
    gevent.spawn(_run, url, prefix, link, lost)


def _run(url: str, prefix: str, link: Link | Shards, lost: Sequence[tuple[bytes, Scope]]) -> None:
    deadline = time.monotonic() + ATTACH
    while not link.attached and time.monotonic() < deadline:
        gevent.sleep(0.05)
    browser = Browser(url, prefix)
    for event_id, scope in lost:
        mark = browser.names.again(event_id.decode())
        try:
            (mine,) = link.request((b"SET", mark, b"1", b"NX", b"EX", OURS))
            if mine in (b"OK", "OK"):
                _flush(browser, scope)
        except StoreDown as error:
            link.send((b"DEL", mark))
            log.error("the flush of %s, which Redis has lost, could not be announced again: %s", scope, error)


def _flush(browser: Browser, scope: Scope) -> None:
    flush = Flush(browser, Cluster(browser.redis, browser.names), scope, PATIENCE)
    proof = flush.run()
    log.warning("flushed %s again: %d entries in Redis, confirmed by %s", scope, flush.deleted, proof)
    for problem in proof.problems:
        log.warning("%s", problem)
