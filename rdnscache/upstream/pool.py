"""The connections to one server: opened when there is something to send, shared by all queries, closed when idle.

A query that was on its way when its connection ended is sent again on another one. What a server does in its own way is
learnt: how many queries it takes over a connection, how long it keeps one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from gevent import get_hub

from rdnscache.errors import LOCAL, UpstreamFailed
from rdnscache.upstream.connection import DOUBTFUL, Connection, Limits, Owner, give_up
from rdnscache.upstream.query import Query

#: How often a query is sent again, since the connection that carried it has ended.
MAX_LOSSES = 3
#: Connections in a row that were opened and brought no answer, after which the server is left alone for a while.
MAX_BARREN = 3
#: Seconds between attempts to connect that fail: doubled from the first to the last.
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
#: Seconds between two looks at the connections.
LOOK = 0.25
#: A server that ends a connection at most this many seconds after an answer may do so after each, or after some; it is
#: believed after two in a row, and for this many seconds.
AT_ONCE, BELIEVED = 0.1, 60.0
_ANY = 1 << 30

#: Opens a connection for its owner.
OpenConnection = Callable[[Owner], Connection]


class Pool:
    """A `Transport`. `name` is the server's, in what is said of failures."""

    def __init__(self, name: str, open_connection: OpenConnection, limits: Limits) -> None:
        self.connections: list[Connection] = []
        #: Connections opened since the beginning.
        self.openings = 0
        self._name = name
        self._open_connection = open_connection
        self._limits = limits
        #: With more queries than this on one connection, there is work for another.
        self._crowded = limits.queries // 4
        self._waiting: dict[Query, None] = {}
        #: Queries that have come to nothing, and will hear of it when this turn of the hub is over.
        self._lost: dict[Query, UpstreamFailed] = {}
        self._closed = False
        self._loop = get_hub().loop
        self._looker: Any = None
        #: No attempt to connect before this moment, after this failure; how long that pause was; barren connections.
        self._not_before = 0.0
        self._failure: UpstreamFailed | None = None
        self._pause = 0.0
        self._barren = 0
        #: Queries that the server takes over one connection; what it looked like last; until when that is believed.
        self._quota = self._suspected = _ANY
        self._quota_until = 0.0

    @property
    def open(self) -> int:
        """Connections that are open."""
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
        """Where nothing at all has come over its connection since, on another one: that may be dead."""
        carrier = query.carrier
        if not isinstance(carrier, Connection) or not carrier.heard < query.sent_at < time.monotonic() - DOUBTFUL:
            return
        if query.may_repeat():
            carrier.cancel(query)
            self.send(query)

    def cancel(self, query: Query) -> None:
        carrier = query.carrier
        if carrier is None:  # it is answered
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
        self._place(time.monotonic())

    def freed(self, connection: Connection) -> None:
        """Its answers have been handed out: the server is as it should be."""
        if connection.answers:
            self._barren, self._pause, self._not_before, self._failure = 0, 0.0, 0.0, None
        if connection.sent >= self._quota:
            connection.retiring = True
        if connection.retiring and not connection.busy:
            self._drop(connection)
        if self._waiting:
            self._place(time.monotonic())

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
        self._waiting |= later  # they have not waited for as long
        if not self.connections and (failure.why == LOCAL or now < self._not_before):
            self._lose_waiting(failure)
        else:
            self._place(now)

    def undone(self, query: Query, failure: UpstreamFailed) -> None:
        query.losses += 1
        if query.losses > MAX_LOSSES or time.monotonic() >= query.due or not query.may_repeat():
            self._lose(query, failure)
        else:
            self._waiting[query] = None
            query.carrier = self

    def _learn(self, connection: Connection, left: Sequence[Query], now: float) -> None:
        """Whether the server takes only some queries over each connection."""
        if connection.ended_by_server and left and now - connection.heard < AT_ONCE:
            if self._suspected < _ANY:
                self._quota = max(connection.answers, self._suspected)
                self._quota_until = now + BELIEVED
            self._suspected = connection.answers
        elif connection.answers > self._suspected:
            self._suspected = _ANY

    def _blame(self, connection: Connection, failure: UpstreamFailed, now: float) -> None:
        """It could not be opened, or brought nothing."""
        self._barren += 1
        if not connection.was_open or self._barren >= MAX_BARREN:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), LAST_PAUSE)
            self._not_before = now + self._pause
            self._failure = failure

    def _best(self) -> Connection | None:
        """The connection on which a query waits for the fewest others."""
        best, least = None, 0
        for connection in self.connections:
            if connection.room() > 0 and connection.sent < self._quota:
                load = len(connection.outstanding) + (_ANY if connection.doubtful else 0)
                if best is None or load < least:
                    best, least = connection, load
        return best

    def _place(self, now: float) -> None:
        """Send what waits, as far as there is room, and make room."""
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
        """Open connections until `wanted` are on their way, as far as that is allowed."""
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
        # the leaving make room, but not for ever more
        free = min(most - len(self.connections) + leaving, 2 * most - len(self.connections))
        for _ in range(min(wanted - opening, free)):
            self.openings += 1
            self.connections.append(self._open_connection(self))
            self._look_after()

    def _drop(self, connection: Connection) -> None:
        """Close it: nobody waits for anything."""
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
            self._place(now)
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
        """It will hear of it before long: not now, as it may just be being sent."""
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
