"""The last hour in steps of a minute: what a worker has counted in each.

The counts of all workers are added up in Redis (`store.hours`); without Redis a node adds up those of its own workers.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence

from rdnscache.metrics import (
    ANSWERS,
    DENIED,
    L1_EVICTIONS,
    LIMITED_DROPPED,
    LIMITED_TRUNCATED,
    RCODES,
    REPLIES_TCP,
    REPLIES_UDP,
    SECONDS_COLUMNS,
    Board,
)
from rdnscache.outcomes import LAYERS
from rdnscache.store.interface import Store

#: Seconds of a step; how many are kept.
STEP, STEPS = 60, 60
#: Each count and the columns it is the sum of: answers by layer, replies by RCODE, queries not answered, entries
#: evicted from L1, answers by how long they took (the buckets of `metrics.BOUNDS`).
COLUMNS: dict[str, tuple[int, ...]] = {
    **{layer: (ANSWERS + place,) for place, layer in enumerate(LAYERS)},
    **{f"rcode.{rcode}": (REPLIES_UDP + place, REPLIES_TCP + place) for place, rcode in enumerate(RCODES)},
    "denied": (DENIED,),
    "limited": (LIMITED_DROPPED, LIMITED_TRUNCATED),
    "evicted": (L1_EVICTIONS,),
    **{f"seconds.{place}": columns for place, columns in enumerate(SECONDS_COLUMNS)},
}


#: A minute (since 1970) and its counts.
Step = tuple[int, dict[str, int]]


class Hour:
    """A worker's counts of the current minute, and the minutes that have not been sent to the cluster yet."""

    def __init__(self, wall: float, counts: Sequence[int]) -> None:
        self._last = self._sums(counts)
        self._minute = int(wall) // STEP
        self._present: dict[str, int] = {}
        self.pending: deque[Step] = deque(maxlen=STEPS)

    @staticmethod
    def _sums(counts: Sequence[int]) -> dict[str, int]:
        return {name: sum(counts[column] for column in columns) for name, columns in COLUMNS.items()}

    def note(self, wall: float, counts: Sequence[int]) -> Step | None:
        """Add what was counted since the last call to the current minute; returns that minute when it is over."""
        sums = self._sums(counts)
        for name, total in sums.items():
            added = total - self._last[name]
            if added > 0:
                self._present[name] = self._present.get(name, 0) + added
        self._last = sums
        minute = int(wall) // STEP
        if minute == self._minute:
            return None
        step = self.close()
        self._minute = minute
        return step

    def close(self) -> Step | None:
        """End the present minute, if anything was counted in it."""
        if not self._present:
            return None
        step = self._minute, self._present
        self._present = {}
        self.pending.append(step)
        return step


class HourKeeper:
    """Reports the counts of each minute to node and cluster; while Redis is away they are kept and sent later."""

    def __init__(self, board: Board, worker: int, store: Store) -> None:
        self._board, self._worker, self._store = board, worker, store
        self._hour = Hour(time.time(), board.row(worker).tolist())

    def tell(self, ends: bool = False) -> None:
        """Called every few seconds, and when the worker ends."""
        board, worker, hour = self._board, self._worker, self._hour
        step = hour.note(time.time(), board.row(worker).tolist()) or (hour.close() if ends else None)
        if step is not None:
            board.tell_hour(worker, with_step(board.hours()[worker], step))
        while hour.pending and self._store.attached:
            self._store.add_hour(*hour.pending.popleft())


def with_step(told: bytes, step: Step) -> bytes:
    """The minutes a worker has reported to its node, with one more added; its predecessor may have begun the same
    one."""
    steps = dict(read_steps(told))
    minute, counts = step
    known = steps.get(minute, {})
    steps[minute] = {name: known.get(name, 0) + counts.get(name, 0) for name in (known | counts)}
    return json.dumps(sorted(steps.items())[-STEPS:]).encode()


def read_steps(told: bytes) -> list[Step]:
    """The minutes that a worker of this node has reported; none when the text is damaged because two wrote at once."""
    try:
        return [(minute, counts) for minute, counts in json.loads(told or b"[]")]
    except ValueError:
        return []
