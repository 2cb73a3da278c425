"""UDP to one server: each query from a fresh random port with a fresh ID (RFC 5452 section 9.2).

The kernel drops what others than the asked address and port send, since each socket is connected.
"""

from __future__ import annotations

import _socket
import os
import socket
from typing import Any

from gevent import get_hub

from rdnscache.address import Address
from rdnscache.dns.wire import TCP_SIZE
from rdnscache.stream import READ
from rdnscache.upstream.blame import failure_of
from rdnscache.upstream.query import Query

#: Datagrams that are not the reply, after which somebody is guessing: ask over TCP (RFC 5452 section 9.2).
MAX_STRAYS = 20


class Port:
    """A socket for one query."""

    __slots__ = ("data", "ident", "sock", "strays", "watcher")

    def __init__(self, sock: Any, ident: bytes, data: bytes, watcher: Any) -> None:
        self.sock = sock
        self.ident = ident
        #: What is sent, and sent again.
        self.data = data
        self.watcher = watcher
        self.strays = 0

    def close(self) -> None:
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

    def send(self, query: Query) -> None:
        ident = os.urandom(2)
        sock = None
        try:
            sock = _socket.socket(self._address.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.connect(self._address.sockaddr)  # the kernel picks a random free port
            data = query.datagram(ident)
            sock.send(data)
        except OSError as error:
            if sock is not None:
                sock.close()
            query.failed(failure_of(self._address, error, False))
            return
        watcher = get_hub().loop.io(sock.fileno(), READ)
        query.carrier = Port(sock, ident, data, watcher)
        watcher.start(self._read, query)

    def send_again(self, query: Query) -> None:
        """The same from the same port: it can have been lost. There is still one query for others to guess."""
        port: Port = query.carrier
        port.data = query.repetition(port.data)
        try:
            port.sock.send(port.data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(query, error)

    def look(self, query: Query) -> None:
        """Take what has arrived and was not read yet: a timer may have gone off first."""
        if query.carrier is not None:
            self._read(query)

    def cancel(self, query: Query) -> None:
        port = query.carrier
        if port is not None:
            query.carrier = None
            port.close()

    def close(self) -> None:
        """Nothing outlives its query."""

    def _read(self, query: Query) -> None:
        port: Port = query.carrier
        while True:
            try:
                data = port.sock.recv(TCP_SIZE)  # as large as any message can be: the kernel would cut off the rest
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(query, error)
                return
            if data[:2] == port.ident and query.take(data):
                self.cancel(query)
                query.wake()
                return
            port.strays += 1
            if port.strays >= MAX_STRAYS:
                self.cancel(query)
                query.guessed()
                return

    def _fail(self, query: Query, error: OSError) -> None:
        self.cancel(query)
        query.failed(failure_of(self._address, error, True))
