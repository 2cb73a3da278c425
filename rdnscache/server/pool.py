"""What all TCP connections of a worker share: slots, memory, and the worker's time.

Each has a bound, and who is greediest pays first. A client is its prefix, as in `clients.limit`: many connections, or
many addresses of one network, do not make many clients.
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

#: Octets that all connections may hold: queries not yet read, answers not yet taken.
BUDGET = 16 << 20
#: Of one connection's answers, octets that may wait to leave before the next is made; and when memory is short: then
#: only who has taken everything gets the next.
MARK, SHORT_MARK = 64 << 10, 0
#: The part of the budget beyond which memory is short, and the part of all slots that one client may have.
SHORT, CLIENT_SHARE = 0.25, 0.75
#: Octets that were held, after which the memory is given back.
GIVE_BACK = 2 << 20
#: Seconds that connections are served in one turn of the hub, and between two looks at the datagrams meanwhile.
TURN, LOOK = 0.001, 0.00025
#: Seconds between two looks for connections that are idle.
SWEEP_INTERVAL = 1.0


class Connection(Protocol):
    """A TCP connection as the pool sees it."""

    #: The client's address.
    source: bytes
    #: For the pool alone: whether it waits for its turn, and the octets it holds, as accounted last.
    queued: bool
    held: int
    #: Queries taken and not answered yet; the moment of the last whole query (monotonic).
    pending: int
    active: float

    @property
    def moved(self) -> float:
        """The moment at which the client last took something, or brought a whole query."""

    @property
    def unread(self) -> bool:
        """Whether answers wait for the client to read."""

    def serve(self) -> bool:
        """Do a share of what there is to do; whether there is more."""

    def close(self) -> None:
        """Close it, and leave the pool."""


class Client:
    """One client's connections, the one unused for longest first, and the octets they hold."""

    __slots__ = ("connections", "held")

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}
        self.held = 0


class Pool:
    """A worker's connections. `drains` are called while they are served, so that datagrams do not wait for them."""

    def __init__(self, idle: float, max_connections: int, drains: list[Callable[[], None]]) -> None:
        self._idle = idle
        self._max_connections = max_connections
        self._max_of_client = max(round(max_connections * CLIENT_SHARE), 1)
        self._drains = drains
        self._clients: dict[bytes, Client] = {}
        #: The client of each, in the order of their last whole query, the longest ago first.
        self._all: dict[Connection, Client] = {}
        self._ready: deque[Connection] = deque()
        self._held = 0
        #: The most that was held since memory was last given back.
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
        """Take it in. A client with too many loses its oldest; where slots are out, the greediest client does."""
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
        """Close the greediest client's connection that has been unused for longest, whether it waits or not."""
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
        """It has brought a whole query."""
        client = self._all.pop(connection, None)
        if client is not None:
            self._all[connection] = client
            del client.connections[connection]
            client.connections[connection] = None

    def account(self, connection: Connection, held: int) -> None:
        """What it holds now, in octets. Over the budget, the greediest client loses what has stood still longest."""
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
        """Octets of answers that a connection may have waiting for the next to be made."""
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
        """It has something to do: queries have come, or answers, or there is room for them."""
        if connection.queued:
            return
        connection.queued = True
        self._ready.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._serve)

    def _serve(self) -> None:
        """Give each a share in turn, until the time is over; the rest goes on when others have had theirs."""
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
            self._next_turn.start(self._serve)  # not run_callback: that would come before the hub has looked around
        else:
            self._scheduled = False

    def look(self) -> float:
        """See to the datagrams, if that was long ago; what time it is. Also called while many connections are read."""
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked = now
            for drain in self._drains:
                drain()
        return now

    def _sweep(self) -> None:
        """Close who has brought no whole query for long and waits for none, or takes nothing of its answers."""
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
