"""What a worker records about its queries for operators: the hottest names, recent slow ones, a sampled log, a sample
that can be searched, and who asks."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import Any

from rdnscache.audience import Audience, client_text
from rdnscache.dns.names import name_text, rcode_text, type_text
from rdnscache.dns.question import qclass, qname, qtype
from rdnscache.dns.wire import IN, Query
from rdnscache.outcomes import LAYERS
from rdnscache.query_sample import QueryRing, Sampled

log = logging.getLogger("rdnscache.queries")

#: Number of names counted in an interval. Once it is reached, new names are not counted until the next interval.
HEAT_ROOM = 10_000
#: How many of them are reported at the end of an interval.
HOTTEST = 100
#: A flight that takes this many seconds is slow; how many slow ones are remembered.
SLOW, SLOW_KEPT = 0.25, 10
#: About how many queries are examined for their client in an interval; when there are more, each stands for several.
SAMPLES = 1000
#: Kinds of queries, as indices into `audience.KINDS`.
ASKED, DENIED, LIMITED = 0, 1, 2


class Pace:
    """Chooses which events to examine: all when there are few, about SAMPLES in an interval when there are many."""

    def __init__(self) -> None:
        self._stride = self._total = self._since = 0
        self._left = SAMPLES

    def due(self, events: int) -> int:
        """For how many events the last of these stands; 0 when it is not to be examined."""
        self._since += events
        if self._since < self._stride:
            return 0
        stands, self._since = self._since, 0
        self._total += stands
        self._left -= 1
        if self._left == 0:  # more than in the previous interval: examine half as many from now on
            self._left = SAMPLES
            self._stride = 2 * max(self._stride, self._total // SAMPLES)
        return stands

    def turn(self) -> None:
        """Begin a new interval."""
        self._stride = self._total // SAMPLES
        self._total, self._left = 0, SAMPLES


class QueryLog:
    """One per worker. One of `every` queries is logged, one of `kept_every` is kept in the sample; 0 means none.
    Without an audience, clients are not counted.
    """

    def __init__(
        self, every: int, kept_every: int = 0, sample: QueryRing | None = None, audience: Audience | None = None
    ) -> None:
        self._every = every
        self._until_next = every
        self._kept_every = kept_every if sample is not None and audience is not None else 0
        self._until_kept = kept_every
        self._sample = sample
        #: Whether the last query that was due is for the log, for the sample, or both.
        self._logs = self._keeps = False
        self.audience = audience
        self._asked, self._denied, self._limited = Pace(), Pace(), Pace()
        self._heat: dict[bytes, int] = {}
        #: The questions asked most in the last whole interval, and how often.
        self.hottest: list[tuple[bytes, int]] = []
        #: The names of views by number; empty when there are none.
        self.views: Sequence[str] = ()
        self._slow: deque[dict[str, Any]] = deque(maxlen=SLOW_KEPT)

    def heat(self, key: bytes, query: Query, queries: int) -> None:
        """Count queries for a question, given by its key without view, and for a client.

        One query of a batch stands for all of them: a fair sample.
        """
        heat = self._heat
        if key in heat:
            heat[key] += queries
        elif key and len(heat) < HEAT_ROOM and qclass(key) == IN:  # other classes are used by health checks
            heat[key] = queries
        if self.audience is not None:
            stands = self._asked.due(queries)
            if stands > 0:
                self.audience.count(ASKED, query.source, stands)
                if key:
                    self.audience.count_type(query.qtype, stands)

    def denied(self, source: bytes) -> None:
        """A query was refused because its client is not allowed."""
        if self.audience is not None and (stands := self._denied.due(1)) > 0:
            self.audience.count(DENIED, source, stands)

    def limited(self, source: bytes) -> None:
        """A query of this client was over the rate limit."""
        if self.audience is not None and (stands := self._limited.due(1)) > 0:
            self.audience.count(LIMITED, source, stands)

    def turn(self, answered: Callable[[bytes], bool] = lambda key: True) -> None:
        """Begin a new interval; keep what was asked most in the last one, except questions that are not `answered`."""
        heat, self._heat = self._heat, {}
        most = nlargest(2 * HOTTEST, heat.items(), key=lambda item: item[1])
        self.hottest = [item for item in most if answered(item[0])][:HOTTEST]
        for pace in (self._asked, self._denied, self._limited):
            pace.turn()
        if self.audience is not None:
            self.audience.turn(time.monotonic())

    def due(self, queries: int) -> bool:
        """Whether one of these queries is due for the log or for the sample."""
        if self._every == 0 and self._kept_every == 0:
            return False
        self._logs = self._keeps = False
        if self._every:
            self._until_next -= queries
            if self._until_next <= 0:
                self._until_next, self._logs = max(self._until_next + self._every, 1), True
        if self._kept_every:
            self._until_kept -= queries
            if self._until_kept <= 0:
                self._until_kept, self._keeps = max(self._until_kept + self._kept_every, 1), True
        return self._logs or self._keeps

    def watch(self, query: Query, transport: str, source: bytes) -> Callable[[int], None]:
        """The callback for the answer of a query that was due: it logs it, keeps it, or both."""
        began, logs, keeps = time.monotonic(), self._logs, self._keeps

        def answered(layer: int) -> None:
            ms = (time.monotonic() - began) * 1000
            if keeps:
                self._keep(query, transport, source, layer, ms)
            if logs:
                self._log(query, transport, source, layer, ms)

        return answered

    def _log(self, query: Query, transport: str, source: bytes, layer: int, ms: float) -> None:
        told = {
            "client": client_text(source),
            "transport": transport,
            **({"view": self.views[query.group] if query.group >= 0 else "-"} if self.views else {}),
            **_question(query.key),
            "rcode": rcode_text(query.rcode),
            "layer": LAYERS[layer],
            "ms": round(ms, 3),
        }
        log.info("query %s", " ".join(f"{name}={value}" for name, value in told.items()), extra={"fields": told})

    def _keep(self, query: Query, transport: str, source: bytes, layer: int, ms: float) -> None:
        if self._sample is not None and self.audience is not None:
            client, stream = self.audience.shown(source), transport == "tcp"
            name = qname(query.key) if query.key else b""
            self._sample.write(
                Sampled(time.time(), ms, query.qtype, query.rcode, query.group, layer, stream, client, name)
            )

    def note_slow(self, key: bytes, layer: int, seconds: float) -> None:
        """A flight took `SLOW` seconds or longer."""
        told = {"time": round(time.time(), 1), **_question(key), "layer": LAYERS[layer]}
        self._slow.append(told | {"ms": round(seconds * 1000, 1)})

    def slow(self) -> list[dict[str, Any]]:
        """The latest slow flights, the newest last."""
        return list(self._slow)


def _question(key: bytes) -> dict[str, str]:
    if not key:
        return {"name": "-", "type": "-"}
    return {"name": name_text(key), "type": type_text(qtype(key))}
