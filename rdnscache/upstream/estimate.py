"""Estimates of a server's round-trip time and loss rate (after RFC 6298).

No clock in here: times and durations, in seconds, are arguments. The numbers are in memory that all workers of a node
share, so that all know what one measures. When two write at the same time, one measurement is lost.
"""

from __future__ import annotations

from rdnscache.shared import Doubles

#: The weights of a new measurement: of the round trip, of its variation, of the loss rate.
GAIN, VARIATION_GAIN, LOSS_GAIN = _GAIN, _VARIATION_GAIN, _LOSS_GAIN = 1 / 8, 1 / 4, 1 / 32
#: Seconds after which an answer is overdue from a server that has not answered yet; the maximum loss rate that is
#: assumed when servers are compared.
UNKNOWN, MOST_LOST = 1.0, 0.9
#: The loss rate from which a server counts as lossy.
MUCH_LOST = 0.05
#: Seconds after a loss for which another one is expected.
LATELY = 300.0
#: The factor by which patience grows when it was too short, the fraction by which its excess shrinks with each answer;
#: the maximum factor.
MORE_PATIENCE, LESS_PATIENCE, MOST_PATIENCE = 1.5, 1 / 128, 8.0
_LESS_PATIENCE = LESS_PATIENCE
#: The index of each number: smoothed round trip (0: not known), its variation, loss rate, factor of patience (0 means
#: 1), time of the last loss.
_RTT, _VARIATION, _LOSS, _FACTOR, _LOST_AT = range(5)
#: The number of shared numbers.
ROOM = 5


class Estimate:
    """`floor` and `ceiling` are the limits of `patience`, in seconds."""

    def __init__(self, numbers: Doubles, floor: float, ceiling: float) -> None:
        self._numbers = numbers
        self._floor = floor
        self._ceiling = ceiling

    @property
    def rtt(self) -> float:
        """The smoothed round-trip time in seconds; 0 if it is not known."""
        return self._numbers[_RTT]

    @property
    def lossy(self) -> bool:
        """Whether an overdue answer is probably lost."""
        return self._numbers[_LOSS] > MUCH_LOST

    @property
    def loss(self) -> float:
        """The share of queries that got no answer."""
        return self._numbers[_LOSS]

    def measured(self, seconds: float) -> None:
        """Note the time of an answer (RFC 6298 sections 2.2 and 2.3)."""
        rtt = self._numbers[_RTT]
        if rtt:
            off = seconds - rtt if seconds > rtt else rtt - seconds
            self._numbers[_VARIATION] += (off - self._numbers[_VARIATION]) * _VARIATION_GAIN
            self._numbers[_RTT] = rtt + (seconds - rtt) * _GAIN
        else:
            self._numbers[_RTT] = seconds
            self._numbers[_VARIATION] = seconds / 2
        if self._numbers[_FACTOR] > 1.0:
            self._numbers[_FACTOR] -= (self._numbers[_FACTOR] - 1.0) * _LESS_PATIENCE

    def arrived(self) -> None:
        """Note that a query was answered."""
        if self._numbers[_LOSS]:
            self._numbers[_LOSS] -= self._numbers[_LOSS] * _LOSS_GAIN

    def lost(self, now: float) -> None:
        """Note that a query or its reply was lost."""
        self._numbers[_LOST_AT] = now
        self._numbers[_LOSS] += (1.0 - self._numbers[_LOSS]) * LOSS_GAIN

    def loses(self, now: float) -> bool:
        """Whether something was lost recently."""
        return 0.0 < now - self._numbers[_LOST_AT] < LATELY

    def hasty(self) -> None:
        """Note that an answer arrived after it was assumed lost."""
        self._numbers[_FACTOR] = min(max(self._numbers[_FACTOR], 1.0) * MORE_PATIENCE, MOST_PATIENCE)

    def patience(self) -> float:
        """Seconds after which an answer is overdue."""
        if not self._numbers[_RTT]:
            return min(UNKNOWN, self._ceiling)
        usual = (self._numbers[_RTT] + 4 * self._numbers[_VARIATION]) * max(self._numbers[_FACTOR], 1.0)
        return min(max(usual, self._floor), self._ceiling)

    def cost(self) -> float:
        """The expected seconds until an answer, with retransmissions of what is lost; 0 if it is not known."""
        if not self._numbers[_RTT]:
            return 0.0
        loss = min(self._numbers[_LOSS], MOST_LOST)
        return self._numbers[_RTT] + loss / (1.0 - loss) * self.patience()
