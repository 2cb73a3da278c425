"""Who takes up a worker's room for flights: counted by client, by zone, and by client in a zone.

A client is a prefix (`networks.client_prefix`). A zone is the part of a name that somebody registers, by rule of
thumb: clients that ask for random names below one silent zone have that zone in common, whoever sent them.
Who has more than an eighth of the room is greedy, so there are eight greedy clients at most, and eight greedy zones:
finding the worst of them costs the same however many others there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from rdnscache.dns.names import name_text

#: What part of the room one client or zone may have before it is greedy.
GREEDY = 8
#: What has left is taken out of the middle of a queue when there is more of it than of what stays, and this.
_SLACK = 64
#: A client in a zone is the narrower suspicion: other zones of that client, and other clients there, are spared.
_WEIGHT_OF_PAIR = 2

#: Labels that a zone has below the reverse trees: a /16, a /32.
_REVERSE = {b"\7in-addr\4arpa": 4, b"\3ip6\4arpa": 10}
#: Second-level labels of country codes under which people register.
_SECOND_LEVEL = frozenset((b"ac", b"co", b"com", b"edu", b"go", b"gob", b"gov", b"mil", b"ne", b"net", b"or", b"org"))


def prefix_text(prefix: bytes) -> str:
    """A client prefix for people."""
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
    """What takes up room. `shares` is empty while it is not counted."""

    __slots__ = ("firm", "shares")

    def __init__(self) -> None:
        #: Whether it may stay when others have to leave because they have been there too long.
        self.firm = False
        self.shares: tuple[Share, ...] = ()


class Share:
    """What one client, or zone, or client in a zone has: how many, and which, the longest there first."""

    __slots__ = ("_client", "_loose", "_members", "_table", "_zone", "count", "weight")

    def __init__(self, table: dict[Any, Share], client: bytes | None, zone: bytes | None) -> None:
        self._table = table
        #: None: whichever.
        self._client = client
        self._zone = zone
        self.weight = 1 if client is None or zone is None else _WEIGHT_OF_PAIR
        self.count = 0
        #: With some that have left: they go when they come to the front, or when there are too many.
        self._members: deque[Holder] = deque()
        #: Of them, those that are not firm.
        self._loose: deque[Holder] = deque()

    def __str__(self) -> str:
        parts = []
        if self._client is not None:
            parts.append(prefix_text(self._client))
        if self._zone is not None:
            parts.append(name_text(self._zone + b"\0"))
        return " in ".join(parts)

    def means(self, client: bytes, zone: bytes) -> bool:
        """Whether somebody would be one of these."""
        return (self._client is None or self._client == client) and (self._zone is None or self._zone == zone)

    def belongs_to(self, client: bytes) -> bool:
        """Whether all of these are one client's."""
        return self._client == client

    def add(self) -> None:
        """There is one more, whether or not it is in the room yet."""
        self.count += 1

    def enter(self, holder: Holder) -> None:
        """One that was added is in the room now."""
        self._members.append(holder)
        if not holder.firm:
            self._loose.append(holder)

    def remove(self) -> None:
        """One of them has left: its `shares` are not ours any more."""
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
        """Who has been there longest; the firm are among them, or not."""
        members = self._members if firm else self._loose
        while members:
            if members[0].shares:
                return members[0]
            members.popleft()
        return None


class Shares:
    """The shares of everybody in a room for `limit` holders."""

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
        """One that is counted has got its place, the latest of all: it may be found by `oldest` from now on."""
        self._all.enter(holder)
        for share in holder.shares:
            share.enter(holder)

    def remove(self, holder: Holder) -> None:
        """It has left; nothing happens when it is not counted."""
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
        """Who has been there longest; the firm are among them, or not."""
        return self._all.oldest(firm)

    def oldest_of(self, client: bytes, firm: bool) -> Holder | None:
        """The same, of one client."""
        share = self._clients.get(client)
        return share.oldest(firm) if share is not None else None

    def greediest(self) -> Share | None:
        """Who has most, if that is too much."""
        found = None
        for share in self._greedy:
            if found is None or share.count * share.weight > found.count * found.weight:
                found = share
        return found


class Line:
    """Those that wait for room: one of each client in turn, and who has just come before who has had a turn."""

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
        """Who is next; there must be one."""
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
    """The share under a key of a table, made if need be."""
    share = table.get(key)
    if share is None:
        share = table[key] = Share(table, client, zone)
    return share
