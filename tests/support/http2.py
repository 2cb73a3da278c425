"""The server's end of HTTP/2: requests one by one, and any responses that a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from .streams import Peer, answering

MESSAGE = "application/dns-message"


class Http2Peer:
    """`settings` are said at the beginning."""

    def __init__(self, peer: Peer, settings: dict[SettingCodes | int, int] | None = None) -> None:
        #: Connections that came before.
        self.number = peer.number
        self.http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        #: Streams that the client has reset.
        self.resets: list[int] = []
        self._sock = peer.sock
        self._bodies: dict[int, bytes] = {}
        self._whole: list[tuple[int, bytes]] = []
        self.http.initiate_connection()
        if settings:
            self.http.update_settings(settings)
        self.flush()

    def request(self) -> tuple[int, bytes] | None:
        """The stream and the body of the next one; None when the client has closed."""
        while not self._whole:
            if not self.hear():
                return None
        return self._whole.pop(0)

    def requests(self, count: int) -> list[tuple[int, bytes]]:
        return [request for request in (self.request() for _ in range(count)) if request is not None]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (request := self.request()) is not None:
            yield request

    def hear(self) -> bool:
        """Read the client's next data; False if it has closed, or sent an error."""
        try:
            data = self._sock.recv(65536)
            events = self.http.receive_data(data)
        except (OSError, ProtocolError):
            return False
        for event in events:
            self._take(event)
        self.flush()
        return bool(data)

    def _take(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self._bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            self._bodies[event.stream_id] += event.data
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._whole.append((event.stream_id, self._bodies.pop(event.stream_id)))
        elif isinstance(event, StreamReset):
            self.resets.append(event.stream_id)

    def head(self, stream: int, status: int = 200, kind: str = MESSAGE, **more: str) -> None:
        """The headers of a response; more with `_` for `-`."""
        fields = [(":status", str(status)), ("content-type", kind)]
        self.http.send_headers(stream, fields + [(name.replace("_", "-"), value) for name, value in more.items()])

    def body(self, stream: int, data: bytes, end: bool = True) -> None:
        """Send data as far as flow control allows; the rest is not sent if the client gives up."""
        while stream in self.http.streams and not self.http.streams[stream].closed:
            size = min(len(data), self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size)
            if size or not data:
                self.http.send_data(stream, data[:size], end_stream=end and size == len(data))
                data = data[size:]
                self.flush()
                if not data:
                    return
            elif not self.hear():
                raise ConnectionResetError

    def answer(self, stream: int, query: bytes, more: bytes = b"") -> None:
        """With what is a reply to it, and `more` octets behind."""
        self.head(stream)
        self.body(stream, answering(query) + more)

    def serve(self) -> None:
        """Answer all."""
        for stream, query in self:
            self.answer(stream, query)

    def hear_out(self) -> None:
        """Read to the end without responding."""
        while self.hear():
            pass

    def flush(self) -> None:
        self._sock.sendall(self.http.data_to_send())

    def raw(self, data: bytes) -> None:
        self.flush()
        self._sock.sendall(data)

    def goaway(self, last: int, code: int = 0) -> None:
        """Send GOAWAY without closing the h2 connection: more answers may follow (RFC 9113 section 6.8)."""
        self.raw(frame(7, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big")))


def frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    """A frame of RFC 9113 section 4.1."""
    return len(data).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + data


def speaking(script: Callable[[Http2Peer], None], **settings: int) -> Callable[[Peer], None]:
    """A script for a StreamServer from one for HTTP/2; `settings` by their names."""
    said: dict[SettingCodes | int, int] = {SettingCodes[name.upper()]: value for name, value in settings.items()}
    return lambda peer: script(Http2Peer(peer, said))
