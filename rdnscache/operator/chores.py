"""What one worker does for all: flushes that Redis has lost, since it went back in time, are announced again, and the
entries of flushes are deleted that are under way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

import gevent

from rdnscache.breath import Breath
from rdnscache.errors import StoreDown, StoreRefused
from rdnscache.operator.announcer import Announcer
from rdnscache.operator.entries import Browser
from rdnscache.operator.flush import Flush
from rdnscache.operator.members import Members
from rdnscache.operator.redis_clients import redis_errors
from rdnscache.store.alone import HELD, by_one
from rdnscache.store.contract import Names
from rdnscache.store.scope import Scope
from rdnscache.store.servers import Ask, Servers
from rdnscache.store.sweeping import LATER, STEP, Where, sweep

log = logging.getLogger(__name__)

#: Seconds for which no other worker repeats a flush that one has begun to repeat; seconds to wait for confirmations.
OURS, PATIENCE = 600, 2.0
#: Seconds between two steps of a deletion that nobody waits for: Redis is busy with it for half of the time.
STEP_PAUSE = 0.002
#: Seconds to wait until the link is attached.
ATTACH = 10.0
GONE = b"gone"

#: A lost flush: its last event, its scope, and how many entries have been deleted for it.
Lost = tuple[bytes, Scope, int]


def delete(url: str, prefix: str, flush_id: bytes, scope: Scope) -> None:
    """Delete what a flush under way means, and say that it is over. The lock for it is ours."""
    browser, flush, count = Browser(url, prefix, breathe=Breath().take), flush_id.decode(), 0
    lock = browser.names.deleting(flush)
    try:
        members = Members(browser.redis, browser.names, Breath().take)
        announcer = Announcer(members, PATIENCE)
        announcer.look()
        for version in sorted(announcer.versions):
            for step in browser.of_version(version).sweep(scope, flush.encode(), LATER):
                count += step.deleted
                with redis_errors():
                    browser.redis.pexpire(lock, HELD)
                gevent.sleep(STEP_PAUSE)
        members.end_flush(scope, flush)
        log.info("deleted %d entries from Redis, of the flush of %s", count, scope)
    except StoreDown as error:
        log.warning("the flush of %s is proved, but its entries are not all deleted from Redis: %s; a worker goes on "
                    "with that before long", scope, error)  # fmt: skip


def announce_again(url: str, prefix: str, servers: Servers, lost: Sequence[tuple[bytes, Scope]]) -> None:
    """Delete the entries of lost flushes, then start to announce them, unless another worker does so already.

    Called while attaching: it returns when the entries are gone, so that no worker that knows of a flush reads them.
    Raises StoreDown when they are not. In a Redis Cluster each shard is checked by its mark when it is attached.
    """
    names = Names(prefix)
    ours: list[Lost] = []
    for event_id, scope in lost:

        def pages(scope: Scope = scope) -> Iterable[int]:
            steps = () if servers.marked else sweep(servers.setup, names, scope, STEP, where=Where.INDEX)
            return (step.deleted for step in steps)

        try:
            deleted = _delete(servers.setup, names.again(event_id.decode()), pages)
            if deleted is not None:
                ours.append((event_id, scope, deleted))
        except StoreRefused as problem:
            log.error("Redis has lost a flush, and deleted entries may be in use again (%s): %s", scope, problem)
    if ours:
        gevent.spawn(_announce, Browser(url, prefix), servers, ours)


def _delete(ask: Ask, lock: bytes, pages: Callable[[], Iterable[int]]) -> int | None:
    """The number of entries deleted; None when another worker did it."""
    deleted = by_one(ask, lock, lambda: ask((b"GET", lock))[0] == GONE, pages)
    if deleted is not None:
        ask((b"SET", lock, GONE, b"EX", OURS))
    return deleted


def _announce(browser: Browser, servers: Servers, lost: Sequence[Lost]) -> None:
    deadline = time.monotonic() + ATTACH
    while not servers.attached and time.monotonic() < deadline:
        gevent.sleep(0.05)
    for event_id, scope, deleted in lost:
        try:
            _flush(browser, scope, deleted)
        except StoreDown as error:
            servers.send((b"DEL", browser.names.again(event_id.decode())))
            log.error("Redis has lost the flush of %s, and it could not be announced again: %s", scope, error)


def _flush(browser: Browser, scope: Scope, deleted: int) -> None:
    flush = Flush(browser, Members(browser.redis, browser.names, Breath().take), scope, PATIENCE)
    proof = flush.run()
    log.warning("flushed %s again: %d entries in Redis, confirmed by %s", scope, deleted + flush.deleted, proof)
    for problem in proof.problems:
        log.warning("%s", problem)
