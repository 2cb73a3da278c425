"""What all TCP connections of a worker share: their number, memory, and the worker's time.

Each is bounded, and when one is exhausted, the client that uses most of it loses a connection. A client is its prefix
(`networks.client_prefix`): several addresses of one network are one client.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from gevent import get_hub

from rdnscache.clients.networks import client_prefix
from rdnscache.kernel import give_memory_back
from rdnscache.logs import Throttled

log = logging.getLogger(__name__)

#: Octets that all connections together may hold: of queries not taken yet, and of answers the clients have not read.
BUDGET = 16 << 20
#: Unsent octets up to which a connection's next reply is made; and when memory is short: only if all has been read.
MARK, SHORT_MARK = 64 << 10, 0
#: The fraction of the budget above which memory is short; the fraction of all connections that one client may have.
SHORT, CLIENT_SHARE = 0.25, 0.75
#: Free memory is returned to the system after more octets than this have been held.
GIVE_BACK = 2 << 20
#: Seconds for which connections are served in one turn of the hub; seconds after which datagrams are read meanwhile.
TURN, LOOK = 0.001, 0.00025
#: Seconds between two searches for idle connections.
SWEEP_INTERVAL = 1.0


class Connection(Protocol):
    """A TCP connection as the pool sees it."""

    #: The client's address.
    source: bytes
    #: Set by the pool: whether it waits for its turn, and the octets last accounted.
    queued: bool
    held: int
    #: Queries taken and not answered yet; when the last complete query was taken (monotonic).
    pending: int
    active: float

    @property
    def moved(self) -> float:
        """When the client last read something or sent a complete query (monotonic)."""

    @property
    def unread(self) -> bool:
        """Whether the client has not read all its answers."""

    def serve(self) -> bool:
        """Do a share of the work; returns whether there is more."""

    def close(self) -> None:
        """Close the connection and leave the pool."""


class Client:
    """One client's connections, the least recently used first, and the octets they hold."""

    __slots__ = ("connections", "held")

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}
        self.held = 0


class Pool:
    """A worker's TCP connections, closed after `idle` seconds without use.

    `drains` are called while connections are served, so that datagrams do not wait for them.
    """

    def __init__(self, idle: float, max_connections: int, drains: list[Callable[[], None]]) -> None:
        self._idle = idle
        self._max_connections = max_connections
        self._max_of_client = max(round(max_connections * CLIENT_SHARE), 1)
        self._drains = drains
        self._clients: dict[bytes, Client] = {}
        #: The client of each connection, in the order of their last complete query, the oldest first.
        self._all: dict[Connection, Client] = {}
        self._ready: deque[Connection] = deque()
        self._held = 0
        #: The maximum of `_held` since memory was last returned.
        self._most_held = 0
        self._closed_for_memory = Throttled(log)
        self._loop = get_hub().loop
        self._next_turn = self._loop.timer(0)
        self._scheduled = False
        self._looked = 0.0
        self._sweeper = self._loop.timer(SWEEP_INTERVAL, SWEEP_INTERVAL)
        self._sweeper.start(self._sweep)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    def join(self, connection: Connection) -> None:
        """Add a connection. A client with too many loses its oldest one; if all slots are taken, the greediest does."""
        prefix = client_prefix(connection.source)
        client = self._clients.get(prefix)
        if client is not None and len(client.connections) >= self._max_of_client:
            _oldest(client).close()
        while len(self._all) >= self._max_connections:
            self.make_room()
        client = self._clients.setdefault(prefix, Client())
        client.connections[connection] = None
        self._all[connection] = client
        client.held += connection.held
        self._held += connection.held

    def make_room(self) -> None:
        """Close the least recently used connection of the client with the most, even if it waits for an answer."""
        if self._all:
            _oldest(max(self._clients.values(), key=lambda client: len(client.connections))).close()

    def leave(self, connection: Connection) -> None:
        client = self._all.pop(connection, None)
        if client is None:
            return
        del client.connections[connection]
        client.held -= connection.held
        self._held -= connection.held
        if not client.connections:
            del self._clients[client_prefix(connection.source)]

    def used(self, connection: Connection) -> None:
        """Note that a connection has sent a complete query."""
        client = self._all.pop(connection, None)
        if client is not None:
            self._all[connection] = client
            del client.connections[connection]
            client.connections[connection] = None

    def account(self, connection: Connection, held: int) -> None:
        """Note how many octets a connection holds. Over the budget, connections of slow readers are closed."""
        client = self._all.get(connection)
        if client is None or held == connection.held:
            return
        client.held += held - connection.held
        self._held += held - connection.held
        connection.held = held
        self._most_held = max(self._most_held, self._held)
        if held and self._held > BUDGET:
            self._free()

    def mark(self) -> int:
        """Unsent octets up to which a connection's next reply is made."""
        return MARK if self._held < SHORT * BUDGET else SHORT_MARK

    def _free(self) -> None:
        now = time.monotonic()

        def stuck(connection: Connection) -> float:
            return connection.held * (now - connection.moved + 0.001)

        while self._held > BUDGET:
            greediest = max(self._clients.values(), key=lambda client: client.held)
            max(greediest.connections, key=stuck).close()
        text = f"closing TCP connections of slow readers: together they hold over {BUDGET >> 20} MiB"
        self._closed_for_memory.warn(text, now)

    def serve_soon(self, connection: Connection) -> None:
        """Queue a connection that has something to do: queries or answers have arrived, or it can be written to."""
        if connection.queued:
            return
        connection.queued = True
        self._ready.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._serve)

    def _serve(self) -> None:
        """Serve connections in turn for `TURN` seconds; the rest continues in the next turn of the hub."""
        ready, begun = self._ready, time.monotonic()
        while ready:
            connection = ready.popleft()
            connection.queued = False
            if connection.serve() and not connection.queued:
                connection.queued = True
                ready.append(connection)
            if self.look() - begun >= TURN:
                break
        if ready:
            self._next_turn.start(self._serve)  # run_callback would call it before the hub polls its descriptors
        else:
            self._scheduled = False

    def look(self) -> float:
        """Read datagrams if that is due; returns the time. Also called while connections are accepted."""
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked = now
            for drain in self._drains:
                drain()
        return now

    def _sweep(self) -> None:
        """Close idle connections: those without a complete query for long that wait for no answer or read none."""
        if self._most_held > GIVE_BACK and self._held < self._most_held // 4:
            self._most_held = self._held
            give_memory_back()
        oldest = time.monotonic() - self._idle
        for connection in list(self._all):
            if connection.active > oldest:
                return
            if connection.moved <= oldest and (not connection.pending or connection.unread):
                connection.close()


def _oldest(client: Client) -> Connection:
    return next(iter(client.connections))
