"""Queries over the streams of a QUIC connection: what DNS over QUIC and HTTP/3 have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

from rdnscache.upstream.connection import Connection, Limits, OpenChannel, Owner
from rdnscache.upstream.query import Query
from rdnscache.upstream.quic_channel import QuicChannel

#: Queries are padded to a multiple of it (RFC 8467 section 4.1).
BLOCK = 128


class QuicQueries(Connection):
    """`cancelled_code` is the error code that tells the server that a query is cancelled."""

    def __init__(self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits, cancelled_code: int) -> None:
        self._cancelled_code = cancelled_code
        super().__init__(owner, name, open_channel, limits)

    @property
    def quic(self) -> QuicChannel:
        """The QUIC connection."""
        return cast(QuicChannel, self._channel)

    def room(self) -> int:
        return min(super().room(), self.quic.streams_left) if self.open else 0

    def cancel(self, query: Query) -> None:
        """Cancel a query and tell the server, so that its stream makes room for another."""
        super().cancel(query)
        if not self.closed:
            self.quic.stop(query.number, self._cancelled_code)

    def _received(self, event: Any) -> None:
        self._is_alive()
        self._take_event(event)
        if not self.closed:
            self._handed_out()

    @abstractmethod
    def _take_event(self, event: Any) -> None:
        """Handle an event of a stream."""

    def _hand_out(self) -> None:
        """Nothing to do: events are handled on arrival, and a channel reads little at once."""
