"""Queries over the streams of a QUIC connection: what DNS over QUIC and HTTP/3 have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

from rdnscache.upstream.connection import Connection, Limits, OpenChannel, Owner
from rdnscache.upstream.query import Query
from rdnscache.upstream.quic_channel import QuicChannel

#: Sizes of queries are multiples of it (RFC 8467 section 4.1).
BLOCK = 128


class QuicQueries(Connection):
    """`cancelled_code` is the one by which the server is told that a query is wanted no more."""

    def __init__(self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits, cancelled_code: int) -> None:
        self._cancelled_code = cancelled_code
        super().__init__(owner, name, open_channel, limits)

    @property
    def quic(self) -> QuicChannel:
        """What carries it."""
        return cast(QuicChannel, self._channel)

    def room(self) -> int:
        return min(super().room(), self.quic.streams_left) if self.open else 0

    def cancel(self, query: Query) -> None:
        """The server is told as well: a stream that it gives up leaves room for another."""
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
        """Of a stream."""

    def _hand_out(self) -> None:
        """Everything is handed out on arrival: a channel never reads more than others can bear."""
