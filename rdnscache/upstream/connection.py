"""What carries many queries at a time to one server, in whatever form: which are on their way, and how it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gevent import get_hub

from rdnscache.errors import SAID, SILENT, UNREACHABLE, UpstreamFailed
from rdnscache.upstream.channel import Channel
from rdnscache.upstream.query import Query

log = logging.getLogger(__name__)

#: Seconds for which replies are handed out before others get their turn.
TURN = 0.002
#: A query given up after this many seconds without any data casts doubt on its connection.
DOUBTFUL = 0.3


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the connections to one server. Seconds, where it is time."""

    #: Connections; where a server takes only a few queries on each.
    connections: int = 2
    short_connections: int = 8
    #: Queries on their way over one connection, and waiting for room on any.
    queries: int = 512
    waiting: int = 1024
    #: Until a connection is open; without a query until it is closed, unless the server says otherwise.
    opening: float = 2.0
    idle: float = 10.0
    #: Of a server from which nothing comes while queries wait for it.
    patience: float = 4.0


class Owner(Protocol):
    """Who opened a connection."""

    def opened(self, connection: Connection) -> None:
        """It takes queries now."""

    def freed(self, connection: Connection) -> None:
        """It has room again, or what it was closing for is done."""

    def undone(self, query: Query, failure: UpstreamFailed) -> None:
        """The server has not taken this query, which is to be sent again. `freed` follows."""

    def ended(self, connection: Connection, failure: UpstreamFailed, left: Sequence[Query]) -> None:
        """It is closed; `left` were on their way."""


#: Makes a channel for three callbacks: open, data, end.
OpenChannel = Callable[[Callable[[], None], Callable[[bytes], None], Callable[[UpstreamFailed], None]], Channel]


