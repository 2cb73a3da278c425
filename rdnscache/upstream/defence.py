"""What a reply over UDP has to repeat besides the ID, so that who forges one has more to guess (RFC 5452 section 4).

That is the letter case of the name (draft-vixie-dnsext-dns0x20) and a cookie (RFC 7873). A reply that fits but for one
of them is a near miss: the question is asked over TCP. A server with several of them in a row cannot do better, and is
spared it for a while. One reply that fits restarts the count, so nobody can make us spare a server that can.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rdnscache.address import Address
from rdnscache.dns.spelling import respelled
from rdnscache.dns.wire import COOKIE_OPTION
from rdnscache.shared import Doubles, doubles

#: Near misses of an attempt: none; many datagrams that are no reply; another letter case; another cookie, or none.
NONE, GUESSES, CASE, COOKIE = range(4)
#: Questions in a row whose replies are near misses, after which the server is spared; and for how many seconds.
MOST_MISSED, SPARED = 3, 3600.0
#: Octets taken from the system at a time; a name has up to 255.
_STOCK = 4096
#: Octets of a client's cookie, and of both together (RFC 7873 section 4).
_CLIENT, _LEAST, _MOST = 8, 16, 40
#: Seconds for which a client's cookie is used at most, and queries with the first one that may be lost.
LIFETIME, MOST_LOST = 86400.0, 3
#: Numbers that a guard needs: until when the server is spared.
ROOM = 1


@dataclass(frozen=True, slots=True)
class Measures:
    """What is done. `letter_case` is `yes`, `no`, or `auto`: towards public addresses.

    `outstanding` is how many queries wait for the server at a time.
    """

    letter_case: str = "auto"
    cookies: bool = True
    outstanding: int = 2000


USUAL = Measures()


class Guard:
    """One thing that replies of a server have to repeat.

    `numbers` is memory that the workers of a node share: what one finds out, all know.
    """

    def __init__(self, wanted: bool, numbers: Doubles | None = None) -> None:
        self._numbers = doubles(ROOM) if numbers is None else numbers
        self._wanted = wanted
        #: Whether it is done now. Another worker may have found out that the server cannot.
        self.on = wanted and self._numbers[0] == 0.0
        #: Questions of the last replies, if all of them were near misses.
        self._missed: set[bytes] = set()

    def missed(self, key: bytes, now: float) -> bool:
        """A reply to the question of `key` was a near miss. True when the server is spared from now on."""
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
        """See what other workers have found out, and what is over; to be called now and then."""
        self.on = self._wanted and now >= self._numbers[0]


class LetterCase(Guard):
    """Each letter of a name is sent in either case."""

    def __init__(self, measures: Measures, address: Address, numbers: Doubles | None = None) -> None:
        wanted = measures.letter_case == "yes" or (measures.letter_case == "auto" and address.public)
        super().__init__(wanted, numbers)
        self._chance = b""
        self._taken = 0

    def spelled(self, key: bytes) -> bytes:
        """The question section as it is to be sent; empty where it stays in lower case."""
        if not self.on:
            return b""
        size, at = len(key), self._taken
        if at + size > len(self._chance):
            self._chance, at = os.urandom(_STOCK), 0
        self._taken = at + size
        return respelled(key, self._chance[at : at + size])

    def repeated(self, asked: bytes) -> None:
        """A reply repeats `asked`."""
        if self._missed and asked != asked.lower():
            self._missed.clear()


class Cookies(Guard):
    """A cookie of ours, at random, and that of the server (RFC 7873).

    One query now and then tries whether the server sends one. Once it has, its replies without are not believed, until
    it is spared, or begins to rest: then it may have been replaced by one that does not know cookies.
    """

    def __init__(self, measures: Measures, address: Address, numbers: Doubles | None = None) -> None:
        super().__init__(measures.cookies, numbers)
        self._address = address
        #: Whether the server has sent one.
        self.known = False
        self._due = False
        self._lost = 0
        self._client = b""
        #: What is sent, and as an option.
        self._sent = b""
        self._option = b""
        #: The address that we send from, and since when there is this cookie.
        self._source = ""
        self._since = 0.0

    def option(self) -> bytes:
        """The EDNS option of the next query; empty where it has none."""
        if self.known:
            return self._option
        if not self._due:
            return b""
        self._due = False
        return self._option

    def fits(self, sent: bytes, got: bytes) -> bool:
        """Whether a reply with the cookies `got` may be to a query with our cookie `sent`; the server's is learnt."""
        if got[:_CLIENT] != sent:
            return not got and not self.known
        if not _LEAST <= len(got) <= _MOST:  # some send back what they do not understand
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
        """Nothing came of the query that tried, for whatever reason."""
        self._lost += 1

    def heard(self, now: float) -> None:
        """Something came of it."""
        if not self.known:
            self.spare(now)

    def spare(self, now: float) -> None:
        Guard.spare(self, now)  # super() finds no frame where C calls it
        self.forget()

    def forget(self) -> None:
        """Find out again whether the server sends cookies."""
        self.known, self._due, self._lost = False, False, 0
        self._set(self._client)

    def catch_up(self, now: float, alive: bool = True) -> None:
        """The same; `alive`: the server has answered something."""
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
        """Nobody is to know us by our cookie where our address is another one (RFC 9018 section 3)."""
        try:
            source = self._address.source()
        except OSError:
            return
        if source != self._source or now - self._since >= LIFETIME:
            self._source, self._since, self._client = source, now, os.urandom(_CLIENT)
            self._set(self._client)
