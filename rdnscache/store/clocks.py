"""Whose clock is wrong. Only with a secret: entries then say, by their maker's clock, when they were made.

No clock in here: moments and offsets, in seconds, come in as arguments.
"""

from __future__ import annotations

#: Seconds for which what a node's entry told is remembered, and nodes that are.
MEMORY, MOST_NODES = 60.0, 256


class Clocks:
    """How far ahead of each other node's clock ours is, by the last entry that was seen of it."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._seen: dict[str, tuple[float, float]] = {}

    def note(self, node: str, offset: float, now: float) -> None:
        """An entry of another node: it seems made `offset` seconds earlier than its expiry says."""
        if node in self._seen or len(self._seen) < MOST_NODES:
            self._seen[node] = (offset, now)

    def wrong(self, now: float) -> bool:
        """Whether ours disagrees with most of the others'."""
        offsets = [offset for offset, at in self._seen.values() if now - at < MEMORY]
        if len(offsets) < len(self._seen):
            self._seen = {node: seen for node, seen in self._seen.items() if now - seen[1] < MEMORY}
        return 2 * sum(abs(offset) > self._tolerance for offset in offsets) > len(offsets)
