"""The search of one question over several servers: who is asked when, how each has failed, and what that proves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gevent import get_hub, getcurrent

from rdnscache import clock
from rdnscache.dns.compose import EDE_OVER_BUDGET
from rdnscache.dns.wire import NOTIMP, REFUSED, SERVFAIL, Reply
from rdnscache.errors import LOCAL, SAID, SILENT, SPENT, UNREACHABLE, UpstreamFailed
from rdnscache.upstream.alarms import Alarms
from rdnscache.upstream.attempt import Attempt, Owner
from rdnscache.upstream.server import Server
from rdnscache.upstream.thrift import Thrift

#: How often a silent server is asked: datagrams can be lost.
ROUNDS = 4
#: The same for a lossy server.
LOSSY_ROUNDS = 8
#: If a wait ends this many seconds late, this process was stopped or busy, and silence proves nothing about servers.
LATE = 0.1
#: A time after all others.
NEVER = _NEVER = 1e300
#: Extended DNS Errors (RFC 8914 sections 4.23 and 4.24): No Reachable Authority, Network Error.
NO_REACHABLE_AUTHORITY, NETWORK_ERROR = 22, 23


class Search(Owner):
    """The state of a search. Times are monotonic, in seconds. `order` has every server once, in order of preference.

    `fair`: after a pause of this process at least this many seconds are left until the deadline.
    """

    def __init__(
        self, key: bytes, started: float, deadline: float, fair: float, order: Sequence[Server], alarms: Alarms
    ) -> None:
        self.key = key
        #: How servers with a budget are asked; None if there are none.
        self.thrift: Thrift | None = None
        self.started = started
        self.deadline = deadline
        self._fair = fair
        #: The servers of this round, and how many have been asked; rounds that are over; when the next one is asked.
        self.left = order
        self.asked = 0
        self.rounds = 0
        self.next_at = started
        #: Whether that has been postponed, because there is no sign of a loss.
        self.put_off = False
        #: Outstanding attempts; and those of them that have an outcome.
        self.open: list[Attempt] = []
        self._told: list[Attempt] = []
        #: The waiting greenlet; by how many seconds its last wait ended late, 0 if in time.
        self._sleeper: Any = None
        self._alarms = alarms
        self._wakes_at = _NEVER
        self.late = 0.0
        self._forgiven = False
        self.troubled = False
        #: Whether it has found an answer.
        self.answered = False
        self._ede = -1
        self._servers = len(order)
        #: Whether any server has failed; whether one of this round has failed at once, as it may again.
        self.failed = self.failed_at_once = False
        #: The last failure of each server; servers that have replied, if only that TCP is needed; unanswered tries.
        self._failures: dict[Server, UpstreamFailed] = {}
        self._met: tuple[Server, ...] = ()
        self._tries: dict[Server, int] = {}
        #: Servers that have failed once over TCP.
        self._retried: tuple[Server, ...] = ()
        self._said = False

    # Waiting

    def tell(self, attempt: Attempt) -> None:
        self._told.append(attempt)

    def wake(self) -> None:
        sleeper = self._sleeper
        if sleeper is not None:
            self._rouse()
            sleeper.switch()

    def _rouse(self) -> None:
        self._sleeper = None
        if self._wakes_at < _NEVER:
            self._alarms.unset(self, self._wakes_at)
            self._wakes_at = _NEVER

    def alarm(self, now: float) -> None:
        """Called by the alarms: wake the search if its time has come."""
        if now >= self._wakes_at:
            self.wake()

    def wake_later(self) -> None:
        if self._sleeper is not None:
            get_hub().loop.run_callback(self.wake)

    def wait(self) -> Attempt | None:
        """Wait for the next attempt with an outcome; None at `next_at`, if one is due, or if a budget refused."""
        if not self._told and not (self.thrift is not None and self.thrift.refused):
            self._sleep(self._until())
        return self._told.pop(0) if self._told else None

    def _until(self) -> float:
        until = min(self.next_at, self.deadline)
        if self.thrift is not None:
            until = min(until, self.thrift.until())
        for attempt in self.open:
            if not attempt.noted and attempt.due < until:
                until = attempt.due
        return until

    def _sleep(self, until: float) -> None:
        if until > clock.monotonic():
            self._wakes_at = until
            self._alarms.set(self, until)
            self._sleeper = getcurrent()
            try:
                self._alarms.hub.switch()
            finally:
                self._rouse()
        if self._told:
            return
        for attempt in tuple(self.open):  # a late timer may fire before the event of data that has arrived meanwhile
            if attempt.reply is None and not attempt.cut and attempt.failure is None:
                attempt.look()
        self._forgive(clock.monotonic() - until)

    def _forgive(self, late: float) -> None:
        """Extend the time of attempts, and once the deadline, if the wait ended late: silence proves nothing then."""
        self.late = late if late > LATE and not self._told else 0.0
        if not self.late:
            return
        for attempt in self.open:
            attempt.due += late
        if not self._forgiven:
            self._forgiven = True
            self.deadline = max(self.deadline + late, clock.monotonic() + self._fair)

    # The next server

    def next_server(self) -> Server | None:
        """The next server of this round; None at its end."""
        if self.ends_round():
            return None
        self.asked += 1
        return self.left[self.asked - 1]

    def ends_round(self) -> bool:
        """Whether all servers of this round have been asked."""
        return self.asked == len(self.left)

    def attempt_at(self, server: Server) -> Attempt | None:
        """The outstanding attempt at a server, if any."""
        for attempt in self.open:
            if attempt.server is server:
                return attempt
        return None

    def begin_round(self, left: Sequence[Server], at: float) -> None:
        self.left = left
        self.asked = 0
        self.failed_at_once = False
        self.rounds += 1
        self.next_at = at

    def pass_over(self, server: Server, now: float) -> bool:
        """Pass over a resting server if another one has said that there is no answer; returns whether that was done."""
        if not self._said or not server.health.resting or server.health.due(now):
            return False
        self.failed = True
        self._failures[server] = UpstreamFailed(f"{server.label}: not asked, it rests", why=UNREACHABLE)
        return True

    def worth_asking(self, servers: Sequence[Server]) -> list[Server]:
        """The servers that may still answer if they are asked again."""
        return [server for server in servers if self._may_answer(server)]

    def _may_answer(self, server: Server) -> bool:
        failure, tries = self._failures.get(server), self._tries.get(server, 0)
        if failure is not None and failure.why == SPENT:
            return False
        if self._said:  # servers that were reached have no answer: only lost datagrams are sent again
            silent = failure is None or failure.why == SILENT
            return silent and tries < 2 and not server.health.resting
        return tries < (LOSSY_ROUNDS if server.estimate.lossy else ROUNDS)

    def waits(self) -> bool:
        """Whether an outstanding attempt may still bring an answer."""
        if self.thrift is not None and self.thrift.pending:
            return True
        return any(not attempt.noted or not self._said for attempt in self.open)

    # Servers with a budget

    def use(self, thrift: Thrift) -> None:
        self.thrift = thrift
        thrift.wake = self.wake_later

    def spent(self, server: Server) -> None:
        """Note that the budget of a server is used up."""
        self.note(server, UpstreamFailed(f"{server.label}: its budget is used up", why=SPENT))

    # Outcomes

    def sent(self, server: Server) -> None:
        """Note that a query is sent, perhaps once there is a connection."""
        self._tries[server] = self._tries.get(server, 0) + 1

    def met(self, server: Server) -> None:
        """Note that a server has replied over UDP, but TCP is needed."""
        self._met = (*self._met, server)

    def hear(self, reply: Reply) -> None:
        if self._ede < 0:
            self._ede = reply.ede

    def refused(self, server: Server, reply: Reply) -> None:
        """Note that the reply of a server is not an answer."""
        rcode = reply.rcode if reply.rcode in (REFUSED, NOTIMP) else SERVFAIL
        self.note(server, UpstreamFailed(f"{server.label}: no answer, RCODE {reply.rcode}", rcode, why=SAID))

    def note(self, server: Server, failure: UpstreamFailed) -> None:
        """Note that an attempt has failed, or been silent for too long."""
        self.failed = True
        self.failed_at_once |= failure.why in (LOCAL, UNREACHABLE)
        self._failures[server] = failure
        if failure.why == SAID:
            self._said = True
        elif server in self._met and failure.why != LOCAL:  # it can be reached: a second try, no third
            self._tries[server] = LOSSY_ROUNDS if server in self._retried else 0
            self._retried = (*self._retried, server)
        elif failure.why not in (SILENT, SPENT):  # the next query may well arrive: it is asked until the deadline
            self._tries[server] = 0

    def reached_nobody(self) -> bool:
        """Whether all servers have been tried and none could be reached; returns True once only."""
        if self.troubled or self._met or len(self._failures) < self._servers:
            return False
        proofs = (self._proves(server, failure) for server, failure in self._failures.items())
        self.troubled = all(proof in (LOCAL, UNREACHABLE) for proof in proofs)
        return self.troubled

    def failure(self) -> UpstreamFailed:
        """The failure of the search. It is a fact about the name only if every server has replied or is at work."""
        for attempt in self.open:
            if attempt.server not in self._failures:
                self._failures[attempt.server] = UpstreamFailed(f"{attempt.server.label}: no reply", why=SILENT)
        if not self._failures:
            return UpstreamFailed("no upstream in time", ede=NO_REACHABLE_AUTHORITY)
        found = {self._proves(server, failure) for server, failure in self._failures.items()}
        why = next(each for each in (SPENT, LOCAL, UNREACHABLE, SAID, SILENT) if each in found)
        rcodes = {failure.rcode for failure in self._failures.values()}
        rcode = rcodes.pop() if len(rcodes) == 1 else SERVFAIL
        text = "; ".join(map(str, self._failures.values()))
        return UpstreamFailed(text, rcode, self._told_error(why), why, next(reversed(self._failures)).label)

    def _proves(self, server: Server, failure: UpstreamFailed) -> str:
        if failure.why != SILENT or server in self._met:
            return UNREACHABLE if failure.why == SILENT else failure.why
        # a server in doubt has become silent for all questions since its last answer
        alive = server.health.alive_at >= self.started and not server.health.rests_until
        alive = alive and not server.in_doubt(clock.monotonic())
        return SILENT if alive else UNREACHABLE

    def _told_error(self, why: str) -> int:
        """The Extended DNS Error of an upstream, or our own."""
        if why == SPENT:
            return EDE_OVER_BUDGET
        if self._ede >= 0 or why == SAID:
            return self._ede
        unheard = why == UNREACHABLE and not self._met and not self._said
        return NO_REACHABLE_AUTHORITY if unheard else NETWORK_ERROR
