"""Those who wait for their turn with a server of which the queries are counted: one of each client in turn.

No clock in here: moments, in seconds, come in as arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Waiter:
    """Somebody's query. `granted` is called with the present moment when it may be sent, now; `late` when it is known
    that this takes a while; `refused` when it has had to make room. In the hub, or before `Budget.wait` returns.
    """

    __slots__ = ("client", "granted", "late", "refused", "until")

    def __init__(
        self, client: bytes, until: float, granted: Callable[[float], None], late: Callable[[], None],
        refused: Callable[[], None],
    ) -> None:  # fmt: skip
        self.client = client
        #: When it waits no longer.
        self.until = until
        self.granted = granted
        self.late = late
        self.refused = refused


class WaitingLine:
    """A line of bounded length. Where it is full, the last of the client with most makes room for who has fewer."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, OrderedDict[Waiter, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._of.get(waiter.client, ())

    def push(self, waiter: Waiter, most: int) -> Waiter | None:
        """Who finds no place, if anybody: this one, or another that has had to leave."""
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
        """Who is next and still waits; None when nobody does."""
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
        """It waits no longer; nothing happens where it does not."""
        if waiter in self:
            line = self._of[waiter.client]
            del line[waiter]
            self._count -= 1
            if not line:
                del self._of[waiter.client]
