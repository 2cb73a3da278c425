"""One query to one server, over any transport."""

from __future__ import annotations

from typing import Any, Protocol

from rdnscache.dns.wire import build_query
from rdnscache.errors import UpstreamFailed


class Query:
    """A query as transports see it. It ends once: `arrived` or `failed` is called, or it is cancelled before.

    Both are called in the hub or inside `send`; they must neither wait nor raise.
    """

    __slots__ = ("carrier", "due", "edns", "key", "losses", "number", "sent_at")

    def __init__(self, key: bytes, edns: bool, due: float) -> None:
        self.key = key
        self.edns = edns
        #: When it is given up (monotonic, seconds).
        self.due = due
        #: For the transport: what carries it, its number there, when it was sent, and how often it was lost.
        self.carrier: Any = None
        self.number = 0
        self.sent_at = 0.0
        self.losses = 0

    def message(self, ident: bytes, block: int = 0, options: bytes = b"") -> bytes:
        """The wire form with the transport's ID and EDNS options (RFC 7828), padded to a multiple of `block` octets."""
        return build_query(ident, self.key, self.edns, options, block)

    def datagram(self, ident: bytes) -> bytes:
        """The wire form for UDP."""
        return self.message(ident)

    def repetition(self, data: bytes) -> bytes:
        """The wire form of a retransmission of `data`."""
        return data

    def arrived(self, data: bytes) -> None:
        """Take a message with its ID that has arrived over a connection; it may not be a reply to the query."""

    def take(self, data: bytes) -> bool:
        """Take a datagram with its ID. Returns False if it is not the outcome, so that others are waited for.

        Else the transport calls `wake` after it has released its port.
        """
        return False

    def odd(self) -> bool:
        """Whether the datagram taken may not be from the server."""
        return False

    def wake(self) -> None:
        """Handle the datagram taken."""

    def may_repeat(self) -> bool:
        """Whether the transport may send it again by itself; with a budget that uses a slot."""
        return True

    def guessed(self) -> None:
        """Many wrong datagrams have arrived: somebody is guessing."""

    def failed(self, failure: UpstreamFailed) -> None:
        """The query has failed."""


class Transport(Protocol):
    """A way to one server that carries many queries at a time."""

    def send(self, query: Query) -> None:
        """Send a query as soon as there is a connection. Never waits, never raises."""

    def send_again(self, query: Query) -> None:
        """Send an overdue query again: it may be lost, or its connection dead."""

    def cancel(self, query: Query) -> None:
        """Cancel a query: late replies to it are dropped."""

    def close(self) -> None:
        """Close all connections; outstanding queries fail."""


class Connections(Transport, Protocol):
    """A transport with connections."""

    #: The number of connections opened so far.
    openings: int

    @property
    def open(self) -> int:
        """The number of open connections."""
