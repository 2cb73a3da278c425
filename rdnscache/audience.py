"""Who asks, and for what types: statistics about a worker's clients, from a sample of their queries.

Memory and work are bounded whatever clients send: the tables have a fixed size, and about SAMPLES queries are examined
in each interval. When there are more queries, each examined one stands for several.
"""

from __future__ import annotations

import socket
from collections import Counter

from rdnscache.clients.busiest import Busiest
from rdnscache.clients.networks import client_prefix
from rdnscache.dns.names import type_text

#: What is disclosed of clients: nothing, their networks, or their addresses.
NOTHING, NETWORKS, ADDRESSES = "no", "networks", "addresses"
#: Which queries of clients are counted: those admitted, refused because of who asks, over the rate limit.
KINDS = ("asked", "denied", "limited")
#: How many clients and types are counted at a time, and how many of each are reported.
ROOM, TOLD, TYPE_ROOM, TYPES_TOLD = 512, 15, 64, 12
#: Seconds in a window; the last complete one and the current one are reported together.
WINDOW = 300.0


class Audience:
    """One per worker. `shown` is one of the three above; with NOTHING only types are counted."""

    def __init__(self, shown: str, now: float) -> None:
        self._shown = shown
        self._since = self._before_since = now
        self._now, self._before = _Window(), _Window()

    def shown(self, source: bytes) -> bytes:
        """The part of an address that may be disclosed; empty for none of it."""
        if self._shown == NOTHING or not source:
            return b""
        return source if self._shown == ADDRESSES else client_prefix(source)

    def count(self, kind: int, source: bytes, queries: int) -> None:
        """Count queries of a client; `kind` is an index into KINDS."""
        client = self.shown(source)
        if client:
            self._now.clients[kind].add(client, queries)

    def count_type(self, qtype: int, queries: int) -> None:
        self._now.types.add(qtype.to_bytes(2, "big"), queries)

    def turn(self, now: float) -> None:
        """Begin a new window once the current one is complete."""
        if now >= self._since + WINDOW:
            self._before, self._now = self._now, _Window()
            self._before_since, self._since = self._since, now

    def told(self, now: float) -> dict[str, object]:
        """The busiest clients of each kind and the most frequent types, and for how many seconds they were counted."""
        kinds = zip(KINDS, self._before.clients, self._now.clients, strict=True)
        clients = {kind: _together(before, present, TOLD) for kind, before, present in kinds}
        types = _together(self._before.types, self._now.types, TYPES_TOLD)
        return {
            "seconds": round(max(now - self._before_since, 0.0), 1),
            **{kind: [[client_text(each), count] for each, count in found] for kind, found in clients.items()},
            "types": [[type_text(int.from_bytes(each, "big")), count] for each, count in types],
        }


class _Window:
    def __init__(self) -> None:
        self.clients = [Busiest(ROOM) for _ in KINDS]
        self.types = Busiest(TYPE_ROOM)


def _together(before: Busiest, now: Busiest, count: int) -> list[tuple[bytes, int]]:
    return (Counter(before.most()) + Counter(now.most())).most_common(count)


def client_text(client: bytes) -> str:
    """An address, or the network of a client prefix: 4, 16, 3 or 7 octets; empty for none."""
    if len(client) in (4, 16):
        return socket.inet_ntop(socket.AF_INET if len(client) == 4 else socket.AF_INET6, client)
    if len(client) == 3:
        return f"{client[0]}.{client[1]}.{client[2]}.0/24"
    return f"{socket.inet_ntop(socket.AF_INET6, client.ljust(16, bytes(1)))}/56" if client else ""
