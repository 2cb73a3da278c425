"""Detects that this host's clock is wrong. Used only with a secret: then the times in entries are signed.

No clock in here: times and offsets, in seconds, are arguments. An offset is how far our clock is ahead.
"""

from __future__ import annotations

#: Seconds for which a node's offset is remembered; maximum number of nodes.
MEMORY, MOST_NODES = 60.0, 256


class Clocks:
    """The offsets of our clock from those of other nodes, by the last entry seen of each, and of the Redis server."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._seen: dict[str, tuple[float, float]] = {}
        self._server: float | None = None
        #: Whether our clock disagrees with most of the others.
        self.wrong = False

    def note(self, node: str, offset: float, now: float) -> None:
        """Note the offset from another node's clock, as an entry of it shows."""
        if node in self._seen or len(self._seen) < MOST_NODES:
            self._seen[node] = (offset, now)

    def note_server(self, offset: float) -> None:
        """Note the offset from the clock of the Redis server, which counts like that of a node."""
        self._server = offset

    def judge(self, now: float) -> bool:
        """Set `wrong` anew; returns whether it has changed.

        Redis alone cannot make our clock wrong. Once it is wrong, Redis alone can keep it so: nothing is heard of other
        nodes while nothing is shared.
        """
        self._seen = {node: seen for node, seen in self._seen.items() if now - seen[1] < MEMORY}
        nodes = [abs(offset) > self._tolerance for offset, _ in self._seen.values()]
        server = [abs(self._server) > self._tolerance] if self._server is not None else []
        against = sum(nodes) + sum(server)
        wrong = (any(nodes) or self.wrong) and 2 * against > len(nodes) + len(server)
        changed = wrong is not self.wrong
        self.wrong = wrong
        return changed
