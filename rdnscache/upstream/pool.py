"""The connections to one server: opened on demand, shared by all queries, closed when idle.

A query whose connection ends before the answer is sent again on another one. The pool learns how many queries a server
takes over a connection, and how long it keeps an idle one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from gevent import get_hub

from rdnscache.errors import LOCAL, UpstreamFailed
from rdnscache.upstream.connection import DOUBTFUL, Connection, Limits, Owner, give_up
from rdnscache.upstream.query import Query

#: How often a query is sent again because its connection has ended.
MAX_LOSSES = 3
#: Connections in a row that brought no answer, after which no new one is opened for a while.
MAX_BARREN = 3
#: Seconds between failing attempts to connect: doubled from the first to the last value.
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
#: Seconds between two checks of the connections.
LOOK = 0.25
#: A server that closes a connection within AT_ONCE seconds after an answer may limit the queries of a connection; that
#: is assumed after two in a row, for BELIEVED seconds.
AT_ONCE, BELIEVED = 0.1, 60.0
_ANY = 1 << 30

#: Opens a connection for its owner.
OpenConnection = Callable[[Owner], Connection]


class Pool:
    """A `Transport` over connections. `name` is the server's name in failures."""

    def __init__(self, name: str, open_connection: OpenConnection, limits: Limits) -> None:
        self.connections: list[Connection] = []
        #: The number of connections opened so far.
        self.openings = 0
        self._name = name
        self._open_connection = open_connection
        self._limits = limits
        #: With more queries than this on one connection, another one is opened.
        self._crowded = limits.queries // 4
        self._waiting: dict[Query, None] = {}
        #: Queries that have failed and are told so after this turn of the hub.
        self._lost: dict[Query, UpstreamFailed] = {}
        self._closed = False
        self._loop = get_hub().loop
        self._looker: Any = None
        #: No attempt to connect before this time, because of this failure; the last pause; connections without answer.
        self._not_before = 0.0
        self._failure: UpstreamFailed | None = None
        self._pause = 0.0
        self._barren = 0
        #: Queries that the server takes over one connection; the last indication of that; until when it is assumed.
        self._quota = self._suspected = _ANY
        self._quota_until = 0.0

    @property
    def open(self) -> int:
        """The number of open connections."""
        return sum(connection.open for connection in self.connections)

    def send(self, query: Query) -> None:
        now = query.sent_at = time.monotonic()
        if self._closed:
            self._lose(query, UpstreamFailed(f"{self._name}: its connections are closed", why=LOCAL))
            return
        connection = None if self._waiting else self._best()
        if connection is not None:
            connection.send(query)
            if connection.doubtful or len(connection.outstanding) > self._crowded:
                self._grow(now, 1)
        elif len(self._waiting) < self._limits.waiting:
            self._waiting[query] = None
            query.carrier = self
            self._grow_for_waiting(now)
        else:
            self._lose(query, UpstreamFailed(f"{self._name}: too many queries wait for a connection", why=LOCAL))

    def send_again(self, query: Query) -> None:
        """Send a query again over another connection, if nothing has arrived over its own since: that may be dead."""
        carrier = query.carrier
        if not isinstance(carrier, Connection) or not carrier.heard < query.sent_at < time.monotonic() - DOUBTFUL:
            return
        if query.may_repeat():
            carrier.cancel(query)
            self.send(query)

    def cancel(self, query: Query) -> None:
        carrier = query.carrier
        if carrier is None:  # it has been answered
            return
        if isinstance(carrier, Connection):
            carrier.cancel(query)
        elif carrier is self:
            query.carrier = None
            self._waiting.pop(query, None)
            self._lost.pop(query, None)

    def close(self) -> None:
        self._closed = True
        failure = UpstreamFailed(f"{self._name}: its connections are closed", why=LOCAL)
        for connection in self.connections:
            for query in connection.close():
                self._lose(query, failure)
        self.connections.clear()
        self._lose_waiting(failure)
        self._stop_looking()

    def opened(self, connection: Connection) -> None:
        self._send_waiting(time.monotonic())

    def freed(self, connection: Connection) -> None:
        """A connection has handed out answers, so the server works."""
        if connection.answers:
            self._barren, self._pause, self._not_before, self._failure = 0, 0.0, 0.0, None
        if connection.sent >= self._quota:
            connection.retiring = True
        if connection.retiring and not connection.busy:
            self._drop(connection)
        if self._waiting:
            self._send_waiting(time.monotonic())

    def ended(self, connection: Connection, failure: UpstreamFailed, left: Sequence[Query]) -> None:
        now = time.monotonic()
        self.connections.remove(connection)
        if connection.answers:
            self._learn(connection, left, now)
        elif failure.why != LOCAL and (left or not connection.was_open):
            self._blame(connection, failure, now)
        later, self._waiting = self._waiting, {}
        for query in left:
            self.undone(query, failure)
        self._waiting |= later  # they have waited for less time
        if not self.connections and (failure.why == LOCAL or now < self._not_before):
            self._lose_waiting(failure)
        else:
            self._send_waiting(now)

    def undone(self, query: Query, failure: UpstreamFailed) -> None:
        query.losses += 1
        if query.losses > MAX_LOSSES or time.monotonic() >= query.due or not query.may_repeat():
            self._lose(query, failure)
        else:
            self._waiting[query] = None
            query.carrier = self

    def _learn(self, connection: Connection, left: Sequence[Query], now: float) -> None:
        """Learn whether the server takes only some queries over each connection."""
        if connection.ended_by_server and left and now - connection.heard < AT_ONCE:
            if self._suspected < _ANY:
                self._quota = max(connection.answers, self._suspected)
                self._quota_until = now + BELIEVED
            self._suspected = connection.answers
        elif connection.answers > self._suspected:
            self._suspected = _ANY

    def _blame(self, connection: Connection, failure: UpstreamFailed, now: float) -> None:
        """Note a connection that could not be opened, or brought no answer."""
        self._barren += 1
        if not connection.was_open or self._barren >= MAX_BARREN:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), LAST_PAUSE)
            self._not_before = now + self._pause
            self._failure = failure

    def _best(self) -> Connection | None:
        """The connection with room and the fewest outstanding queries; doubtful ones come last."""
        best, least = None, 0
        for connection in self.connections:
            if connection.room() > 0 and connection.sent < self._quota:
                load = len(connection.outstanding) + (_ANY if connection.doubtful else 0)
                if best is None or load < least:
                    best, least = connection, load
        return best

    def _send_waiting(self, now: float) -> None:
        """Send waiting queries as far as there is room, and open connections for the rest."""
        waiting = self._waiting
        while waiting:
            connection = self._best()
            if connection is None:
                break
            query = next(iter(waiting))
            del waiting[query]
            query.sent_at = now
            connection.send(query)
        if waiting:
            self._grow_for_waiting(now)

    def _grow_for_waiting(self, now: float) -> None:
        if now < self._not_before and self._failure is not None and not self.connections:
            self._lose_waiting(self._failure)
            return
        each = min(self._limits.queries, self._quota)
        self._grow(now, -(-len(self._waiting) // each))

    def _grow(self, now: float, wanted: int) -> None:
        """Open connections until `wanted` are being opened, within the limits."""
        if now < self._not_before:
            return
        if now >= self._quota_until and self._quota < _ANY:
            self._quota = self._suspected = _ANY
        limits = self._limits
        most = limits.short_connections if self._quota < _ANY else limits.connections
        opening = leaving = 0
        for connection in self.connections:
            opening += not connection.open
            leaving += connection.retiring or connection.doubtful
        # retiring and doubtful connections are replaced, up to twice the limit in all
        free = min(most - len(self.connections) + leaving, 2 * most - len(self.connections))
        for _ in range(min(wanted - opening, free)):
            self.openings += 1
            self.connections.append(self._open_connection(self))
            self._look_after()

    def _drop(self, connection: Connection) -> None:
        """Close a connection without outstanding queries."""
        connection.close()
        self.connections.remove(connection)

    def _look_after(self) -> None:
        if self._looker is None:
            self._looker = self._loop.timer(LOOK, LOOK)
            self._looker.start(self._look)

    def _look(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            connection.look(now)
            if connection.closed and connection in self.connections:
                self.connections.remove(connection)
        if self._waiting:
            self._send_waiting(now)
        if not self.connections and not self._waiting:
            self._stop_looking()

    def _stop_looking(self) -> None:
        if self._looker is not None:
            self._looker.stop()
            self._looker.close()
            self._looker = None

    def _lose_waiting(self, failure: UpstreamFailed) -> None:
        for query in self._waiting:
            self._lose(query, failure)
        self._waiting.clear()

    def _lose(self, query: Query, failure: UpstreamFailed) -> None:
        """Fail a query after this turn of the hub; not now, since it may be inside `send`."""
        query.carrier = self
        if not self._lost:
            self._loop.run_callback(self._tell)
        self._lost[query] = failure

    def _tell(self) -> None:
        while self._lost:
            query = next(iter(self._lost))
            failure = self._lost.pop(query)
            query.carrier = None
            give_up(query, failure)
