"""A connected socket on the hub: bytes arrive by callback, bytes leave without blocking."""

from __future__ import annotations

import ssl
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from itertools import islice
from socket import socket as Socket
from typing import Any

import gevent
from gevent import get_hub
from gevent.event import Event
from gevent.monkey import get_original

#: The unpatched class: its calls never switch greenlets.
RawSocket: type[Socket] = get_original("socket", "socket")

READ, WRITE = 1, 2
#: Octets read, and written, in one go.
CHUNK = 65536
#: Pieces written in one go, far below the system's bound (IOV_MAX, 1024).
PIECES = 64


class _Ending(ABC):
    """What both kinds of stream share: unsent bytes, and the end."""

    def __init__(self, on_data: Callable[[bytes], None], on_end: Callable[[str], None], max_unsent: int) -> None:
        self._on_data = on_data
        self._on_end = on_end
        self._max_unsent = max_unsent
        #: Octets written but not sent yet.
        self.unsent = 0
        self.closed = False

    def _end(self, reason: str) -> None:
        if not self.closed:
            on_end = self._on_end
            self.close()
            on_end(reason)

    def _let_go(self) -> None:
        """Drop the callbacks: they refer to this stream, and such a cycle would outlive it."""
        self._on_data = self._on_end = _nobody

    @abstractmethod
    def close(self) -> None:
        """Release the socket; calls nobody back."""


def _nobody(_: bytes | str) -> None:
    """Does nothing: the callback of a closed stream."""


