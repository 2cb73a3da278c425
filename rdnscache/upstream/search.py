"""One question on its way from server to server: how each failed it, who is asked again, and what that proves."""

from __future__ import annotations

from collections.abc import Sequence

from rdnscache.dns.wire import NOTIMP, REFUSED, SERVFAIL, Reply
from rdnscache.errors import LOCAL, SAID, SILENT, UNREACHABLE, UpstreamFailed
from rdnscache.upstream.server import AT_WORK, Server

#: How often a server that stays silent is asked: a datagram can be lost.
ROUNDS = 3
#: A wait that ends this many seconds late says something about this process (stopped, or busy), not about a server.
LATE = 0.1
#: Extended DNS Errors (RFC 8914 sections 4.23 and 4.24): nobody could be reached; talking to a server failed.
NO_REACHABLE_AUTHORITY, NETWORK_ERROR = 22, 23


class Search:
    """Moments are of the monotonic clock, in seconds."""

    def __init__(self, key: bytes, started: float, deadline: float) -> None:
        self.key = key
        self.started = started
        self.deadline = deadline
        #: When the present wait for a server ends.
        self.due = started
        self._forgiven = False
        #: How often somebody was waited for in vain.
        self.waited = 0
        self._ede = -1
        #: How each server failed last; those that have said something, if only that TCP is needed; silent tries.
        self._failures: dict[Server, UpstreamFailed] = {}
        self._met: set[Server] = set()
        self._tries: dict[Server, int] = {}
        self._said = False

    def wait(self, now: float, seconds: float) -> None:
        """A wait begins, which must not take longer."""
        self.due = min(now + seconds, self.deadline)

    def late(self, now: float) -> bool:
        """Whether the wait has ended so late that it proves nothing."""
        return now > self.due + LATE

    def forgive(self, now: float, fair: float) -> None:
        """The wait has ended. If that is late, time is given back once, `fair` seconds at least."""
        if self.late(now) and not self._forgiven:
            self._forgiven = True
            self.deadline = max(self.deadline + now - self.due, now + fair)

    def met(self, server: Server) -> None:
        """It has answered over UDP, but we need TCP."""
        self._met.add(server)

    def hear(self, reply: Reply) -> None:
        if self._ede < 0:
            self._ede = reply.ede

    def refused(self, server: Server, reply: Reply, now: float) -> None:
        """Its reply is no answer to this question."""
        rcode = reply.rcode if reply.rcode in (REFUSED, NOTIMP) else SERVFAIL
        self.note(server, UpstreamFailed(f"{server.address}: no answer, RCODE {reply.rcode}", rcode, why=SAID), now)

    def note(self, server: Server, failure: UpstreamFailed, now: float) -> None:
        """A try has failed."""
        self._failures[server] = failure
        if failure.why == SAID:
            self._said = True
        if failure.why == SILENT:
            self.waited += 1
        if server in self._met and failure.why != LOCAL:
            self._tries[server] = self._tries.get(server, 0) + ROUNDS - 1  # it is there: a second try, no third
        elif failure.why == SILENT and not self.late(now):
            self._tries[server] = self._tries.get(server, 0) + 1

    def passes_over(self, server: Server, now: float) -> bool:
        """Whether a server that rests is not asked: somebody else has said that there is no answer. Noted if so."""
        if not self._said or not server.udp.resting or server.udp.due(now):
            return False
        self._failures[server] = UpstreamFailed(f"{server.address}: left alone", why=UNREACHABLE)
        return True

    def worth_asking(self, servers: Sequence[Server]) -> list[Server]:
        """Those of `servers` who may still answer."""
        return [server for server in servers if self._may_answer(server)]

    def _may_answer(self, server: Server) -> bool:
        failure = self._failures.get(server)
        if failure is None:
            return True
        tries = self._tries.get(server, 0)
        if self._said:  # whoever could be reached has no answer: only a datagram that was lost is worth another wait
            return failure.why == SILENT and tries < 2 and not server.udp.resting
        return tries < ROUNDS

    def reached_nobody(self) -> bool:
        """Whether that there is no answer yet says something about our own way to the servers, not about the name."""
        proofs = (self._proves(server, failure) for server, failure in self._failures.items())
        return not self._met and all(proof in (LOCAL, UNREACHABLE) for proof in proofs)

    def failure(self) -> UpstreamFailed:
        """What to tell those who asked: a fact about the name only when every server was heard, or is at work."""
        if not self._failures:
            return UpstreamFailed("no upstream in time", ede=NO_REACHABLE_AUTHORITY)
        found = {self._proves(server, failure) for server, failure in self._failures.items()}
        why = next(each for each in (LOCAL, UNREACHABLE, SAID, SILENT) if each in found)
        rcodes = {failure.rcode for failure in self._failures.values()}
        rcode = rcodes.pop() if len(rcodes) == 1 else SERVFAIL
        text = "; ".join(map(str, self._failures.values()))
        return UpstreamFailed(text, rcode, self._told(why), why, str(next(reversed(self._failures)).address))

    def _proves(self, server: Server, failure: UpstreamFailed) -> str:
        if failure.why != SILENT or server in self._met:
            return UNREACHABLE if failure.why == SILENT else failure.why
        # one that is in doubt has fallen silent for all since it gave that sign of life
        alive = server.udp.alive_at >= self.started and server.rank(self.due) == AT_WORK
        return SILENT if alive else UNREACHABLE

    def _told(self, why: str) -> int:
        """The upstream's own Extended DNS Error, or what we know ourselves."""
        if self._ede >= 0 or why == SAID:
            return self._ede
        unheard = why == UNREACHABLE and not self._met and not self._said
        return NO_REACHABLE_AUTHORITY if unheard else NETWORK_ERROR
