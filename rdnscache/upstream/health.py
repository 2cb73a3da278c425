"""Whether a server is worth asking, over one transport: it rests after failures, and is probed before it is used again.

No clock and no socket in here: moments, in seconds, come in as arguments.
"""

from __future__ import annotations

#: Failures in a row after which a server rests.
FAILURES_BEFORE_REST = 3
#: Seconds of the first rest and at most; doubled by each probe that fails, and when it fails again this soon.
FIRST_REST, LAST_REST, STABLE = 1.0, 30.0, 10.0


class Health:
    """At work: it is asked. Resting: others are asked first. Due: one probe may find out whether it answers again."""

    def __init__(self) -> None:
        #: Failures in a row.
        self.failures = 0
        #: When its rest is over; 0.0 when it is at work.
        self.rests_until = 0.0
        #: How long that rest is, or the last one was.
        self.pause = 0.0
        #: Whether a probe is on its way.
        self.probing = False
        #: When it last gave a sign of life; when it began to rest, or to work again.
        self.alive_at = 0.0
        self.changed_at = 0.0

    @property
    def resting(self) -> bool:
        """Until a probe has gone well, however long its rest has been over."""
        return self.rests_until > 0.0

    def due(self, now: float) -> bool:
        """Whether it is time for a probe."""
        return self.rests_until > 0.0 and now >= self.rests_until and not self.probing

    def answered(self, now: float) -> bool:
        """A sign of life. True when this ends its rest."""
        self.alive_at = now
        self.failures = 0
        if not self.rests_until:
            return False
        self.rests_until = 0.0
        self.changed_at = now
        return True

    def postpone(self, now: float) -> None:
        """A probe came to nothing, by no fault of the server's."""
        self.rests_until = now + self.pause if self.rests_until else 0.0

    def failed(self, sent: float, now: float) -> bool:
        """Nothing came of what was sent at `sent`. True when this begins a rest.

        It says nothing about a server that has answered something else since, nor about one known to fail since before:
        many that fail together are one event.
        """
        if sent < self.alive_at:
            return False
        self.failures += 1
        if self.rests_until:
            if sent >= self.rests_until:
                self.pause = min(self.pause * 2, LAST_REST)
                self.rests_until = now + self.pause
            return False
        if self.failures < FAILURES_BEFORE_REST:
            return False
        again = self.pause and now - self.changed_at < STABLE
        self.pause = min(self.pause * 2, LAST_REST) if again else FIRST_REST
        self.rests_until = now + self.pause
        self.changed_at = now
        return True
