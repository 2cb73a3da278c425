"""DNS over HTTPS (RFC 8484) over HTTP/2: a stream for each query. What HTTP/2 is, the h2 library knows."""

from __future__ import annotations

import time
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from rdnscache.dns.wire import TCP_SIZE
from rdnscache.errors import SAID, UNREACHABLE, UpstreamFailed
from rdnscache.upstream.connection import TURN, Connection, Limits, OpenChannel, Owner, hand_over
from rdnscache.upstream.query import Query

#: Octets of the headers of a response, and of all responses together that may be on their way.
MAX_HEADERS, WINDOW = 8192, 1 << 20
MESSAGE = b"application/dns-message"
#: The ID is 0, so that caches on the way see equal questions as equal (RFC 8484 section 4.1).
_NO_ID = b"\0\0"
#: Streams at a time before the server has said how many (RFC 9113 section 6.5.2).
UNTOLD = 100
#: Streams of one connection, of 2**30.
_MOST_STREAMS = 1 << 29


class Http2Connection(Connection):
    """`authority` and `path` are of the URL that is asked, by POST; `block` is what sizes are padded to."""

    def __init__(
        self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits, url: tuple[str, str], block: int
    ) -> None:
        self._block = block
        self._head = [
            (b":method", b"POST"), (b":scheme", b"https"), (b":authority", url[0].encode()),
            (b":path", url[1].encode()), (b"accept", MESSAGE), (b"content-type", MESSAGE),
        ]  # fmt: skip
        config = H2Configuration(client_side=True, header_encoding=None)
        config.validate_outbound_headers = config.normalize_outbound_headers = False  # ours are the same each time
        self._http = H2Connection(config)
        #: Streams at a time: what the server says, once it has.
        self._streams = UNTOLD
        #: By stream: what is to be sent when the server has room; what has come; events to be handed out.
        self._rests: dict[int, bytes] = {}
        self._bodies: dict[int, bytearray] = {}
        self._events: list[Any] = []
        self._eaten = 0
        super().__init__(owner, name, open_channel, limits)

    def _channel_open(self) -> None:
        http = self._http
        http.update_settings({
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: TCP_SIZE,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
        })  # fmt: skip
        http.clear_outbound_data_buffer()
        http.local_settings.acknowledge()
        http.initiate_connection()
        http.increment_flow_control_window(WINDOW)
        super()._channel_open()
        self._put(b"")

    def room(self) -> int:
        room = super().room()
        return min(room, self._streams - len(self.outstanding)) if room else 0

    def send(self, query: Query) -> None:
        http = self._http
        body = query.message(_NO_ID, self._block)
        number = http.get_next_available_stream_id()
        http.send_headers(number, [*self._head, (b"content-length", b"%d" % len(body))])
        self._take(query, number)
        self._rests[number] = body
        self._push(number)
        self._put(b"")
        if number > _MOST_STREAMS:
            self.retiring = True

    def _push(self, number: int) -> None:
        """Send what the server has room for."""
        http, body = self._http, self._rests[number]
        size = min(len(body), http.local_flow_control_window(number), http.max_outbound_frame_size)
        if size <= 0:
            return
        http.send_data(number, body[:size], end_stream=size == len(body))
        if size == len(body):
            del self._rests[number]
        else:
            self._rests[number] = body[size:]

    def _flush(self) -> None:
        self._unsent.clear()
        data = self._http.data_to_send()
        if self._channel is not None and data:
            self._channel.write(data)

    def _received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        self.doubtful = False
        try:
            self._events += self._http.receive_data(data)
        except ProtocolError as error:
            text = str(error) or type(error).__name__
            self._end(UpstreamFailed(f"{self._name}: what comes is not HTTP/2: {text[:100]}", why=SAID))
            return
        if not self._paused:
            self._hand_out()

    def _hand_out(self) -> None:
        begun, events = time.monotonic(), self._events
        self._events = []
        for at, event in enumerate(events):
            self._take_event(event)
            if self.closed:
                return
            if time.monotonic() - begun >= TURN and at + 1 < len(events):
                self._events = events[at + 1 :] + self._events
                self._pause()
                break
        if self._eaten > WINDOW // 2:
            self._http.increment_flow_control_window(self._eaten)
            self._eaten = 0
        self._put(b"")
        self._handed_out()

    def _take_event(self, event: Any) -> None:
        if isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, ResponseReceived):
            self._take_head(event)
        elif isinstance(event, StreamEnded):
            body = self._bodies.pop(event.stream_id, None)
            if body is not None and event.stream_id in self.outstanding:
                self._answered(event.stream_id, bytes(body))
        elif isinstance(event, StreamReset):
            again = event.error_code == ErrorCodes.REFUSED_STREAM  # not looked at (RFC 9113 section 8.7)
            self._refuse(event.stream_id, f"the stream was reset ({_named(event.error_code)})", again)
        elif isinstance(event, ConnectionTerminated):
            # what the server has not taken, and what it has, is asked elsewhere: h2 reads no further
            why = f"the server ends the connection ({_named(event.error_code)})"
            self._end(UpstreamFailed(f"{self._name}: {why}", why=UNREACHABLE))
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            if isinstance(event, RemoteSettingsChanged):
                self._streams = self._http.remote_settings.max_concurrent_streams
            for number in list(self._rests):
                self._push(number)

    def _take_head(self, event: Any) -> None:
        number = event.stream_id
        head = dict(event.headers)
        status, kind = head.get(b":status", b""), head.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if status != b"200":
            self._refuse(number, f"HTTP status {status[:3].decode('ascii', 'replace')}")
        elif kind != MESSAGE:
            self._refuse(number, "what comes over HTTP is no DNS message")
        else:
            self._bodies[number] = bytearray()

    def _take_data(self, event: Any) -> None:
        self._eaten += event.flow_controlled_length
        body = self._bodies.get(event.stream_id)
        if body is None:
            return
        body += event.data
        if len(body) > TCP_SIZE:
            self._refuse(event.stream_id, "a response of more than 65,535 octets")

    def _refuse(self, number: int, why: str, again: bool = False) -> None:
        """Nothing useful comes of this query on its stream; perhaps `again` on another one."""
        self._bodies.pop(number, None)
        self._rests.pop(number, None)
        try:
            self._http.reset_stream(number, ErrorCodes.CANCEL)
        except ProtocolError:  # it has ended already
            pass
        if number not in self.outstanding:
            return
        failure = UpstreamFailed(f"{self._name}: {why}", why=SAID)
        query = self._forget(number)
        if not again:
            self.answers += 1
            if query is not None:
                hand_over(query.failed, failure)
        elif query is not None and self._owner is not None:
            self._owner.undone(query, failure)


def _named(code: Any) -> str:
    return code.name if isinstance(code, ErrorCodes) else str(code)
