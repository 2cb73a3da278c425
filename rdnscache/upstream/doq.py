"""DNS over QUIC (RFC 9250): each query is on a stream of its own, with ID 0, padded, after its length."""

from __future__ import annotations

from typing import Any

from rdnscache.endpoint import Endpoint
from rdnscache.errors import SAID, UNREACHABLE, UpstreamFailed
from rdnscache.upstream.connection import Limits, Owner, give_up
from rdnscache.upstream.framing import framed
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.query import Query
from rdnscache.upstream.quic_channel import QuicChannel
from rdnscache.upstream.quic_identity import Tickets
from rdnscache.upstream.quic_queries import BLOCK, QuicQueries

try:
    from aioquic.quic.events import StreamDataReceived, StreamReset
except ImportError:  # an extra
    pass

ALPN = "doq"
#: The size of the largest message with its length.
LARGEST = 2 + 65535
#: DOQ_REQUEST_CANCELLED (RFC 9250 section 4.3).
CANCELLED = 0x3
_ID = b"\0\0"


def over_quic(endpoint: Endpoint, limits: Limits) -> Pool:
    """DNS over QUIC to the server."""
    tickets = Tickets()
    return Pool(endpoint.label, lambda owner: DoqConnection(owner, endpoint, tickets, limits), limits)


class DoqConnection(QuicQueries):
    """The number of a query is that of its stream."""

    def __init__(self, owner: Owner, endpoint: Endpoint, tickets: Tickets, limits: Limits) -> None:
        #: The octets received on each stream.
        self._came: dict[int, bytes] = {}

        def open_channel(on_open: Any, on_event: Any, on_end: Any) -> Any:
            return QuicChannel(endpoint, ALPN, tickets, on_open, on_event, on_end)

        super().__init__(owner, endpoint.label, open_channel, limits, CANCELLED)

    def send(self, query: Query) -> None:
        self._take(query, self.quic.ask(framed(query.message(_ID, BLOCK))))

    def _take_event(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived):
            self._data(event.stream_id, event.data, event.end_stream)
        elif isinstance(event, StreamReset):
            self._gave_up(event.stream_id, "it gave a query up")

    def _data(self, stream: int, data: bytes, last: bool) -> None:
        if stream not in self.outstanding:
            return
        came = self._came.pop(stream, b"") + data
        if len(came) > LARGEST:
            self._gave_up(stream, "an answer is longer than any message")
        elif not last:
            self._came[stream] = came
        elif len(came) < 4 or len(came) != 2 + int.from_bytes(came[:2], "big"):
            self._gave_up(stream, "an answer is incomplete")
        elif came[2:4] != _ID:  # a fatal error (RFC 9250 section 4.2.1)
            self._end(UpstreamFailed(f"{self._name}: an answer has an ID", why=SAID))
        else:
            self._answered(stream, came[2:])

    def _gave_up(self, stream: int, reason: str) -> None:
        """Fail a query that the server has received but not answered."""
        self._came.pop(stream, None)
        if stream in self.outstanding:
            query = self._forget(stream)
            if query is not None:
                give_up(query, UpstreamFailed(f"{self._name}: {reason}", why=UNREACHABLE))

    def _leave(self) -> list[Query]:
        self._came.clear()
        return super()._leave()
