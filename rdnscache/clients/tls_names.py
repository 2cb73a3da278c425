"""Groups of clients by the name they sent in TLS (SNI, RFC 6066 section 3), according to a proxy."""

from __future__ import annotations

from collections.abc import Mapping

from rdnscache.clients.networks import Networks


class TlsNames:
    """For each name, the group of clients that send it, or the groups by their networks.

    `*.example.com` is every name below `example.com`. An exact name takes precedence over the longest wildcard.
    """

    def __init__(self, known: Mapping[str, int | Networks]) -> None:
        self._alone = {name.encode(): found for name, found in known.items() if not name.startswith("*.")}
        self._below = {name[2:].encode(): found for name, found in known.items() if name.startswith("*.")}

    def group(self, name: bytes, source: bytes, usual: int) -> int:
        """The number of the group of a client at an address of 4 or 16 octets that asks for a name (in lower case).

        `usual` is its group without regard to the name; it is kept when no group matches the name, or when it is -1.
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
