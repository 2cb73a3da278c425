"""How much of an upstream's budget this worker may use, and the queries that wait for it.

The cluster shares a budget through Redis: slots are asked for in runs, one request at a time, so that not every query
costs a round trip. Without Redis a worker keeps to its share. See `allowance`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from gevent import get_hub

from rdnscache import metrics
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters
from rdnscache.rates import rate_text
from rdnscache.shared import Doubles, doubles
from rdnscache.upstream.allowance import NEVER, Allotment, Allowance, Recent
from rdnscache.upstream.application import Ask, Request, Terms
from rdnscache.upstream.waiting import Waiter, WaitingLine

log = logging.getLogger(__name__)

#: Seconds that a query waits for a slot; the queue is at most as long as the slots of that time.
PATIENCE = 1.5
#: Maximum waiters that have left and are still in a list.
SLACK = 64
#: Queries that may wait even if there are hardly any slots.
FEW = 8
#: Seconds between two requests at most, so that our share stays lent; after an error; and before the last slot is due.
RENEWAL, PAUSE, EARLY = 0.3, 1.0, 0.03
#: The budget is short if the next free slot is more than this many seconds away.
SHORT = 0.03
#: The fraction of a budget up to which queries are sent that no client waits for.
NEAR = 0.8
#: Seconds for which slots are asked for in advance, at the rate of those used recently.
ADVANCE = 0.04
#: Minimum seconds between two checks.
LEAST = 0.001
#: The initial share of a node that does not know yet how many others there are.
UNTOLD = 0.1
#: The index of each number: queries a second; slots handed out in the last second; the reserved rate; our share.
_RATE, _USED, _RESERVED, _SHARE = range(4)
#: The number of shared numbers.
ROOM = 4


def _nothing() -> None:
    pass


class Budget:
    """`numbers` is memory that the workers of a node share."""

    def __init__(self, terms: Terms, ask: Ask, block: int, counters: Counters, numbers: Doubles | None = None) -> None:
        self.rate = terms.rate
        self._terms = terms
        self._ask = ask
        self._block = block
        self._counters = counters
        self._numbers = doubles(ROOM) if numbers is None else numbers
        if self._numbers[_RATE] != terms.rate:  # else it is what this worker's predecessor was told
            self._numbers[_SHARE] = terms.rate / terms.workers * (1.0 if terms.alone else UNTOLD)
        self._numbers[_RATE] = terms.rate
        phase = terms.worker / terms.workers if terms.alone else random.random()
        self._allowance = Allowance(self._numbers[_SHARE], phase)
        self._line = WaitingLine()
        #: Waiters that have not been told that it takes long.
        self._unaware: list[Waiter] = []
        #: When slots are asked for next, at the earliest and at the latest; whether a request is outstanding.
        self._not_before = self._renew_at = 0.0
        self._asking = False
        #: The outstanding request: when it was sent, for how many slots, whether it lends our share, and until when
        #: that was lent before.
        self._sent = 0.0
        self._asked_for = 0
        self._lends = False
        self._lent_before = 0.0
        #: When Redis could be asked last, and until when it has nothing for anybody, as it last said.
        self._reached = time.monotonic()
        self._none_until = 0.0
        #: Until when the budget is short; slots used recently.
        self._short_until = 0.0
        self._recent = Recent()
        self._loop = get_hub().loop
        self._timer: Any = None
        self._timer_at = NEVER
        self._closed = False
        self._log = Throttled(log)

    # For senders

    def take(self, now: float) -> bool:
        """Use a slot for a query; False if there is none now."""
        if self._line or not self._allowance.take(now):
            return False
        self._count(now)
        return True

    def repeat(self) -> bool:
        """Use a slot for a retransmission; False if there is none now."""
        return self.take(time.monotonic())

    def wait(self, waiter: Waiter, now: float) -> bool:
        """Have it wait; False when too many do, or it would be in vain."""
        if self._in_vain(waiter.until, now):
            self._warn(now, "")
            self._counters[self._block + metrics.SERVER_BUDGET_REFUSED] += 1
            return False
        out = self._line.push(waiter, max(int(self._pace(now) * PATIENCE), FEW))
        if out is not None:
            self._warn(now, ", and the line of those who wait is full")
            self._counters[self._block + metrics.SERVER_BUDGET_REFUSED] += 1
            if out is waiter:
                return False
            self._loop.run_callback(out.refused)
        self._counters[self._block + metrics.SERVER_BUDGET_WAITED] += 1
        self._unaware.append(waiter)
        if len(self._unaware) > 2 * len(self._line) + SLACK:
            self._unaware = [each for each in self._unaware if each in self._line]
        self._go_on(now)
        return True

    def _in_vain(self, until: float, now: float) -> bool:
        """Whether it is known that nothing may be sent before then."""
        if not self._allowance.alone(now):
            return not self._allowance.at_hand(now) and self._none_until > until
        if not self._terms.alone and now - self._reached <= PATIENCE:  # Redis may come back
            return False
        return self._allowance.next_slot(now) > until

    def spare(self, send: Callable[[float], None], now: float) -> bool:
        """Send a query that no client waits for; False if no budget is left for that."""
        if self.near(now):
            return False
        if self.take(now):
            send(now)
            return True
        return self.wait(Waiter(b"", now + PATIENCE, send, _nothing, _nothing), now)

    def leave(self, waiter: Waiter, in_vain: bool) -> None:
        """Remove a waiter; `in_vain`: because it has waited too long."""
        self._line.remove(waiter)
        self._counters[self._block + metrics.SERVER_BUDGET_REFUSED] += in_vain

    def short(self, now: float) -> bool:
        """Whether a query would have to wait for a while, so that other upstreams should be asked."""
        allowance = self._allowance
        if not self._line and allowance.next_slot(now) <= now + SHORT:
            return False
        return allowance.alone(now) or now < self._short_until

    def near(self, now: float) -> bool:
        """Whether no budget is left for queries that no client waits for."""
        if self._line or self.short(now):
            return True
        if self._allowance.alone(now):
            return self._recent.rate(now) >= NEAR * self._allowance.share
        return self._numbers[_USED] >= NEAR * self.rate

    # For reports

    @property
    def used(self) -> float:
        """Slots handed out to the cluster in the last second, by the last reply; without Redis, those of this node."""
        return self._numbers[_USED]

    @property
    def reserved(self) -> float:
        """The rate that is reserved for workers that may be cut off."""
        return self._numbers[_RESERVED]

    def catch_up(self, now: float) -> None:
        """Log what was throttled; called now and then."""
        self._log.catch_up(now)

    # Towards Redis

    def start(self) -> None:
        """Become a member of the budget, so that others may use what this worker leaves."""
        self._go_on(time.monotonic())

    def close(self) -> None:
        self._closed = True
        self._stop_timer()

    def allotted(self, told: Allotment) -> None:
        now, allowance, numbers = time.monotonic(), self._allowance, self._numbers
        self._asking = False
        allowance.take_in(told, self._sent, now)
        numbers[_USED], numbers[_RESERVED], numbers[_SHARE] = told.used, told.reserved, told.share
        self._short_until = allowance.moment(told.free) - SHORT
        self._not_before = now
        self._none_until = 0.0
        if told.count < self._asked_for:  # there are no more now: ask again when these are nearly used up
            self._none_until = allowance.moment(told.free)
            last = allowance.moment(told.start + told.count * told.apart)
            self._not_before = max(last - EARLY, now + random.uniform(0.5, 1.5) * EARLY)
        if not self._lends:  # the clock of Redis is known now, so the share can be lent
            self._renew_at = now
        if not told.count:
            for waiter in self._line.leave_before(self._none_until):
                self._counters[self._block + metrics.SERVER_BUDGET_REFUSED] += 1
                self._loop.run_callback(waiter.refused)
        self._go_on(now)

    def refused(self) -> None:
        self._asking = False
        self._allowance.lent_until = self._lent_before
        self._renew_at = self._not_before = time.monotonic() + PAUSE

    def lost(self) -> None:
        self._asking = False
        self._allowance.drop()

    def _go_on(self, now: float) -> None:
        """Serve waiters, ask for more slots, and set the timer for the next time."""
        if self._closed:
            return
        while self._line and self._allowance.take(now):
            waiter = self._line.pop(now)
            if waiter is None:
                break
            self._count(now)
            waiter.granted(now)
            now = time.monotonic()
        wanted = self._wanted(now)
        if not self._asking and ((wanted and now >= self._not_before) or now >= self._renew_at):
            self._request(wanted, now)
        self._tell_unaware(now)
        self._wake_at(self._next_moment(wanted, now), now)

    def _next_moment(self, wanted: int, now: float) -> float:
        moment = max(self._renew_at, now + EARLY)
        if self._line:
            moment = min(moment, self._allowance.next_slot(now))
            if wanted and not self._asking:
                moment = min(moment, max(self._not_before, now + LEAST))
            if not self._allowance.alone(now):
                moment = min(moment, self._allowance.lent_until)
        return moment

    def _wanted(self, now: float) -> int:
        """The number of slots to ask for: for those who wait, and a few in advance if there are plenty."""
        waiting = len(self._line)
        if not waiting:
            return 0
        advance = 0 if self._numbers[_USED] >= NEAR * self.rate else int(self._recent.rate(now) * ADVANCE)
        return max(waiting + advance - self._allowance.at_hand(now), 0)

    def _request(self, count: int, now: float) -> None:
        allowance, terms = self._allowance, self._terms
        lent = allowance.lending(now)
        request = Request(terms.server, self.rate, 1 / terms.workers, allowance.share, lent, count, allowance.ahead())
        self._asking, self._sent, self._asked_for, self._lends = True, now, count, lent > 0.0
        self._lent_before = allowance.lent_until
        self._renew_at = now + RENEWAL
        sent = self._ask(request, self)
        if sent and self._asking:  # `lost` may have been called at once
            allowance.lend(now)
            self._reached = now
            return
        self._asking = False
        if allowance.alone(now):
            self._numbers[_USED] = self._recent.rate(now) * terms.workers
            self._numbers[_RESERVED] = 0.0

    def _tell_unaware(self, now: float) -> None:
        """Tell waiters that it takes long, if the budget is short."""
        if not self._line:
            self._unaware.clear()
        elif self._unaware and self.short(now):
            unaware, self._unaware = self._unaware, []
            for waiter in unaware:
                if waiter in self._line:
                    waiter.late()

    def _count(self, now: float) -> None:
        self._counters[self._block + metrics.SERVER_BUDGET_GRANTED] += 1
        self._recent.count(now)

    def _pace(self, now: float) -> float:
        """The rate of slots that this worker may get."""
        allowance = self._allowance
        if allowance.alone(now):
            return allowance.share
        return max(allowance.share, self.rate - self._numbers[_USED], self._recent.rate(now))

    def _warn(self, now: float, why: str) -> None:
        text = f"upstream {self._terms.label}: its budget of {rate_text(self.rate)} is used up{why}"
        self._log.warn(f"{text}: others get stale answers, else SERVFAIL", now)

    # Time

    def _wake_at(self, moment: float, now: float) -> None:
        if self._timer is not None and self._timer_at <= moment:
            return
        self._stop_timer()
        self._timer_at = moment
        self._timer = self._loop.timer(max(moment - now, 0.0))
        self._timer.start(self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _tick(self) -> None:
        self._stop_timer()
        self._go_on(time.monotonic())
