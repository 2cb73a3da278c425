"""Flushes zones whose servers have changed in a reload, with confirmation by all workers. It runs in a process of its
own, since it waits for Redis if that is away, and for the workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from rdnscache.dns.names import parse_own_name
from rdnscache.errors import StoreDown
from rdnscache.operator.entries import Browser
from rdnscache.operator.flush import Flush
from rdnscache.operator.members import Members
from rdnscache.store.scope import Scope

log = logging.getLogger(__name__)

#: Seconds to wait for the workers to confirm.
PATIENCE = 5.0
#: Seconds between two attempts while Redis is away, and after which it gives up.
PAUSE, GIVE_UP = 5.0, 3600.0


def forget_zones(url: str, prefix: str, zones: Sequence[str]) -> int:
    """Returns the exit code: 1 when a zone could not be flushed, which is logged."""
    browser = Browser(url, prefix)
    deadline = time.monotonic() + GIVE_UP
    code = 0
    for scope in (Scope(zone=parse_own_name(zone)) for zone in zones):
        problems = _forget(browser, scope, deadline)
        for problem in problems:
            log.warning("%s: the zone's servers have changed, but old answers may still be in use: %s; "
                        "flush it again with `rdnscache cache flush`", scope, problem)  # fmt: skip
        code |= bool(problems)
    return code


def _forget(browser: Browser, scope: Scope, deadline: float) -> Sequence[str]:
    """Why it is not confirmed; empty when it is."""
    while True:
        try:
            work = Flush(browser, Members(browser.redis, browser.names), scope, PATIENCE)
            proof = work.run()
        except StoreDown as error:
            if time.monotonic() + PAUSE >= deadline:
                return [str(error)]
            log.warning(
                "%s: the zone's servers have changed, but Redis is away, so it cannot be flushed: retrying", scope
            )
            time.sleep(PAUSE)
            continue
        log.info("flushed %s since its servers have changed: %d entries in Redis, %d in local caches; confirmed by %s",
                 scope, work.deleted, proof.entries, proof)  # fmt: skip
        return proof.problems
