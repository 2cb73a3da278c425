"""One question that is asked of one server: what has been sent, and its outcome."""

from __future__ import annotations

from rdnscache.dns.policy import answers
from rdnscache.dns.spelling import restored
from rdnscache.dns.wire import BADCOOKIE, HEADER_SIZE, Reply, build_query
from rdnscache.errors import LOCAL, SAID, SILENT, UpstreamFailed
from rdnscache.upstream.defence import CASE, COOKIE, GUESSES, NONE
from rdnscache.upstream.health import Health
from rdnscache.upstream.query import Query, Transport
from rdnscache.upstream.reading import about, read_reply
from rdnscache.upstream.server import Server


class Owner:
    """The owner of attempts, which gets their outcomes."""

    __slots__ = ()

    def tell(self, attempt: Attempt) -> None:
        """Note that an attempt has an outcome; `wake` or `wake_later` follows."""

    def wake(self) -> None:
        """Handle the outcomes now. Called in the hub, outside of any other operation."""

    def wake_later(self) -> None:
        """Handle the outcomes in the next turn of the hub."""


class Attempt(Query):
    """It begins over the server's own transport; a truncated reply is asked for again over TCP.

    Once there is an outcome, one of `reply`, `cut` and `failure` is set.
    """

    __slots__ = ("asked", "cookie", "cookies", "cut", "failure", "first_sent", "health", "near_miss", "noted",
                 "overdue", "owner", "reply", "second", "sent", "server", "transport", "trial")  # fmt: skip

    def __init__(self, server: Server, key: bytes, edns: bool, now: float, due: float, owner: Owner) -> None:
        # what Query does; a call of its constructor costs as much as all of this
        self.key = key
        self.edns = edns
        self.due = due
        self.carrier = None
        self.number = self.losses = 0
        self.sent_at = 0.0
        self.server = server
        self.owner = owner
        self.transport: Transport = server.transport
        self.health: Health = server.health
        #: When its query was sent first, and last.
        self.first_sent = self.sent = now
        #: Whether it takes longer than usual; whether its silence has been noted.
        self.overdue = self.noted = False
        self.reply: Reply | None = None
        self.failure: UpstreamFailed | None = None
        #: Whether the question is to be asked over TCP: the reply is truncated or unreadable, or somebody is guessing.
        self.cut = False
        #: Which check the reply has failed, if it may be forged.
        self.near_miss = NONE
        #: The question section as sent over UDP; empty if its name was in lower case.
        self.asked = b""
        #: Whether it may have a cookie, and our cookie if it has one; whether that is to find out if the server knows
        #: cookies; whether the server has refused one before (BADCOOKIE).
        self.cookies = edns
        self.cookie = b""
        self.trial = self.second = False

    def look(self) -> None:
        """Read what has arrived over UDP."""
        if self.server.udp is not None and self.transport is self.server.udp:
            self.server.udp.look(self)

    def send_again(self, now: float) -> None:
        """Send the query again: it may be lost, or its connection dead."""
        if self.transport is self.server.udp:
            self.sent = now
        self.transport.send_again(self)

    def turn_to_tcp(self, now: float, due: float) -> None:
        """Ask the same question over TCP."""
        self.transport = self.server.tcp
        self.health = self.server.tcp_health
        self.first_sent = self.sent = now
        self.due = due
        self.overdue = self.noted = self.cut = False
        self.near_miss = NONE
        self.transport.send(self)

    def datagram(self, ident: bytes) -> bytes:
        server, option = self.server, b""
        self.asked = server.letter_case.spelled(self.key)
        if self.cookies:
            option = server.cookies.option()
            if option:
                self.cookie = option[4:12]
                self.trial = not server.cookies.known
        return build_query(ident, self.key, self.edns, option, 0, self.asked)

    def repetition(self, data: bytes) -> bytes:
        """The query for a retransmission; without its cookie if that may be the reason for the loss."""
        if not self.trial:
            return data
        self.trial, self.cookie = False, b""
        self.server.cookies.unheard()
        return build_query(data[:2], self.key, self.edns, b"", 0, self.asked)

    def take(self, data: bytes) -> bool:
        """Take a datagram with our ID. It is the reply only with our question (RFC 5452 section 9.1), in our letter
        case, and with our cookie.

        If it is not, the question is asked over TCP: further datagrams could be guesses as well.
        """
        server = self.server
        repeats = not self.asked or data.startswith(self.asked, HEADER_SIZE)
        if self.asked and repeats:
            server.letter_case.repeated(self.asked)
            data = restored(data, self.asked, self.key)
        reply = read_reply(self.key, data)
        if reply is None:
            self.cut = True
            if not about(self.key, data):  # another question with our ID: usually a broken server, or a lucky guess
                self.near_miss = GUESSES
        elif not repeats and data[5]:  # an error may have no question
            self.cut, self.near_miss = True, CASE
        elif self.cookie and not server.cookies.fits(self.cookie, reply.cookie):
            self.cut, self.near_miss = True, COOKIE
        elif reply.flags & 0x0200 or ((self.second or not self.cookie) and reply.rcode == BADCOOKIE):
            self.cut = True
        else:
            self.reply = reply
        self.owner.tell(self)
        return True

    def odd(self) -> bool:
        return self.reply is None or not answers(self.reply.rcode)

    def wake(self) -> None:
        self.owner.wake()

    def may_repeat(self) -> bool:
        budget = self.server.budget
        return budget is None or budget.repeat()

    def guessed(self) -> None:
        self.cut, self.near_miss = True, GUESSES
        self.owner.tell(self)
        self.owner.wake()

    def arrived(self, data: bytes) -> None:
        """Take a reply over a connection; with TC set it is not a reply (RFC 2181 section 9)."""
        reply = read_reply(self.key, data)
        if reply is None:
            what = "a reply that cannot be read or does not fit the query"
            self.failed(UpstreamFailed(f"{self.server.label}: {what}", why=SAID))
        elif reply.truncated:
            self.failed(UpstreamFailed(f"{self.server.label}: a truncated reply over a connection", why=SAID))
        else:
            self.reply = reply
            self.owner.tell(self)
            self.owner.wake_later()

    def failed(self, failure: UpstreamFailed) -> None:
        self.failure = failure
        self.owner.tell(self)
        self.owner.wake_later()

    def judge(self, now: float, alone: bool) -> None:
        """Update the state of the server by the outcome. `alone`: there is no other server."""
        server, failure = self.server, self.failure
        if self.trial:
            self.trial = False
            if failure is None and not self.near_miss:
                server.cookies.heard(now)
            else:
                server.cookies.unheard()
        if self.near_miss:
            server.missed(self.near_miss, self.key, now)
        elif failure is None:
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
        """Note the time of a reply. After a retransmission it may answer either query (Karn's algorithm); one that
        arrives at once answers the first."""
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
        """End the attempt."""
        self.transport.cancel(self)
        self.server.waiting -= 1
        self.server.overdue -= self.overdue
