"""A circuit breaker for a Redis server: it opens when the server fails, or is slower than an upstream.

No clock and no connection in here: times and durations, in seconds, are arguments.
"""

from __future__ import annotations

from collections import deque

#: The score of a failure and the credit of an answer; the score at which the breaker opens.
_FAILURE, _SUCCESS, _BOUND = 1.0, 0.2, 3.0
#: Failures within this many seconds count as one, and only the first of the answers within them is sampled: a short
#: stall affects all commands that wait.
_TOGETHER = 0.03
#: Latencies that are compared, and after how many new ones.
_WINDOW, _EVERY = 64, 16
#: Seconds that are never too slow, however fast upstreams are: on a busy machine any process waits that long.
ALWAYS_FINE = 0.025
#: Probe back-off, in seconds: the first pause, doubled up to the last; reset once the breaker has stayed closed.
FIRST_PAUSE, LAST_PAUSE, _STABLE = 0.1, 30.0, 10.0

CLOSED, OPEN, PROBING = "attached", "open", "probing"


class Breaker:
    """Closed: Redis is used. Open: it is not. Probing: it is not, and a probe is on its way."""

    def __init__(self) -> None:
        self.state = CLOSED
        self.closed = True
        self.reason = ""
        #: How often it has opened; seconds until the next probe.
        self.opened = 0
        self.pause = FIRST_PAUSE
        self._score = 0.0
        self._latencies: deque[float] = deque(maxlen=_WINDOW)
        self._since_look = 0
        self._closed_at = 0.0
        self._failed_at = 0.0
        self._sampled_at = 0.0

    def succeeded(self, seconds: float, now: float) -> bool:
        """Note an answer after `seconds`; returns True when `compare` is due."""
        if self._score:
            self._score = max(self._score - _SUCCESS, 0.0)
        if now - self._sampled_at < _TOGETHER:
            return False
        self._sampled_at = now
        self._latencies.append(seconds)
        self._since_look += 1
        return self._since_look >= _EVERY

    def compare(self, upstream: float, now: float) -> bool:
        """Compare the last latencies with an upstream's, 0 if unknown; returns True if that opens the breaker."""
        self._since_look = 0
        if len(self._latencies) < _WINDOW:
            return False
        slow = sorted(self._latencies)[len(self._latencies) * 95 // 100]
        if not upstream or slow <= max(upstream, ALWAYS_FINE):
            return False
        return self._open(f"slow: 95 % within {slow * 1000:.0f} ms, an upstream takes {upstream * 1000:.0f} ms", now)

    def failed(self, reason: str, now: float) -> bool:
        """Note a time-out or an error; returns True if that opens the breaker."""
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
        """Note that a probe has been sent."""
        self.state = PROBING

    def probed(self, seconds: float | None, upstream: float, now: float) -> bool:
        """Note the answer to a probe and its time, None for no answer or an error; returns True if that closes it."""
        if seconds is None or seconds > max(upstream, ALWAYS_FINE):
            self.state = OPEN
            self.pause = min(self.pause * 2, LAST_PAUSE)
            return False
        self.reset(now)
        return True

    def reset(self, now: float) -> None:
        """Close and forget all failures: the connection is new, or a probe succeeded."""
        self.state = CLOSED
        self.closed = True
        self.reason = ""
        self._score = 0.0
        self._latencies.clear()
        self._since_look = 0
        self._closed_at = now
