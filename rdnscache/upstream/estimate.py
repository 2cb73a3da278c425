"""How long a server takes, and how much of what is sent to it is lost (RFC 6298 in spirit).

No clock in here: moments and durations, in seconds, come in as arguments. The numbers are in memory that all workers of
a node share: what one learns, all know. Two that write at once lose one measurement.
"""

from __future__ import annotations

from rdnscache.shared import Doubles

#: What part of a measurement is believed: of the round trip, of its variation, of a loss.
GAIN, VARIATION_GAIN, LOSS_GAIN = _GAIN, _VARIATION_GAIN, _LOSS_GAIN = 1 / 8, 1 / 4, 1 / 32
#: Seconds after which an answer is overdue from a server that has not answered yet; and at most that much is believed
#: to be lost when servers are compared.
UNKNOWN, MOST_LOST = 1.0, 0.9
#: The share of losses with which two in a row are likely.
MUCH_LOST = 0.05
#: Seconds after a loss for which another is to be expected.
LATELY = 300.0
#: By what part patience grows when it was too short, and shrinks with each answer; and at most.
MORE_PATIENCE, LESS_PATIENCE, MOST_PATIENCE = 1.5, 1 / 128, 8.0
_LESS_PATIENCE = LESS_PATIENCE
#: Where each number is: the smoothed round trip (0: not known), its variation, the share that is lost, the factor of
#: patience (0 stands for 1); the moment of the last loss.
_RTT, _VARIATION, _LOSS, _FACTOR, _LOST_AT = range(5)
#: Numbers that an estimate needs.
ROOM = 5


class Estimate:
    """`floor` and `ceiling` are the bounds of patience."""

    def __init__(self, numbers: Doubles, floor: float, ceiling: float) -> None:
        self._numbers = numbers
        self._floor = floor
        self._ceiling = ceiling

    @property
    def rtt(self) -> float:
        """The smoothed round trip; 0 when it is not known."""
        return self._numbers[_RTT]

    @property
    def lossy(self) -> bool:
        """Whether what is overdue has probably been lost."""
        return self._numbers[_LOSS] > MUCH_LOST

    @property
    def loss(self) -> float:
        """The share of queries that got no answer."""
        return self._numbers[_LOSS]

    def measured(self, seconds: float) -> None:
        """An answer came (RFC 6298 sections 2.2 and 2.3)."""
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
        """What was sent was not lost."""
        if self._numbers[_LOSS]:
            self._numbers[_LOSS] -= self._numbers[_LOSS] * _LOSS_GAIN

    def lost(self, now: float) -> None:
        """What was sent was lost, on the way there or back."""
        self._numbers[_LOST_AT] = now
        self._numbers[_LOSS] += (1.0 - self._numbers[_LOSS]) * LOSS_GAIN

    def loses(self, now: float) -> bool:
        """Whether something has been lost lately."""
        return 0.0 < now - self._numbers[_LOST_AT] < LATELY

    def hasty(self) -> None:
        """It was taken for lost, and came after all."""
        self._numbers[_FACTOR] = min(max(self._numbers[_FACTOR], 1.0) * MORE_PATIENCE, MOST_PATIENCE)

    def patience(self) -> float:
        """Seconds after which an answer is overdue."""
        if not self._numbers[_RTT]:
            return min(UNKNOWN, self._ceiling)
        usual = (self._numbers[_RTT] + 4 * self._numbers[_VARIATION]) * max(self._numbers[_FACTOR], 1.0)
        return min(max(usual, self._floor), self._ceiling)

    def cost(self) -> float:
        """Seconds that an answer takes on average, with what is lost asked for again; 0 when it is not known."""
        if not self._numbers[_RTT]:
            return 0.0
        loss = min(self._numbers[_LOSS], MOST_LOST)
        return self._numbers[_RTT] + loss / (1.0 - loss) * self.patience()
