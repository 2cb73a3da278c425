"""What a worker says of itself, every few seconds: to the cluster through Redis, to its node through shared memory.

`rdnscache cluster status` and the admin page show it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import fields
from typing import Any

from rdnscache import __version__
from rdnscache.build import form
from rdnscache.config import Config, plain
from rdnscache.journal import Journal
from rdnscache.metrics import COLUMN, HISTOGRAM, LAYERS, METRICS, Counters
from rdnscache.status import STEP, STEPS
from rdnscache.store.nostore import NoStore
from rdnscache.upstream.servers import Upstreams

#: Options that are a node's own; the others should be the same everywhere.
OWN = frozenset({"listen", "node_id", "admin", "workers", "log_level", "log_format", "log_queries", "upstream_file"})
#: Rates are over this many seconds at least.
RECENT = 6.0
_PLAIN = {metric.key: COLUMN[metric.key] for metric in METRICS if metric.kind != HISTOGRAM}
_LAYER_COLUMNS = [COLUMN[f"answers.{layer}"] for layer in LAYERS]


class Report:
    """The facts that do not change, made once, and those that do."""

    def __init__(self, config: Config, worker: int, counters: Counters) -> None:
        values = {field.name: plain(field, getattr(config, field.name)) for field in fields(Config)}
        self._counters = counters
        self._lasting = {
            "node": config.node_id,
            "worker": worker,
            "pid": os.getpid(),
            "version": __version__,
            "form": form(),
            "started": time.time(),
            "workers": config.workers,
            "listen": values["listen"],
            "config": {name: value for name, value in values.items() if name not in OWN},
        }
        self._looks: deque[tuple[float, list[int]]] = deque([(time.monotonic(), counters.tolist())])
        self._history = History(self._looks[0][1])

    def of(self, now: float, wall: float, store: NoStore, upstreams: Upstreams, journal: Journal) -> dict[str, Any]:
        """The report of this moment; `now` is monotonic, `wall` is seconds since 1970."""
        counts = self._counters.tolist()
        looks = self._looks
        looks.append((now, counts))
        while len(looks) > 2 and looks[1][0] <= now - RECENT:
            looks.popleft()
        since, before = looks[0]
        self._history.note(wall, counts)
        return self._lasting | {
            "time": wall,
            "redis_ms": round(store.latency * 1000, 2),
            "redis_state": store.state,
            "counters": {key: counts[column] for key, column in _PLAIN.items()},
            "recent": {key: counts[column] - before[column] for key, column in _PLAIN.items()},
            "recent_seconds": round(max(now - since, 0.001), 3),
            "history": self._history.told(),
            "slow": journal.slow(),
            "upstreams": [
                {
                    "address": str(server.address),
                    "ms": round(server.latency * 1000, 2),
                    "failures": server.failures,
                    "rests": max(round(server.rests_until - now, 1), 0),
                }
                for server in upstreams.servers
            ],
        }


class History:
    """How many answers each layer gave in the steps of the last minutes."""

    def __init__(self, counts: list[int]) -> None:
        self._last = counts
        self._steps: deque[tuple[int, list[int]]] = deque(maxlen=STEPS)

    def note(self, wall: float, counts: list[int]) -> None:
        """Add what was counted since the last time to the step of this moment."""
        number = int(wall) // STEP
        added = [counts[column] - self._last[column] for column in _LAYER_COLUMNS]
        self._last = counts
        if self._steps and self._steps[-1][0] == number:
            added = [old + new for old, new in zip(self._steps.pop()[1], added, strict=True)]
        self._steps.append((number, added))

    def told(self) -> list[list[int]]:
        """A list for each step: its number, and the answers of each layer."""
        return [[number, *answers] for number, answers in self._steps]
