"""Whether Redis is worth waiting for. It is left alone when it fails, or takes longer than asking an upstream does.

No clock and no connection in here: moments and durations, in seconds, come in as arguments.
"""

from __future__ import annotations

from collections import deque

#: What a failure adds and an answer takes away; at the bound the breaker opens.
_FAILURE, _SUCCESS, _BOUND = 1.0, 0.2, 3.0
#: Failures within this many seconds count as one, and of answers within them only the first is looked at: a moment's
#: silence meets everybody who waits.
_TOGETHER = 0.03
#: Answers that are looked at, and how often.
_WINDOW, _EVERY = 64, 16
#: Seconds that Redis may always take, whatever an upstream does: a busy machine lets any process wait that long.
ALWAYS_FINE = 0.025
#: Probe back-off, in seconds: the first pause, doubled up to the last; reset once the breaker has stayed closed.
FIRST_PAUSE, LAST_PAUSE, _STABLE = 0.1, 30.0, 10.0

CLOSED, OPEN, PROBING = "attached", "open", "probing"


class Breaker:
    """Closed: Redis is asked. Open: it is not. Probing: one question of our own is on its way, to see."""

    def __init__(self) -> None:
        self.state = CLOSED
        self.closed = True
        self.reason = ""
        #: How often it has opened, and how long until it is to be probed.
        self.opened = 0
        self.pause = FIRST_PAUSE
        self._score = 0.0
        self._latencies: deque[float] = deque(maxlen=_WINDOW)
        self._since_look = 0
        self._closed_at = 0.0
        self._failed_at = 0.0
        self._sampled_at = 0.0

    def succeeded(self, seconds: float, now: float) -> bool:
        """An answer after `seconds`. True when it is time to `compare`."""
        if self._score:
            self._score = max(self._score - _SUCCESS, 0.0)
        if now - self._sampled_at < _TOGETHER:
            return False
        self._sampled_at = now
        self._latencies.append(seconds)
        self._since_look += 1
        return self._since_look >= _EVERY

    def compare(self, upstream: float, now: float) -> bool:
        """Hold the last answers against what an upstream takes; 0 when that is not known. True when this opens it."""
        self._since_look = 0
        if len(self._latencies) < _WINDOW:
            return False
        slow = sorted(self._latencies)[len(self._latencies) * 95 // 100]
        if not upstream or slow <= max(upstream, ALWAYS_FINE):
            return False
        return self._open(f"slow: 95 % within {slow * 1000:.0f} ms, an upstream takes {upstream * 1000:.0f} ms", now)

    def failed(self, reason: str, now: float) -> bool:
        """No answer in time, or an error. True when this opens it."""
        if now - self._failed_at < _TOGETHER:
            return False
        self._failed_at = now
        self._score += _FAILURE
        return self._score >= _BOUND and self._open(reason, now)

    def _open(self, reason: str, now: float) -> bool:
        if not self.closed:
            return False
        self.pause = FIRST_PAUSE if now - self._closed_at > _STABLE else min(self.pause * 2, LAST_PAUSE)
        self.state = OPEN
        self.closed = False
        self.reason = reason
        self.opened += 1
        return True

    def probe(self) -> None:
        """A probe has been sent."""
        self.state = PROBING

    def probed(self, seconds: float | None, upstream: float, now: float) -> bool:
        """What came of it: after how long it was answered; None when it was not, or with an error. True: closed."""
        if seconds is None or seconds > max(upstream, ALWAYS_FINE):
            self.state = OPEN
            self.pause = min(self.pause * 2, LAST_PAUSE)
            return False
        self.reset(now)
        return True

    def reset(self, now: float) -> None:
        """Close, and forget what was: the connection is new, or a probe went well."""
        self.state = CLOSED
        self.closed = True
        self.reason = ""
        self._score = 0.0
        self._latencies.clear()
        self._since_look = 0
        self._closed_at = now
