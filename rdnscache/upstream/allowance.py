"""What a worker may send to an upstream with a budget: slots from Redis, or its own share without it.

A slot allows one query, at its time or at most VALID seconds later; the slots of a budget are evenly spaced. So in any
second the upstream receives no more than the budget and the queries delayed by VALID, whoever sends them.
No clock in here: monotonic times, in seconds, are arguments. Rates are in queries a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Seconds after its time for which a slot may be used.
VALID = 0.04
#: Seconds for which a request lends this worker's share to the cluster.
LEASE = 1.2
#: The weight of a new measurement in the smoothed delay of Redis.
GAIN = 1 / 8
#: Maximum seconds ahead for which slots are asked for, if Redis is far.
FARTHEST = 0.1
#: Seconds after which a used slot is forgotten.
MEMORY = 1.0
#: A time after all others.
NEVER = 1e300


@dataclass(frozen=True, slots=True)
class Allotment:
    """The reply of Redis to a request for slots. Times are those of its clock, in seconds."""

    now: float
    #: Slots: how many, the time of the first, seconds between two; and the first slot that is still free.
    count: int
    start: float
    apart: float
    free: float
    #: The rate at which the worker may send when it is cut off.
    share: float
    #: For the whole cluster: slots handed out in the last second, and the rate reserved for members that are cut off.
    used: float
    reserved: float


class Allowance:
    """`share` is the initial share; `phase`, from 0 to 1, sets when in its first interval the first query is sent."""

    def __init__(self, share: float, phase: float) -> None:
        self.share = share
        #: Seconds by which the clock of Redis is ahead of ours, estimated and at least; None if it is not known.
        self._offset: float | None = None
        self._least_offset = 0.0
        #: Until when our share is lent.
        self.lent_until = 0.0
        #: Smoothed seconds that Redis takes.
        self._delay = 0.0
        #: Runs of slots: the time of the first, seconds between two, how many.
        self._runs: deque[tuple[float, float, int]] = deque()
        self._phase = phase
        #: The next slot of our own share.
        self._next = NEVER

    def ahead(self) -> float:
        """Seconds from now on in which slots would arrive too late."""
        return min(max(1.5 * self._delay - VALID / 2, 0.0), FARTHEST)

    def lending(self, now: float) -> float:
        """The time of Redis until which a request sent now lends our share; 0 if its clock is not known."""
        return 0.0 if self._offset is None else now + LEASE + self._least_offset

    def lend(self, now: float) -> None:
        """Note that a request that lends our share has been sent."""
        self.lent_until = max(self.lent_until, now + LEASE)
        self._next = NEVER

    def take_in(self, told: Allotment, sent: float, now: float) -> None:
        """Take the reply to a request; `sent` is the time of the request."""
        self._least_offset = told.now - now
        offset = self._least_offset if self._offset is None else self._offset
        self._offset = offset = min(max(offset, self._least_offset), told.now - sent)
        self._delay += (now - sent - self._delay) * GAIN
        self.share = told.share
        if told.count:
            self._runs.append((told.start - offset, told.apart, told.count))

    def moment(self, told: float) -> float:
        """A time of Redis, by our clock."""
        return told - (self._offset or 0.0)

    def drop(self) -> None:
        """Drop all slots: Redis is lost, and could hand them out again."""
        self._runs.clear()
        self._offset = None

    def alone(self, now: float) -> bool:
        """Whether our share is not lent."""
        return now >= self.lent_until

    def at_hand(self, now: float) -> int:
        """The number of slots that can be used, now or later."""
        self._pass_over(now)
        return sum(count for _, _, count in self._runs)

    def next_slot(self, now: float) -> float:
        """When the next query may be sent, perhaps in the past; NEVER if there is no slot and no share."""
        self._pass_over(now)
        if self._runs:
            return self._runs[0][0]
        if now < self.lent_until or self.share <= 0.0:
            return NEVER
        if self._next == NEVER:  # workers that are cut off together do not start at the same time
            self._next = max(self.lent_until, now - VALID) + self._phase / self.share
        return max(self._next, now - VALID)

    def take(self, now: float) -> bool:
        """Use a slot, if its time has come."""
        slot = self.next_slot(now)
        if slot > now:
            return False
        if self._runs:
            first, apart, count = self._runs.popleft()
            if count > 1:
                self._runs.appendleft((first + apart, apart, count - 1))
        else:
            self._next = slot + 1.0 / self.share
        return True

    def _pass_over(self, now: float) -> None:
        """Drop slots that were not used in time."""
        runs, oldest = self._runs, now - VALID
        while runs and runs[0][0] < oldest:
            first, apart, count = runs.popleft()
            passed = int((oldest - first) / apart) + 1
            if passed < count:
                runs.appendleft((first + passed * apart, apart, count - passed))


class Recent:
    """The rate of slots used recently, with a linear decay."""

    def __init__(self) -> None:
        self._used = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        self._used, self._at = self.rate(now) + 1.0, now

    def rate(self, now: float) -> float:
        """Slots a second."""
        return self._used * max(1.0 - (now - self._at) / MEMORY, 0.0)
