"""What a reply over UDP has to repeat besides the ID, so that a forger has more to guess (RFC 5452 section 4).

That is the letter case of the name (draft-vixie-dnsext-dns0x20) and a cookie (RFC 7873). A reply that is wrong in one
of these only is a near miss: the question is asked over TCP. After several near misses in a row a server is assumed not
to support the measure, and is spared it for a while. A correct reply restarts the count, so forgers cannot cause that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rdnscache.address import Address
from rdnscache.dns.spelling import respelled
from rdnscache.dns.wire import COOKIE_OPTION
from rdnscache.shared import Doubles, doubles

#: Near misses of an attempt: none; many wrong datagrams; another letter case; another cookie, or none.
NONE, GUESSES, CASE, COOKIE = range(4)
#: Questions in a row with near misses after which a server is spared a measure; and for how many seconds.
MOST_MISSED, SPARED = 3, 3600.0
#: Random octets fetched from the system at once; a name has up to 255.
_STOCK = 4096
#: Octets of a client's cookie, and of both together (RFC 7873 section 4).
_CLIENT, _LEAST, _MOST = 8, 16, 40
#: Maximum seconds for which a client cookie is used; lost queries with a first cookie, after which it is given up.
LIFETIME, MOST_LOST = 86400.0, 3
#: The number of shared numbers of a guard: until when the server is spared.
ROOM = 1


@dataclass(frozen=True, slots=True)
class Measures:
    """The measures taken. `letter_case` is `yes`, `no`, or `auto`: for public addresses.

    `outstanding` is the maximum number of outstanding queries to the server.
    """

    letter_case: str = "auto"
    cookies: bool = True
    outstanding: int = 2000


USUAL = Measures()


class Guard:
    """One thing that replies of a server have to repeat.

    `numbers` is memory that the workers of a node share, so that all know what one finds out.
    """

    def __init__(self, wanted: bool, numbers: Doubles | None = None) -> None:
        self._numbers = doubles(ROOM) if numbers is None else numbers
        self._wanted = wanted
        #: Whether the measure is used now. Another worker may have found that the server does not support it.
        self.on = wanted and self._numbers[0] == 0.0
        #: Questions of the last replies, if all of them were near misses.
        self._missed: set[bytes] = set()

    def missed(self, key: bytes, now: float) -> bool:
        """Note a near miss for the question of `key`; returns True if the server is spared from now on."""
        if not self.on:
            return False
        self._missed.add(key)
        if len(self._missed) < MOST_MISSED:
            return False
        self.spare(now)
        return True

    def spare(self, now: float) -> None:
        self._missed.clear()
        self._numbers[0] = now + SPARED
        self.on = False

    def catch_up(self, now: float) -> None:
        """Take over what other workers have found, and end what is over; called now and then."""
        self.on = self._wanted and now >= self._numbers[0]


class LetterCase(Guard):
    """Random letter case in the name of a question (0x20)."""

    def __init__(self, measures: Measures, address: Address, numbers: Doubles | None = None) -> None:
        wanted = measures.letter_case == "yes" or (measures.letter_case == "auto" and address.public)
        super().__init__(wanted, numbers)
        self._chance = b""
        self._taken = 0

    def spelled(self, key: bytes) -> bytes:
        """The question section to be sent; empty if it stays in lower case."""
        if not self.on:
            return b""
        size, at = len(key), self._taken
        if at + size > len(self._chance):
            self._chance, at = os.urandom(_STOCK), 0
        self._taken = at + size
        return respelled(key, self._chance[at : at + size])

    def repeated(self, asked: bytes) -> None:
        """Note that a reply has repeated the question section `asked`."""
        if self._missed and asked != asked.lower():
            self._missed.clear()


class Cookies(Guard):
    """Our random client cookie, and the server's (RFC 7873).

    Now and then a query with a cookie finds out whether the server supports them. Once it has sent one, replies without
    a cookie are not accepted, until the server is spared or begins to rest: then it may have been replaced by another.
    """

    def __init__(self, measures: Measures, address: Address, numbers: Doubles | None = None) -> None:
        super().__init__(measures.cookies, numbers)
        self._address = address
        #: Whether the server has sent one.
        self.known = False
        self._due = False
        self._lost = 0
        self._client = b""
        #: The cookies that are sent, and the option with them.
        self._sent = b""
        self._option = b""
        #: Our source address, and when the client cookie was made.
        self._source = ""
        self._since = 0.0

    def option(self) -> bytes:
        """The EDNS option for the next query; empty if it has none."""
        if self.known:
            return self._option
        if not self._due:
            return b""
        self._due = False
        return self._option

    def fits(self, sent: bytes, got: bytes) -> bool:
        """Whether a reply with the cookies `got` is acceptable for our cookie `sent`; learns the server's cookie."""
        if got[:_CLIENT] != sent:
            return not got and not self.known
        if not _LEAST <= len(got) <= _MOST:  # some servers echo options that they do not know
            return not self.known
        if got != self._sent and sent == self._client:
            self.known, self._lost = True, 0
            self._set(got)
        if self._missed:
            self._missed.clear()
        return True

    def _set(self, cookie: bytes) -> None:
        self._sent = cookie
        self._option = bytes((0, COOKIE_OPTION, 0, len(cookie))) + cookie

    def unheard(self) -> None:
        """Note that a query that tried a cookie got no proper reply."""
        self._lost += 1

    def heard(self, now: float) -> None:
        """Note that a query that tried a cookie was answered."""
        if not self.known:
            self.spare(now)

    def spare(self, now: float) -> None:
        Guard.spare(self, now)  # super() does not work in a method called from C
        self.forget()

    def forget(self) -> None:
        """Find out again whether the server sends cookies."""
        self.known, self._due, self._lost = False, False, 0
        self._set(self._client)

    def catch_up(self, now: float, alive: bool = True) -> None:
        """As `Guard.catch_up`; `alive`: the server has answered something."""
        super().catch_up(now)
        if not self._wanted or not alive:
            return
        if self._lost >= MOST_LOST:
            self.spare(now)
        elif self.known and not self.on:
            self.forget()
        self._due = self.on and not self.known
        if self._due or self.known:
            self._renew(now)

    def _renew(self, now: float) -> None:
        """Make a new client cookie if our address has changed, since it would identify us, or after `LIFETIME`.

        RFC 9018 section 3.
        """
        try:
            source = self._address.source()
        except OSError:
            return
        if source != self._source or now - self._since >= LIFETIME:
            self._source, self._since, self._client = source, now, os.urandom(_CLIENT)
            self._set(self._client)
