"""Whether a server is worth asking, over one transport: it rests after failures, and is probed before it is used again.

No clock and no socket in here: moments, in seconds, come in as arguments. The numbers are in memory that all workers of
a node share: what one finds out, all know.
"""

from __future__ import annotations

from rdnscache.shared import Doubles, doubles

#: Failures in a row after which a server rests.
FAILURES_BEFORE_REST = 3
#: Seconds of the first rest and at most; doubled by each probe that fails, and when it fails again this soon.
FIRST_REST, LAST_REST, STABLE = 1.0, 30.0, 10.0
#: Where each number is.
_FAILURES, _RESTS_UNTIL, _PAUSE, _PROBED_UNTIL, _ALIVE_AT, _CHANGED_AT, _CHECKED_AT = range(7)
#: Numbers that it needs.
ROOM = 7


class Health:
    """At work: it is asked. Resting: others are asked first. Due: one probe may find out whether it answers again."""

    def __init__(self, numbers: Doubles | None = None) -> None:
        self._numbers = doubles(ROOM) if numbers is None else numbers

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return int(self._numbers[_FAILURES])

    @property
    def rests_until(self) -> float:
        """When its rest is over; 0.0 when it is at work."""
        return self._numbers[_RESTS_UNTIL]

    @property
    def alive_at(self) -> float:
        """When it last gave a sign of life."""
        return self._numbers[_ALIVE_AT]

    @property
    def changed_at(self) -> float:
        """When it began to rest, or to work again."""
        return self._numbers[_CHANGED_AT]

    @property
    def checked_at(self) -> float:
        """When it was last asked only to see how it is."""
        return self._numbers[_CHECKED_AT]

    @property
    def resting(self) -> bool:
        """Until a probe has gone well, however long its rest has been over."""
        return self._numbers[_RESTS_UNTIL] > 0.0

    def due(self, now: float) -> bool:
        """Whether it is time for a probe, and none is on its way."""
        rests_until = self._numbers[_RESTS_UNTIL]
        return rests_until > 0.0 and now >= rests_until and now >= self._numbers[_PROBED_UNTIL]

    def probe(self, until: float) -> None:
        """A probe is on its way, and will have come to something by then."""
        self._numbers[_PROBED_UNTIL] = until

    def checked(self, now: float) -> None:
        """It is asked only to see how it is."""
        self._numbers[_CHECKED_AT] = now

    def probed(self) -> None:
        """It has come to something."""
        self._numbers[_PROBED_UNTIL] = 0.0

    def answered(self, now: float) -> bool:
        """A sign of life. True when this ends its rest."""
        self._numbers[_ALIVE_AT] = now
        self._numbers[_FAILURES] = 0.0
        if not self._numbers[_RESTS_UNTIL]:
            return False
        self._numbers[_RESTS_UNTIL] = 0.0
        self._numbers[_CHANGED_AT] = now
        return True

    def postpone(self, now: float) -> None:
        """A probe came to nothing, by no fault of the server's."""
        if self.resting:
            self._numbers[_RESTS_UNTIL] = now + self._numbers[_PAUSE]

    def failed(self, sent: float, now: float) -> bool:
        """Nothing came of what was sent at `sent`. True when this begins a rest.

        It says nothing about a server that has answered something else since, nor about one known to fail since before:
        many that fail together are one event.
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
