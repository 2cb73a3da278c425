"""L1: the entries that this worker caches, bounded by number and by bytes.

Eviction is SIEVE (Zhang et al., NSDI 2024): a hit sets one flag and moves nothing; a hand that walks from the oldest
entry to the newest clears flags and evicts the first entry without one. A flood of names that are asked for once does
not evict the names that are asked for again.

Entries are returned as copies, so that changing one does not change the cache. cache.pyx is the compiled form, in which
an entry is one block of memory; the time of each of its operations does not depend on the size of the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rdnscache.dns.compose import compose
from rdnscache.dns.entry import FAR, Entry
from rdnscache.dns.policy import answers
from rdnscache.dns.question import qname, wider_key
from rdnscache.dns.wire import Query

#: Bytes of an entry besides its key, its tail and the offsets of its TTLs (measured by `python bench/l1_memory.py`).
_OVERHEAD = 530
#: Maximum number of origin texts kept for sharing.
_ORIGINS = 1000
#: Maximum number of flags that the hand clears for one `put`; after that it evicts visited entries as well.
PATIENCE = 200
#: Maximum number of entries that one step of a sweep looks at, and that it tests.
LOOKS, TESTS = 2000, 100
#: Maximum number of simultaneous sweeps.
SWEEPS = 100


class _Cell:
    """An entry in the list of entries, which is in the order in which they were put."""

    __slots__ = ("colour", "entry", "newer", "older")

    def __init__(self, entry: Entry, colour: int) -> None:
        self.entry = entry
        self.colour = colour
        self.newer: _Cell | None = None
        self.older: _Cell | None = None


class Cache:
    """Entries by key. The time of a method does not depend on the number of entries."""

    def __init__(self, max_entries: int, max_bytes: int, overhead: int = _OVERHEAD) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.overhead = overhead
        #: Bytes held, overhead included.
        self.size = 0
        self.evictions = 0
        self._cells: dict[bytes, _Cell] = {}
        self._newest: _Cell | None = None
        self._oldest: _Cell | None = None
        self._hand: _Cell | None = None
        #: Sweeps in progress. Each begins with a new colour; an entry has the current colour once all sweeps have dealt
        #: with it, or if it was put after they began.
        self._sweeps: list[Sweep] = []
        self._colour = 0
        self._origins: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._cells)

    def hand(self) -> bytes | None:
        """The key of the next candidate for eviction; None means the oldest entry."""
        return self._hand.entry.key if self._hand is not None else None

    def hit(self, query: Query, now: float, rotate: bool) -> bytes | None:
        """The reply to a query, counted as a visit; None if `get` would find no entry.

        Empty if the caller has to look at the entry first: it has an action, or is due for a prefetch.
        """
        entry = self._current(query.key, now)
        if entry is None:
            return None
        if now >= entry.renew_at:
            return b""
        _visit(entry)
        return compose(query, entry, now, rotate)

    def get(self, key: bytes, now: float) -> Entry | None:
        """The entry of a question if it may be served now: it is fresh, or stale and held while upstreams fail.

        If there is none, the NXDOMAIN entry of the name. Counted as a visit.
        """
        entry = self._current(key, now)
        if entry is None:
            return None
        _visit(entry)
        return _copy(entry)

    def peek(self, key: bytes) -> Entry | None:
        """The entry with this key, fresh or not; not counted as a visit."""
        cell = self._find(key)
        return _copy(cell.entry) if cell is not None else None

    def kept(self, key: bytes) -> Entry | None:
        """The later of a question's own entry and the NXDOMAIN entry of its name, fresh or not."""
        own, name = self.peek(key), self.peek(wider_key(key))
        return own if name is None or (own is not None and own.stored > name.stored) else name

    def has(self, entry: Entry) -> bool:
        """Whether exactly this entry is cached, not an earlier or later one with the same key."""
        cell = self._find(entry.key)
        return cell is not None and cell.entry.stored == entry.stored and cell.entry.origin == entry.origin

    def put(self, entry: Entry, now: float) -> None:
        """Store an entry, replace the one with its key, evict others to make room. One that is too large is dropped."""
        mine = _copy(entry)
        mine.visited, mine.hits, mine.origin = False, 0, self._shared(entry.origin)
        known = self._find(entry.key)
        if known is not None:
            mine.visited = known.entry.visited
            mine.renews = entry.renews and known.entry.renews
            self._remove(known)
        if not mine.renews:
            mine.renew_at = FAR
        if mine.action:  # makes `hit` return the empty reply, as for entries that are due for a prefetch
            mine.renew_at = -FAR
        size = self._cost(mine)
        if size > self.max_bytes:
            return
        patience = PATIENCE
        while len(self._cells) >= self.max_entries or self.size + size > self.max_bytes:
            patience = self._evict(now, patience)
        cell = self._cells[mine.key] = _Cell(mine, self._colour)
        self.size += size
        cell.older = self._newest
        if self._newest is not None:
            self._newest.newer = cell
        self._newest = cell
        if self._oldest is None:
            self._oldest = cell

    def learn(self, key: bytes, entry: Entry, now: float) -> None:
        """Store the answer to a question and drop the entry that it contradicts."""
        if entry.key != key:
            self.drop(key)
        elif answers(entry.rcode):
            self.drop(wider_key(key))
        self.put(entry, now)

    def hold(self, key: bytes, until: float) -> None:
        """Let an entry be served until then although it is stale."""
        cell = self._find(key)
        if cell is not None:
            cell.entry.held_until = until

    def renewed(self, key: bytes) -> None:
        """Note that an entry is being prefetched, so that `hit` serves it again."""
        cell = self._find(key)
        if cell is not None and not cell.entry.action:
            cell.entry.renew_at = FAR

    def drop(self, key: bytes) -> None:
        cell = self._find(key)
        if cell is not None:
            self._remove(cell)

    def sweep(self, test: Callable[[Entry], bool], suffixes: Sequence[bytes] = ()) -> Sweep:
        """Begin to remove entries for which `test` is true; from now on none of them is found.

        With `suffixes`, only entries whose names end in one of them (wire form) are tested.
        """
        return Sweep(self, test, suffixes)

    def set_aside(self) -> Cache:
        """Empty the cache at once; returns a cache with the old entries, to be released in portions."""
        aside = Cache(self.max_entries, self.max_bytes, self.overhead)
        aside._cells, self._cells = self._cells, aside._cells
        aside._oldest, aside._newest, aside.size = self._oldest, self._newest, self.size
        aside._colour = self._colour
        self._oldest = self._newest = self._hand = None
        self.size = 0
        for sweep in self._sweeps:
            sweep._at = None
        self._sweeps.clear()
        return aside

    def oldest(self) -> Entry | None:
        """The entry that was put first."""
        return _copy(self._oldest.entry) if self._oldest is not None else None

    def release(self, count: int) -> bool:
        """Remove the `count` oldest entries; returns whether any are left."""
        while count > 0 and self._oldest is not None:
            self._remove(self._oldest)
            count -= 1
        return self._oldest is not None

    def _shared(self, origin: str) -> str:
        """An equal text that is shared with other entries."""
        if len(self._origins) >= _ORIGINS:
            self._origins.clear()
        return self._origins.setdefault(origin, origin)

    def _find(self, key: bytes) -> _Cell | None:
        cell = self._cells.get(key)
        if cell is not None and cell.colour != self._colour and self._keep_or_remove(cell) is False:
            return None
        return cell

    def _keep_or_remove(self, cell: _Cell) -> bool | None:
        """Remove an entry that a sweep in progress is to remove, else give it the current colour.

        Returns whether it is kept; None if that needed no test.
        """
        stays = None
        for sweep in self._sweeps:
            meant = sweep._means(cell)
            if meant:
                self._remove(cell)
                return False
            if meant is not None:
                stays = True
        cell.colour = self._colour
        return stays

    def _current(self, key: bytes, now: float) -> Entry | None:
        cell = self._find(key)
        if cell is None or (now >= cell.entry.stored + cell.entry.ttl and now >= cell.entry.held_until):
            cell = self._find(wider_key(key))
            if cell is None or (now >= cell.entry.stored + cell.entry.ttl and now >= cell.entry.held_until):
                return None
        return cell.entry

    def _evict(self, now: float, patience: int) -> int:
        """Evict the first entry from the hand on that was not visited since it last passed, or is past its stale time.

        Returns the patience left; it bounds the walk when all entries were visited.
        """
        cell = self._hand or self._oldest
        while cell is not None and patience > 0 and cell.entry.visited and cell.entry.usable(now):
            cell.entry.visited = False
            patience -= 1
            cell = cell.newer or self._oldest
        if cell is not None:
            self._hand = cell
            self._remove(cell)
            self.evictions += 1
        return patience

    def _remove(self, cell: _Cell) -> None:
        for sweep in self._sweeps:
            sweep._note_removal(cell)
        if self._hand is cell:
            self._hand = cell.newer
        if cell.older is not None:
            cell.older.newer = cell.newer
        else:
            self._oldest = cell.newer
        if cell.newer is not None:
            cell.newer.older = cell.older
        else:
            self._newest = cell.older
        cell.newer = cell.older = None
        del self._cells[cell.entry.key]
        self.size -= self._cost(cell.entry)

    def _cost(self, entry: Entry) -> int:
        return self.overhead + len(entry.key) + len(entry.tail) + len(entry.ttls)


