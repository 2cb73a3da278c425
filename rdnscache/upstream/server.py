"""One upstream: how it has been doing, what is counted of it and said about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rdnscache import metrics
from rdnscache.endpoint import Endpoint
from rdnscache.errors import SAID, UpstreamFailed
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters, observe
from rdnscache.shared import Doubles, doubles
from rdnscache.tally import count
from rdnscache.upstream import defence, estimate, health
from rdnscache.upstream.budget import Budget
from rdnscache.upstream.datagrams import Datagrams
from rdnscache.upstream.defence import CASE, COOKIE, USUAL, Cookies, LetterCase, Measures
from rdnscache.upstream.estimate import Estimate
from rdnscache.upstream.health import Health
from rdnscache.upstream.query import Connections, Transport

log = logging.getLogger(__name__)

#: In which order servers are asked.
AT_WORK, IN_DOUBT, SHORT, RESTING = 0, 1, 2, 3
#: A server is in doubt when this many questions wait for it, and none was answered for this many seconds, or this many
#: times what it usually takes: before the first of them has timed out, others go elsewhere.
DOUBT_WAITING, DOUBT_SECONDS, DOUBT_LATENCIES = 3, 0.25, 4
#: The share of questions that are asked again as soon as the answer is overdue, and how many in a row at most.
EARLY, MOST_EARLY = _EARLY, _MOST_EARLY = 0.05, 10.0
#: Replies among which one at least is quick, as long as nothing queues up; and seconds for which it is known, at least,
#: how quick they have been.
SEVERAL, PERIOD = 16, 5.0
_NONE = 1e300
_QUERIES, _SECONDS = metrics.SERVER_QUERIES, metrics.SERVER_SECONDS


#: Numbers of a server that all workers of a node share.
ROOM = 2 * health.ROOM + estimate.ROOM + 2 * defence.ROOM


@dataclass(frozen=True, slots=True)
class Ways:
    """How a server is reached: by `own`, and where that is `udp`, what does not fit there over `tcp`."""

    own: Transport
    tcp: Connections
    udp: Datagrams | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds after which an answer is overdue: at least, and at most."""

    floor: float = 0.02
    ceiling: float = 1.0


