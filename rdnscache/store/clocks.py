"""Whose clock is wrong. Only with a secret: entries then say, by their maker's clock, when they were made.

No clock in here: moments and offsets, in seconds, come in as arguments. An offset is how far ours is ahead.
"""

from __future__ import annotations

#: Seconds for which what a node's entry told is remembered, and nodes that are.
MEMORY, MOST_NODES = 60.0, 256


class Clocks:
    """How far ours is ahead of other nodes', each by the last entry of it that was seen, and of the Redis server's."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._seen: dict[str, tuple[float, float]] = {}
        self._server: float | None = None
        #: Whether ours disagrees with most of the others.
        self.wrong = False

    def note(self, node: str, offset: float, now: float) -> None:
        """By an entry of another node."""
        if node in self._seen or len(self._seen) < MOST_NODES:
            self._seen[node] = (offset, now)

    def note_server(self, offset: float) -> None:
        """By what Redis says: a voice like the others, which is heard though nobody else is."""
        self._server = offset

    def judge(self, now: float) -> bool:
        """Count again; whether that has changed `wrong`.

        That Redis alone disagrees proves nothing. Once others did as well, it is enough that Redis still does: of nodes
        we hear nothing while we share nothing.
        """
        self._seen = {node: seen for node, seen in self._seen.items() if now - seen[1] < MEMORY}
        nodes = [abs(offset) > self._tolerance for offset, _ in self._seen.values()]
        server = [abs(self._server) > self._tolerance] if self._server is not None else []
        against = sum(nodes) + sum(server)
        wrong = (any(nodes) or self.wrong) and 2 * against > len(nodes) + len(server)
        changed = wrong is not self.wrong
        self.wrong = wrong
        return changed
