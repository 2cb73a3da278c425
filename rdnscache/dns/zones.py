"""Values set for zones, found by the name of a question: the zone with the longest matching suffix wins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from rdnscache.dns.question import qname, qtype, route_of
from rdnscache.dns.wire import DS

T = TypeVar("T")


class Zones(Generic[T]):
    """`usual` is the value outside all zones, `inside` has those of zones by name (lower-case wire form).

    The DS of a zone belongs to its parent (RFC 4035 section 3.1.4.1), unless the zone is in `closed`, about which
    nothing is asked outside. `routes` has the values for questions with a view's own route, by its digest.
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
        #: The last labels of all zones: a quick test that spares most names the search.
        self.ends = tuple({suffixes(name)[-1] for name in inside if len(name) > 1})
        self._closed = frozenset(closed)
        self._routes = routes
        #: The names of all zones and their ancestors: they exist (RFC 8020 section 2).
        self._parents = {rest for name in inside for rest in suffixes(name)} if closed else set()

    @property
    def only(self) -> T | None:
        """The value for all questions, if there is only one."""
        return None if self._inside or self._routes else self.usual

    def of(self, key: bytes) -> T:
        """The value for the question of a key."""
        if self._routes and (digest := route_of(key)):
            return self._routes.get(digest, self.usual)
        if not self._inside:
            return self.usual
        return self.find(qname(key), qtype(key) == DS)

    def inside(self, zone: bytes) -> T:
        """The value of a zone in `inside`; KeyError if it is none of them."""
        return self._inside[zone]

    def exists(self, name: bytes) -> bool:
        """Whether a name is known to exist because it is a zone's name or an ancestor of one."""
        return name in self._parents

    def find(self, name: bytes, from_above: bool = False) -> T:
        """The value for a name; with `from_above` that of its parent zone, if the name is a zone's own."""
        if not name.endswith(self.ends):
            return self.usual
        for rest in suffixes(name):
            found = self._inside.get(rest)
            if found is not None and (not from_above or rest != name or rest in self._closed):
                return found
        return self.usual


def is_below(name: bytes, zone: bytes) -> bool:
    """Whether a name (wire form) is the zone's own or below it."""
    start = 0
    while len(name) - start > len(zone):
        start += name[start] + 1
    return name[start:] == zone


def suffixes(name: bytes) -> list[bytes]:
    """A name and all its ancestors except the root."""
    found, start = [], 0
    while name[start]:
        found.append(name[start:])
        start += name[start] + 1
    return found