class Connection:
    """Opens at once. Moments are of the monotonic clock, in seconds.

    `send`, `_received` and `_hand_out` are for subclasses to fill in.
    """

    def __init__(self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits) -> None:
        #: Whether it is open, or has been; closed; ended by the server.
        self.open = self.was_open = self.closed = self.ended_by_server = False
        #: Takes no more queries, and ends with the last of its answers.
        self.retiring = False
        #: How long it is kept without a query.
        self.idle = limits.idle
        #: Queries it has been given, and answers it has brought.
        self.sent = self.answers = 0
        #: Nothing has come for a query in time: others are better off elsewhere.
        self.doubtful = False
        #: Queries on their way by number; None for one that nobody waits for any more, whose number stays taken.
        self.outstanding: dict[int, Query | None] = {}
        self.cancelled = 0
        #: Since when something is on its way, or nothing; when something has come last.
        self.since = self.heard = time.monotonic()
        self._name = name
        self._owner: Owner | None = owner
        self._limits = limits
        self._most = limits.queries
        self._unsent: list[bytes] = []
        self._paused = False
        self._loop = get_hub().loop
        self._next_turn: Any = None
        self._timer = self._loop.timer(limits.opening)
        self._timer.start(self._not_in_time, update=True)  # the time of a hub that was busy is old
        self._channel: Channel | None = open_channel(self._channel_open, self._received, self._end)

    def room(self) -> int:
        """How many more queries it takes now."""
        if not self.open or self.retiring:
            return 0
        return self._most - len(self.outstanding)

    @property
    def busy(self) -> int:
        """Queries that somebody waits for."""
        return len(self.outstanding) - self.cancelled

    def send(self, query: Query) -> None:
        """Send it together with others of this turn of the hub; only with `room`."""
        raise NotImplementedError

    def _take(self, query: Query, number: int) -> None:
        """It is on its way."""
        if not self.outstanding:
            self.since = query.sent_at
        self.outstanding[number] = query
        query.carrier, query.number = self, number
        self.sent += 1

    def _put(self, data: bytes) -> None:
        """Goes out at the end of this turn of the hub."""
        if not self._unsent:
            self._loop.run_callback(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        if self._channel is not None and self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._channel.write(data)

    def cancel(self, query: Query) -> None:
        """Nobody waits for it. Its number is free only when the answer has come: it would be taken for another's."""
        query.carrier = None
        self.outstanding[query.number] = None
        self.cancelled += 1
        if self.heard < query.sent_at < time.monotonic() - DOUBTFUL:
            self.doubtful = True
        if self.cancelled > self._most // 2:
            self.retiring = True

    def _answered(self, number: int, data: bytes) -> bool:
        """Take `data` as the answer to the query with this number; False when there is no such query."""
        if number not in self.outstanding:
            return False
        self.answers += 1
        query = self._forget(number)
        if query is not None:
            answer(query, data)
        return True

    def _forget(self, number: int) -> Query | None:
        """The query of this number is not on its way any more; None where nobody waits for it."""
        query = self.outstanding.pop(number)
        if query is None:
            self.cancelled -= 1
        else:
            query.carrier = None
        return query

    def _dropped(self, number: int) -> Query | None:
        """The same, wherever it is; to be extended by subclasses that keep more of it."""
        return self._forget(number) if number in self.outstanding else None

    def _fail(self, number: int, why: str) -> None:
        """The server has had the query, and this is all that comes of it."""
        query = self._dropped(number)
        self.answers += 1
        if query is not None:
            give_up(query, UpstreamFailed(f"{self._name}: {why}", why=SAID))

    def _give_back(self, number: int, failure: UpstreamFailed) -> None:
        """The server has not taken the query."""
        query = self._dropped(number)
        if query is not None and self._owner is not None:
            self._owner.undone(query, failure)

    def _received(self, data: bytes) -> None:
        """Octets have come: `_is_alive`, and what is in them."""
        raise NotImplementedError

    def _is_alive(self) -> None:
        """Something has come."""
        self.heard = time.monotonic()
        self.doubtful = False

    def _hand_out(self) -> None:
        """Give what has come to whom it is for, TURN seconds long."""
        raise NotImplementedError

    def _pause(self) -> None:
        """Hand out the rest when others have had their turn, and read no more until then."""
        if self._channel is not None:
            self._paused = True
            self._channel.pause()
            self._next_turn = self._next_turn or self._loop.timer(0)
            self._next_turn.start(self._go_on)

    def _go_on(self) -> None:
        if self._channel is not None:
            self._paused = False
            self._next_turn.stop()
            self._channel.resume()
            self._hand_out()

    def _handed_out(self) -> None:
        """To be called after answers have been handed out."""
        if not self.outstanding:
            self.since = self.heard
        if self._owner is not None:
            self._owner.freed(self)

    def _channel_open(self) -> None:
        self._timer.stop()
        self.open = self.was_open = True
        self.since = self.heard = time.monotonic()
        if self._owner is not None:
            self._owner.opened(self)

    def _not_in_time(self) -> None:
        self._end(UpstreamFailed(f"{self._name}: no connection in {self._limits.opening:g} s", why=UNREACHABLE))

    def look(self, now: float) -> None:
        """To be called now and then: an end to what is silent, or of no use any more."""
        quiet = now - max(self.heard, self.since)
        if self.outstanding:
            if quiet > self._limits.patience:
                self._end(UpstreamFailed(f"{self._name}: nothing came over a connection for {quiet:.0f} s", why=SILENT))
            elif self.retiring and not self.busy:
                self.close()
        elif self.open and (self.retiring or quiet >= self.idle):
            self.close()

    def _end(self, failure: UpstreamFailed) -> None:
        """It is of no use any more."""
        owner, channel = self._owner, self._channel
        if self.closed or owner is None:
            return
        self.ended_by_server = channel is not None and channel.ended_by_server
        left = self._leave()
        owner.ended(self, failure, left)

    def close(self) -> list[Query]:
        """End it, and tell nobody; those that were on their way."""
        return [] if self.closed else self._leave()

    def _leave(self) -> list[Query]:
        self.closed, self.open = True, False
        self._owner = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        for timer in (self._timer, self._next_turn):
            if timer is not None:
                timer.stop()
                timer.close()
        left = [query for query in self.outstanding.values() if query is not None]
        for query in left:
            query.carrier = None
        self.outstanding.clear()
        self.cancelled = 0
        self._unsent.clear()
        return left


def answer(query: Query, data: bytes) -> None:
    """Tell a query that this has come for it."""
    try:
        query.arrived(data)
    except Exception:  # or those behind it would hang
        log.exception("internal error while a query ended: its question may go unanswered")


def give_up(query: Query, failure: UpstreamFailed) -> None:
    """Tell a query that nothing comes for it."""
    try:
        query.failed(failure)
    except Exception:
        log.exception("internal error while a query ended: its question may go unanswered")
