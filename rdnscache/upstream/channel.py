"""A connection to an upstream as a channel for octets, which are read and written in the hub."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from gevent import get_hub

from rdnscache.address import Address
from rdnscache.errors import UNREACHABLE, UpstreamFailed
from rdnscache.stream import WRITE, RawSocket, Stream
from rdnscache.upstream.blame import failure_of

#: Octets read at once: some hundred replies of the usual size.
CHUNK = 32768
#: Octets that a server may leave unread before the connection is given up.
MAX_UNSENT = 256 << 10


class Channel:
    """A TCP connection. `on_open()` is called once at most, `on_end(failure)` once, unless `close` is called before.

    Callbacks are called in the hub, never in the constructor; of the methods only `write` may call `on_end`.
    """

    def __init__(
        self,
        address: Address,
        on_open: Callable[[], None],
        on_data: Callable[[bytes], None],
        on_end: Callable[[UpstreamFailed], None],
    ) -> None:
        self.address = address
        self.closed = False
        #: Whether the server has closed an open connection in an orderly way.
        self.ended_by_server = False
        self._on_open = on_open
        self._on_data = on_data
        self._on_end = on_end
        self._loop = get_hub().loop
        self._sock: socket.socket | None = None
        self._stream: Stream | None = None
        self._connecting: Any = None
        self._connect()

    @property
    def unsent(self) -> int:
        """Octets that the kernel has not taken yet."""
        return self._stream.unsent if self._stream is not None else 0

    def _connect(self) -> None:
        try:
            sock = RawSocket(self.address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._sock = sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # data is collected before it is written
            code = sock.connect_ex(self.address.sockaddr)
        except OSError as error:
            self._loop.run_callback(self._end, failure_of(self.address, error, False))
            return
        if code == errno.EINPROGRESS:
            self._connecting = self._loop.io(sock.fileno(), WRITE)
            self._connecting.start(self._connected)
        elif code:
            self._loop.run_callback(self._end, failure_of(self.address, OSError(code, os.strerror(code)), False))
        else:
            self._loop.run_callback(self._connected)

    def _connected(self) -> None:
        self._stop_connecting()
        sock = self._sock
        if sock is None:
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._end(failure_of(self.address, OSError(code, os.strerror(code)), True))
            return
        self._sock = None
        self._stream = Stream(sock, self._received, self._ended, MAX_UNSENT, chunk=CHUNK)
        self._opened()

    def _opened(self) -> None:
        """The TCP connection is open."""
        self._on_open()

    def _received(self, data: bytes) -> None:
        self._on_data(data)

    def write(self, data: bytes) -> None:
        """Write octets, which are sent at once; to be called after `on_open` only."""
        if self._stream is not None:
            self._stream.write(data)

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self._stream is not None:
            self._stream.pause()

    def resume(self) -> None:
        if self._stream is not None:
            self._stream.resume()

    def _ended(self, reason: str) -> None:
        self.ended_by_server = True
        self._end(UpstreamFailed(f"{self.address}: {reason}", why=UNREACHABLE))

    def _end(self, failure: UpstreamFailed) -> None:
        if not self.closed:
            on_end = self._on_end
            self.close()
            on_end(failure)

    def _stop_connecting(self) -> None:
        if self._connecting is not None:
            self._connecting.stop()
            self._connecting.close()
            self._connecting = None

    def close(self) -> None:
        """Release the socket; no callback is called."""
        if self.closed:
            return
        self.closed = True
        self._stop_connecting()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._on_open = self._on_data = self._on_end = _nobody  # breaks a reference cycle


def _nobody(*_: object) -> None:
    """The callbacks of a closed channel."""