class Sweep:
    """Removes the entries for which a test is true and which were there when it began.

    Each entry is tested once, when it is asked for or by a step. Until then it does not have the current colour.
    """

    def __init__(self, cache: Cache, test: Callable[[Entry], bool], suffixes: Sequence[bytes]) -> None:
        if len(cache._sweeps) >= SWEEPS:
            raise OverflowError("too many sweeps at the same time")
        self._cache = cache
        self._test = test
        self._suffixes = tuple(suffixes)
        self._at, self._last = cache._oldest, cache._newest
        cache._colour += 1
        self._colour = cache._colour
        cache._sweeps.append(self)

    def step(self, looks: int = LOOKS) -> bool:
        """Deal with the next `looks` entries, `TESTS` tests at most; returns False when the sweep is done."""
        tests = TESTS
        while self._at is not None and looks > 0 and tests > 0:
            cell, looks = self._at, looks - 1
            self._at = cell.newer if cell is not self._last else None
            if cell.colour != self._cache._colour:
                tests -= self._cache._keep_or_remove(cell) is not None
        if self._at is None:
            self.close()
        return self._at is not None

    def close(self) -> None:
        """End the sweep."""
        self._at = None
        if self in self._cache._sweeps:
            self._cache._sweeps.remove(self)

    def _means(self, cell: _Cell) -> bool | None:
        """Whether an entry is to be removed; None if it needs no test, by its colour or its name."""
        if cell.colour >= self._colour or (self._suffixes and not qname(cell.entry.key).endswith(self._suffixes)):
            return None
        return self._test(_copy(cell.entry))

    def _note_removal(self, cell: _Cell) -> None:
        """Move on if the entry that is about to be removed is the next one or the last one."""
        if cell is self._at:
            self._at = cell.newer if cell is not self._last else None
        if cell is self._last:
            self._last = cell.older


def _visit(entry: Entry) -> None:
    entry.visited = True
    entry.hits += 1


def _copy(entry: Entry) -> Entry:
    copy = entry.under(entry.key)
    copy.visited, copy.hits = entry.visited, entry.hits
    return copy
