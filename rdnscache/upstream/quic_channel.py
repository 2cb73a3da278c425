"""A QUIC connection to an upstream (RFC 9000): its packets, its timer, and whom it is with. All of it in the hub.

aioquic does the protocol and no I/O. It is an extra, and nobody gets here without it (`forwards`); importing it takes
0.2 s, so this module is to be imported before a worker serves.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub

from rdnscache.endpoint import Endpoint
from rdnscache.errors import LOCAL, UNREACHABLE, UpstreamFailed
from rdnscache.stream import READ, RawSocket

try:
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection
    from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent
    from aioquic.tls import Alert, verify_certificate
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:  # the rest of the house can be looked at without
    pass

log = logging.getLogger(__name__)
#: aioquic tells of each stream that ends, which nobody reads, and others can cause.
logging.getLogger("quic").setLevel(logging.WARNING)

#: Datagrams, and seconds for which they are read, before others get their turn; octets of the largest.
DATAGRAMS, TURN, LARGEST = 64, 0.002, 65535
#: Octets that the server may send and nobody has taken: on one stream, which a message and its length fit into, and on
#: all of them.
STREAM_DATA, ALL_DATA = 1 << 17, 1 << 21
#: Events of a server that are kept until it is known who it is: settings, mostly.
MOST_EARLY = 64
#: Seconds of silence after which the connection is gone for both sides (RFC 9000 section 10.1).
SILENCE = 30.0


class Tickets:
    """What lets the next connection to a server begin without a certificate (RFC 8446 section 2.2): the last ticket."""

    def __init__(self) -> None:
        self._last: Any = None

    def take(self) -> Any:
        """Each once, or the connections could be told to belong together."""
        found, self._last = self._last, None
        return found

    def keep(self, ticket: Any) -> None:
        self._last = ticket


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
        self._sock: socket.socket | None = None
        self._watcher: Any = None
        self._timer: Any = None
        self._armed = 0.0
        self._flushing = False
        self._quic: QuicConnection | None = None
        try:
            self._begin(alpn)
        except (OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or str(error)
            self._loop.run_callback(self._end, UpstreamFailed(f"{endpoint.label}: {text}", why=LOCAL))

    def _begin(self, alpn: str) -> None:
        address = self.endpoint.address
        self._quic = QuicConnection(
            configuration=_configuration(self.endpoint, alpn, self._tickets.take()),
            session_ticket_handler=self._ticket_came,
        )
        sock = self._sock = RawSocket(address.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.connect(address.sockaddr)
        self._watcher = self._loop.io(sock.fileno(), READ)
        self._watcher.start(self._readable)
        self._quic.connect(address.sockaddr, now=time.monotonic())
        self.flush_soon()

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
        address = self.endpoint.address.sockaddr
        begun = time.monotonic()
        for _ in range(DATAGRAMS):
            try:
                data = self._sock.recv(LARGEST)
            except BlockingIOError:
                break
            except OSError as error:
                return self._end(UpstreamFailed(f"{self.endpoint.label}: {error.strerror}", why=UNREACHABLE))
            assert self._quic is not None
            now = time.monotonic()
            try:
                self._quic.receive_datagram(data, address, now=now)
            except Exception:  # nothing that others send may stop the hub
                log.exception("a datagram from %s cannot be read: the connection is closed", self.endpoint.label)
                return self._end(UpstreamFailed(f"{self.endpoint.label}: what came cannot be read", why=UNREACHABLE))
            self._take_events()
            if self.closed:
                return None
            if now - begun > TURN:
                break
        self._flush()
        return None

    def _take_events(self) -> None:
        while not self.closed and self._quic is not None and (event := self._quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self._shaken_hands(event.session_resumed)
            elif isinstance(event, ConnectionTerminated):
                self.ended_by_server = self.open
                text = _cut(event.reason_phrase) or f"it was ended, code {event.error_code:#x}"
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
            reason = f"its certificate cannot be judged: {_cut(str(error))}"
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
        if self.closed or self._quic is None or self._sock is None:
            return
        now = time.monotonic()
        try:
            for data, _ in self._quic.datagrams_to_send(now=now):
                self._sock.send(data)
        except BlockingIOError:  # lost as any datagram may be
            pass
        except OSError as error:
            self._end(UpstreamFailed(f"{self.endpoint.label}: {error.strerror}", why=UNREACHABLE))
            return
        self._take_events()
        if not self.closed:
            self._arm(now)

    def _arm(self, now: float) -> None:
        assert self._quic is not None
        due = self._quic.get_timer()
        if due is None or (self._armed and self._armed <= due):  # it goes off early, and is armed again then
            return
        self._disarm()
        self._armed = due
        self._timer = self._loop.timer(max(due - now, 0.001))
        self._timer.start(self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._armed = 0.0

    def _due(self) -> None:
        self._disarm()
        if self.closed or self._quic is None:
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
        self._disarm()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
        if self._sock is not None:
            try:
                if self._quic is not None:
                    self._quic.close()
                    for data, _ in self._quic.datagrams_to_send(now=time.monotonic()):
                        self._sock.send(data)
            except OSError:
                pass
            self._sock.close()
        self._sock = self._quic = self._watcher = None
        self._on_open = self._on_event = self._on_end = _nobody  # or this would be a circle


def _nobody(*_: object) -> None:
    """Of a channel that is closed nothing is heard any more."""


def _cut(reason: str) -> str:
    return "".join(char for char in reason[:100] if char.isprintable())


def _configuration(endpoint: Endpoint, alpn: str, ticket: Any) -> Any:
    """Whom the server is, is for `objection` to see: aioquic would look at it in the hub."""
    found = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], server_name=endpoint.name or None, verify_mode=ssl.CERT_NONE,
        max_data=ALL_DATA, max_stream_data=STREAM_DATA, idle_timeout=SILENCE, session_ticket=ticket,
    )  # fmt: skip
    if endpoint.certificate:
        found.load_cert_chain(endpoint.certificate, endpoint.key or None)
    return found


def objection(endpoint: Endpoint, certificate: Any, chain: list[Any]) -> str:
    """Why this is not the server we mean; empty when it is. It takes milliseconds, and runs in a thread of its own."""
    if endpoint.pins:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
        if pin not in endpoint.pins:
            return f"its key is not among the pins: it is {pin}"
    if not endpoint.name:
        return ""
    system = ssl.get_default_verify_paths()
    file, folder = (endpoint.ca, None) if endpoint.ca else (system.cafile, system.capath)
    try:
        verify_certificate(certificate, chain, server_name=endpoint.name, cafile=file, capath=folder)
    except Alert as error:
        return f"its certificate is refused: {_cut(str(error))}"
    return ""
