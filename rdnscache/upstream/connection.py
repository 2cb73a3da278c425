"""A connection that carries many queries at a time to one server: the base of all transports but UDP."""

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
#: A connection is doubtful if a query is given up after this many seconds without any data.
DOUBTFUL = 0.3


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for the connections to one server. Times are in seconds."""

    #: Connections; and if the server takes only a few queries on each.
    connections: int = 2
    short_connections: int = 8
    #: Outstanding queries of one connection; queries that wait for room on any connection.
    queries: int = 512
    waiting: int = 1024
    #: Time for opening a connection; idle time after which it is closed, unless the server sets another.
    opening: float = 2.0
    idle: float = 10.0
    #: Time without any data while queries are outstanding, after which a connection is closed.
    patience: float = 4.0


class Owner(Protocol):
    """The owner of a connection."""

    def opened(self, connection: Connection) -> None:
        """The connection takes queries now."""

    def freed(self, connection: Connection) -> None:
        """The connection may have room again, or be without outstanding queries."""

    def undone(self, query: Query, failure: UpstreamFailed) -> None:
        """The server has not processed this query, which is to be sent again. `freed` follows."""

    def ended(self, connection: Connection, failure: UpstreamFailed, left: Sequence[Query]) -> None:
        """The connection is closed; `left` are the outstanding queries."""


#: Makes a channel for three callbacks: open, data, end.
OpenChannel = Callable[[Callable[[], None], Callable[[bytes], None], Callable[[UpstreamFailed], None]], Channel]


class Connection:
    """A connection, which is opened at once. Times are monotonic, in seconds.

    Subclasses implement `send`, `_received` and `_hand_out`.
    """

    def __init__(self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits) -> None:
        #: Whether it is open, or has been; closed; ended by the server.
        self.open = self.was_open = self.closed = self.ended_by_server = False
        #: Whether it takes no more queries, and is closed after its last answer.
        self.retiring = False
        #: Seconds for which it is kept without a query.
        self.idle = limits.idle
        #: Queries sent, and answers received.
        self.sent = self.answers = 0
        #: Whether a query got no answer in time, so that others should be sent elsewhere.
        self.doubtful = False
        #: Outstanding queries by number; None for a cancelled one, whose number stays in use.
        self.outstanding: dict[int, Query | None] = {}
        self.cancelled = 0
        #: Since when queries are outstanding, or none are; when data arrived last.
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
        self._timer.start(self._not_in_time, update=True)  # the hub's cached time is old if it was busy
        self._channel: Channel | None = open_channel(self._channel_open, self._received, self._end)

    def room(self) -> int:
        """The number of queries that it can take now."""
        if not self.open or self.retiring:
            return 0
        return self._most - len(self.outstanding)

    @property
    def busy(self) -> int:
        """The number of outstanding queries that are not cancelled."""
        return len(self.outstanding) - self.cancelled

    def send(self, query: Query) -> None:
        """Send a query, together with others of this turn of the hub; `room` must not be 0."""
        raise NotImplementedError

    def _take(self, query: Query, number: int) -> None:
        """Note that a query is sent."""
        if not self.outstanding:
            self.since = query.sent_at
        self.outstanding[number] = query
        query.carrier, query.number = self, number
        self.sent += 1

    def _put(self, data: bytes) -> None:
        """Queue octets, which are sent at the end of this turn of the hub."""
        if not self._unsent:
            self._loop.run_callback(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        if self._channel is not None and self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._channel.write(data)

    def cancel(self, query: Query) -> None:
        """Cancel a query. Its number stays in use until the answer arrives, which could be taken for another's."""
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
        """Remove the query with this number; returns None if it was cancelled."""
        query = self.outstanding.pop(number)
        if query is None:
            self.cancelled -= 1
        else:
            query.carrier = None
        return query

    def _dropped(self, number: int) -> Query | None:
        """Remove the query with this number, if there is one; subclasses with more state of a query extend it."""
        return self._forget(number) if number in self.outstanding else None

    def _fail(self, number: int, why: str) -> None:
        """Fail a query that the server has received."""
        query = self._dropped(number)
        self.answers += 1
        if query is not None:
            give_up(query, UpstreamFailed(f"{self._name}: {why}", why=SAID))

    def _give_back(self, number: int, failure: UpstreamFailed) -> None:
        """Return a query that the server has not processed to the owner."""
        query = self._dropped(number)
        if query is not None and self._owner is not None:
            self._owner.undone(query, failure)

    def _received(self, data: bytes) -> None:
        """Take octets that have arrived; calls `_is_alive`."""
        raise NotImplementedError

    def _is_alive(self) -> None:
        """Note that data has arrived."""
        self.heard = time.monotonic()
        self.doubtful = False

    def _hand_out(self) -> None:
        """Hand out the answers that have arrived, for `TURN` seconds."""
        raise NotImplementedError

    def _pause(self) -> None:
        """Stop reading, and hand out the rest in the next turn of the hub."""
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
        """Called after answers have been handed out."""
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
        """Called now and then: close the connection if it is silent, retiring or idle."""
        quiet = now - max(self.heard, self.since)
        if self.outstanding:
            if quiet > self._limits.patience:
                self._end(UpstreamFailed(f"{self._name}: nothing came over a connection for {quiet:.0f} s", why=SILENT))
            elif self.retiring and not self.busy:
                self.close()
        elif self.open and (self.retiring or quiet >= self.idle):
            self.close()

    def _end(self, failure: UpstreamFailed) -> None:
        """Close the connection after a failure and tell the owner."""
        owner, channel = self._owner, self._channel
        if self.closed or owner is None:
            return
        self.ended_by_server = channel is not None and channel.ended_by_server
        left = self._leave()
        owner.ended(self, failure, left)

    def close(self) -> list[Query]:
        """Close the connection without telling the owner; returns the outstanding queries."""
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
    """Hand a reply to its query."""
    try:
        query.arrived(data)
    except Exception:  # else the queries after it would hang
        log.exception("internal error while a query ended: its question may go unanswered")


def give_up(query: Query, failure: UpstreamFailed) -> None:
    """Tell a query that it has failed."""
    try:
        query.failed(failure)
    except Exception:
        log.exception("internal error while a query ended: its question may go unanswered")
