"""The queue of queries that wait for an upstream's budget: clients take turns.

No clock in here: times, in seconds, are arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Waiter:
    """A query that waits. `granted(now)` is called when it may be sent, now; `late` if that will take long; `refused`
    if it was removed to make room. All are called in the hub, or before `Budget.wait` returns.
    """

    __slots__ = ("client", "granted", "late", "refused", "until")

    def __init__(
        self, client: bytes, until: float, granted: Callable[[float], None], late: Callable[[], None],
        refused: Callable[[], None],
    ) -> None:  # fmt: skip
        self.client = client
        #: When it is given up.
        self.until = until
        self.granted = granted
        self.late = late
        self.refused = refused


class WaitingLine:
    """A bounded queue. If it is full, the last waiter of the client with the most is removed for one with fewer."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, OrderedDict[Waiter, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._of.get(waiter.client, ())

    def push(self, waiter: Waiter, most: int) -> Waiter | None:
        """Add a waiter; returns the one that was refused, this or another one, or None."""
        out = None
        if self._count >= most:
            greediest = max(self._of, key=lambda client: len(self._of[client]), default=waiter.client)
            if not self._count or len(self._of[greediest]) <= len(self._of.get(waiter.client, ())) + 1:
                return waiter
            out = next(reversed(self._of[greediest]))
            self.remove(out)
        self._of.setdefault(waiter.client, OrderedDict())[waiter] = None
        self._count += 1
        return out

    def pop(self, now: float) -> Waiter | None:
        """Remove and return the next waiter whose time is not over; None if there is none."""
        while self._of:
            client = next(iter(self._of))
            waiter = next(iter(self._of[client]))
            self._of.move_to_end(client)
            self.remove(waiter)
            if waiter.until > now:
                return waiter
        return None

    def leave_before(self, moment: float) -> list[Waiter]:
        """Those who do not wait until then, who leave."""
        found = [waiter for line in self._of.values() for waiter in line if waiter.until < moment]
        for waiter in found:
            self.remove(waiter)
        return found

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter, if it is in the queue."""
        if waiter in self:
            line = self._of[waiter.client]
            del line[waiter]
            self._count -= 1
            if not line:
                del self._of[waiter.client]
