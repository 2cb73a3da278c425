"""TCP: a listening socket of this worker, and the connections it accepts."""

from __future__ import annotations

import errno
import logging
import socket
import time

from gevent import get_hub

from rdnscache.clients.guard import Guard
from rdnscache.logs import Throttled
from rdnscache.server.answering import Answering
from rdnscache.server.connection import TcpConnection
from rdnscache.server.pool import Pool
from rdnscache.stream import READ

log = logging.getLogger(__name__)

#: Connections accepted in one turn, and for how many seconds at most: each takes 0.3 ms on a slow machine.
ACCEPTS, ACCEPT_TURN = 16, 0.001
#: The kernel's send buffer of a connection, in octets; by default it grows to 4 MB for a client that does not read.
SEND_BUFFER = 128 << 10
#: Seconds until accepting is tried again after an error such as too few descriptors or too little memory.
PAUSE = 1.0
#: Errors of accept(2): no connection is waiting; and an error of the one connection that was next.
_NONE_WAITING = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR}
_GONE = {
    errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EOPNOTSUPP, getattr(errno, "ENONET", errno.ENETDOWN),
}  # fmt: skip


class TcpListener:
    """Accepts connections into a pool, which closes those that are idle or too many."""

    def __init__(self, sock: socket.socket, answering: Answering, guard: Guard, pool: Pool) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit it
        self._sock = sock
        self._answering = answering
        self.guard = guard
        self.pool = pool
        self.held = False
        self._stopped = False
        self._cannot = Throttled(log)
        loop = get_hub().loop
        self._watcher = loop.io(sock.fileno(), READ)
        self._again = loop.timer(PAUSE)

    def __len__(self) -> int:
        return len(self._connections())

    def _connections(self) -> list[TcpConnection]:
        return [each for each in self.pool if isinstance(each, TcpConnection) and each.listener is self]

    def start(self) -> None:
        self._watcher.start(self._accept)

    def stop(self) -> None:
        """Stop accepting and reading; connections close after their last answer."""
        self._stopped = True
        self._watcher.stop()
        for connection in self._connections():
            connection.finish()

    def hold(self) -> None:
        """Take no queries until `release`."""
        self.held = True

    def release(self) -> None:
        self.held = False
        for connection in self._connections():
            connection.go_on()

    def _accept(self) -> None:
        ends = time.monotonic() + ACCEPT_TURN
        for _ in range(ACCEPTS):
            try:
                sock, address = self._sock.accept()
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in _NONE_WAITING:
                    self._pause(error)
                return
            source = socket.inet_pton(self._sock.family, address[0].partition("%")[0])
            self.pool.join(TcpConnection(sock, source, self._answering, self))
            if self.pool.look() >= ends:
                return

    def _pause(self, error: OSError) -> None:
        """Leave connections in the backlog for a while, and close one to free a descriptor for other work."""
        self._watcher.stop()
        self._again.start(self._resume)
        text = f"no TCP connection can be accepted, trying again in {PAUSE:g} s: {error.strerror}"
        self._cannot.warn(text, time.monotonic())
        self.pool.make_room()

    def _resume(self) -> None:
        if not self._stopped:
            self._watcher.start(self._accept)
