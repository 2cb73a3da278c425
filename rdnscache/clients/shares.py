"""Shares of a worker's capacity for flights, counted by client, by zone, and by client in a zone.

A client is a prefix (`networks.client_prefix`). A zone is the registered part of a name, by rule of thumb: clients that
ask for random names below one unresponsive zone have that zone in common, whatever their addresses.

A share above an eighth of the capacity is greedy, so there are at most eight greedy clients and eight greedy zones, and
finding the greediest costs the same however many others there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from rdnscache.dns.names import name_text

#: The part of the capacity above which a client or zone is greedy.
GREEDY = 8
#: Holders that have left are removed from a queue when there are more of them than this, and than of those still there.
_SLACK = 64
#: A client in a zone is the narrower match: it spares other zones of that client, and other clients of that zone.
_WEIGHT_OF_PAIR = 2

#: Labels of a zone below the reverse trees: a /16, a /32.
_REVERSE = {b"\7in-addr\4arpa": 4, b"\3ip6\4arpa": 10}
#: Second-level labels of country codes under which people register.
_SECOND_LEVEL = frozenset((b"ac", b"co", b"com", b"edu", b"go", b"gob", b"gov", b"mil", b"ne", b"net", b"or", b"org"))


def prefix_text(prefix: bytes) -> str:
    """A client prefix as text."""
    if len(prefix) == 7:
        return f"{IPv6Address(prefix + bytes(9))}/56"
    text = f"{IPv4Address((prefix + bytes(4))[:4])}"
    return f"{text}/24" if len(prefix) == 3 else text if prefix else "this node itself"


def zone_of(key: bytes) -> bytes:
    """The zone of a question: two labels on the wire, three under the likes of `co.uk.`, more in the reverse trees."""
    end = labels = 0
    while key[end]:
        end += key[end] + 1
        labels += 1
    start = _skip(key, labels - 2)
    kept = _REVERSE.get(key[start:end], 2)
    if kept == 2 and labels > 2 and key[start + key[start] + 1] == 2:
        kept += key[start + 1 : start + 1 + key[start]] in _SECOND_LEVEL
    return key[_skip(key, labels - kept) : end]


def _skip(key: bytes, labels: int) -> int:
    """Offset behind the first `labels` labels; 0 for fewer than none."""
    at = 0
    for _ in range(labels):
        at += key[at] + 1
    return at


class Holder:
    """Something that uses capacity. `shares` is empty while it is not counted."""

    __slots__ = ("firm", "shares")

    def __init__(self) -> None:
        #: Whether it may stay when others are removed because they have been there too long.
        self.firm = False
        self.shares: tuple[Share, ...] = ()


class Share:
    """The holders of one client, zone, or client in a zone: how many, and which, the oldest first."""

    __slots__ = ("_client", "_loose", "_members", "_table", "_zone", "count", "weight")

    def __init__(self, table: dict[Any, Share], client: bytes | None, zone: bytes | None) -> None:
        self._table = table
        #: None: whichever.
        self._client = client
        self._zone = zone
        self.weight = 1 if client is None or zone is None else _WEIGHT_OF_PAIR
        self.count = 0
        #: Includes some that have left: they are removed when they reach the front, or when there are too many.
        self._members: deque[Holder] = deque()
        #: The ones among them that are not firm.
        self._loose: deque[Holder] = deque()

    def __str__(self) -> str:
        parts = []
        if self._client is not None:
            parts.append(prefix_text(self._client))
        if self._zone is not None:
            parts.append(name_text(self._zone + b"\0"))
        return " in ".join(parts)

    def means(self, client: bytes, zone: bytes) -> bool:
        """Whether a client and zone would belong to this share."""
        return (self._client is None or self._client == client) and (self._zone is None or self._zone == zone)

    def belongs_to(self, client: bytes) -> bool:
        """Whether all holders belong to one client."""
        return self._client == client

    def add(self) -> None:
        """Count one more, whether or not it has a place yet."""
        self.count += 1

    def enter(self, holder: Holder) -> None:
        """A holder that was added has its place now."""
        self._members.append(holder)
        if not holder.firm:
            self._loose.append(holder)

    def remove(self) -> None:
        """A holder has left: it no longer counts here."""
        self.count -= 1
        members = self._members
        if self.count == 0:
            members.clear()
            self._loose.clear()
            self._table.pop(self._key(), None)
        elif len(members) > 2 * self.count + _SLACK:
            self._members = deque([member for member in members if member.shares])
            self._loose = deque([member for member in self._loose if member.shares])

    def _key(self) -> Any:
        if self._client is None:
            return self._zone
        return self._client if self._zone is None else (self._client, self._zone)

    def oldest(self, firm: bool) -> Holder | None:
        """The holder that has been there longest; including firm ones, or not."""
        members = self._members if firm else self._loose
        while members:
            if members[0].shares:
                return members[0]
            members.popleft()
        return None


class Shares:
    """All shares of a capacity for `limit` holders."""

    def __init__(self, room: int) -> None:
        self._limit = room // GREEDY
        self._clients: dict[bytes, Share] = {}
        self._zones: dict[bytes, Share] = {}
        self._pairs: dict[tuple[bytes, bytes], Share] = {}
        self._all = Share({}, None, None)
        self._greedy: list[Share] = []

    def __len__(self) -> int:
        return self._all.count

    def add(self, holder: Holder, client: bytes, zone: bytes) -> None:
        """Count it; `client` as from `client_prefix`, `zone` as from `zone_of`."""
        holder.shares = (
            _share(self._clients, client, client, None),
            _share(self._zones, zone, None, zone),
            _share(self._pairs, (client, zone), client, zone),
        )
        self._all.add()
        for share in holder.shares:
            share.add()
            if share.count == self._limit + 1:
                self._greedy.append(share)

    def enter(self, holder: Holder) -> None:
        """A counted holder has got its place, as the newest one: `oldest` may return it from now on."""
        self._all.enter(holder)
        for share in holder.shares:
            share.enter(holder)

    def remove(self, holder: Holder) -> None:
        """The holder has left; does nothing when it is not counted."""
        shares = holder.shares
        if not shares:
            return
        holder.shares = ()
        self._all.remove()
        for share in shares:
            if share.count == self._limit + 1:
                self._greedy.remove(share)
            share.remove()

    def oldest(self, firm: bool) -> Holder | None:
        """The holder that has been there longest; including firm ones, or not."""
        return self._all.oldest(firm)

    def oldest_of(self, client: bytes, firm: bool) -> Holder | None:
        """The same among those of one client."""
        share = self._clients.get(client)
        return share.oldest(firm) if share is not None else None

    def greediest(self) -> Share | None:
        """The greediest share; None when none is greedy."""
        found = None
        for share in self._greedy:
            if found is None or share.count * share.weight > found.count * found.weight:
                found = share
        return found


class Line:
    """Holders waiting for a place: one of each client in turn, and new clients before those that have had a turn."""

    def __init__(self) -> None:
        self._of: dict[bytes, deque[Holder]] = {}
        self._new: deque[bytes] = deque()
        self._old: deque[bytes] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        for line in self._of.values():
            yield from line

    def push(self, holder: Holder, client: bytes) -> None:
        self._count += 1
        line = self._of.get(client)
        if line is None:
            line = self._of[client] = deque()
            self._new.append(client)
        line.append(holder)

    def first(self) -> Any:
        """The next holder; there must be one."""
        return self._of[(self._new or self._old)[0]][0]

    def pop(self) -> Any:
        self._count -= 1
        client = (self._new or self._old).popleft()
        line = self._of[client]
        holder = line.popleft()
        if line:
            self._old.append(client)
        else:
            del self._of[client]
        return holder


def _share(table: dict[Any, Share], key: Any, client: bytes | None, zone: bytes | None) -> Share:
    """The share under a key of a table, created if needed."""
    share = table.get(key)
    if share is None:
        share = table[key] = Share(table, client, zone)
    return share
