"""Which entries of Redis this node uses: well-formed ones, with a valid MAC if there is a secret, and only those
failures that it would have met itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rdnscache import clock, metrics
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import Limits
from rdnscache.dns.zones import Zones
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters
from rdnscache.store.clocks import Clocks
from rdnscache.store.decoding import LIMITS, Lifetime, decode, mistimed
from rdnscache.store.seal import TOLERANCE, Seal, earlier, put_back
from rdnscache.store.under_way import UnderWay

log = logging.getLogger(__name__)

_WHOLE = Lifetime.WHOLE


@dataclass(frozen=True, slots=True)
class Terms:
    """How this node uses the entries of a zone."""

    limits: Limits = LIMITS
    #: Labels of the upstreams it asks: failures that came from these are trusted.
    upstreams: frozenset[str] = frozenset()


class Trust:
    """`terms` are this node's, by zone; `discard(name)` deletes a value that no node can use."""

    def __init__(
        self,
        node: str,
        terms: Zones[Terms],
        seal: Seal | None,
        discard: Callable[[bytes], None],
        counters: Counters,
        under_way: UnderWay | None = None,
    ) -> None:
        self._node = node
        self._terms = terms
        #: Those of all zones, where they are the same.
        self._usual = terms.only
        self._seal = seal
        self._discard = discard
        self._counters = counters
        self._forged = Throttled(log)
        self._under_way = UnderWay() if under_way is None else under_way
        #: If our clock disagrees with most others, we would trust no node, and no node us.
        self.clocks = Clocks(TOLERANCE)
        #: The field that is read in addition to `wire` and `info`, if there is a secret.
        self.mac_field: tuple[bytes, ...] = (b"mac",) if seal else ()

    def entry_of(self, key: bytes, name: bytes, fields: list[Any], left_ms: object) -> Entry | None:
        """The entry for a question from its fields `wire`, `info` and perhaps `mac`; None if it cannot be used.

        A value that no node can use is deleted. One that is not trusted here stays: others may trust it.
        """
        now, limits = clock.now(), (self._usual or self._terms.of(key)).limits
        if not limits.keep and left_ms is not _WHOLE:  # somebody else keeps it
            return None
        entry = decode(key, fields[1], fields[0], left_ms, now, limits)
        if entry is None:
            if left_ms is not _WHOLE and not mistimed(fields[1], left_ms):
                self._discard(name)
            return None
        if self._under_way and self._under_way.refuses(key, entry.rcode, fields[1]):
            return None  # a flush is about to delete it
        if self._seal is not None:
            problem = self._seal.unsigned(name, fields[1], fields[0], fields[2] if len(fields) > 2 else None)
            if problem or (problem := self._put_back(entry, fields[1], now)):
                self._counters[metrics.FORGED] += 1
                self._forged.warn(f"not using {name.decode('ascii')} from Redis: {problem}", time.monotonic())
                self._look_at_clock()
                return None
        return entry

    def _put_back(self, entry: Entry, info: bytes, now: float) -> str:
        ahead = earlier(info, now - entry.stored, time.time())
        node = entry.origin.split(" ")[1].removeprefix("node=")
        if ahead is not None and node != self._node:
            self.clocks.note(node, ahead, time.monotonic())
        return put_back(ahead)

    def believes(self, failure: Entry) -> bool:
        """Whether this node would have met a stored failure as well: see `contract`."""
        words = dict([word.split("=", 1) for word in failure.origin.split(" ")])
        asked = self._terms.of(failure.key).upstreams
        return words["node"] == self._node or ("why" in words and words["from"] in asked)

    def signed(self, name: bytes, info: bytes, wire: bytes) -> tuple[bytes, ...]:
        """The field `mac` of an entry and its value; empty without a secret."""
        return (b"mac", self._seal.sign(name, info, wire)) if self._seal is not None else ()

    def catch_up(self) -> None:
        """Called now and then: log what was throttled, and check whether our clock is right again."""
        self._forged.catch_up(time.monotonic())
        if self.clocks.wrong:
            self._look_at_clock()

    def server_time(self, seconds: float) -> None:
        """Note the time of the Redis server, in seconds since 1970."""
        self.clocks.note_server(time.time() - seconds)

    def _look_at_clock(self) -> None:
        if not self.clocks.judge(time.monotonic()):
            return
        if self.clocks.wrong:
            log.warning("this host's clock differs from most nodes' clocks: no entry is shared until it agrees")
        else:
            log.info("this host's clock agrees with most nodes' clocks: entries are shared again")
