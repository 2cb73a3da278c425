"""Reports clients over the rate limit in the log."""

from __future__ import annotations

import logging

from rdnscache.clients.limit import Limiter
from rdnscache.metrics import LIMITED_DROPPED, LIMITED_TRUNCATED, Counters

log = logging.getLogger(__name__)

#: How many prefixes over the limit are named.
NAMED = 5


class LimitReport:
    """Logs which clients have been over the limit since the last report."""

    def __init__(self, limiter: Limiter | None, counters: Counters) -> None:
        self._limiter = limiter
        self._counters = counters
        self._told = self._count()

    def _count(self) -> int:
        return self._counters[LIMITED_DROPPED] + self._counters[LIMITED_TRUNCATED]

    def tell(self, now: float) -> None:
        count, before = self._count(), self._told
        self._told = count
        if self._limiter is None or count == before:
            return
        over = self._limiter.limited(now)
        more = f" and {len(over) - NAMED} more" if len(over) > NAMED else ""
        who = f"; over the limit now: {', '.join(over[:NAMED])}{more}" if over else ""
        log.warning("rate limit: %d replies held back or truncated%s", count - before, who)
