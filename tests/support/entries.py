"""The content of a cache, for tests."""

from __future__ import annotations

from rdnscache.cache import Cache
from rdnscache.dns.entry import Entry


def held(cache: Cache) -> list[Entry]:
    """All entries, the oldest first."""
    found: list[Entry] = []
    sweep = cache.sweep(lambda entry: bool(found.append(entry)))
    while sweep.step():
        pass
    return found


def same(one: Entry | None, other: Entry | None) -> bool:
    """Whether two entries have the same reply and time; or both are None."""
    if one is None or other is None:
        return one is other
    return all(getattr(one, name) == getattr(other, name) for name in ("key", "stored", "ttl", "tail", "origin"))
