"""The servers that questions are forwarded to; the next is asked when an answer is overdue, all within one deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rdnscache import clock
from rdnscache.dns.distill import distill
from rdnscache.dns.policy import usable
from rdnscache.dns.wire import Reply
from rdnscache.errors import LOCAL, SILENT, UpstreamFailed
from rdnscache.metrics import Counters
from rdnscache.upstream.alarms import Alarms
from rdnscache.upstream.asking import Asking, jitter
from rdnscache.upstream.attempt import Attempt
from rdnscache.upstream.budget import PATIENCE
from rdnscache.upstream.choice import Choice
from rdnscache.upstream.search import NEVER, Search
from rdnscache.upstream.server import Server
from rdnscache.upstream.thrift import Thrift

#: Seconds between two rounds that failed at once: doubled from the first to the second value.
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
#: With fewer seconds left nobody is asked again.
TOO_LATE = 0.02


def _ignore() -> None:
    pass


class Upstreams(Asking):
    """`timeout`: seconds after which a silent server has failed; `deadline`: seconds for the whole search."""

    def __init__(
        self, servers: Sequence[Server], timeout: float, deadline: float, counters: Counters, policy: str = "fastest"
    ) -> None:
        Asking.__init__(self, servers, timeout, counters)
        self.deadline = deadline
        self._choice = Choice(self.servers, policy)
        #: Whether any of them has a budget.
        self.budgeted = any(server.budget is not None for server in self.servers)
        self._alarms = Alarms()

    def latency(self) -> float:
        """The mean latency in seconds of the servers that are at work; 0 if it is not known."""
        known = [server.estimate.rtt for server in self.servers if server.estimate.rtt and not server.health.resting]
        return sum(known) / len(known) if known else 0.0

    def short(self) -> bool:
        """Whether a question would have to wait, because all budgets are used up."""
        if not self.budgeted:
            return False
        now = clock.monotonic()
        return all(server.budget is not None and server.budget.short(now) for server in self.servers)

    def ask(
        self,
        key: bytes,
        on_trouble: Callable[[Any, float], None] | None = None,
        thrift: Thrift | None = None,
        context: Any = None,
    ) -> tuple[Reply, str]:
        """A usable reply, and the address it came from. Raises UpstreamFailed if there is none.

        When an answer is overdue, the next server is asked, while the previous one may still answer. A server that
        replies SERVFAIL, REFUSED or without an answer is asked once. Others are asked until the deadline: silent ones
        at most ROUNDS times, and with growing pauses after a refused packet or an error of our own.
        Servers whose budget is not used up are asked first; if there are none, the question waits as `thrift` says.
        `on_trouble` is called with the `context` and the time at which this began, when all servers have been tried and
        none could be reached.
        """
        now = clock.monotonic()
        search = Search(key, now, now + self.deadline, self._timeout, self._in_order(key, now), self._alarms)
        if self.budgeted:
            search.use(thrift or Thrift(b"", now + PATIENCE, False, _ignore))
        try:
            while True:
                if now >= search.next_at and now < search.deadline:
                    self._go_on(search, now)
                attempt = search.wait()
                now = clock.monotonic()
                if search.thrift is not None:
                    search.thrift.go_on(now)
                if attempt is not None:
                    reply = self._hear(search, attempt, now)
                    if reply is not None:
                        search.answered = True
                        return reply, attempt.server.host
                elif search.next_at > now or self._go_on_or_put_off(search, now):
                    self._note_silence(search, now)
                    if now >= search.deadline or (search.next_at == NEVER and not search.waits()):
                        raise search.failure()
                if search.failed and search.reached_nobody() and on_trouble is not None:
                    on_trouble(context, search.started)
        finally:
            if search.thrift is not None:
                search.thrift.end()
            for attempt in search.open:
                self._leave(attempt, search.answered)

    def _in_order(self, key: bytes, now: float) -> list[Server]:
        """Every server once, in the order in which they are asked; probes are sent to resting ones that are due."""
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
        """Ask the next server, or begin another round."""
        at_once = self._choice.at_once if search.asked == 0 and search.rounds == 0 else 1
        while at_once and search.next_at <= now:
            server = search.next_server()
            if server is None:
                self._next_round(search, now)
                return
            if not search.pass_over(server, now):
                self._send(search, server, now, at_once == 1)
                at_once -= 1

    def _go_on_or_put_off(self, search: Search, now: float) -> bool:
        """Whether the next server may be asked now; if too many are asked early, that is postponed."""
        if search.rounds or search.put_off or not search.open:
            return True
        last = search.open[-1]
        if last.server.may_hurry(now, search.ends_round()):
            return True
        search.put_off = True
        search.next_at = last.sent + self._patient(last.server) * jitter()
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
            pause = min(FIRST_PAUSE * 2**search.rounds, LAST_PAUSE) * jitter()
            search.begin_round(left, now + min(pause, max(remaining / 2, TOO_LATE)))

    def _note_silence(self, search: Search, now: float) -> None:
        """Note overdue attempts; a server that was silent for the timeout has failed, though it may still answer."""
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
        """Handle the outcome of an attempt; returns the answer, or None: then the next server is asked at once."""
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
