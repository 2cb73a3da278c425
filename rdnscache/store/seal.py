"""The MAC of an entry: write access to Redis alone must not suffice to decide what nodes answer.

Its form, and what it covers, is in `contract`. No clock and no connection in here: the time is an argument.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from hmac import compare_digest

#: Personalisation strings, which separate the two uses of BLAKE2b from each other and from other programs.
_KEY_USE, _ENTRY_USE = b"rdnscache key", b"rdnscache entry"
#: Octets of a MAC; twice as many digits in hexadecimal.
_SIZE = 16
#: Seconds by which the clocks of two nodes may differ, and by which an entry put back may look younger than it is.
TOLERANCE = 300
_LONGEST_ID = 16
#: The word in `info` before the time of storing, and the length of that time.
_STORED, _MOMENT = b" stored=", len("2026-11-23T07:00:00Z")

#: The problem of an entry without MAC.
UNSIGNED = "it has no MAC"


class Seal:
    """Signs with the first of the secrets, each `ID:TEXT`, and checks with all of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._begun = {}
        for secret in secrets:
            ident, _, text = secret.partition(":")
            salt = ident.encode()
            key = hashlib.blake2b(text.encode(), digest_size=32, person=_KEY_USE).digest()
            self._begun[salt] = hashlib.blake2b(key=key, salt=salt, person=_ENTRY_USE, digest_size=_SIZE)
        self._signer = next(iter(self._begun))

    def sign(self, name: bytes, info: bytes, wire: bytes) -> bytes:
        """The `mac` of an entry stored under a Redis key."""
        return self._signer + b":" + self._digest(self._signer, name, info, wire)

    def _digest(self, ident: bytes, name: bytes, info: bytes, wire: bytes) -> bytes:
        digest = self._begun[ident].copy()
        digest.update(b"\n".join((name, info, wire)))
        return digest.hexdigest().encode()

    def problem(self, name: bytes, info: object, wire: object, mac: object, age: float, wall: float) -> str:
        """Why an entry cannot be trusted; empty if it can. `age` follows from its expiry, in seconds; `wall` is the
        time in seconds since 1970.

        The time of storing is signed as well: else an old entry could be put back with a new expiry.
        """
        wrong = self.unsigned(name, info, wire, mac)
        return wrong or put_back(earlier(info, age, wall))

    def unsigned(self, name: bytes, info: object, wire: object, mac: object) -> str:
        """Why an entry was not made with any of our secrets; empty if it was."""
        if mac is None:
            return UNSIGNED
        if not isinstance(info, bytes) or not isinstance(wire, bytes) or not isinstance(mac, bytes) or b"\n" in info:
            return "its MAC is wrong"
        ident, _, digest = mac.partition(b":")
        if ident not in self._begun:
            return f"its MAC is of a secret we do not have, {ident[:_LONGEST_ID].decode('ascii', 'backslashreplace')!r}"
        if not compare_digest(digest, self._digest(ident, name, info, wire)):
            return "its MAC is wrong"
        return ""


def earlier(info: object, age: float, wall: float) -> float | None:
    """By how many seconds `stored` is earlier than the age of an entry says; None if `info` has no such time."""
    if isinstance(info, bytes):
        at = info.find(_STORED) + len(_STORED)
        try:
            return wall - datetime.fromisoformat(info[at : at + _MOMENT].decode()).timestamp() - age
        except ValueError:
            pass
    return None


def put_back(seconds: float | None) -> str:
    """Why an entry cannot be trusted whose `stored` is `seconds` earlier than its age says; empty if it can."""
    if seconds is None:
        return "it does not say when it was made"
    if abs(seconds) <= TOLERANCE:
        return ""
    how = "longer ago" if seconds > 0 else "later"
    return f"it was made {abs(seconds):.0f} s {how} than its expiry says: somebody put it back, or clocks differ"
