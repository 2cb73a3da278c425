"""DNS over HTTPS (RFC 8484) over HTTP/3 (RFC 9114) by aioquic: a request for each query."""

from __future__ import annotations

import logging
from typing import Any

from rdnscache.dns.wire import TCP_SIZE
from rdnscache.endpoint import Endpoint
from rdnscache.errors import SAID, UNREACHABLE, UpstreamFailed
from rdnscache.upstream.connection import Limits, Owner
from rdnscache.upstream.http_messages import LEAST, NO_ID, objection, request_head
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.query import Query
from rdnscache.upstream.quic_channel import QuicChannel
from rdnscache.upstream.quic_identity import Tickets
from rdnscache.upstream.quic_queries import BLOCK, QuicQueries

try:
    from aioquic.h3.connection import H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.events import StreamReset
except ImportError:  # an extra
    pass

log = logging.getLogger(__name__)

ALPN = "h3"
#: H3_REQUEST_CANCELLED: we need no answer; H3_REQUEST_REJECTED: the query was not processed (RFC 9114 section 8.1).
CANCELLED, REJECTED = 0x10C, 0x10B


def over_http3(endpoint: Endpoint, limits: Limits) -> Pool:
    """DNS over HTTP/3 to the server."""
    tickets = Tickets()
    return Pool(endpoint.label, lambda owner: Doh3Connection(owner, endpoint, tickets, limits), limits)


class Doh3Connection(QuicQueries):
    """The number of a query is that of its stream."""

    def __init__(self, owner: Owner, endpoint: Endpoint, tickets: Tickets, limits: Limits) -> None:
        self._head = request_head(endpoint.authority, endpoint.path)
        self._http: Any = None
        #: The bodies of responses so far, by stream.
        self._bodies: dict[int, bytearray] = {}

        def open_channel(on_open: Any, on_event: Any, on_end: Any) -> Any:
            return QuicChannel(endpoint, ALPN, tickets, on_open, on_event, on_end)

        super().__init__(owner, endpoint.label, open_channel, limits, CANCELLED)

    def _channel_open(self) -> None:
        self._http = H3Connection(self.quic.connection)
        super()._channel_open()

    def send(self, query: Query) -> None:
        body = query.message(NO_ID, BLOCK)
        number = self.quic.next_stream()
        self._http.send_headers(number, [*self._head, (b"content-length", b"%d" % len(body))])
        self._http.send_data(number, body, end_stream=True)
        self.quic.flush_soon()
        self._take(query, number)

    def _take_event(self, event: Any) -> None:
        if isinstance(event, StreamReset):
            self._was_reset(event.stream_id, event.error_code)
        try:
            found = self._http.handle_event(event)
        except Exception:  # no input may stop the hub
            log.exception("%s does not speak proper HTTP/3: the connection is closed", self._name)
            self._end(UpstreamFailed(f"{self._name}: it does not speak proper HTTP/3", why=SAID))
            return
        for each in found:
            if isinstance(each, HeadersReceived):
                self._take_head(each.stream_id, each.headers)
            elif isinstance(each, DataReceived):
                self._take_data(each.stream_id, each.data)
            if getattr(each, "stream_ended", False) and not self.closed:
                self._take_end(each.stream_id)
        self.quic.flush_soon()  # aioquic may have a response to send

    def _take_head(self, number: int, headers: Any) -> None:
        if number not in self.outstanding or number in self._bodies:  # trailers
            return
        reason = objection(headers)
        if reason:
            self._refuse(number, reason)
        else:
            self._bodies[number] = bytearray()

    def _take_data(self, number: int, data: bytes) -> None:
        body = self._bodies.get(number)
        if body is None:
            return
        body += data
        if len(body) > TCP_SIZE:
            self._refuse(number, "a response of more than 65,535 octets")

    def _take_end(self, number: int) -> None:
        body = self._bodies.pop(number, None)
        if number not in self.outstanding:
            return
        if body is None or len(body) < LEAST:
            self._fail(number, "a response that is not a DNS message")
        else:
            self._answered(number, bytes(body))

    def _was_reset(self, number: int, code: int) -> None:
        if code == REJECTED:
            self._give_back(number, UpstreamFailed(f"{self._name}: it rejected a query", why=UNREACHABLE))
        else:
            self._fail(number, f"it gave a query up (code {code:#x})")

    def _refuse(self, number: int, reason: str) -> None:
        """Fail a query and tell the server to stop its response."""
        self.quic.stop(number, CANCELLED)
        self._fail(number, reason)

    def _dropped(self, number: int) -> Query | None:
        self._bodies.pop(number, None)
        return super()._dropped(number)

    def _leave(self) -> list[Query]:
        self._bodies.clear()
        self._http = None
        return super()._leave()
