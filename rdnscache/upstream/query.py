"""One query on its way to one server, by whatever transport."""

from __future__ import annotations

from typing import Any, Protocol

from rdnscache.dns.wire import build_query
from rdnscache.errors import UpstreamFailed


class Query:
    """What a transport carries. It ends once: `arrived` or `failed` is called, or it is cancelled before.

    Both are called in the hub, or inside `send`: they must neither wait nor raise.
    """

    __slots__ = ("carrier", "due", "edns", "key", "losses", "number", "sent_at")

    def __init__(self, key: bytes, edns: bool, due: float) -> None:
        self.key = key
        self.edns = edns
        #: When nobody waits for it any more (monotonic, seconds).
        self.due = due
        #: The transport's own: what carries it, as which number and since when; how often it has been sent in vain.
        self.carrier: Any = None
        self.number = 0
        self.sent_at = 0.0
        self.losses = 0

    def message(self, ident: bytes, block: int = 0, options: bytes = b"") -> bytes:
        """As it goes over the wire, with the ID that the transport chooses; padded to multiples of `block` octets.

        `options` of EDNS are the transport's (RFC 7828).
        """
        return build_query(ident, self.key, self.edns, options, block)

    def datagram(self, ident: bytes) -> bytes:
        """The same as a datagram."""
        return self.message(ident)

    def repetition(self, data: bytes) -> bytes:
        """What is sent where nothing has come of `data`."""
        return data

    def arrived(self, data: bytes) -> None:
        """A message with its ID has come over a connection; whether it is a reply to it is for the query to see."""

    def take(self, data: bytes) -> bool:
        """A datagram with its ID has come. False when it is no reply to it: then another may come.

        If it is, whoever waits for it is told with `wake`, after the transport has cleared up.
        """
        return False

    def odd(self) -> bool:
        """Whether what has been taken may be somebody else's than the server's."""
        return False

    def wake(self) -> None:
        """What has been taken may be dealt with."""

    def may_repeat(self) -> bool:
        """Whether it may be sent again without being asked for."""
        return True

    def guessed(self) -> None:
        """Many datagrams that do not answer it have arrived: somebody is guessing."""

    def failed(self, failure: UpstreamFailed) -> None:
        """Nothing will come."""


class Transport(Protocol):
    """A way to one server that carries many queries at a time."""

    def send(self, query: Query) -> None:
        """Send it, as soon as there is a connection. Never waits, never raises."""

    def send_again(self, query: Query) -> None:
        """It is overdue: what was sent may be lost, or its connection dead."""

    def cancel(self, query: Query) -> None:
        """Nobody waits for it any more: late replies to it are dropped."""

    def close(self) -> None:
        """End all connections; what is on its way fails."""


class Connections(Transport, Protocol):
    """One that keeps connections."""

    #: Connections begun since the beginning.
    openings: int

    @property
    def open(self) -> int:
        """Those that are open."""
