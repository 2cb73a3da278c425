"""Groups of clients by the name that they asked for over TLS (SNI, RFC 6066 section 3), as a proxy tells it."""

from __future__ import annotations

from collections.abc import Mapping

from rdnscache.clients.networks import Networks


class TlsNames:
    """By name: the group of who asks for it, or the groups of the networks it may ask from.

    `*.example.com` is every name below `example.com`. The name itself counts before the longest wildcard.
    """

    def __init__(self, known: Mapping[str, int | Networks]) -> None:
        self._alone = {name.encode(): found for name, found in known.items() if not name.startswith("*.")}
        self._below = {name[2:].encode(): found for name, found in known.items() if name.startswith("*.")}

    def group(self, name: bytes, source: bytes, usual: int) -> int:
        """The number of the group of a client at an address of 4 or 16 octets that asks for a name (in lower case).

        `usual` is the one without a name; it stays where the name leads to none, and where it is no group (-1).
        """
        if usual < 0:
            return usual
        found, dot = self._alone.get(name), b"."
        while found is None or (number := _number(found, source)) <= 0:
            if not dot:
                return usual
            _, dot, name = name.partition(b".")
            found = self._below.get(name)
        return number


def _number(found: int | Networks, source: bytes) -> int:
    return found if isinstance(found, int) else found.group(source)
