"""What a reply over UDP has to repeat besides the ID, so that who forges one has more to guess (RFC 5452 section 4).

That is the letter case of the name (draft-vixie-dnsext-dns0x20). A reply that fits but for this is a near miss: the
question is asked over TCP. A server with several of them in a row is one that loses the case, and is spared it for a
while. One reply that has it begins the count anew, so nobody can make us spare a server that keeps it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rdnscache.address import Address
from rdnscache.dns.spelling import respelled
from rdnscache.shared import Doubles, doubles

#: Near misses of an attempt: none; many datagrams that are no reply to it; a reply in another letter case.
NONE, GUESSES, CASE = range(3)
#: Questions in a row whose replies are near misses, after which the server is spared; and for how many seconds.
MOST_MISSED, SPARED = 3, 3600.0
#: Octets taken from the system at a time; a name has up to 255.
_STOCK = 4096
#: Where each number is: until when the server is spared the letter case.
_CASE_UNTIL = 0
#: Numbers that it needs.
ROOM = 1


@dataclass(frozen=True, slots=True)
class Measures:
    """What is done. `letter_case` is `yes`, `no`, or `auto`: towards public addresses."""

    letter_case: str = "auto"


USUAL = Measures()


class Defence:
    """Of one server. `numbers` is memory that the workers of a node share: what one finds out, all know."""

    def __init__(self, measures: Measures, address: Address, numbers: Doubles | None = None) -> None:
        self._numbers = doubles(ROOM) if numbers is None else numbers
        self._wanted = measures.letter_case == "yes" or (measures.letter_case == "auto" and address.public)
        #: Whether the letter case is random now. Somebody may have found out that the server loses it.
        self.spells = self._wanted and self._numbers[_CASE_UNTIL] == 0.0
        self._chance = b""
        self._taken = 0
        #: Questions of the last replies, if all of them were near misses.
        self._missed: set[bytes] = set()

    def spelled(self, key: bytes) -> bytes:
        """The question section as it is to be sent; empty where nothing is to be done."""
        if not self.spells:
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

    def missed(self, key: bytes, now: float) -> bool:
        """A reply to the question of `key` fits but for the letter case. True when the server is spared from now on."""
        self._missed.add(key)
        if len(self._missed) < MOST_MISSED or not self.spells:
            return False
        self._missed.clear()
        self._numbers[_CASE_UNTIL] = now + SPARED
        self.spells = False
        return True

    def catch_up(self, now: float) -> None:
        """See what other workers have found out, and what is over; to be called now and then."""
        self.spells = self._wanted and now >= self._numbers[_CASE_UNTIL]