class Server:
    """`health` and `tcp_health` are apart: where TCP is closed, whatever fits into a datagram is answered all the same.

    `numbers` is memory that the workers of a node share.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        ways: Ways,
        block: int,
        counters: Counters,
        numbers: Doubles | None = None,
        patience: Patience = Patience(),
        measures: Measures = USUAL,
    ) -> None:
        self.endpoint = endpoint
        self.label = endpoint.label
        self.host = endpoint.address.host
        self.weight = endpoint.weight
        self.transport = ways.own
        self.udp = ways.udp
        self.tcp = ways.tcp
        shared = doubles(ROOM) if numbers is None else numbers[:ROOM]
        self.health = Health(shared[: health.ROOM])
        self.tcp_health = Health(shared[health.ROOM : 2 * health.ROOM])
        self.estimate = Estimate(shared[2 * health.ROOM : -2 * defence.ROOM], patience.floor, patience.ceiling)
        self.letter_case = LetterCase(measures, endpoint.address, shared[-2 * defence.ROOM : -defence.ROOM])
        self.cookies = Cookies(measures, endpoint.address, shared[-defence.ROOM :])
        #: Questions that wait for it, and since when it has answered none; those of them that wait longer than usual.
        self.waiting = self.overdue = 0
        self.most_waiting = measures.outstanding
        self._quiet_since = 0.0
        #: How many questions may be asked again early.
        self._spare = MOST_EARLY
        #: Seconds of its quickest reply since the last look at `delay`, and how many have come; of the quickest in this
        #: period, and in the one before.
        self._quickest = _NONE
        self._replies = 0
        self._least = self._least_before = _NONE
        self._period = 0.0
        self._block = block
        self._counters = counters
        #: How many queries it may be sent; None: any number.
        self.budget: Budget | None = None
        self._log = Throttled(log)
        self._log_tcp = Throttled(log)
        #: Connections that have been counted.
        self._openings = 0
        for gauge in (metrics.SERVER_RESTING, metrics.SERVER_CONNECTIONS):
            counters[block + gauge] = 0  # a worker before us may have left it so

    def rank(self, now: float) -> int:
        if self.health.rests_until:
            return RESTING
        if self.budget is not None and self.budget.short(now):
            return SHORT
        return IN_DOUBT if self.waiting >= self.most_waiting or self.in_doubt(now) else AT_WORK

    def in_doubt(self, now: float) -> bool:
        """Whether it seems to have fallen silent for all."""
        if self.waiting < DOUBT_WAITING:
            return False
        quiet = now - self._quiet_since
        return quiet > DOUBT_SECONDS and quiet > DOUBT_LATENCIES * self.estimate.rtt

    def asked(self, now: float) -> None:
        """A query is sent; `waiting` is to be lowered when something has come of it."""
        count(self._counters, self._block + _QUERIES, 1)
        if not self.waiting:
            self._quiet_since = now
        self.waiting += 1
        self._spare = min(self._spare + _EARLY, _MOST_EARLY)

    def may_hurry(self, now: float, last: bool) -> bool:
        """Whether others, or it again, may be asked as soon as an answer is overdue.

        For few questions only, and where it is the `last` only if something was lost lately: what takes long is rarely
        lost, and upstreams count what we ask.
        """
        return self.estimate.lossy or (self._spare >= 1.0 and (not last or self.estimate.loses(now)))

    def hurried(self) -> None:
        """That was done."""
        self.overdue += 1
        self._spare = max(self._spare - 1.0, 0.0)

    def useless(self) -> None:
        """Its reply was no answer."""
        self._counters[self._block + metrics.SERVER_FAILURES] += 1

    def missed(self, near_miss: int, key: bytes, now: float) -> None:
        """What came over UDP in answer to the question of `key` is not believed."""
        self._counters[self._block + metrics.SERVER_NEAR_MISSES] += 1
        if near_miss == CASE and self.letter_case.missed(key, now):
            done = "for an hour names are sent to it in lower case"
            self._log.warn(f"upstream {self.label} does not repeat the letter case of names: {done}", now)
        elif near_miss == COOKIE and self.cookies.missed(key, now):
            done = "for an hour it is asked without"
            self._log.warn(f"upstream {self.label} does not send its cookie any more: {done}", now)

    def answered(self, seconds: float) -> None:
        """It took this long for a reply."""
        self.estimate.measured(seconds)
        self._replies += 1
        self._quickest = min(self._quickest, seconds)
        observe(self._counters, self._block + _SECONDS, seconds, 1)

    def delay(self, now: float) -> float:
        """By how many seconds the quickest of its last replies came later than it could; negative when they are few.

        The mean would tell of slow names. That all of several are late is a queue.
        """
        if self._replies < SEVERAL:
            return -1.0
        if now - self._period >= PERIOD:
            self._least_before = self._least if now - self._period < 2 * PERIOD else _NONE
            self._least, self._period = _NONE, now
        quickest = self._quickest
        self._quickest, self._replies = _NONE, 0
        self._least = min(self._least, quickest)
        return quickest - min(self._least, self._least_before)

    def heard(self, now: float) -> None:
        """A sign of life over its own transport."""
        self._quiet_since = now
        since = self.health.changed_at
        if self.health.answered(now):
            self._counters[self._block + metrics.SERVER_RESTING] = 0
            seconds = now - since
            self._log.warn(f"upstream {self.label} answers again after {seconds:.0f} s: it is used as before", now)

    def failed(self, sent: float, now: float, failure: UpstreamFailed, alone: bool) -> None:
        """Nothing came of a query. `alone`: there is no other upstream."""
        self.useless()
        if self.health.failed(sent, now):
            self._counters[self._block + metrics.SERVER_RESTING] = 1
            self.cookies.forget()
            done = "it is asked on, there is no other" if alone else "others are asked first until it answers a probe"
            self._log.warn(f"upstream {failure}, {self.health.failures} times in a row: {done}", now)

    def heard_over_tcp(self, now: float) -> None:
        if self.tcp_health.answered(now):
            self._log_tcp.warn(f"upstream {self.label} answers over TCP again: it is used as before", now)

    def failed_over_tcp(self, sent: float, now: float, failure: UpstreamFailed) -> None:
        self.useless()
        if failure.why == SAID:  # it can be reached
            self.heard_over_tcp(now)
        elif self.tcp_health.failed(sent, now):
            done = "over UDP it is used as before, what does not fit there is asked of others first"
            self._log_tcp.warn(f"upstream {failure} (over TCP), {self.tcp_health.failures} times in a row: {done}", now)

    def catch_up(self, now: float) -> None:
        """Log what was held back, and count what other workers have found out; to be called now and then."""
        self._counters[self._block + metrics.SERVER_RESTING] = int(self.health.resting)
        self._counters[self._block + metrics.SERVER_CONNECTIONS] = self.tcp.open
        self._counters[self._block + metrics.SERVER_OPENINGS] += self.tcp.openings - self._openings
        self._openings = self.tcp.openings
        self.letter_case.catch_up(now)
        self.cookies.catch_up(now, self.estimate.rtt > 0.0)
        self._log.catch_up(now)
        self._log_tcp.catch_up(now)
        if self.budget is not None:
            self.budget.catch_up(now)
