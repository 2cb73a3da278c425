"""The datagrams of a QUIC connection, and its timer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gevent import get_hub

from rdnscache.address import Address
from rdnscache.stream import READ, RawSocket

#: Datagrams and seconds after which others get their turn; octets of the largest datagram.
DATAGRAMS, TURN, LARGEST = 64, 0.002, 65535
#: The minimum time of the timer, in seconds.
LEAST = 0.001


class QuicSocket:
    """`on_readable()` is called when there is something to `read`, `on_due()` at the time set by `set`."""

    def __init__(self, address: Address, on_readable: Callable[[], Any], on_due: Callable[[], Any]) -> None:
        self._sock = RawSocket(address.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._loop = get_hub().loop
        self._timer: Any = None
        self._at = 0.0
        self._on_due = on_due
        try:
            self._sock.connect(address.sockaddr)
        except OSError:
            self._sock.close()
            raise
        self._watcher: Any = self._loop.io(self._sock.fileno(), READ)
        self._watcher.start(on_readable)

    def read(self) -> Iterator[bytes]:
        """Received datagrams, as many as one turn has time for. Raises OSError, for example if nobody listens."""
        begun = time.monotonic()
        for _ in range(DATAGRAMS):
            try:
                yield self._sock.recv(LARGEST)
            except BlockingIOError:
                return
            if time.monotonic() - begun > TURN:
                return

    def send(self, datagrams: Sequence[bytes]) -> None:
        """Send datagrams; those without room in the socket's buffer are dropped. Raises OSError."""
        try:
            for data in datagrams:
                self._sock.send(data)
        except BlockingIOError:
            pass

    def set(self, due: float | None, now: float) -> None:
        """Call `on_due` at the time `due` (monotonic) or earlier; then it has to be set again."""
        if due is None or (self._at and self._at <= due):
            return
        self._unset()
        self._at = due
        self._timer = self._loop.timer(max(due - now, LEAST))
        self._timer.start(self._due)

    def _due(self) -> None:
        self._unset()
        self._on_due()

    def _unset(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._at = 0.0

    def close(self) -> None:
        self._unset()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
            self._sock.close()
        self._on_due = _nobody  # breaks a reference cycle


def _nobody() -> None:
    """The callback of a closed socket."""
