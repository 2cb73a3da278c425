"""One question on its way to one server: what has been sent, and what has come of it."""

from __future__ import annotations

from typing import Protocol

from rdnscache.dns.wire import Reply
from rdnscache.errors import LOCAL, SAID, SILENT, UpstreamFailed
from rdnscache.upstream.health import Health
from rdnscache.upstream.query import Query, Transport
from rdnscache.upstream.reading import about, read_reply
from rdnscache.upstream.server import Server


class Owner(Protocol):
    """Whoever is told what comes of an attempt."""

    def tell(self, attempt: Attempt) -> None:
        """Something has; `wake` or `wake_later` follows."""

    def wake(self) -> None:
        """Deal with it now: we are in the hub, with nothing half done."""

    def wake_later(self) -> None:
        """Deal with it when the hub comes to it."""


class Attempt(Query):
    """It begins over the server's own transport; what is cut there is asked again over TCP.

    When it has come to something, `reply`, `cut` or `failure` says to what.
    """

    __slots__ = ("cut", "failure", "first_sent", "health", "noted", "overdue", "owner", "reply", "sent", "server",
                 "transport")  # fmt: skip

    def __init__(self, server: Server, key: bytes, edns: bool, now: float, due: float, owner: Owner) -> None:
        super().__init__(key, edns, due)
        self.server = server
        self.owner = owner
        self.transport: Transport = server.transport
        self.health: Health = server.health
        #: When its query was sent first, and last.
        self.first_sent = self.sent = now
        #: Whether it has been waited for longer than usual; whether that it is silent has been taken down.
        self.overdue = self.noted = False
        self.reply: Reply | None = None
        self.failure: UpstreamFailed | None = None
        #: Whether its reply is better asked for over TCP: it is cut, or cannot be read, or many guess.
        self.cut = False

    def look(self) -> None:
        """Take what has arrived over UDP and was not read yet."""
        if self.server.udp is not None and self.transport is self.server.udp:
            self.server.udp.look(self)

    def send_again(self, now: float) -> None:
        """What was sent may be lost, or its connection dead."""
        if self.transport is self.server.udp:
            self.sent = now
        self.transport.send_again(self)

    def turn_to_tcp(self, now: float, due: float) -> None:
        """Ask the same over TCP."""
        self.transport = self.server.tcp
        self.health = self.server.tcp_health
        self.first_sent = self.sent = now
        self.due = due
        self.overdue = self.noted = self.cut = False
        self.transport.send(self)

    def take(self, data: bytes) -> bool:
        """A reply counts only with the asked question (RFC 5452 section 9.1)."""
        reply = read_reply(self.key, data)
        if reply is not None and not reply.truncated:
            self.reply = reply
        elif reply is not None or about(self.key, data):
            self.cut = True
        else:
            return False
        self.owner.tell(self)
        return True

    def wake(self) -> None:
        self.owner.wake()

    def may_repeat(self) -> bool:
        budget = self.server.budget
        return budget is None or budget.repeat()

    def guessed(self) -> None:
        self.cut = True
        self.owner.tell(self)
        self.owner.wake()

    def arrived(self, data: bytes) -> None:
        """Over a connection a reply has to be whole: with TC set it is none (RFC 2181 section 9)."""
        reply = read_reply(self.key, data)
        if reply is None:
            what = "a reply that cannot be read or does not fit the query"
            self.failed(UpstreamFailed(f"{self.server.label}: {what}", why=SAID))
        elif reply.truncated:
            self.failed(UpstreamFailed(f"{self.server.label}: a reply cut short over a connection", why=SAID))
        else:
            self.reply = reply
            self.owner.tell(self)
            self.owner.wake_later()

    def failed(self, failure: UpstreamFailed) -> None:
        self.failure = failure
        self.owner.tell(self)
        self.owner.wake_later()

    def judge(self, now: float, alone: bool) -> None:
        """What has come of it tells how its server is. `alone`: there is no other."""
        server, failure = self.server, self.failure
        if failure is None:
            self._answered(now)
        elif failure.why == LOCAL:
            self.health.postpone(now)
        elif self.health is server.health:
            if failure.why == SILENT:
                server.estimate.lost(now)
            server.failed(self.first_sent, now, failure, alone)
        else:
            server.failed_over_tcp(self.first_sent, now, failure)
        self.health.probed()

    def _answered(self, now: float) -> None:
        """After a repetition it may answer either (Karn); what comes at once then answers the first."""
        server = self.server
        if self.health is not server.health:
            server.heard_over_tcp(now)
            return
        server.heard(now)
        estimate = server.estimate
        seconds = now - self.sent
        if self.sent > self.first_sent:
            if seconds < estimate.rtt / 2:
                estimate.hasty()
                seconds = now - self.first_sent
            else:
                estimate.lost(now)
        elif self.overdue:
            estimate.hasty()
        estimate.arrived()
        server.answered(seconds)

    def end(self) -> None:
        """Nobody waits for it any more."""
        self.transport.cancel(self)
        self.server.waiting -= 1
        self.server.overdue -= self.overdue
