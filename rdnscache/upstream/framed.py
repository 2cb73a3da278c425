"""DNS over TCP (RFC 7766) and over TLS (RFC 7858): messages after their length, matched by their IDs."""

from __future__ import annotations

import os
import time

from rdnscache.dns.edns import KEEPALIVE, keepalive
from rdnscache.dns.wire import HEADER_SIZE
from rdnscache.errors import SAID, UpstreamFailed
from rdnscache.upstream.connection import TURN, Connection, Limits, OpenChannel, Owner
from rdnscache.upstream.framing import Frames, framed
from rdnscache.upstream.query import Query

#: Unexpected messages after which a connection is closed.
MAX_STRAYS = 20
#: Not an ID.
_HEARD = 1 << 16
#: Random IDs fetched from the system at once.
_STOCK = 256


class FramedConnection(Connection):
    """`block`: queries are padded to a multiple of it; 0 for no padding."""

    def __init__(self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits, block: int = 0) -> None:
        self._block = block
        self._frames = Frames()
        self._strays = 0
        #: The ID of the query with the keepalive option; -1 before it is sent, _HEARD once it is answered.
        self._told = -1
        self._idents = b""
        self._taken = 0
        super().__init__(owner, name, open_channel, limits)

    def send(self, query: Query) -> None:
        number = self._number()
        options = b""
        if self._told < 0:
            self._told, options = number, KEEPALIVE
        message = query.message(number.to_bytes(2, "big"), self._block, options)
        self._take(query, number)
        self._put(framed(message))

    def _number(self) -> int:
        """A random ID that no outstanding query has."""
        while True:
            at = self._taken
            if at == len(self._idents):
                self._idents = os.urandom(2 * _STOCK)
                at = 0
            self._taken = at + 2
            number = self._idents[at] << 8 | self._idents[at + 1]
            if number not in self.outstanding:
                return number

    def _received(self, data: bytes) -> None:
        self._is_alive()
        self._frames.feed(data)
        if not self._paused:
            self._hand_out()

    def _hand_out(self) -> None:
        begun = time.monotonic()
        while not self.closed:
            message = self._frames.next()
            if message is None:
                break
            self._take_message(message)
            if time.monotonic() - begun >= TURN:
                self._pause()
                break
        if not self.closed:
            self._handed_out()

    def _take_message(self, message: bytes) -> None:
        if len(message) < HEADER_SIZE:
            self._end(UpstreamFailed(f"{self._name}: it does not speak DNS over a connection", why=SAID))
            return
        number = message[0] << 8 | message[1]
        if number == self._told:
            self._told = _HEARD
            self._heed(message)
        if self._answered(number, message):
            return
        self._strays += 1
        if self._strays > MAX_STRAYS:
            self._end(UpstreamFailed(f"{self._name}: unexpected replies over a connection", why=SAID))

    def _heed(self, message: bytes) -> None:
        """Apply the server's idle time-out; 0 means to close the connection at once (RFC 7828 section 3.4)."""
        seconds = keepalive(message)
        if seconds == 0:
            self.retiring = True
        elif seconds is not None:
            # closed a little before the server would, so that no query meets it (RFC 7828 section 3.3.2)
            self.idle = seconds * 0.9
