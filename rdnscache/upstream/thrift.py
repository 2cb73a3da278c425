"""How a search asks servers with a budget: a query that waits for a slot is an errand, run when it gets one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rdnscache.upstream.allowance import NEVER
from rdnscache.upstream.budget import PATIENCE, Budget
from rdnscache.upstream.waiting import Waiter

#: Minimum seconds for which a question waits, however long it has waited already: Redis may have to be asked.
LEAST_PATIENCE = 0.05


class Errand:
    """Something to be sent: `run(now)` sends it; `fail(now)` is called if it may not be sent."""

    __slots__ = ("budget", "fail", "run", "waiter")

    def __init__(self, budget: Budget, run: Callable[[float], None], fail: Callable[[float], None]) -> None:
        self.budget = budget
        self.run = run
        self.fail = fail
        self.waiter: Waiter


class Thrift:
    """The errands of a search. `client` is the client's prefix; clients take turns. It waits until `deadline` at most,
    and not at all if it is `spared`: no client waits for it. `on_late` is called, perhaps in the hub, if it takes long.
    """

    __slots__ = ("client", "deadline", "errands", "on_late", "refused", "spared", "wake")

    def __init__(self, client: bytes, deadline: float, spared: bool, on_late: Callable[[], None]) -> None:
        self.client = client
        self.deadline = deadline
        self.spared = spared
        self.on_late = on_late
        #: Errands that wait, and errands that were refused to make room for others.
        self.errands: list[Errand] = []
        self.refused: list[Errand] = []
        #: Wakes the search.
        self.wake: Callable[[], None]

    @property
    def pending(self) -> bool:
        """Whether something may still be sent."""
        return bool(self.errands or self.refused)

    def until(self) -> float:
        """When the first errand is given up."""
        return min((errand.waiter.until for errand in self.errands), default=NEVER)

    def send(self, errand: Errand, now: float) -> bool:
        """Run an errand now or later, or fail it; returns whether it waits."""
        budget = errand.budget
        if self.spared and budget.near(now):
            errand.fail(now)
            return False
        if budget.take(now):
            errand.run(now)
            return False
        until = min(now + PATIENCE, max(self.deadline, now + LEAST_PATIENCE))
        errand.waiter = Waiter(
            self.client, until, partial(self._granted, errand), self.on_late, partial(self._refused, errand)
        )
        self.errands.append(errand)
        if not budget.wait(errand.waiter, now):
            self.errands.remove(errand)
            errand.fail(now)
        return errand in self.errands

    def _granted(self, errand: Errand, now: float) -> None:
        """Run an errand in the hub, without waiting for its greenlet: the slot is valid now."""
        if errand in self.errands:
            self.errands.remove(errand)
            errand.run(now)
            self.wake()

    def _refused(self, errand: Errand) -> None:
        if errand in self.errands:
            self.errands.remove(errand)
            self.refused.append(errand)
            self.wake()

    def go_on(self, now: float) -> None:
        """Fail errands that were refused, or have waited too long."""
        refused, self.refused = self.refused, []
        for errand in [each for each in self.errands if each.waiter.until <= now]:
            self.errands.remove(errand)
            errand.budget.leave(errand.waiter, True)
            refused.append(errand)
        for errand in refused:
            errand.fail(now)

    def end(self) -> None:
        """End all errands: the search is over."""
        for errand in self.errands:
            errand.budget.leave(errand.waiter, False)
        self.errands.clear()
        self.refused.clear()
