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
    """What both kinds of stream know about bytes that wait, and about the end."""

    def __init__(self, on_data: Callable[[bytes], None], on_end: Callable[[str], None], max_unsent: int) -> None:
        self._on_data = on_data
        self._on_end = on_end
        self._max_unsent = max_unsent
        #: Octets written that have not left yet.
        self.unsent = 0
        self.closed = False

    def _end(self, reason: str) -> None:
        if not self.closed:
            on_end = self._on_end
            self.close()
            on_end(reason)

    def _let_go(self) -> None:
        """Forget whom to call: they refer to this stream, and such a circle stays until the collector comes."""
        self._on_data = self._on_end = _nobody

    @abstractmethod
    def close(self) -> None:
        """Release the socket; calls nobody back."""


def _nobody(_: bytes | str) -> None:
    """Of a stream that is closed nothing is heard any more."""


class Stream(_Ending):
    """A plain stream socket, which it takes over from its maker.

    `on_data(bytes)`, with `chunk` octets at most, `on_end(reason)` and `on_drain()` (all that was written has left) are
    called in the hub.
    `on_end` is called once; where the peer merely stopped sending, the stream can still be written to.
    What the peer does not take is kept, up to `max_unsent` octets; beyond that the stream ends.
    With `on_ready` nothing is read or sent by itself: it is called when `read` or `write_rest` can do something, for
    those of whom hundreds can have something to do in one turn of the hub.
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
        #: With `on_ready`: whether there is something to read, or the end; and room for what waits.
        self.readable = self.writable = False
        #: What waits, as it was written: nothing is moved when a part leaves, and memory goes back with each piece.
        self._pieces: deque[bytes | memoryview] = deque()
        #: Whether the peer takes no more.
        self._refusing = False
        #: Whether it has said that it sends no more.
        self._ended = False
        #: The moment at which the peer last took something, while something waits.
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
        """Take what has arrived; called by the hub, and by whoever wants to know at once."""
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
        """Send some of what waits, if there is room."""
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
        """The peer takes no more. What it has sent before that is still to be read, and then the end.

        Where reading is paused, that is when it goes on; but who takes turns with others has no use for the rest.
        """
        if self._ended or (self._on_ready is not None and not self._reader.active):
            self._end(error.strerror or str(error))
            return
        self._refusing = True
        self._pieces.clear()
        self.unsent = 0
        self._writer.stop()

    def _forget(self, sent: int) -> None:
        """This many octets have been sent."""
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
    """The same over TLS, where a read may have to write: one greenlet reads, one writes, both speak through the hub."""

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
        """Nothing to do: the reading greenlet delivers by itself."""

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
        except Exception as error:  # OSError, or gevent's own when the socket is closed under it
            reason = str(error) or type(error).__name__
        self._loop.run_callback(self._end, reason)

    def _deliver(self, data: bytes) -> None:
        self._loop.run_callback(self._received, data)
        gevent.sleep(0)  # reading does not wait while there is something: others would never get their turn

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
