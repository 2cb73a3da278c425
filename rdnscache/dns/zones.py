"""What is set for zones, found by the name of a question: the zone with the longest name that it ends in counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from rdnscache.dns.question import qname, qtype, route_of
from rdnscache.dns.wire import DS

T = TypeVar("T")


class Zones(Generic[T]):
    """`usual` holds for whatever is in none. `inside` has the rest by the zones' names, on the wire and in lower case.

    The DS of a zone belongs to the one above it (RFC 4035 section 3.1.4.1), unless the zone is one of the `closed`, of
    which nothing is to be asked outside. `routes` has what holds for questions with a route of a view's own.
    """

    def __init__(
        self,
        usual: T,
        inside: Mapping[bytes, T],
        closed: Collection[bytes] = (),
        routes: Mapping[bytes, T] = MappingProxyType({}),
    ) -> None:
        self.usual = usual
        self._inside = dict(inside)
        #: How names end that may be in one: most are not, and need not be taken apart.
        self.ends = tuple({suffixes(name)[-1] for name in inside if len(name) > 1})
        self._closed = frozenset(closed)
        self._routes = routes
        #: Names that have a zone, or a part of its name, below them: they exist (RFC 8020 section 2).
        self._parents = {rest for name in inside for rest in suffixes(name)} if closed else set()

    @property
    def only(self) -> T | None:
        """What holds for each question, where that is the same for all."""
        return None if self._inside or self._routes else self.usual

    def of(self, key: bytes) -> T:
        """What holds for a question."""
        if self._routes and (digest := route_of(key)):
            return self._routes.get(digest, self.usual)
        if not self._inside:
            return self.usual
        return self.find(qname(key), qtype(key) == DS)

    def inside(self, zone: bytes) -> T:
        """What holds in a zone that it has."""
        return self._inside[zone]

    def exists(self, name: bytes) -> bool:
        """Whether a name is known to exist, since it is that of a zone or has one below it."""
        return name in self._parents

    def find(self, name: bytes, from_above: bool = False) -> T:
        """What holds at a name; `from_above` for what the zone above says of it."""
        if not name.endswith(self.ends):
            return self.usual
        for rest in suffixes(name):
            found = self._inside.get(rest)
            if found is not None and (not from_above or rest != name or rest in self._closed):
                return found
        return self.usual


def is_below(name: bytes, zone: bytes) -> bool:
    """Whether a name on the wire is the zone's, or below it: equal from some label on."""
    start = 0
    while len(name) - start > len(zone):
        start += name[start] + 1
    return name[start:] == zone


def suffixes(name: bytes) -> list[bytes]:
    """A name and all above it, without the root."""
    found, start = [], 0
    while name[start]:
        found.append(name[start:])
        start += name[start] + 1
    return found
