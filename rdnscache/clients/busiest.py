"""The most frequent keys, in a table of fixed size: the Space-Saving algorithm (Metwally et al., ICDT 2005)."""

from __future__ import annotations


class Busiest:
    """Counts by key. In a full table a new key replaces the rarest one, and inherits its count as a possible error.

    Any key with more than 1/`room` of everything counted is in the table, whatever the others do.
    """

    __slots__ = ("_counts", "_errors", "_room", "total")

    def __init__(self, room: int) -> None:
        self._room = room
        self._counts: dict[bytes, int] = {}
        self._errors: dict[bytes, int] = {}
        self.total = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: bytes, count: int) -> None:
        counts = self._counts
        self.total += count
        if key in counts:
            counts[key] += count
        elif len(counts) < self._room:
            counts[key] = count
        else:
            rarest = min(counts, key=counts.__getitem__)
            least = counts.pop(rarest)
            self._errors.pop(rarest, None)
            counts[key], self._errors[key] = least + count, least

    def most(self) -> dict[bytes, int]:
        """The least count of each key, the most frequent first; without keys whose count may be mostly error."""
        known = {key: count - self._errors.get(key, 0) for key, count in self._counts.items()}
        sure = {key: count for key, count in known.items() if 2 * count >= self._counts[key]}
        return dict(sorted(sure.items(), key=lambda item: -item[1]))
