"""A QUIC connection to an upstream (RFC 9000). Its handshake is computed in a thread, what follows in the hub.

aioquic does the protocol and no I/O. It is an extra, and nobody gets here without it (`forwards`); importing it takes
0.2 s, so this module is to be imported before a worker serves.
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
except ImportError:  # the rest of the house can be looked at without
    pass

log = logging.getLogger(__name__)
#: aioquic tells of each stream that ends, which nobody reads, and others can cause.
logging.getLogger("quic").setLevel(logging.WARNING)

#: Events of a server that are kept until it is known who it is: settings, mostly.
MOST_EARLY = 64


class QuicChannel:
    """Opens at once. `on_open()` is called once at most, when the server has proved who it is; `on_event(event)` for
    what comes on streams, `on_end(failure)` once, unless `close` comes before. No callback while this is made.
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
        #: Whether the last session with the server was taken up again.
        self.resumed = False
        self._tickets = tickets
        self._new_ticket: Any = None
        #: What has come before it is known whom this is with.
        self._early: list[QuicEvent] = []
        self._on_open, self._on_event, self._on_end = on_open, on_event, on_end
        self._loop = get_hub().loop
        self._sock: QuicSocket | None = None
        self._flushing = False
        self._alpn = alpn
        self._quic: QuicConnection | None = None
        #: Whether a thread has the connection for itself; what has come meanwhile, and what was found out about it.
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
        """Go on with the handshake in a thread: what is computed there takes milliseconds."""
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
            ours = step.quic is None and isinstance(step.error, OSError | ValueError)  # a file that it takes
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
        return UpstreamFailed(f"{self.endpoint.label}: what came cannot be read", why=UNREACHABLE)

    @property
    def streams_left(self) -> int:
        """How many more streams the server lets us open now."""
        quic = self._quic
        if quic is None or not self.open:
            return 0
        return int(quic._remote_max_streams_bidi) - quic.get_next_available_stream_id() // 4

    @property
    def connection(self) -> QuicConnection:
        """For who speaks a protocol over it; `flush_soon` is to follow what is said."""
        assert self._quic is not None
        return self._quic

    def next_stream(self) -> int:
        """The number of a new one."""
        return int(self.connection.get_next_available_stream_id())

    def ask(self, data: bytes) -> int:
        """Open a stream, and send all there is to say on it; its number. It leaves with all others of this turn."""
        stream = self.next_stream()
        self.connection.send_stream_data(stream, data, end_stream=True)
        self.flush_soon()
        return stream

    def stop(self, stream: int, code: int) -> None:
        """Want nothing more of a stream."""
        if self._quic is not None and stream in self._quic._streams:
            self._quic.stop_stream(stream, code)
            self.flush_soon()

    def _ticket_came(self, ticket: Any) -> None:
        if self.open:
            self._tickets.keep(ticket)
        else:  # of whom, is not known yet
            self._new_ticket = ticket

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            for data in self._sock.read():
                if self.open:
                    self._take(data)
                elif len(self._came) < DATAGRAMS:  # else it is lost, as any datagram may be
                    self._came.append(data)
                if self.closed:
                    return None
        except OSError as error:
            return self._end(UpstreamFailed(f"{self.endpoint.label}: {error.strerror}", why=UNREACHABLE))
        return self._flush() if self.open else self._step()

    def _take(self, data: bytes) -> None:
        """A datagram has come over a connection that is open."""
        try:
            self.connection.receive_datagram(data, self.endpoint.address.sockaddr, now=time.monotonic())
        except Exception as error:  # nothing that others send may stop the hub
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
                self._end(UpstreamFailed(f"{self.endpoint.label}: it says too much too early", why=UNREACHABLE))

    def _shaken_hands(self, resumed: bool) -> None:
        """Whom it is with is looked at by another thread: reading all that the system trusts takes long."""
        self.resumed = resumed
        if resumed:  # by who was looked at before
            self._opened("")
            return
        assert self._quic is not None
        context = self._quic.tls
        certificate, chain = context._peer_certificate, list(context._peer_certificate_chain)
        gevent.spawn(self._look_at, certificate, chain)

    def _look_at(self, certificate: Any, chain: list[Any]) -> None:
        try:
            reason = get_hub().threadpool.apply(objection, (self.endpoint, certificate, chain))
        except Exception as error:  # a file that has gone meanwhile, a key of a kind nobody knows
            reason = f"its certificate cannot be judged: {cut(str(error))}"
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
        """Send what there is to be sent, when this turn of the hub is over."""
        if not self._flushing:
            self._flushing = True
            self._loop.run_callback(self._flush)

    def _flush(self) -> None:
        """Send what is to be sent, and wait for what is due next."""
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
        """Say goodbye, and release the socket; calls nobody back."""
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
    """Of a channel that is closed nothing is heard any more."""
