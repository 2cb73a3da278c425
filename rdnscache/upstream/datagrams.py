"""UDP to one server: each query with a random ID, from a random port, which carries one query at a time and few in all.

Each socket is connected, so the kernel drops datagrams from other addresses and ports. A port whose query was answered
properly is used for another query for a short time: opening a socket costs as much as all the rest of a query. What is
left for a forger to guess is in docs/decisions.md.
"""

from __future__ import annotations

import _socket
import os
import socket
from typing import Any

from gevent import get_hub

from rdnscache import clock
from rdnscache.address import Address
from rdnscache.stream import READ
from rdnscache.upstream.blame import failure_of
from rdnscache.upstream.packets import receive, send
from rdnscache.upstream.query import Query

_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
#: Wrong datagrams after which somebody is assumed to be guessing, and TCP is used (RFC 5452 section 9.2).
MAX_STRAYS = _MOST_STRAYS = 20
#: Maximum number of queries that a port carries, and seconds for which it is used.
USES, LIFE = _USES, _LIFE = 16, 0.25
#: Maximum number of free ports of a worker, for all servers.
KEPT = _KEPT = 64
#: Random octets for IDs that are fetched from the system at once.
_STOCK = 512


class Spare:
    """The number of free ports of this worker."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


_SPARE = Spare()


class Port:
    """A socket, for one query at a time."""

    __slots__ = ("again", "data", "fd", "ident", "query", "sock", "strays", "until", "uses", "watcher")

    def __init__(self, sock: Any, until: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.until = until
        self.watcher: Any = None
        self.uses = 0
        #: Its query, the query's ID and wire form; whether that was sent again.
        self.query: Query | None = None
        self.ident = 0
        self.data = b""
        self.again = False
        self.strays = 0

    def close(self) -> None:
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher.close()
        self.fd = -1  # the system gives the number to somebody else
        self.sock.close()


class Datagrams:
    """The UDP transport to one server. Outcomes are reported by `take`, `guessed` and `failed` of the query.

    Failures have UNREACHABLE if the server or the network refused, LOCAL if the query could not leave this host.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._family = address.family
        #: The address for `connect`; None if it has an interface, whose number may change.
        self._sockaddr = address.sockaddr if "%" not in address.host else None
        self._idents = b""
        self._taken = 0
        #: Free ports, the latest last; the timer that closes old ones.
        self._free: list[Port] = []
        self._sweeper: Any = None

    def send(self, query: Query) -> None:
        ident = self._ident()
        port = self._latest()
        try:
            if port is None:
                port = self._opened()
            data = query.datagram(ident)
            send(port.fd, data)
        except OSError as error:
            if port is not None:
                port.close()
                if port.uses:  # the error may be due to an earlier query
                    self.send(query)
                    return
            query.failed(failure_of(self._address, error, False))
            return
        if port.watcher is None:
            port.watcher = get_hub().loop.io(port.fd, READ)
            port.watcher.start(self._read, port)
        port.query, port.ident, port.data = query, ident[0] << 8 | ident[1], data
        port.uses += 1
        query.carrier = port

    def _latest(self) -> Port | None:
        """The free port that was used last, if there is any."""
        if not self._free:
            return None
        _SPARE.count -= 1
        return self._free.pop()

    def _ident(self) -> bytes:
        at = self._taken
        if at == len(self._idents):
            self._idents, at = os.urandom(_STOCK), 0
        self._taken = at + 2
        return self._idents[at : at + 2]

    def _opened(self) -> Port:
        sock = _socket.socket(self._family, _KIND)
        try:
            sock.connect(self._sockaddr or self._address.sockaddr)  # the kernel picks a random free port
        except OSError:
            sock.close()
            raise
        return Port(sock, clock.monotonic() + _LIFE)

    def send_again(self, query: Query) -> None:
        """Send a query again from the same port: it may be lost. For a forger it is still a single query."""
        port: Port = query.carrier
        port.data, port.again = query.repetition(port.data), True
        try:
            send(port.fd, port.data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(query, error)

    def look(self, query: Query) -> None:
        """Read what has arrived: a timer may have fired before the socket's watcher."""
        if query.carrier is not None:
            self._read(query.carrier)

    def cancel(self, query: Query) -> None:
        """Close the port of a query, so that a late reply cannot meet another query."""
        port = query.carrier
        if port is not None:
            query.carrier = None
            port.close()

    def close(self) -> None:
        """Close the free ports; the others are closed with their queries."""
        while (port := self._latest()) is not None:
            port.close()
        if self._sweeper is not None:
            self._sweeper.close()
            self._sweeper = None

    def _read(self, port: Port) -> None:
        query = port.query
        if query is None:  # nothing is expected: a duplicate reply, or somebody is guessing
            self._free.remove(port)
            _SPARE.count -= 1
            port.close()
            return
        while True:
            try:
                data = receive(port.fd)
            except OSError as error:
                self._fail(query, error)
                return
            if data is None:
                return
            if len(data) > 1 and data[0] << 8 | data[1] == port.ident and query.take(data):
                query.carrier = None
                self._free_or_close(port, query.odd())
                query.wake()
                return
            port.strays += 1
            if port.strays >= _MOST_STRAYS:
                self.cancel(query)
                query.guessed()
                return

    def _free_or_close(self, port: Port, odd: bool) -> None:
        """Free a port whose query is answered; close it if it is used up, or somebody may know it."""
        port.query = None
        worn = port.uses >= _USES or _SPARE.count >= _KEPT or clock.monotonic() >= port.until
        if odd or worn or port.strays or port.again:
            port.close()
            return
        self._free.append(port)
        _SPARE.count += 1
        if self._sweeper is None:
            self._sweeper = get_hub().loop.timer(_LIFE, _LIFE)
            self._sweeper.start(self._sweep)

    def _sweep(self) -> None:
        now, free = clock.monotonic(), self._free
        self._free = []
        for port in free:
            if now < port.until:
                self._free.append(port)
            else:
                _SPARE.count -= 1
                port.close()
        if not self._free:
            self._sweeper.close()
            self._sweeper = None

    def _fail(self, query: Query, error: OSError) -> None:
        self.cancel(query)
        query.failed(failure_of(self._address, error, True))
