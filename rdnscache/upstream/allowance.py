"""What a worker may send to a server of which the cluster counts the queries: slots it was given, or its own share.

A slot is one query, to be sent at its moment or at most VALID seconds later; all slots of a budget are spaced evenly.
So no second hears more than the budget and what VALID lets through, whoever sends.
No clock in here: moments of the monotonic clock, in seconds, come in as arguments. Rates are in queries a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Seconds after its moment until which a slot may be used.
VALID = 0.04
#: Seconds for which a request lends this worker's share to the cluster.
LEASE = 1.2
#: What part of the time that Redis has taken lately is believed.
GAIN = 1 / 8
#: Seconds ahead that slots are asked for at most, where Redis is far.
FARTHEST = 0.1
#: Seconds after which a slot that was used is forgotten.
MEMORY = 1.0
#: A moment after all others.
NEVER = 1e300


@dataclass(frozen=True, slots=True)
class Allotment:
    """What Redis gives. Moments by its clock, and durations, in seconds."""

    now: float
    #: Slots: how many, the moment of the first, seconds between two; and the first that is free for anybody.
    count: int
    start: float
    apart: float
    free: float
    #: What the worker may send when it is cut off.
    share: float
    #: Of the whole cluster: what has been given out in the last second, and what is reserved for members that are away.
    used: float
    reserved: float


class Allowance:
    """`share` is what may be sent alone, until Redis says; `phase`, from 0 to 1, when in the first interval of that."""

    def __init__(self, share: float, phase: float) -> None:
        self.share = share
        #: Seconds by which the clock of Redis is ahead of ours, and surely is at least; None when that is not known.
        self._offset: float | None = None
        self._least_offset = 0.0
        #: Until when our share is others'.
        self.lent_until = 0.0
        #: Seconds that Redis takes.
        self._delay = 0.0
        #: Runs of slots: the moment of the first, seconds between two, how many.
        self._runs: deque[tuple[float, float, int]] = deque()
        self._phase = phase
        #: The next slot of our own; and since when we are alone.
        self._next = NEVER

    def ahead(self) -> float:
        """Seconds from now on in which slots could not be used yet."""
        return min(max(1.5 * self._delay - VALID / 2, 0.0), FARTHEST)

    def lending(self, now: float) -> float:
        """The moment of Redis until which a request that is sent now lends our share; 0 when we cannot tell that."""
        return 0.0 if self._offset is None else now + LEASE + self._least_offset

    def lend(self, now: float) -> None:
        """It has been sent."""
        self.lent_until = max(self.lent_until, now + LEASE)
        self._next = NEVER

    def take_in(self, told: Allotment, sent: float, now: float) -> None:
        """The answer to what was `sent` then has come."""
        self._least_offset = told.now - now
        offset = self._least_offset if self._offset is None else self._offset
        self._offset = offset = min(max(offset, self._least_offset), told.now - sent)
        self._delay += (now - sent - self._delay) * GAIN
        self.share = told.share
        if told.count:
            self._runs.append((told.start - offset, told.apart, told.count))

    def moment(self, told: float) -> float:
        """A moment of Redis by our clock."""
        return told - (self._offset or 0.0)

    def drop(self) -> None:
        """Redis is gone, and with it perhaps what it has given out: it may do so again."""
        self._runs.clear()
        self._offset = None

    def alone(self, now: float) -> bool:
        """Whether our share is ours."""
        return now >= self.lent_until

    def at_hand(self, now: float) -> int:
        """Slots that can be used, now or later."""
        self._pass_over(now)
        return sum(count for _, _, count in self._runs)

    def next_slot(self, now: float) -> float:
        """When the next query may be sent, perhaps before now; NEVER when there is nothing to go by."""
        self._pass_over(now)
        if self._runs:
            return self._runs[0][0]
        if now < self.lent_until or self.share <= 0.0:
            return NEVER
        if self._next == NEVER:  # those that are cut off together do not begin at once
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
        """Slots that were not used in time."""
        runs, oldest = self._runs, now - VALID
        while runs and runs[0][0] < oldest:
            first, apart, count = runs.popleft()
            passed = int((oldest - first) / apart) + 1
            if passed < count:
                runs.appendleft((first + passed * apart, apart, count - passed))


class Recent:
    """Slots that have been used lately, fading."""

    def __init__(self) -> None:
        self._used = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        self._used, self._at = self.rate(now) + 1.0, now

    def rate(self, now: float) -> float:
        """How many a second."""
        return self._used * max(1.0 - (now - self._at) / MEMORY, 0.0)
