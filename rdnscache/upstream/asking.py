"""How a server is asked a question: once its budget allows it, over UDP or TCP, with or without EDNS, and how long to
wait for it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from functools import partial

from rdnscache import metrics
from rdnscache.dns.wire import BADCOOKIE, BADVERS, FORMERR, NOTIMP, Reply
from rdnscache.errors import LOCAL, SILENT, UpstreamFailed
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters
from rdnscache.upstream.aside import Aside
from rdnscache.upstream.attempt import Attempt
from rdnscache.upstream.budget import PATIENCE
from rdnscache.upstream.choice import patience
from rdnscache.upstream.search import NEVER, Search
from rdnscache.upstream.server import Server
from rdnscache.upstream.thrift import Errand

log = logging.getLogger(__name__)

#: Waiting times vary by this part, so that a burst of questions is not asked again in a burst.
JITTER = _JITTER = 0.15
#: The part of the timeout, and the maximum seconds, to wait for a server without signs of loss, and in the second
#: round; later rounds wait for the whole timeout.
SECOND_ROUND = 1 / 4
MOST_PATIENT = 0.5
#: A question over TCP may take this many times the server's patience.
TCP_PATIENCE = 4
#: Maximum outstanding attempts of a search.
MOST_OPEN = 8
_random = random.random


def jitter() -> float:
    return 1.0 + _JITTER * _random()


class Asking:
    """Asks the servers of searches. `timeout`: seconds after which a silent server has failed."""

    def __init__(self, servers: Sequence[Server], timeout: float, counters: Counters) -> None:
        self.servers = list(servers)
        self._timeout = timeout
        self._counters = counters
        self._alone = len(self.servers) == 1
        self._aside = Aside(self._alone)
        self._local = Throttled(log)

    def catch_up(self, now: float) -> None:
        """Log what was throttled; called now and then."""
        self._local.catch_up(now)

    def _send(self, search: Search, server: Server, now: float, last: bool) -> None:
        """Ask a server, or ask it again, once its budget allows it."""
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
        """Call `run` as soon as the server's budget allows it, else `fail`."""
        thrift = search.thrift
        if server.budget is None or thrift is None:
            run(now)
        elif thrift.send(Errand(server.budget, run, fail), now):
            search.next_at = NEVER

    def _not_sent(self, search: Search, server: Server, now: float) -> None:
        """The budget of a server is used up. An earlier query to it may still be answered."""
        if search.attempt_at(server) is None:
            search.spent(server)
            search.next_at = now
        else:
            search.next_at = now + self._wait(search, server) * jitter()

    def _ask(self, search: Search, server: Server, last: bool, now: float) -> None:
        if last:
            search.next_at = now + self._wait(search, server) * jitter()
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
        """Seconds until the next server is asked."""
        if search.rounds == 0:
            return min(patience(server, self.servers), self._timeout)
        if server.estimate.lossy and not server.health.resting:
            return min(server.estimate.patience() * (1 << search.rounds), self._timeout)
        return self._patient(server) if search.rounds == 1 else self._timeout

    def _patient(self, server: Server) -> float:
        """Seconds to wait for a server without signs of loss."""
        seconds: float = max(min(self._timeout * SECOND_ROUND, MOST_PATIENT), server.estimate.patience())
        return min(seconds, self._timeout)

    def _due(self, now: float) -> float:
        """When a server that is asked now will have failed, if it stays silent."""
        return now + self._timeout * jitter()

    def _overdue(self, attempt: Attempt) -> None:
        if not attempt.overdue:
            attempt.overdue = True
            attempt.server.hurried()

    def _failed(self, search: Search, server: Server, failure: UpstreamFailed, now: float) -> None:
        if failure.why == LOCAL:
            self._own_fault(failure, now)
        search.note(server, failure)
        search.next_at = now

    def _otherwise(self, search: Search, before: Attempt, reply: Reply, now: float) -> bool:
        """Ask again with the cookie that the server has just sent, without a cookie, or without EDNS.

        It may not support them (RFC 7873 section 5.3, RFC 6891 section 6.2.2). Returns False if that cannot help.
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
        """Ask over TCP. If that rests, it is used only if no other server is left in this round.

        If somebody forges replies, UDP from another port is preferred to TCP that rests.
        """
        server, health = attempt.server, attempt.server.tcp_health
        insists = not attempt.near_miss and (search.asked == len(search.left) or search.rounds > 0)
        if health.resting and not health.due(now) and not insists:
            search.open.remove(attempt)
            attempt.end()
            search.note(server, UpstreamFailed(f"{server.label}: not asked over TCP, which rests", why=SILENT))
            search.next_at = now
            return
        if not attempt.near_miss:
            search.met(server)
        attempt.due = self._due(now) + PATIENCE  # until it has been sent
        run, fail = partial(self._ask_over_tcp, search, attempt), partial(self._no_tcp, search, attempt)
        self._spend(search, server, now, run, fail)

    def _no_tcp(self, search: Search, attempt: Attempt, now: float) -> None:
        """The budget of a server is used up, so it cannot be asked over TCP."""
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
        """End an attempt of a search that is over. If another server has answered, its outcome is waited for."""
        if not answered or attempt.noted or attempt.reply is not None or attempt.cut or attempt.failure is not None:
            attempt.end()
        else:
            self._aside.take(attempt)

    def _own_fault(self, failure: UpstreamFailed, now: float) -> None:
        self._counters[metrics.UPSTREAM_LOCAL_ERRORS] += 1
        self._local.warn(f"no query could be sent to {failure}: not the upstream's fault, trying again", now)
