"""DNS over HTTPS (RFC 8484) over HTTP/2 by the h2 library: a stream for each query."""

from __future__ import annotations

import time
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from rdnscache.dns.wire import TCP_SIZE
from rdnscache.errors import SAID, UNREACHABLE, UpstreamFailed
from rdnscache.upstream.connection import TURN, Connection, Limits, OpenChannel, Owner
from rdnscache.upstream.http2_frames import Farewell, Frames
from rdnscache.upstream.http2_session import WINDOW, Session
from rdnscache.upstream.http_messages import LEAST, NO_ID, objection, request_head
from rdnscache.upstream.query import Query

#: Frames that are handled between two looks at the clock.
GROUP = 16
#: Maximum open streams before the server's settings are known (RFC 9113 section 6.5.2).
UNTOLD = 100
#: Streams after which a connection is retired; HTTP/2 has 2**30.
_MOST_STREAMS = 1 << 29


class Http2Connection(Connection):
    """`url` is the authority and the path of the URL for POST; queries are padded to a multiple of `block`."""

    def __init__(
        self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits, url: tuple[str, str], block: int
    ) -> None:
        self._block = block
        self._head = request_head(*url)
        #: Maximum open streams.
        self._streams = UNTOLD
        #: By stream: octets still to be sent, and the body of the response so far.
        self._rests: dict[int, bytes] = {}
        self._bodies: dict[int, bytearray] = {}
        self._frames = Frames()
        self._eaten = 0
        super().__init__(owner, name, open_channel, limits)
        self._http = Session(self.outstanding)

    def _channel_open(self) -> None:
        self._http.begin()
        super()._channel_open()
        self._put(b"")

    def room(self) -> int:
        room = super().room()
        return min(room, self._streams - len(self.outstanding)) if room else 0

    def send(self, query: Query) -> None:
        http, number = self._http, 0  # 0 is no stream
        body = query.message(NO_ID, self._block)
        try:
            number = http.get_next_available_stream_id()
            http.send_headers(number, [*self._head, (b"content-length", b"%d" % len(body))])
            self._rests[number] = body
            self._push(number)
        except Exception as error:  # h2 raises more than its own exceptions
            self._break(error)
        self._take(query, number)
        self._put(b"")
        if number > _MOST_STREAMS:
            self.retiring = True

    def cancel(self, query: Query) -> None:
        """Cancel a query. Its answer may still arrive, which is cheaper than a reset, unless many are cancelled."""
        super().cancel(query)
        if self.doubtful or self.cancelled <= min(self._most, self._streams) // 4:
            return
        for number in [number for number, left in self.outstanding.items() if left is None]:
            self._forget(number)
            self._reset(number)
        self._put(b"")
        self._loop.run_callback(self._handed_out)

    def _break(self, error: Exception) -> None:
        """Close the connection after a failure to send; after this turn of the hub, since the caller may use it."""
        self.retiring = True
        failure = UpstreamFailed(f"{self._name}: no query can be sent over HTTP/2: {_text(error)}", why=UNREACHABLE)
        self._loop.run_callback(self._end, failure)

    def _push(self, number: int) -> None:
        """Send as much of a query as flow control allows."""
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
        self._is_alive()
        self._frames.feed(data)
        if not self._paused:
            self._hand_out()

    def _hand_out(self) -> None:
        try:
            self._take_frames(time.monotonic() + TURN)
            if self._eaten > WINDOW // 4:
                eaten, self._eaten = self._eaten, 0
                self._http.increment_flow_control_window(eaten)
        except Exception as error:  # h2 raises more than its own exceptions
            self._flush()  # it may tell the server why
            self._end(UpstreamFailed(f"{self._name}: it does not speak proper HTTP/2: {_text(error)}", why=SAID))
        if not self.closed:
            self._put(b"")
            self._handed_out()

    def _take_frames(self, until: float) -> None:
        while (frames := self._frames.next(GROUP)) is not None:
            if isinstance(frames, Farewell):
                self._part(frames)
            else:
                roomier = False
                for event in self._http.receive_data(frames):
                    roomier |= isinstance(event, WindowUpdated | RemoteSettingsChanged)
                    self._take_event(event)
                if roomier:
                    self._push_all()
            if self.closed:
                return
            if time.monotonic() >= until:
                self._pause()
                return

    def _push_all(self) -> None:
        self._streams = self._http.remote_settings.max_concurrent_streams
        for number in list(self._rests):
            if self._http.outbound_flow_control_window <= 0:
                break
            self._push(number)

    def _part(self, farewell: Farewell) -> None:
        """Handle GOAWAY: queries that the server will not process are sent elsewhere at once; it may answer others."""
        self.retiring = True
        why = f"the server ends the connection ({_named(farewell.code)})"
        failure = UpstreamFailed(f"{self._name}: {why}", why=UNREACHABLE)
        untaken = [number for number in self.outstanding if number > farewell.last]
        if len(untaken) == len(self.outstanding):
            self._end(failure)
            return
        for number in untaken:
            self._give_back(number, failure)

    def _take_event(self, event: Any) -> None:
        if isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, ResponseReceived):
            self._take_head(event)
        elif isinstance(event, StreamEnded):
            self._take_end(event.stream_id)
        elif isinstance(event, StreamReset):
            number, why = event.stream_id, f"the stream was reset ({_named(event.error_code)})"
            if event.error_code == ErrorCodes.REFUSED_STREAM:  # not processed (RFC 9113 section 8.7)
                self._give_back(number, UpstreamFailed(f"{self._name}: {why}", why=SAID))
            else:
                self._fail(number, why)
        elif isinstance(event, RequestReceived):
            raise ProtocolError("a request from the server")

    def _take_head(self, event: Any) -> None:
        number = event.stream_id
        reason = objection(event.headers)
        if reason:
            self._refuse(number, reason)
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

    def _take_end(self, number: int) -> None:
        body = self._bodies.pop(number, None)
        if number in self._rests:
            self._reset(number)  # the server has answered before the whole query was sent
        if number in self.outstanding:
            if body is None or len(body) < LEAST:
                self._fail(number, "a response that is not a DNS message")
            else:
                self._answered(number, bytes(body))

    def _refuse(self, number: int, why: str) -> None:
        """Fail a query and reset its stream."""
        self._reset(number)
        self._fail(number, why)

    def _dropped(self, number: int) -> Query | None:
        self._bodies.pop(number, None)
        self._rests.pop(number, None)
        return super()._dropped(number)

    def _reset(self, number: int) -> None:
        self._bodies.pop(number, None)
        self._rests.pop(number, None)
        try:
            self._http.reset_stream(number, ErrorCodes.CANCEL)
        except ProtocolError:  # it has ended already
            pass


def _named(code: Any) -> str:
    try:
        return ErrorCodes(code).name
    except ValueError:
        return str(code)


def _text(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:100]
