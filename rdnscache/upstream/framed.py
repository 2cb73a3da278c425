"""DNS over TCP (RFC 7766), and over TLS (RFC 7858): messages behind their length, matched by their ID."""

from __future__ import annotations

import os
import time

from rdnscache.dns.edns import KEEPALIVE, keepalive
from rdnscache.dns.wire import HEADER_SIZE
from rdnscache.errors import SAID, UpstreamFailed
from rdnscache.upstream.connection import TURN, Connection, Limits, OpenChannel, Owner
from rdnscache.upstream.framing import Frames, framed
from rdnscache.upstream.query import Query

#: Messages that answer nothing, after which a connection is given up.
MAX_STRAYS = 20
#: No ID.
_HEARD = 1 << 16
#: IDs taken from the system at a time.
_STOCK = 256


class FramedConnection(Connection):
    """`block` is what sizes are padded to, 0 where nothing is hidden."""

    def __init__(self, owner: Owner, name: str, open_channel: OpenChannel, limits: Limits, block: int = 0) -> None:
        self._block = block
        self._frames = Frames()
        self._strays = 0
        #: The ID of the query that said we keep the connection; -1 before, _HEARD when its answer has come.
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
        """An ID that none of those on their way has."""
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
            self._end(UpstreamFailed(f"{self._name}: what comes over a connection is not DNS", why=SAID))
            return
        number = message[0] << 8 | message[1]
        if number == self._told:
            self._told = _HEARD
            self._heed(message)
        if self._answered(number, message):
            return
        self._strays += 1
        if self._strays > MAX_STRAYS:
            self._end(UpstreamFailed(f"{self._name}: replies over a connection that nobody asked for", why=SAID))

    def _heed(self, message: bytes) -> None:
        """How long the server keeps an idle connection; 0: it is to be closed at once (RFC 7828 section 3.4)."""
        seconds = keepalive(message)
        if seconds == 0:
            self.retiring = True
        elif seconds is not None:
            # closed a little before the server would, so that no query meets it (RFC 7828 section 3.3.2)
            self.idle = seconds * 0.9
