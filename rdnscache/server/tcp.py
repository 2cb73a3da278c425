"""TCP: a listening socket of this worker's slot, and the connections it accepts."""

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

#: Connections accepted in one go, and for how many seconds: each takes a third of a millisecond on a slow machine.
ACCEPTS, ACCEPT_TURN = 16, 0.001
#: Octets of answers that the kernel may keep for a client; it would take 4 MB and more for one that does not read.
SEND_BUFFER = 128 << 10
#: Seconds until it is tried again when no connection can be accepted: out of descriptors, or of memory.
PAUSE = 1.0
#: Of accept: nobody is there, or no longer; and what is wrong with the one connection that was next (accept(2)).
_NOBODY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR}
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
        """Accept and read no more; connections close when their last query is answered."""
        self._stopped = True
        self._watcher.stop()
        for connection in self._connections():
            connection.finish()

    def hold(self) -> None:
        """Take no more queries for a moment."""
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
                if error.errno not in _NOBODY:
                    self._pause(error)
                return
            source = socket.inet_pton(self._sock.family, address[0].partition("%")[0])
            self.pool.join(TcpConnection(sock, source, self._answering, self))
            if self.pool.look() >= ends:
                return

    def _pause(self, error: OSError) -> None:
        """Who wants to connect waits in the backlog. What is scarce is needed for other things: TCP gives way."""
        self._watcher.stop()
        self._again.start(self._resume)
        text = f"no TCP connection can be accepted, trying again in {PAUSE:g} s: {error.strerror}"
        self._cannot.warn(text, time.monotonic())
        self.pool.make_room()

    def _resume(self) -> None:
        if not self._stopped:
            self._watcher.start(self._accept)
