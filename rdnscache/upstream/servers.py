"""Choosing among upstreams: in turn, those that fail rest, all inside one deadline."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

import gevent

from rdnscache import metrics
from rdnscache.dns import policy
from rdnscache.dns.wire import FORMERR, NOTIMP, Reply
from rdnscache.errors import LOCAL, SILENT, UpstreamFailed
from rdnscache.logs import Throttled
from rdnscache.metrics import Counters
from rdnscache.upstream.exchange import over_tcp, over_udp
from rdnscache.upstream.search import LATE, ROUNDS, Search
from rdnscache.upstream.server import Server

log = logging.getLogger(__name__)

#: The timeout varies a little, or what was asked in one burst would give up in one burst, again and again.
JITTER = (1.0, 1.15)
#: Seconds between two rounds in which nobody was waited for: at first, and at most; doubled each time.
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
#: With less time left no pause is made, and nobody is asked again.
TOO_LATE = 0.02


def _ignore() -> None:
    pass


class Upstreams:
    """The servers we forward to. `timeout` is for one try, `deadline` for all of them together, in seconds."""

    def __init__(self, servers: Sequence[Server], timeout: float, deadline: float, counters: Counters) -> None:
        self.servers = list(servers)
        self._timeout = timeout
        self._deadline = deadline
        self._counters = counters
        self._turn = 0
        self._local = Throttled(log)

    def latency(self) -> float:
        """Seconds that those at work take, averaged; 0 when that is not known."""
        known = [server.latency for server in self.servers if server.latency and not server.udp.resting]
        return sum(known) / len(known) if known else 0.0

    def delay(self, now: float) -> float:
        """By how many seconds the quickest answers come later than they did, from the server where that is most.

        Negative when that is not known. What has come since it was last asked for is what counts.
        """
        return max((server.delay(now) for server in self.servers), default=-1.0)

    def catch_up(self, now: float) -> None:
        """Log what was held back; to be called now and then."""
        self._local.catch_up(now)
        for server in self.servers:
            server.catch_up(now)

    def ask(self, key: bytes, on_trouble: Callable[[], None] = _ignore) -> tuple[Reply, str]:
        """A usable reply and the address it came from.

        Who says SERVFAIL, REFUSED or nothing to the point is asked once. The others are asked until the deadline: after
        silence at most ROUNDS times, after a refused packet or an error of our own with pauses that grow.
        `on_trouble` is called when everybody has been tried once, and nobody could be reached.
        Raises UpstreamFailed when nobody is left to ask.
        """
        now = time.monotonic()
        search = Search(key, now, now + self._deadline)
        left = self._in_turn(key, now)
        pause, rounds = FIRST_PAUSE, 0
        while True:
            waited = search.waited
            for server in left:
                reply = self._try(server, search, rounds, server is left[-1])
                if reply is not None:
                    return reply, server.address.host
            left, rounds = search.worth_asking(left), rounds + 1
            remaining = search.deadline - time.monotonic()
            if not left or remaining < TOO_LATE:
                raise search.failure()
            if rounds == 1 and search.reached_nobody():
                on_trouble()
            if search.waited == waited:
                self._sleep(search, min(pause * random.uniform(*JITTER), max(remaining / 2, TOO_LATE)))
                pause = min(pause * 2, LAST_PAUSE)

    def _sleep(self, search: Search, seconds: float) -> None:
        search.wait(time.monotonic(), seconds)
        gevent.sleep(seconds)
        search.forgive(time.monotonic(), self._timeout)

    def _in_turn(self, key: bytes, now: float) -> list[Server]:
        """Every server once, the next in turn first, those that rest last; whose rest is over is sent a probe."""
        if len(self.servers) == 1:
            return self.servers
        self._turn = (self._turn + 1) % len(self.servers)
        order = self.servers[self._turn :] + self.servers[: self._turn]
        order.sort(key=lambda server: server.rank(now))
        if order[-1].udp.resting and not order[0].udp.resting:  # if all rest, the question itself is the probe
            for server in order:
                if server.udp.due(now):
                    server.udp.probing = True
                    gevent.spawn(self._probe, server, key)
        return order

    def _probe(self, server: Server, key: bytes) -> None:
        """Ask a server that rests what somebody else is asked for the client: no client waits for it."""
        started = time.monotonic()
        due = started + self._timeout
        server.asked(started)
        try:
            over_udp(server.address, key, True, due)
            server.heard(time.monotonic())
        except UpstreamFailed as failure:
            now = time.monotonic()
            if failure.why == LOCAL or now > due + LATE:
                server.udp.postpone(now)
            else:
                server.failed(started, now, failure, False)
        finally:
            server.waiting -= 1
            server.udp.probing = False

    def _try(self, server: Server, search: Search, rounds: int, last: bool) -> Reply | None:
        """One try at one server, the `last` of this round or not; None when it brought no answer, which is noted.

        The last of all may take what is left of the time.
        """
        started = time.monotonic()
        remaining = search.deadline - started
        if remaining <= 0 or search.passes_over(server, started):
            return None
        final = last and rounds == ROUNDS - 1
        search.wait(started, remaining if final else self._timeout * random.uniform(*JITTER))
        try:
            reply = self._exchange(server, search, last or rounds > 0)
        except UpstreamFailed as failure:
            if failure.why == LOCAL:
                self._own_fault(failure)
            now = time.monotonic()
            search.note(server, failure, now)
            search.forgive(now, self._timeout)
            return None
        now = time.monotonic()
        server.answered(now - started)
        search.hear(reply)
        answer = policy.distill(search.key, reply) if policy.usable(reply) else None
        if answer is None:
            server.useless()
            search.refused(server, reply, now)
        return answer

    def _exchange(self, server: Server, search: Search, insist: bool) -> Reply:
        """The server's reply, whatever its RCODE; over TCP where it has to be, without EDNS where it does not know it.

        TCP that rests is used only if we `insist`: before, another server may have the answer.
        """
        edns = True
        while True:
            reply = self._over_udp(server, search, edns)
            if reply is None:
                reply = self._over_tcp(server, search, edns, insist)
            if not edns or reply.rcode not in (FORMERR, NOTIMP):
                return reply
            search.wait(time.monotonic(), self._timeout)
            edns = False  # perhaps it does not know it (RFC 6891 section 6.2.2)

    def _over_udp(self, server: Server, search: Search, edns: bool) -> Reply | None:
        """The reply; None when it is better asked for over TCP."""
        started = time.monotonic()
        server.asked(started)
        try:
            reply = over_udp(server.address, search.key, edns, search.due)
        except UpstreamFailed as failure:
            now = time.monotonic()
            if failure.why != LOCAL and not search.late(now):
                server.failed(started, now, failure, len(self.servers) == 1)
            raise
        finally:
            server.waiting -= 1
        server.heard(time.monotonic())
        return reply

    def _over_tcp(self, server: Server, search: Search, edns: bool, insist: bool) -> Reply:
        started = time.monotonic()
        tcp = server.tcp
        probes = tcp.due(started)
        if tcp.resting and not probes and not insist:
            raise UpstreamFailed(f"{server.address}: left alone over TCP", why=SILENT)  # and so asked again
        search.met(server)
        search.wait(started, self._timeout)
        if probes:
            tcp.probing = True
        try:
            reply = over_tcp(server.address, search.key, edns, search.due)
        except UpstreamFailed as failure:
            now = time.monotonic()
            if failure.why != LOCAL and not search.late(now):
                server.failed_over_tcp(started, now, failure)
            raise
        finally:
            if probes:
                tcp.probing = False
        server.heard_over_tcp(time.monotonic())
        return reply

    def _own_fault(self, failure: UpstreamFailed) -> None:
        self._counters[metrics.UPSTREAM_LOCAL_ERRORS] += 1
        now = time.monotonic()
        self._local.warn(f"no query could be sent to {failure}: no fault of the upstream's, tried again", now)
