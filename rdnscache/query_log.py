"""What a worker notes of its queries for people: the hottest names, the latest slow ones, a sampled log."""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import Any

from rdnscache.dns.names import name_text, rcode_text, type_text
from rdnscache.dns.question import qclass, qtype
from rdnscache.dns.wire import IN, Query
from rdnscache.outcomes import LAYERS

log = logging.getLogger("rdnscache.queries")

#: Names counted at a time. When there are more, newcomers have to wait for the next interval.
HEAT_ROOM = 10_000
#: How many of them are told to others at the end of one.
HOTTEST = 100
#: A flight that takes this many seconds is slow; how many of them are remembered.
SLOW, SLOW_KEPT = 0.25, 10


class QueryLog:
    """One per worker. `every` is how many queries there are to one in the log; 0 for none."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._until_next = every
        self._heat: dict[bytes, int] = {}
        #: The questions asked most in the last whole interval, and how often.
        self.hottest: list[tuple[bytes, int]] = []
        #: The names of views by their numbers, where there are any.
        self.views: Sequence[str] = ()
        self._slow: deque[dict[str, Any]] = deque(maxlen=SLOW_KEPT)

    def heat(self, key: bytes, queries: int) -> None:
        """Count queries for a question. Of a batch, one question stands for all: a fair sample."""
        heat = self._heat
        if key in heat:
            heat[key] += queries
        elif key and len(heat) < HEAT_ROOM and qclass(key) == IN:  # other classes are for health checks
            heat[key] = queries

    def turn(self, answered: Callable[[bytes], bool] = lambda key: True) -> None:
        """An interval is over: see what was asked most, and count afresh. What is not `answered` is left out."""
        heat, self._heat = self._heat, {}
        most = nlargest(2 * HOTTEST, heat.items(), key=lambda item: item[1])
        self.hottest = [item for item in most if answered(item[0])][:HOTTEST]

    def due(self, queries: int) -> bool:
        """Whether one of these queries is to be logged."""
        if self._every == 0:
            return False
        self._until_next -= queries
        if self._until_next > 0:
            return False
        self._until_next = max(self._until_next + self._every, 1)
        return True

    def watch(self, query: Query, transport: str, source: bytes) -> Callable[[int], None]:
        """What is to be called when a query is answered: it writes a line of the query log."""
        began = time.monotonic()
        client = address_text(source)

        def answered(layer: int) -> None:
            told = {
                "client": client,
                "transport": transport,
                **({"view": self.views[query.group] if query.group >= 0 else "-"} if self.views else {}),
                **_question(query.key),
                "rcode": rcode_text(query.rcode),
                "layer": LAYERS[layer],
                "ms": round((time.monotonic() - began) * 1000, 3),
            }
            log.info("query %s", " ".join(f"{name}={value}" for name, value in told.items()), extra={"fields": told})

        return answered

    def note_slow(self, key: bytes, layer: int, seconds: float) -> None:
        """A flight took as long as `SLOW`, or longer."""
        told = {"time": round(time.time(), 1), **_question(key), "layer": LAYERS[layer]}
        self._slow.append(told | {"ms": round(seconds * 1000, 1)})

    def slow(self) -> list[dict[str, Any]]:
        """The latest slow flights, the newest last."""
        return list(self._slow)


def _question(key: bytes) -> dict[str, str]:
    if not key:
        return {"name": "-", "type": "-"}
    return {"name": name_text(key), "type": type_text(qtype(key))}


def address_text(source: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(source) == 4 else socket.AF_INET6, source)