class Stream(_Ending):
    """A plain stream socket, taken over from the caller.

    `on_data(bytes)`, with at most `chunk` octets, `on_end(reason)` and `on_drain()` (everything written has been sent)
    are called in the hub.
    `on_end` is called once; if the peer only stopped sending, the stream can still be written to.
    Octets that the peer does not accept are kept, up to `max_unsent`; beyond that the stream ends.
    With `on_ready` nothing is read or sent automatically: `on_ready` is called when `read` or `write_rest` can make
    progress. That is for streams of which hundreds may be ready in one turn of the hub.
    """

    def __init__(
        self,
        sock: Socket,
        on_data: Callable[[bytes], None],
        on_end: Callable[[str], None],
        max_unsent: int,
        on_drain: Callable[[], None] | None = None,
        chunk: int = CHUNK,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._sock = RawSocket(fileno=sock.detach())
        self._sock.setblocking(False)
        super().__init__(on_data, on_end, max_unsent)
        self._on_drain = on_drain
        self._on_ready = on_ready
        self._chunk = chunk
        #: With `on_ready`: whether data or the end can be read; and whether unsent octets can be written.
        self.readable = self.writable = False
        #: Unsent pieces as they were written: sending a part moves nothing, and each piece is freed once it is sent.
        self._pieces: deque[bytes | memoryview] = deque()
        #: Whether the peer accepts no more.
        self._refusing = False
        #: Whether the peer has ended its side.
        self._ended = False
        #: When the peer last accepted something, while octets are unsent.
        self.moved = 0.0
        loop = get_hub().loop
        self._reader = loop.io(self._sock.fileno(), READ)
        self._writer = loop.io(self._sock.fileno(), WRITE)
        self.resume()

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._reader.stop()

    def resume(self) -> None:
        if not self.closed and not self.readable and not self._reader.active:
            self._reader.start(self.read if self._on_ready is None else self._may_read)

    def _may_read(self) -> None:
        self._reader.stop()
        self.readable = True
        if self._on_ready is not None:
            self._on_ready()

    def _may_write(self) -> None:
        self._writer.stop()
        self.writable = True
        if self._on_ready is not None:
            self._on_ready()

    def read(self) -> None:
        """Read what has arrived; called by the hub, or by a caller that does not want to wait for it."""
        if self.closed:
            return
        self.readable = False
        try:
            data = self._sock.recv(self._chunk)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if data:
            self._on_data(data)
        else:
            self._ended = True
            self._reader.stop()
            self._on_end("closed by the peer")

    def write(self, data: bytes) -> None:
        if self.closed or self._refusing:
            return
        rest: bytes | memoryview = data
        if not self.unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._refused(error)
                return
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
            self.moved = time.monotonic()
            self._wait_for_room()
        self._pieces.append(rest)
        self.unsent += len(rest)
        if self.unsent > self._max_unsent:
            self._end("the peer does not read")

    def _wait_for_room(self) -> None:
        self._writer.start(self.write_rest if self._on_ready is None else self._may_write)

    def write_rest(self) -> None:
        """Send some of the unsent octets, if the socket takes them."""
        if self.closed or not self.unsent:
            return
        self.writable = False
        try:
            sent = self._sock.sendmsg(list(islice(self._pieces, PIECES)))
        except (BlockingIOError, InterruptedError):
            self._wait_for_room()
            return
        except OSError as error:
            self._refused(error)
            return
        self.moved = time.monotonic()
        self._forget(sent)
        if self.unsent:
            self._wait_for_room()
        else:
            self._writer.stop()
            if self._on_drain is not None:
                self._on_drain()

    def _refused(self, error: OSError) -> None:
        """The peer accepts no more. What it sent before that is still read, and then the end is reported.

        If reading is paused, this happens when it resumes; but a stream with `on_ready` drops the rest.
        """
        if self._ended or (self._on_ready is not None and not self._reader.active):
            self._end(error.strerror or str(error))
            return
        self._refusing = True
        self._pieces.clear()
        self.unsent = 0
        self._writer.stop()

    def _forget(self, sent: int) -> None:
        """Account for this many octets sent."""
        pieces = self._pieces
        self.unsent -= sent
        while sent:
            first = pieces.popleft()
            if sent < len(first):
                pieces.appendleft(memoryview(first)[sent:])
                return
            sent -= len(first)

    def close(self) -> None:
        """Release the socket; calls nobody back."""
        if self.closed:
            return
        self.closed = True
        self._pieces.clear()
        self.unsent = 0
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._sock.close()
        self._on_drain = self._on_ready = None
        self._let_go()


class TlsStream(_Ending):
    """The same over TLS, where reading may need to write: one greenlet reads, one writes, and both report in the
    hub."""

    def __init__(
        self, sock: ssl.SSLSocket, on_data: Callable[[bytes], None], on_end: Callable[[str], None], max_unsent: int
    ) -> None:
        super().__init__(on_data, on_end, max_unsent)
        self._sock = sock
        self._waiting: list[bytes] = []
        self._something_to_send = Event()
        self._may_read = Event()
        self._may_read.set()
        self._loop = get_hub().loop
        sock.settimeout(None)
        self._greenlets = [gevent.spawn(self._read_all), gevent.spawn(self._write_all)]

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    def read(self) -> None:
        """Does nothing: the reading greenlet delivers data by itself."""

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self.unsent += len(data)
        self._something_to_send.set()
        if self.unsent > self._max_unsent:
            self._loop.run_callback(self._end, "the peer does not read")

    def _read_all(self) -> None:
        def take() -> bytes:
            self._may_read.wait()
            return self._sock.recv(CHUNK)

        self._until_end(take, self._deliver)

    def _write_all(self) -> None:
        def take() -> bytes:
            self._something_to_send.wait()
            self._something_to_send.clear()
            data = b"".join(self._waiting)
            self._waiting.clear()
            return data

        def give(data: bytes) -> None:
            self._sock.sendall(data)
            self.unsent -= len(data)

        self._until_end(take, give)

    def _until_end(self, source: Callable[[], bytes], sink: Callable[[bytes], Any]) -> None:
        try:
            while data := source():
                sink(data)
            reason = "closed by the peer"
        except Exception as error:  # OSError, or an error of gevent when the socket was closed meanwhile
            reason = str(error) or type(error).__name__
        self._loop.run_callback(self._end, reason)

    def _deliver(self, data: bytes) -> None:
        self._loop.run_callback(self._received, data)
        gevent.sleep(0)  # reading does not block while there is data, so others would never run

    def _received(self, data: bytes) -> None:
        if not self.closed:
            self._on_data(data)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        gevent.killall(self._greenlets, block=False)
        self._loop.run_callback(self._sock.close)
        self._let_go()
