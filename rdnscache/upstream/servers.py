"""The servers we forward to: the next is asked when an answer is overdue, all inside one deadline."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

from rdnscache import metrics
from rdnscache.dns.distill import distill
from rdnscache.dns.policy import usable
from rdnscache.dns.wire import BADCOOKIE, BADVERS, FORMERR, NOTIMP, Reply
from rdnscache.errors import LOCAL, SILENT, UpstreamFailed
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters
from rdnscache.upstream.alarms import Alarms
from rdnscache.upstream.aside import Aside
from rdnscache.upstream.attempt import Attempt
from rdnscache.upstream.budget import PATIENCE
from rdnscache.upstream.choice import Choice, patience
from rdnscache.upstream.search import NEVER, Search
from rdnscache.upstream.server import Server
from rdnscache.upstream.thrift import Errand, Thrift

log = logging.getLogger(__name__)

#: Times vary a little, or what was asked in one burst would be asked again in one burst.
JITTER = _JITTER = 0.15
#: Seconds between two rounds in which nobody was waited for: at first, and at most; doubled each time.
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
#: What part of the timeout, and how many seconds at most, are waited for a server where nothing tells of a loss, and in
#: the second round; the third and the last take all of the timeout.
SECOND_ROUND = 1 / 4
MOST_PATIENT = 0.5
#: A connection over TCP, and a question, take this many times the patience, or this part of the timeout.
TCP_PATIENCE = 4
#: With less time left nobody is asked again.
TOO_LATE = 0.02
#: Attempts of a search that are on their way at a time.
MOST_OPEN = 8


def _ignore() -> None:
    pass


def _jitter() -> float:
    return 1.0 + _JITTER * random.random()


class Upstreams:
    """`timeout` is after how long a silent server has failed, `deadline` for all of them together, in seconds."""

    def __init__(
        self, servers: Sequence[Server], timeout: float, deadline: float, counters: Counters, policy: str = "fastest"
    ) -> None:
        self.servers = list(servers)
        self._timeout = timeout
        self._deadline = deadline
        self._counters = counters
        self._choice = Choice(self.servers, policy)
        self._alone = len(self.servers) == 1
        #: Whether some of them may be asked only so much.
        self.budgeted = any(server.budget is not None for server in self.servers)
        self._aside = Aside(self._alone)
        self._alarms = Alarms()
        self._local = Throttled(log)

    def latency(self) -> float:
        """Seconds that those at work take, averaged; 0 when that is not known."""
        known = [server.estimate.rtt for server in self.servers if server.estimate.rtt and not server.health.resting]
        return sum(known) / len(known) if known else 0.0

    def short(self) -> bool:
        """Whether a question would have to wait, since none may be asked more for now."""
        if not self.budgeted:
            return False
        now = time.monotonic()
        return all(server.budget is not None and server.budget.short(now) for server in self.servers)

    def catch_up(self, now: float) -> None:
        """Log what was held back; to be called now and then."""
        self._local.catch_up(now)

    def ask(
        self, key: bytes, on_trouble: Callable[[], None] = _ignore, thrift: Thrift | None = None
    ) -> tuple[Reply, str]:
        """A usable reply and the address it came from.

        When an answer is overdue, the next server is asked, while the one before may still answer. Who says SERVFAIL,
        REFUSED or nothing to the point is asked once. The others are asked until the deadline: after silence at most
        ROUNDS times, after a refused packet or an error of our own with pauses that grow.
        Of servers with a budget those that have some left are asked first; if none has, it waits, as `thrift` says.
        `on_trouble` is called when everybody has been tried, and nobody could be reached.
        Raises UpstreamFailed when nobody is left to ask.
        """
        now = time.monotonic()
        search = Search(key, now, now + self._deadline, self._timeout, self._in_order(key, now), self._alarms)
        if self.budgeted:
            search.use(thrift or Thrift(b"", now + PATIENCE, False, _ignore))
        try:
            while True:
                if now >= search.next_at and now < search.deadline:
                    self._go_on(search, now)
                attempt = search.wait()
                now = time.monotonic()
                if search.thrift is not None:
                    search.thrift.go_on(now)
                if attempt is not None:
                    reply = self._hear(search, attempt, now)
                    if reply is not None:
                        search.answered = True
                        return reply, attempt.server.host
                elif search.next_at > now or self._may_go_on(search, now):
                    self._note_silence(search, now)
                    if now >= search.deadline or (search.next_at == NEVER and not search.waits()):
                        raise search.failure()
                if search.failed and search.reached_nobody():
                    on_trouble()
        finally:
            if search.thrift is not None:
                search.thrift.end()
            for attempt in search.open:
                self._leave(attempt, search.answered)

    def _in_order(self, key: bytes, now: float) -> list[Server]:
        """Every server once, the first to be asked first; whose rest is over is sent a probe."""
        if self._alone:
            return self.servers
        order = self._choice.order(now)
        if order[-1].health.rests_until and not order[0].health.rests_until:  # if all rest, the question is the probe
            for server in order:
                if server.health.due(now):
                    self._probe(server, key, now)
        return order

    def _probe(self, server: Server, key: bytes, now: float) -> None:
        """Probe a resting server with a question that another answers for the client: no client waits for the probe."""
        if server.budget is None:
            self._send_probe(server, key, now)
        else:
            server.health.probe(now + PATIENCE)
            if not server.budget.spare(partial(self._send_probe, server, key), now):
                server.health.probed()

    def _send_probe(self, server: Server, key: bytes, now: float) -> None:
        attempt = Attempt(server, key, True, now, now + self._timeout, self._aside)
        server.health.probe(attempt.due)
        server.asked(now)
        self._aside.take(attempt)
        attempt.transport.send(attempt)

    def _go_on(self, search: Search, now: float) -> None:
        """Ask whoever is next, or begin another round."""
        at_once = self._choice.at_once if search.asked == 0 and search.rounds == 0 else 1
        while at_once and search.next_at <= now:
            server = search.next_server()
            if server is None:
                self._next_round(search, now)
                return
            if not search.passes_over(server, now):
                self._send(search, server, now, at_once == 1)
                at_once -= 1

    def _may_go_on(self, search: Search, now: float) -> bool:
        """Whether it is time, or too many have been asked early: then it is put off."""
        if search.rounds or search.put_off or not search.open:
            return True
        last = search.open[-1]
        if last.server.may_hurry(now, search.ends_round()):
            return True
        search.put_off = True
        search.next_at = last.sent + self._patient(last.server) * _jitter()
        return search.next_at <= now

    def _next_round(self, search: Search, now: float) -> None:
        left = search.worth_asking(self.servers if search.rounds else search.left)
        remaining = search.deadline - now
        if not left or remaining < TOO_LATE:
            if not search.waits():
                raise search.failure()
            search.next_at = NEVER
        elif search.open and not (search.rounds and search.failed_at_once):
            search.begin_round(left, now)
        else:
            pause = min(FIRST_PAUSE * 2**search.rounds, LAST_PAUSE) * _jitter()
            search.begin_round(left, now + min(pause, max(remaining / 2, TOO_LATE)))

    def _send(self, search: Search, server: Server, now: float, last: bool) -> None:
        """Ask it, or ask it again, if it may be asked."""
        if server.budget is None:
            self._ask(search, server, last, now)
            return
        attempt = search.attempt_at(server)
        if attempt is not None and attempt.transport is not server.udp:  # nothing is sent twice over a connection
            self._ask(search, server, last, now)
            return
        fail = partial(self._not_sent, search, server)
        self._spend(search, server, now, partial(self._ask, search, server, last), fail)

    def _spend(
        self, search: Search, server: Server, now: float, run: Callable[[float], None], fail: Callable[[float], None]
    ) -> None:
        """Send something as soon as the server's budget allows it, or `fail`."""
        thrift = search.thrift
        if server.budget is None or thrift is None:
            run(now)
        elif thrift.send(Errand(server.budget, run, fail), now):
            search.next_at = NEVER

    def _not_sent(self, search: Search, server: Server, now: float) -> None:
        """Its budget is used up. What it was sent before may still be answered."""
        if search.attempt_at(server) is None:
            search.spent(server)
            search.next_at = now
        else:
            search.next_at = now + self._wait(search, server) * _jitter()

    def _ask(self, search: Search, server: Server, last: bool, now: float) -> None:
        if last:
            search.next_at = now + self._wait(search, server) * _jitter()
            search.put_off = False
        search.sent(server)
        attempt = search.attempt_at(server)
        if attempt is None and server.waiting >= server.most_waiting:
            failure = UpstreamFailed(f"{server.label}: {server.waiting} queries wait for it", why=LOCAL)
            self._failed(search, server, failure, now)
        elif attempt is None:
            if len(search.open) >= MOST_OPEN:
                self._leave(search.open.pop(0), False)
            attempt = Attempt(server, search.key, True, now, self._due(now), search)
            search.open.append(attempt)
            server.asked(now)
            attempt.transport.send(attempt)
        else:
            self._overdue(attempt)
            attempt.send_again(now)

    def _wait(self, search: Search, server: Server) -> float:
        """Seconds until the next is asked."""
        if search.rounds == 0:
            return min(patience(server, self.servers), self._timeout)
        if server.estimate.lossy and not server.health.resting:
            return min(server.estimate.patience() * (1 << search.rounds), self._timeout)
        return self._patient(server) if search.rounds == 1 else self._timeout

    def _patient(self, server: Server) -> float:
        """The same where nothing tells of a loss."""
        seconds: float = max(min(self._timeout * SECOND_ROUND, MOST_PATIENT), server.estimate.patience())
        return min(seconds, self._timeout)

    def _due(self, now: float) -> float:
        """When a server that is asked now and says nothing has failed."""
        return now + self._timeout * _jitter()

    def _overdue(self, attempt: Attempt) -> None:
        if not attempt.overdue:
            attempt.overdue = True
            attempt.server.hurried()

    def _note_silence(self, search: Search, now: float) -> None:
        """It is time to go on. Who has been silent for the timeout has failed, though it may still answer."""
        if search.late:
            return
        for attempt in search.open:
            if search.next_at <= now:
                self._overdue(attempt)
            if attempt.noted or now < attempt.due:
                continue
            attempt.noted = True
            attempt.failure = UpstreamFailed(f"{attempt.server.label}: no reply in time", why=SILENT)
            attempt.judge(now, self._alone)
            search.note(attempt.server, attempt.failure)
            attempt.failure = None

    def _hear(self, search: Search, attempt: Attempt, now: float) -> Reply | None:
        """Something has come of an attempt: the answer, or None, and then the next is asked at once."""
        if attempt not in search.open:
            return None
        if attempt.cut:
            attempt.judge(now, self._alone)
            self._turn_to_tcp(search, attempt, now)
            return None
        reply, server = attempt.reply, attempt.server
        if attempt.failure is None or attempt.failure.why != LOCAL:
            attempt.judge(now, self._alone)
        search.open.remove(attempt)
        attempt.end()
        if reply is None:
            assert attempt.failure is not None
            self._failed(search, server, attempt.failure, now)
            return None
        if attempt.edns and not usable(reply) and self._otherwise(search, attempt, reply, now):
            return None
        search.hear(reply)
        answer = distill(search.key, reply) if usable(reply) else None
        if answer is None:
            server.useless()
            search.refused(server, reply)
            search.next_at = now
        return answer

    def _failed(self, search: Search, server: Server, failure: UpstreamFailed, now: float) -> None:
        if failure.why == LOCAL:
            self._own_fault(failure, now)
        search.note(server, failure)
        search.next_at = now

    def _otherwise(self, search: Search, before: Attempt, reply: Reply, now: float) -> bool:
        """Ask again with the cookie the server has just sent, or without any, or without EDNS.

        Perhaps it does not know them (RFC 7873 section 5.3, RFC 6891 section 6.2.2). False if that is not why.
        """
        renewed = reply.rcode == BADCOOKIE and not before.second
        over_udp = before.health is before.server.health
        tried = over_udp and not renewed and before.cookie != b"" and not reply.cookie
        if not renewed and not tried and reply.rcode not in (FORMERR, NOTIMP, BADVERS):
            return False
        attempt = Attempt(before.server, search.key, renewed or tried, now, self._due(now), search)
        attempt.cookies, attempt.second = renewed, renewed
        attempt.transport, attempt.health = before.transport, before.health
        run, fail = partial(self._ask_otherwise, search, attempt), partial(self._not_sent, search, attempt.server)
        self._spend(search, attempt.server, now, run, fail)
        return True

    def _ask_otherwise(self, search: Search, attempt: Attempt, now: float) -> None:
        attempt.first_sent = attempt.sent = now
        attempt.due = self._due(now)
        search.open.append(attempt)
        search.next_at = now + self._timeout
        attempt.server.asked(now)
        attempt.transport.send(attempt)

    def _turn_to_tcp(self, search: Search, attempt: Attempt, now: float) -> None:
        """TCP that rests is used only if nobody else is left in this round: another may have the answer.

        Where somebody forges replies, UDP from another port is worth more.
        """
        server, health = attempt.server, attempt.server.tcp_health
        insists = not attempt.near_miss and (search.asked == len(search.left) or search.rounds > 0)
        if health.resting and not health.due(now) and not insists:
            search.open.remove(attempt)
            attempt.end()
            search.note(server, UpstreamFailed(f"{server.label}: left alone over TCP", why=SILENT))
            search.next_at = now
            return
        if not attempt.near_miss:
            search.met(server)
        attempt.due = self._due(now) + PATIENCE  # until it has been sent
        run, fail = partial(self._ask_over_tcp, search, attempt), partial(self._no_tcp, search, attempt)
        self._spend(search, server, now, run, fail)

    def _no_tcp(self, search: Search, attempt: Attempt, now: float) -> None:
        """The server's budget is used up."""
        if attempt in search.open:
            search.open.remove(attempt)
            attempt.end()
            self._not_sent(search, attempt.server, now)

    def _ask_over_tcp(self, search: Search, attempt: Attempt, now: float) -> None:
        if attempt not in search.open:
            return
        server, health = attempt.server, attempt.server.tcp_health
        if health.due(now):
            health.probe(now + self._timeout)
        wait = max(TCP_PATIENCE * server.estimate.patience(), self._timeout * SECOND_ROUND)
        search.next_at = now + min(wait, self._timeout)
        server.overdue -= attempt.overdue
        attempt.turn_to_tcp(now, self._due(now))

    def _leave(self, attempt: Attempt, answered: bool) -> None:
        """The search is over. Where another server has answered, what is still on its way tells of its own."""
        if not answered or attempt.noted or attempt.reply is not None or attempt.cut or attempt.failure is not None:
            attempt.end()
        else:
            self._aside.take(attempt)

    def _own_fault(self, failure: UpstreamFailed, now: float) -> None:
        self._counters[metrics.UPSTREAM_LOCAL_ERRORS] += 1
        self._local.warn(f"no query could be sent to {failure}: no fault of the upstream's, tried again", now)
