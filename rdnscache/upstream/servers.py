"""Choosing among upstreams: in turn, those that fail rest, all inside one deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from rdnscache import metrics
from rdnscache.dns import policy
from rdnscache.dns.wire import FORMERR, NOTIMP, REFUSED, SERVFAIL, Reply
from rdnscache.errors import SAID, UpstreamFailed
from rdnscache.metrics import Counters, observe
from rdnscache.net import Address
from rdnscache.upstream.exchange import exchange

#: Failures in a row after which a server rests, and for how many seconds: doubled up to the last.
FAILURES_BEFORE_REST = 3
FIRST_REST, LAST_REST = 1.0, 30.0
#: How often each server may be asked for one question: a datagram can be lost.
ROUNDS = 3
#: The timeout varies a little, or what was asked in one burst would give up in one burst, again and again.
JITTER = (1.0, 1.15)


class Server:
    """One upstream and how it has been doing."""

    def __init__(self, address: Address, block: int, counters: Counters) -> None:
        self.address = address
        self._block = block
        self._counters = counters
        self.failures = 0
        self.rests_until = 0.0
        #: Seconds of its last replies, averaged.
        self.latency = 0.0

    def asked(self) -> None:
        self._counters[self._block + metrics.SERVER_QUERIES] += 1

    def useless(self) -> None:
        """Its reply was no answer."""
        self._counters[self._block + metrics.SERVER_FAILURES] += 1

    def failed(self, now: float) -> None:
        """There was no reply."""
        self.useless()
        self.failures += 1
        over = self.failures - FAILURES_BEFORE_REST
        if over >= 0:
            self.rests_until = now + min(FIRST_REST * 2 ** min(over, 10), LAST_REST)

    def answered(self, seconds: float) -> None:
        self.failures = 0
        self.rests_until = 0.0
        self.latency += (seconds - self.latency) / 16 if self.latency else seconds
        observe(self._counters, self._block + metrics.SERVER_SECONDS, seconds, 1)


class Upstreams:
    """The servers we forward to. `timeout` is for one try, `deadline` for all of them together, in seconds."""

    def __init__(self, servers: Sequence[Server], timeout: float, deadline: float) -> None:
        self.servers = list(servers)
        self._timeout = timeout
        self._deadline = deadline
        self._turn = 0

    def latency(self) -> float:
        """Seconds that those at work take, averaged; 0 when that is not known."""
        known = [server.latency for server in self.servers if server.latency and not server.rests_until]
        return sum(known) / len(known) if known else 0.0

    def ask(self, key: bytes) -> tuple[Reply, str]:
        """A usable reply and the address it came from.

        SERVFAIL, REFUSED and other refusals go to the next server once; no reply in time, round after round.
        Raises UpstreamFailed when the deadline has passed or nobody is left to ask.
        """
        deadline = time.monotonic() + self._deadline
        left = self._in_turn(time.monotonic())
        problem = "no upstream"
        said: set[int] = set()
        for _ in range(ROUNDS):
            silent = []
            for server in left:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise UpstreamFailed(problem)
                started = time.monotonic()
                try:
                    reply = self._ask_one(server, key, min(self._timeout * random.uniform(*JITTER), remaining))
                except UpstreamFailed as failure:
                    server.failed(time.monotonic())
                    silent.append(server)
                    problem = str(failure)
                    continue
                server.answered(time.monotonic() - started)
                if policy.usable(reply):
                    return reply, server.address.host
                server.useless()
                problem = f"{server.address}: RCODE {reply.rcode}"
                said.add(reply.rcode)
            left = [server for server in silent if server.rests_until <= time.monotonic()]
        if said and not left:
            rcode = said.pop() if said in ({REFUSED}, {NOTIMP}) else SERVFAIL
            raise UpstreamFailed(problem, rcode, why=SAID)
        raise UpstreamFailed(problem)

    def _ask_one(self, server: Server, key: bytes, timeout: float) -> Reply:
        started = time.monotonic()
        server.asked()
        reply = exchange(server.address, key, True, timeout)
        if reply.rcode in (FORMERR, NOTIMP):  # perhaps it does not know EDNS (RFC 6891 section 6.2.2)
            server.asked()
            reply = exchange(server.address, key, False, max(timeout - (time.monotonic() - started), 0))
        return reply

    def _in_turn(self, now: float) -> list[Server]:
        """Every server once, the next in turn first, those that rest last."""
        self._turn += 1
        start = self._turn % len(self.servers)
        order: Iterator[Server] = iter(self.servers[start:] + self.servers[:start])
        return sorted(order, key=lambda server: server.rests_until > now)
