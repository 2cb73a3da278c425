"""How a question asks servers that have a budget: what waits for one is an errand, and is done when there is a slot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rdnscache.upstream.allowance import NEVER
from rdnscache.upstream.budget import PATIENCE, Budget
from rdnscache.upstream.waiting import Waiter

#: Seconds for which a question waits at least, however long it has waited elsewhere: Redis may have to be asked.
LEAST_PATIENCE = 0.05


class Errand:
    """Something to send: `run` sends it, at a moment; `fail` is for when it may not be sent."""

    __slots__ = ("budget", "fail", "run", "waiter")

    def __init__(self, budget: Budget, run: Callable[[float], None], fail: Callable[[float], None]) -> None:
        self.budget = budget
        self.run = run
        self.fail = fail
        self.waiter: Waiter


class Thrift:
    """`client` is the prefix of who asks: clients take turns. It waits until the moment `deadline` at most, and not at
    all when it can be `spared`: nobody waits for it. `on_late` is called, perhaps from the hub, when it takes a while.
    """

    __slots__ = ("client", "deadline", "errands", "on_late", "refused", "spared", "wake")

    def __init__(self, client: bytes, deadline: float, spared: bool, on_late: Callable[[], None]) -> None:
        self.client = client
        self.deadline = deadline
        self.spared = spared
        self.on_late = on_late
        #: Those that wait, and those that have had to make room for others'.
        self.errands: list[Errand] = []
        self.refused: list[Errand] = []
        #: How the question is woken, to see how things are.
        self.wake: Callable[[], None]

    @property
    def pending(self) -> bool:
        """Whether something may still be sent."""
        return bool(self.errands or self.refused)

    def until(self) -> float:
        """When the first of them waits no longer."""
        return min((errand.waiter.until for errand in self.errands), default=NEVER)

    def send(self, errand: Errand, now: float) -> bool:
        """Do it now or later, or fail; False when that has happened by now."""
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
        """It is sent from the hub, without waiting for its greenlet: a slot is for this moment."""
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
        """Give up what may not be sent, or has waited for too long."""
        refused, self.refused = self.refused, []
        for errand in [each for each in self.errands if each.waiter.until <= now]:
            self.errands.remove(errand)
            errand.budget.leave(errand.waiter, True)
            refused.append(errand)
        for errand in refused:
            errand.fail(now)

    def end(self) -> None:
        """The question is answered, or given up."""
        for errand in self.errands:
            errand.budget.leave(errand.waiter, False)
        self.errands.clear()
        self.refused.clear()
