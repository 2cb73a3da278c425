"""The health of a server over one transport: it rests after failures, and is probed before it is used again.

No clock and no socket in here: times, in seconds, are arguments. The numbers are in memory that all workers of a node
share, so that all know what one finds out.
"""

from __future__ import annotations

from rdnscache.shared import Doubles, doubles

#: Failures in a row after which a server rests.
FAILURES_BEFORE_REST = 3
#: Seconds of the first and the longest rest; doubled by each failed probe, and if the server fails again within STABLE.
FIRST_REST, LAST_REST, STABLE = 1.0, 30.0, 10.0
#: The index of each number.
_FAILURES, _RESTS_UNTIL, _PAUSE, _PROBED_UNTIL, _ALIVE_AT, _CHANGED_AT, _CHECKED_AT = range(7)
#: The number of shared numbers.
ROOM = 7


class Health:
    """At work: it is asked. Resting: others are asked first. Due: a probe may find out whether it answers again."""

    def __init__(self, numbers: Doubles | None = None) -> None:
        self._numbers = doubles(ROOM) if numbers is None else numbers

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return int(self._numbers[_FAILURES])

    @property
    def rests_until(self) -> float:
        """When a probe is due; 0.0 if it is at work."""
        return self._numbers[_RESTS_UNTIL]

    @property
    def alive_at(self) -> float:
        """When it last answered anything."""
        return self._numbers[_ALIVE_AT]

    @property
    def changed_at(self) -> float:
        """When it began to rest, or to work again."""
        return self._numbers[_CHANGED_AT]

    @property
    def checked_at(self) -> float:
        """When it was last checked without a client's question."""
        return self._numbers[_CHECKED_AT]

    @property
    def resting(self) -> bool:
        """Whether it rests; that ends only when it answers."""
        return self._numbers[_RESTS_UNTIL] > 0.0

    def due(self, now: float) -> bool:
        """Whether a probe is due and none is outstanding."""
        rests_until = self._numbers[_RESTS_UNTIL]
        return rests_until > 0.0 and now >= rests_until and now >= self._numbers[_PROBED_UNTIL]

    def probe(self, until: float) -> None:
        """Note that a probe is sent, whose outcome is known by `until` at the latest."""
        self._numbers[_PROBED_UNTIL] = until

    def checked(self, now: float) -> None:
        """Note that it is checked."""
        self._numbers[_CHECKED_AT] = now

    def probed(self) -> None:
        """Note that the probe has an outcome."""
        self._numbers[_PROBED_UNTIL] = 0.0

    def answered(self, now: float) -> bool:
        """Note an answer; returns True if that ends its rest."""
        self._numbers[_ALIVE_AT] = now
        self._numbers[_FAILURES] = 0.0
        if not self._numbers[_RESTS_UNTIL]:
            return False
        self._numbers[_RESTS_UNTIL] = 0.0
        self._numbers[_CHANGED_AT] = now
        return True

    def postpone(self, now: float) -> None:
        """Note that a probe failed through no fault of the server."""
        if self.resting:
            self._numbers[_RESTS_UNTIL] = now + self._numbers[_PAUSE]

    def failed(self, sent: float, now: float) -> bool:
        """Note the failure of a query sent at `sent`; returns True if that begins a rest.

        It does not count if the server has answered something else since. While the server rests, only failures of
        queries sent after its rest prolong it.
        """
        if sent < self._numbers[_ALIVE_AT]:
            return False
        self._numbers[_FAILURES] += 1.0
        if self._numbers[_RESTS_UNTIL]:
            if sent >= self._numbers[_RESTS_UNTIL]:
                self._rest(min(self._numbers[_PAUSE] * 2, LAST_REST), now)
            return False
        if self._numbers[_FAILURES] < FAILURES_BEFORE_REST:
            return False
        again = self._numbers[_PAUSE] and now - self._numbers[_CHANGED_AT] < STABLE
        self._rest(min(self._numbers[_PAUSE] * 2, LAST_REST) if again else FIRST_REST, now)
        self._numbers[_CHANGED_AT] = now
        return True

    def _rest(self, seconds: float, now: float) -> None:
        self._numbers[_PAUSE] = seconds
        self._numbers[_RESTS_UNTIL] = now + seconds
