"""The last hour in steps of a minute: what a worker has counted in each.

The cluster adds them up in Redis (`store.hours`); without it a node adds up those of its workers.
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
#: What is counted, and the columns that are added up for it: answers by layer, replies by RCODE, what was not answered,
#: entries pushed out of L1, answers by how long they took (the buckets of `metrics.BOUNDS`).
COLUMNS: dict[str, tuple[int, ...]] = {
    **{layer: (ANSWERS + place,) for place, layer in enumerate(LAYERS)},
    **{f"rcode.{rcode}": (REPLIES_UDP + place, REPLIES_TCP + place) for place, rcode in enumerate(RCODES)},
    "denied": (DENIED,),
    "limited": (LIMITED_DROPPED, LIMITED_TRUNCATED),
    "evicted": (L1_EVICTIONS,),
    **{f"seconds.{place}": columns for place, columns in enumerate(SECONDS_COLUMNS)},
}


#: A minute since 1970, and what was counted in it.
Step = tuple[int, dict[str, int]]


class Hour:
    """What a worker counts in the present minute, and the minutes of which the cluster has not been told."""

    def __init__(self, wall: float, counts: Sequence[int]) -> None:
        self._last = self._sums(counts)
        self._minute = int(wall) // STEP
        self._present: dict[str, int] = {}
        self.pending: deque[Step] = deque(maxlen=STEPS)

    @staticmethod
    def _sums(counts: Sequence[int]) -> dict[str, int]:
        return {name: sum(counts[column] for column in columns) for name, columns in COLUMNS.items()}

    def note(self, wall: float, counts: Sequence[int]) -> Step | None:
        """Count what has come since the last time for the present minute; that minute, if it is over now."""
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
    """Tells node and cluster each minute what a worker has counted in it; what Redis cannot be told now, later."""

    def __init__(self, board: Board, worker: int, store: Store) -> None:
        self._board, self._worker, self._store = board, worker, store
        self._hour = Hour(time.time(), board.row(worker).tolist())

    def tell(self, ends: bool = False) -> None:
        """To be called every few seconds, and when the worker ends."""
        board, worker, hour = self._board, self._worker, self._hour
        step = hour.note(time.time(), board.row(worker).tolist()) or (hour.close() if ends else None)
        if step is not None:
            board.tell_hour(worker, with_step(board.hours()[worker], step))
        while hour.pending and self._store.attached:
            self._store.add_hour(*hour.pending.popleft())


def with_step(told: bytes, step: Step) -> bytes:
    """What a worker has told its node, and a further minute: its predecessor may have begun that."""
    steps = dict(read_steps(told))
    minute, counts = step
    known = steps.get(minute, {})
    steps[minute] = {name: known.get(name, 0) + counts.get(name, 0) for name in (known | counts)}
    return json.dumps(sorted(steps.items())[-STEPS:]).encode()


def read_steps(told: bytes) -> list[Step]:
    """What a worker of this node has told; nothing when two were writing at a time."""
    try:
        return [(minute, counts) for minute, counts in json.loads(told or b"[]")]
    except ValueError:
        return []
