"""The report that a worker makes every few seconds: to the cluster through Redis, to its node through shared memory.

`rdnscache cluster status` and the admin page show it.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from rdnscache import __version__, clock
from rdnscache.breath import Breath
from rdnscache.cache import Cache
from rdnscache.config import Config, options
from rdnscache.config_text import plain, toml_name
from rdnscache.departure import Departure
from rdnscache.dns.entry import Entry
from rdnscache.dns.names import TYPES, question_text, rcode_text
from rdnscache.dns.question import questions
from rdnscache.dns.wire import IN
from rdnscache.forms import form
from rdnscache.kernel import Incarnation, born
from rdnscache.metrics import ANSWERS, COLUMN, HISTOGRAM, L1_SECONDS, METRICS, SECONDS_COLUMNS, Counters
from rdnscache.outcomes import LAYERS
from rdnscache.query_log import QueryLog
from rdnscache.store.contract import VERSION
from rdnscache.store.interface import Store
from rdnscache.store.steering import STEP, STEPS
from rdnscache.upstream.server import Server
from rdnscache.views import Views

#: Longest value of an option in the report, in characters.
LONGEST_VALUE = 4000
#: Most servers in the report.
MOST_SERVERS = 64
#: Rates are computed over at least this many seconds.
RECENT = 6.0
_PLAIN = {metric.key: COLUMN[metric.key] for metric in METRICS if metric.kind != HISTOGRAM}
_LAYER_COLUMNS = range(ANSWERS, ANSWERS + len(LAYERS))


class WorkerStatus:
    """Builds the reports of a worker. Facts that do not change are collected once."""

    def __init__(
        self, config: Config, worker: int, counters: Counters, life: Incarnation, departure: Departure
    ) -> None:
        values = {toml_name(option): plain(option, getattr(config, option.name)) for option in options()}
        shared = {toml_name(option) for option in options() if not option.metadata["own"]}
        self._departure = departure
        self._counters = counters
        self._lasting = {
            "node": config.node_id,
            "incarnation": life.name,
            "host": life.as_json(),
            "worker": worker,
            "pid": os.getpid(),
            "born": born(os.getpid()),
            "version": __version__,
            "contract": VERSION,
            "form": form(),
            "started": time.time(),
            "workers": config.workers,
            "listen": values["listen"],
            "config": {name: _brief(value) for name, value in values.items() if name in shared},
            "own": {name: _brief(value) for name, value in values.items() if name not in shared},
        }
        self._looks: deque[tuple[float, list[int]]] = deque([(time.monotonic(), counters.tolist())])
        self._history = History(time.time(), self._looks[0][1])
        self._durations = Durations(*self._looks[0])

    def of(
        self, now: float, wall: float, store: Store, servers: Sequence[Server], query_log: QueryLog
    ) -> dict[str, Any]:
        """The report of this moment; `now` is monotonic, `wall` is seconds since 1970."""
        counts = self._counters.tolist()
        looks = self._looks
        looks.append((now, counts))
        while len(looks) > 2 and looks[1][0] <= now - RECENT:
            looks.popleft()
        since, before = looks[0]
        self._history.note(wall, counts)
        self._durations.note(now, counts)
        return self._lasting | {
            "time": wall,
            "redis_ms": round(store.latency * 1000, 2),
            "redis_state": store.state,
            "twins": sorted(store.twins),
            "leaving": self._departure.farewell,
            "counters": {key: counts[column] for key, column in _PLAIN.items()},
            "recent": {key: counts[column] - before[column] for key, column in _PLAIN.items()},
            "recent_seconds": round(max(now - since, 0.001), 3),
            "history": self._history.told(),
            "slow": query_log.slow(),
            "durations": self._durations.told(now),
            "audience": query_log.audience.told(now) if query_log.audience is not None else {},
            "upstreams": [_upstream(server, now) for server in servers[:MOST_SERVERS]],
        }


def _upstream(server: Server, now: float) -> dict[str, Any]:
    told: dict[str, Any] = {
        "address": server.label,
        "ms": round(server.estimate.rtt * 1000, 2),
        "failures": server.health.failures,
        "rests": max(round(server.health.rests_until - now, 1), 0),
        "resting": server.health.resting,
    }
    budget = server.budget
    if budget is not None:
        told |= {
            "place": server.endpoint.url,
            "budget": budget.rate,
            "used": round(budget.used, 1),
            "reserved": round(budget.reserved, 1),
        }
    return told


def _brief(value: Any) -> Any:
    """The value of an option; for one that is too long, its length and a checksum."""
    text = json.dumps(value)
    return value if len(text) <= LONGEST_VALUE else f"{len(value)} of them, checksum {crc32(text.encode()):08x}"


class History:
    """How many answers each layer gave, in steps over the last minutes."""

    def __init__(self, wall: float, counts: list[int]) -> None:
        self._since = wall
        self._last = counts
        self._steps: deque[tuple[int, list[float]]] = deque(maxlen=STEPS + 1)  # the last one is not complete

    def note(self, wall: float, counts: list[int]) -> None:
        """Spread the counts since the last call evenly over the time since then, which may cover several steps."""
        added = [counts[column] - self._last[column] for column in _LAYER_COLUMNS]
        since, self._since, self._last = self._since, wall, counts
        if not since < wall < since + STEP * STEPS:  # the clock was set
            since = wall
        for number in range(int(since) // STEP, int(wall) // STEP + 1):
            inside = min(wall, (number + 1) * STEP) - max(since, number * STEP)
            part = inside / (wall - since) if wall > since else 1.0
            self._add(number, [answers * part for answers in added])

    def _add(self, number: int, answers: list[float]) -> None:
        if self._steps and self._steps[-1][0] == number:
            answers = [old + new for old, new in zip(self._steps.pop()[1], answers, strict=True)]
        self._steps.append((number, answers))

    def told(self) -> list[list[float]]:
        """A list for each step: its number, and the answers of each layer."""
        return [[number, *(round(each, 1) for each in answers)] for number, answers in self._steps]


class Durations:
    """How long the answers of the last minutes took: their number in each bucket of `metrics.BOUNDS`."""

    def __init__(self, now: float, counts: list[int]) -> None:
        self._looks = deque([(now, self._sums(counts))])

    @staticmethod
    def _sums(counts: list[int]) -> list[list[int]]:
        hits = counts[L1_SECONDS : L1_SECONDS + len(SECONDS_COLUMNS)]
        return [[sum(counts[column] for column in columns) for columns in SECONDS_COLUMNS], hits]

    def note(self, now: float, counts: list[int]) -> None:
        looks = self._looks
        looks.append((now, self._sums(counts)))
        while len(looks) > 2 and looks[1][0] <= now - STEP * STEPS:
            looks.popleft()

    def told(self, now: float) -> dict[str, Any]:
        """The counts of all answers, and of those not from L1; and the number of seconds they cover."""
        (since, first), (_, last) = self._looks[0], self._looks[-1]
        every, hits = ([b - a for a, b in zip(*pair, strict=True)] for pair in zip(first, last, strict=True))
        missed = [one - hit for one, hit in zip(every, hits, strict=True)]
        return {"seconds": round(now - since, 1), "all": every, "missed": missed}


def held_of(cache: Cache, views: Views | None, name: bytes) -> list[dict[str, Any]]:
    """The entries L1 holds of a name, for everybody and for each view; a group without a name counts as everybody."""
    found, breath = dict[str, dict[str, Any]](), Breath()
    for key in questions(name, TYPES, IN):
        entry = cache.peek(key)
        if entry is not None:
            found[question_text(key)] = _held(question_text(key), entry)
        breath.take()
        if views is not None:
            found |= {question: _held(question, each) for question, each in views.held(key)}
    return list(found.values())


def _held(question: str, entry: Entry) -> dict[str, Any]:
    now = clock.now()
    return {
        "key": question,
        "rcode": rcode_text(entry.rcode),
        "state": "fresh" if entry.fresh(now) else "stale" if entry.usable(now) else "expired",
        "ttl_left": max(round(entry.stored + entry.ttl - now), 0),
        "age": max(round(now - entry.stored), 0),
        "origin": entry.origin,
    }
