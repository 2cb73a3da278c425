"""Counters shared by a node's workers: one row of 64-bit numbers each, in memory the supervisor made before it forked.

Each worker writes its own row only, so no lock is needed and a dead worker's numbers stay.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One exposed number: a metric name without prefix, what it means, a label where a name has several."""

    name: str
    help: str
    label: str = ""
    value: str = ""
    gauge: bool = False

    @property
    def key(self) -> str:
        """A name of its own for each number."""
        return f"{self.name}.{self.value}" if self.label else self.name


_QUERIES = "Queries received."
_ANSWERS = "Replies sent, by the layer that had the answer."
METRICS: tuple[Metric, ...] = (
    Metric("queries", _QUERIES, "transport", "udp"),
    Metric("queries", _QUERIES, "transport", "tcp"),
    Metric("answers", _ANSWERS, "layer", "l1"),
    Metric("answers", _ANSWERS, "layer", "l2"),
    Metric("answers", _ANSWERS, "layer", "upstream"),
    Metric("answers", _ANSWERS, "layer", "flight"),
    Metric("answers", _ANSWERS, "layer", "follower"),
    Metric("answers", _ANSWERS, "layer", "stale"),
    Metric("answers", _ANSWERS, "layer", "failure"),
    Metric("answers", _ANSWERS, "layer", "local"),
    Metric("queries_dropped", "Datagrams left unanswered: too short, replies, or from port 0."),
    Metric("queries_shed", "Queries refused because too many clients were waiting, or for too long."),
    Metric("upstream_queries", "Queries sent to upstreams."),
    Metric("upstream_failures", "Upstream queries without a usable reply."),
    Metric("redis_errors", "Commands that Redis refused or did not answer in time."),
    Metric("redis_attached", "Workers whose link to Redis is up.", gauge=True),
    Metric("store_discards", "Values in Redis that could not be used and were deleted."),
    Metric("wakes", "Followers woken by a message."),
    Metric("rechecks", "Followers that looked again because no message came."),
    Metric("l1_entries", "Entries in L1.", gauge=True),
    Metric("l1_bytes", "Bytes held by L1.", gauge=True),
    Metric("l1_evictions", "Entries pushed out of L1."),
    Metric("callback_errors", "Unexpected errors caught at the edge of a callback; each is in the log."),
)
(
    QUERIES_UDP,
    QUERIES_TCP,
    L1,
    L2,
    UPSTREAM,
    FLIGHT,
    FOLLOWER,
    STALE,
    FAILURE,
    LOCAL,
    DROPPED,
    SHED,
    UPSTREAM_QUERIES,
    UPSTREAM_FAILURES,
    REDIS_ERRORS,
    REDIS_ATTACHED,
    DISCARDS,
    WAKES,
    RECHECKS,
    L1_ENTRIES,
    L1_BYTES,
    L1_EVICTIONS,
    CALLBACK_ERRORS,
) = range(len(METRICS))

Counters = memoryview


class Board:
    """All rows of a node. Made by the supervisor, inherited by the workers."""

    def __init__(self, workers: int) -> None:
        self._width = len(METRICS)
        self._rows = memoryview(mmap.mmap(-1, workers * self._width * 8)).cast("B").cast("Q")
        self.workers = workers

    def row(self, worker: int) -> Counters:
        return self._rows[worker * self._width : (worker + 1) * self._width]

    def totals(self) -> list[int]:
        return [sum(self._rows[column :: self._width].tolist()) for column in range(self._width)]
