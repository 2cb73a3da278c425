"""A QUIC connection to an upstream (RFC 9000). Its handshake is computed in a thread, what follows in the hub.

aioquic implements the protocol without I/O. It is an extra, and `forwards` makes sure that it is installed. Importing
it takes 0.2 s, so this module is to be imported before a worker serves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub

from rdnscache.endpoint import Endpoint
from rdnscache.errors import LOCAL, UNREACHABLE, UpstreamFailed
from rdnscache.upstream import handshakes
from rdnscache.upstream.quic_handshake import Step
from rdnscache.upstream.quic_identity import Tickets, configuration, cut, objection
from rdnscache.upstream.quic_socket import DATAGRAMS, QuicSocket

try:
    from aioquic.quic.connection import QuicConnection
    from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent
except ImportError:  # an extra; other modules can be imported without it
    pass

log = logging.getLogger(__name__)
#: aioquic logs the end of each stream, and servers can cause any number of them.
logging.getLogger("quic").setLevel(logging.WARNING)

#: Events of a server that are kept until it is known who it is: settings, mostly.
MOST_EARLY = 64


class QuicChannel:
    """A connection, which is opened at once. `on_open()` is called once at most, after the server is authenticated,
    `on_event(event)` for events of streams, `on_end(failure)` once, unless `close` is called before. No callback is
    called in the constructor.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        alpn: str,
        tickets: Tickets,
        on_open: Callable[[], None],
        on_event: Callable[[QuicEvent], None],
        on_end: Callable[[UpstreamFailed], None],
    ) -> None:
        self.endpoint = endpoint
        self.closed = self.open = False
        #: Whether the server has ended an open connection.
        self.ended_by_server = False
        #: Whether the last session with the server was resumed.
        self.resumed = False
        self._tickets = tickets
        self._new_ticket: Any = None
        #: Events before the server is authenticated.
        self._early: list[QuicEvent] = []
        self._on_open, self._on_event, self._on_end = on_open, on_event, on_end
        self._loop = get_hub().loop
        self._sock: QuicSocket | None = None
        self._flushing = False
        self._alpn = alpn
        self._quic: QuicConnection | None = None
        #: Whether a thread uses the connection; datagrams received meanwhile; the result of the authentication if it
        #: is known meanwhile.
        self._stepping = False
        self._came: list[bytes] = []
        self._verdict: str | None = None
        try:
            self._sock = QuicSocket(endpoint.address, self._readable, self._due)
            self._loop.run_callback(self._step)
        except OSError as error:
            failure = UpstreamFailed(f"{endpoint.label}: {error.strerror or error}", why=LOCAL)
            self._loop.run_callback(self._end, failure)

    def _make(self) -> QuicConnection:
        """Called in a thread."""
        made = QuicConnection(
            configuration=configuration(self.endpoint, self._alpn, self._tickets.take()),
            session_ticket_handler=self._ticket_came,
        )
        made.connect(self.endpoint.address.sockaddr, now=time.monotonic())
        return made

    def _step(self) -> None:
        """Continue the handshake in a thread, since its computation takes milliseconds."""
        if self.closed or self._stepping:
            return
        step = Step(self._quic, self._make, self.endpoint.address.sockaddr, self._came)
        self._came = []
        self._stepping = handshakes.of_this_worker().do(step, self._stepped)
        if not self._stepping:
            self._end(UpstreamFailed(f"{self.endpoint.label}: too many handshakes at a time", why=LOCAL))

    def _stepped(self, step: Step) -> None:
        self._stepping = False
        if self.closed:
            return
        self._quic = step.quic
        if step.error is not None:
            ours = step.quic is None and isinstance(step.error, OSError | ValueError)  # our certificate or key
            text = getattr(step.error, "strerror", None) or str(step.error)
            failure = UpstreamFailed(f"{self.endpoint.label}: {text}", why=LOCAL)
            self._end(failure if ours else self._unreadable(step.error))
            return
        self._send(step.out)
        if not self.closed:
            self._take_events()
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            self._opened(verdict)
        if self.open:
            came, self._came = self._came, []
            for data in came:
                self._take(data)
        self._flush()
        if self._came:
            self._step()

    def _unreadable(self, error: Exception) -> UpstreamFailed:
        log.error("a datagram from %s cannot be read: the connection is closed", self.endpoint.label, exc_info=error)
        return UpstreamFailed(f"{self.endpoint.label}: a datagram that cannot be read", why=UNREACHABLE)

    @property
    def streams_left(self) -> int:
        """The number of streams that the server allows us to open now."""
        quic = self._quic
        if quic is None or not self.open:
            return 0
        return int(quic._remote_max_streams_bidi) - quic.get_next_available_stream_id() // 4

    @property
    def connection(self) -> QuicConnection:
        """The connection for an application protocol, which calls `flush_soon` after it has queued data."""
        assert self._quic is not None
        return self._quic

    def next_stream(self) -> int:
        """The number of the next new stream."""
        return int(self.connection.get_next_available_stream_id())

    def ask(self, data: bytes) -> int:
        """Open a stream, send data on it and end our side; returns its number. Sent at the end of this turn."""
        stream = self.next_stream()
        self.connection.send_stream_data(stream, data, end_stream=True)
        self.flush_soon()
        return stream

    def stop(self, stream: int, code: int) -> None:
        """Tell the server to send no more on a stream."""
        if self._quic is not None and stream in self._quic._streams:
            self._quic.stop_stream(stream, code)
            self.flush_soon()

    def _ticket_came(self, ticket: Any) -> None:
        if self.open:
            self._tickets.keep(ticket)
        else:  # the server is not authenticated yet
            self._new_ticket = ticket

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            for data in self._sock.read():
                if self.open:
                    self._take(data)
                elif len(self._came) < DATAGRAMS:  # else it is dropped, as any datagram may be
                    self._came.append(data)
                if self.closed:
                    return None
        except OSError as error:
            return self._end(UpstreamFailed(f"{self.endpoint.label}: {error.strerror}", why=UNREACHABLE))
        return self._flush() if self.open else self._step()

    def _take(self, data: bytes) -> None:
        """Take a datagram of an open connection."""
        try:
            self.connection.receive_datagram(data, self.endpoint.address.sockaddr, now=time.monotonic())
        except Exception as error:  # no input may stop the hub
            self._end(self._unreadable(error))
        self._take_events()

    def _take_events(self) -> None:
        while not self.closed and self._quic is not None and (event := self._quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self._shaken_hands(event.session_resumed)
            elif isinstance(event, ConnectionTerminated):
                self.ended_by_server = self.open
                text = cut(event.reason_phrase) or f"it was ended, code {event.error_code:#x}"
                self._end(UpstreamFailed(f"{self.endpoint.label}: {text}", why=UNREACHABLE))
            elif self.open:
                self._on_event(event)
            elif len(self._early) < MOST_EARLY:
                self._early.append(event)
            else:
                text = "too many events before it has proved its identity"
                self._end(UpstreamFailed(f"{self.endpoint.label}: {text}", why=UNREACHABLE))

    def _shaken_hands(self, resumed: bool) -> None:
        """Authenticate the server in another thread: reading the system's CAs takes long."""
        self.resumed = resumed
        if resumed:  # it was authenticated in the first session
            self._opened("")
            return
        assert self._quic is not None
        context = self._quic.tls
        certificate, chain = context._peer_certificate, list(context._peer_certificate_chain)
        gevent.spawn(self._look_at, certificate, chain)

    def _look_at(self, certificate: Any, chain: list[Any]) -> None:
        try:
            reason = get_hub().threadpool.apply(objection, (self.endpoint, certificate, chain))
        except Exception as error:  # a file has gone meanwhile, or the type of the key is unknown
            reason = f"its certificate cannot be checked: {cut(str(error))}"
        if self._stepping:
            self._verdict = reason
        else:
            self._opened(reason)

    def _opened(self, reason: str) -> None:
        if self.closed:
            return
        if reason:
            self._end(UpstreamFailed(f"{self.endpoint.label}: {reason}", why=UNREACHABLE))
            return
        self.open = True
        if self._new_ticket is not None:
            self._tickets.keep(self._new_ticket)
        self._on_open()
        early, self._early = self._early, []
        for event in early:
            if not self.closed:
                self._on_event(event)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Send queued data after this turn of the hub."""
        if not self._flushing:
            self._flushing = True
            self._loop.run_callback(self._flush)

    def _flush(self) -> None:
        """Send queued data and set the timer."""
        self._flushing = False
        if self.closed or self._stepping or self._quic is None:
            return
        now = time.monotonic()
        self._send([data for data, _ in self._quic.datagrams_to_send(now=now)])
        self._take_events()
        if self._sock is not None:
            self._sock.set(self._quic.get_timer(), now)

    def _send(self, datagrams: list[bytes]) -> None:
        try:
            if self._sock is not None:
                self._sock.send(datagrams)
        except OSError as error:
            self._end(UpstreamFailed(f"{self.endpoint.label}: {error.strerror}", why=UNREACHABLE))

    def _due(self) -> None:
        if self.closed or self._stepping or self._quic is None:
            return
        now = time.monotonic()
        due = self._quic.get_timer()
        if due is not None and due <= now:
            self._quic.handle_timer(now=now)
            self._take_events()
        self._flush()

    def _end(self, failure: UpstreamFailed) -> None:
        if not self.closed:
            on_end = self._on_end
            self.close()
            on_end(failure)

    def close(self) -> None:
        """Close the connection and release the socket; no callback is called."""
        if self.closed:
            return
        self.closed, self.open = True, False
        if self._sock is not None:
            try:
                if self._quic is not None and not self._stepping:
                    self._quic.close()
                    self._sock.send([data for data, _ in self._quic.datagrams_to_send(now=time.monotonic())])
            except OSError:
                pass
            self._sock.close()
        self._sock = self._quic = None
        self._on_open = self._on_event = self._on_end = _nobody  # or this would be a circle


def _nobody(*_: object) -> None:
    """The callbacks of a closed channel."""
