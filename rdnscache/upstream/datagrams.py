"""UDP to one server: each query with a fresh ID, from a random port that has carried few others, one at a time.

The kernel drops what others than the asked address and port send, since each socket is connected. A port whose query
was answered as it should be carries the next, for a moment: a socket of its own costs as much as all else about it.
What that leaves to guess is in docs/decisions.md.
"""

from __future__ import annotations

import _socket
import os
import socket
import time
from typing import Any

from gevent import get_hub

from rdnscache.address import Address
from rdnscache.dns.wire import TCP_SIZE
from rdnscache.stream import READ
from rdnscache.upstream.blame import failure_of
from rdnscache.upstream.query import Query

_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
#: Datagrams that are not the reply, after which somebody is guessing: ask over TCP (RFC 5452 section 9.2).
MAX_STRAYS = _MOST_STRAYS = 20
#: Queries that a port carries at most, and for how many seconds.
USES, LIFE = _USES, _LIFE = 16, 0.25
#: Ports of a worker, to whatever server, that wait for their next query.
KEPT = _KEPT = 64
#: Octets for IDs taken from the system at a time.
_STOCK = 512


class Spare:
    """How many ports of this worker wait for their next query."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


_SPARE = Spare()


class Port:
    """A socket, for one query at a time."""

    __slots__ = ("again", "data", "ident", "query", "sock", "strays", "until", "uses", "watcher")

    def __init__(self, sock: Any, until: float) -> None:
        self.sock = sock
        self.until = until
        self.watcher: Any = None
        self.uses = 0
        #: What it carries; its ID; what is sent, and sent again; whether that has been done.
        self.query: Query | None = None
        self.ident = 0
        self.data = b""
        self.again = False
        self.strays = 0

    def close(self) -> None:
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher.close()
        self.sock.close()


class Datagrams:
    """Of all that is sent through here, none waits for another. What comes is told by `take`, `guessed` and `failed`.

    Errors are told by whose fault they are: UNREACHABLE when the server or the network refused, LOCAL when the query
    could not leave this host.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._family = address.family
        #: As the socket module takes it; the number of an interface may change.
        self._place = address.sockaddr if "%" not in address.host else None
        self._idents = b""
        self._taken = 0
        #: Ports without a query, the latest last; who closes those that have been open for long.
        self._free: list[Port] = []
        self._sweeper: Any = None

    def send(self, query: Query) -> None:
        ident = self._ident()
        port = self._latest()
        try:
            if port is None:
                port = self._opened()
            data = query.datagram(ident)
            port.sock.send(data)
        except OSError as error:
            if port is not None:
                port.close()
                if port.uses:  # of what it carried before, perhaps
                    self.send(query)
                    return
            query.failed(failure_of(self._address, error, False))
            return
        if port.watcher is None:
            port.watcher = get_hub().loop.io(port.sock.fileno(), READ)
            port.watcher.start(self._read, port)
        port.query, port.ident, port.data = query, ident[0] << 8 | ident[1], data
        port.uses += 1
        query.carrier = port

    def _latest(self) -> Port | None:
        """The port that has waited least, if any waits."""
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
            sock.connect(self._place or self._address.sockaddr)  # the kernel picks a random free port
        except OSError:
            sock.close()
            raise
        return Port(sock, time.monotonic() + _LIFE)

    def send_again(self, query: Query) -> None:
        """The same from the same port: it can have been lost. There is still one query for others to guess."""
        port: Port = query.carrier
        port.data, port.again = query.repetition(port.data), True
        try:
            port.sock.send(port.data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(query, error)

    def look(self, query: Query) -> None:
        """Take what has arrived and was not read yet: a timer may have gone off first."""
        if query.carrier is not None:
            self._read(query.carrier)

    def cancel(self, query: Query) -> None:
        """What comes late is not to meet another query: the port is closed."""
        port = query.carrier
        if port is not None:
            query.carrier = None
            port.close()

    def close(self) -> None:
        """Those without a query; the others are closed with theirs."""
        while (port := self._latest()) is not None:
            port.close()
        if self._sweeper is not None:
            self._sweeper.close()
            self._sweeper = None

    def _read(self, port: Port) -> None:
        query = port.query
        if query is None:  # nobody waits for anything: a second answer, or somebody guesses
            self._free.remove(port)
            _SPARE.count -= 1
            port.close()
            return
        while True:
            try:
                data = port.sock.recv(TCP_SIZE)  # as large as any message can be: the kernel would cut off the rest
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(query, error)
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
        """Its query is answered. Where anything else came, or may come, somebody may know the port."""
        port.query = None
        worn = port.uses >= _USES or _SPARE.count >= _KEPT or time.monotonic() >= port.until
        if odd or worn or port.strays or port.again:
            port.close()
            return
        self._free.append(port)
        _SPARE.count += 1
        if self._sweeper is None:
            self._sweeper = get_hub().loop.timer(_LIFE, _LIFE)
            self._sweeper.start(self._sweep)

    def _sweep(self) -> None:
        now, free = time.monotonic(), self._free
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
