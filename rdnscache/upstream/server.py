"""One upstream: its state, its counters and its log lines."""

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

#: Ranks, in the order in which servers are asked.
AT_WORK, IN_DOUBT, SHORT, RESTING = 0, 1, 2, 3
#: A server is in doubt if this many questions wait for it, and none was answered for this many seconds and this many
#: times its round trip: then new questions go elsewhere before the first one has timed out.
DOUBT_WAITING, DOUBT_SECONDS, DOUBT_LATENCIES = 3, 0.25, 4
#: The share of questions that may be asked again as soon as an answer is overdue; how many in a row at most.
EARLY, MOST_EARLY = _EARLY, _MOST_EARLY = 0.05, 10.0
#: Replies of which at least one is fast unless there is a queue; seconds of a period for which the fastest is kept.
SEVERAL, PERIOD = 16, 5.0
_NONE = 1e300
_QUERIES, _SECONDS = metrics.SERVER_QUERIES, metrics.SERVER_SECONDS


#: The number of shared numbers of a server.
ROOM = 2 * health.ROOM + estimate.ROOM + 2 * defence.ROOM


@dataclass(frozen=True, slots=True)
class Ways:
    """The transports to a server: `own`, and if that is UDP (`udp`), `tcp` for replies that do not fit."""

    own: Transport
    tcp: Connections
    udp: Datagrams | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """Minimum and maximum seconds after which an answer is overdue."""

    floor: float = 0.02
    ceiling: float = 1.0


class Server:
    """One upstream. `health` and `tcp_health` are separate: a server may answer over UDP though TCP is closed.

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
        #: Questions that wait for it, and overdue ones among them; since when it has answered none.
        self.waiting = self.overdue = 0
        self.most_waiting = measures.outstanding
        self._quiet_since = 0.0
        #: How many questions may be asked again early.
        self._spare = MOST_EARLY
        #: Since the last call of `delay`: seconds of the fastest reply, number of replies; the fastest reply in this
        #: period, and in the previous one.
        self._quickest = _NONE
        self._replies = 0
        self._least = self._least_before = _NONE
        self._period = 0.0
        self._block = block
        self._counters = counters
        #: Its budget; None if it has none.
        self.budget: Budget | None = None
        self._log = Throttled(log)
        self._log_tcp = Throttled(log)
        #: Connections that are counted in the metrics.
        self._openings = 0
        for gauge in (metrics.SERVER_RESTING, metrics.SERVER_CONNECTIONS):
            counters[block + gauge] = 0  # the previous worker may have left another value

    def rank(self, now: float) -> int:
        if self.health.rests_until:
            return RESTING
        if self.budget is not None and self.budget.short(now):
            return SHORT
        return IN_DOUBT if self.waiting >= self.most_waiting or self.in_doubt(now) else AT_WORK

    def in_doubt(self, now: float) -> bool:
        """Whether it seems to have stopped answering."""
        if self.waiting < DOUBT_WAITING:
            return False
        quiet = now - self._quiet_since
        return quiet > DOUBT_SECONDS and quiet > DOUBT_LATENCIES * self.estimate.rtt

    def asked(self, now: float) -> None:
        """Note that a query is sent; the caller decrements `waiting` when it has an outcome."""
        count(self._counters, self._block + _QUERIES, 1)
        if not self.waiting:
            self._quiet_since = now
        self.waiting += 1
        self._spare = min(self._spare + _EARLY, _MOST_EARLY)

    def may_hurry(self, now: float, last: bool) -> bool:
        """Whether another server, or this one again, may be asked as soon as an answer is overdue.

        That is allowed for few questions only, and for the `last` server only if something was lost recently: slow
        answers are rarely lost, and many upstreams limit queries.
        """
        return self.estimate.lossy or (self._spare >= 1.0 and (not last or self.estimate.loses(now)))

    def hurried(self) -> None:
        """Note that another query was sent because the answer is overdue."""
        self.overdue += 1
        self._spare = max(self._spare - 1.0, 0.0)

    def useless(self) -> None:
        """Count a reply that is not an answer, or a failure."""
        self._counters[self._block + metrics.SERVER_FAILURES] += 1

    def missed(self, near_miss: int, key: bytes, now: float) -> None:
        """Note a near miss over UDP for the question of `key`."""
        self._counters[self._block + metrics.SERVER_NEAR_MISSES] += 1
        if near_miss == CASE and self.letter_case.missed(key, now):
            done = "for an hour names are sent to it in lower case"
            self._log.warn(f"upstream {self.label} does not repeat the letter case of names: {done}", now)
        elif near_miss == COOKIE and self.cookies.missed(key, now):
            done = "for an hour it is asked without cookies"
            self._log.warn(f"upstream {self.label} does not send its cookie any more: {done}", now)

    def answered(self, seconds: float) -> None:
        """Note the time of a reply."""
        self.estimate.measured(seconds)
        self._replies += 1
        self._quickest = min(self._quickest, seconds)
        observe(self._counters, self._block + _SECONDS, seconds, 1)

    def delay(self, now: float) -> float:
        """By how many seconds the fastest of its last replies was slower than the fastest known; negative if few came.

        If even the fastest of several is late, there is a queue; the mean would depend on slow names.
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
        """Note an answer over its own transport."""
        self._quiet_since = now
        since = self.health.changed_at
        if self.health.answered(now):
            self._counters[self._block + metrics.SERVER_RESTING] = 0
            seconds = now - since
            self._log.warn(f"upstream {self.label} answers again after {seconds:.0f} s: it is used as before", now)

    def failed(self, sent: float, now: float, failure: UpstreamFailed, alone: bool) -> None:
        """Note a failed query. `alone`: there is no other upstream."""
        self.useless()
        if self.health.failed(sent, now):
            self._counters[self._block + metrics.SERVER_RESTING] = 1
            self.cookies.forget()
            done = "it is still asked, as the only one" if alone else "others are asked first until it answers a probe"
            self._log.warn(f"upstream {failure}, {self.health.failures} times in a row: {done}", now)

    def heard_over_tcp(self, now: float) -> None:
        if self.tcp_health.answered(now):
            self._log_tcp.warn(f"upstream {self.label} answers over TCP again: it is used as before", now)

    def failed_over_tcp(self, sent: float, now: float, failure: UpstreamFailed) -> None:
        self.useless()
        if failure.why == SAID:  # it can be reached
            self.heard_over_tcp(now)
        elif self.tcp_health.failed(sent, now):
            done = "it is used over UDP as before; for answers that do not fit, others are asked first"
            self._log_tcp.warn(f"upstream {failure} (over TCP), {self.tcp_health.failures} times in a row: {done}", now)

    def catch_up(self, now: float) -> None:
        """Log what was throttled, and take over what other workers have found; called now and then."""
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
