"""L1: the entries this worker remembers, bounded by number and by bytes.

Eviction is SIEVE (Zhang et al., NSDI 2024): a hit sets one flag and moves nothing; a hand that walks from the oldest
entry to the newest clears flags and takes the first entry without one. A flood of names asked once passes through
without pushing out the names that are asked again.

What is handed out are copies: a change of one is none of what is kept. cache.pyx is the twin in which an entry is one
piece of memory; nothing that it does takes longer the more it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rdnscache.dns.compose import compose
from rdnscache.dns.entry import FAR, Entry
from rdnscache.dns.policy import answers
from rdnscache.dns.question import qname, wider_key
from rdnscache.dns.wire import Query

#: What an entry costs beside its key, its tail and the places of its TTLs (`python bench/l1_memory.py` measures it).
_OVERHEAD = 530
#: Texts of origins that entries share.
_ORIGINS = 1000
#: Flags that the hand clears for one entry that is put: beyond that, a visit counts for nothing.
PATIENCE = 200
#: Entries that a step of a sweep looks at, and tests, at most.
LOOKS, TESTS = 2000, 100
#: Sweeps at the same time.
SWEEPS = 100


class _Place:
    """An entry with its neighbours in the order in which entries were put."""

    __slots__ = ("colour", "entry", "newer", "older")

    def __init__(self, entry: Entry, colour: int) -> None:
        self.entry = entry
        self.colour = colour
        self.newer: _Place | None = None
        self.older: _Place | None = None


class Cache:
    """Entries by key. Every method is O(1)."""

    def __init__(self, max_entries: int, max_bytes: int, overhead: int = _OVERHEAD) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.overhead = overhead
        #: Bytes held, overhead included.
        self.size = 0
        self.evictions = 0
        self._places: dict[bytes, _Place] = {}
        self._newest: _Place | None = None
        self._oldest: _Place | None = None
        self._hand: _Place | None = None
        #: Sweeps under way; each begins with a new colour, which is that of what they have all seen, or need not.
        self._sweeps: list[Sweep] = []
        self._colour = 0
        self._origins: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._places)

    def hand(self) -> bytes | None:
        """The key of the entry that is looked at next for eviction; None: that of the oldest."""
        return self._hand.entry.key if self._hand is not None else None

    def hit(self, query: Query, now: float, rotate: bool) -> bytes | None:
        """The reply to a query, counted as a visit; None where there is no entry that `get` would have.

        Empty where that takes a closer look at it: something else may be done than answer it, or it is to be renewed.
        """
        entry = self._current(query.key, now)
        if entry is None:
            return None
        if now >= entry.renew_at:
            return b""
        _visit(entry)
        return compose(query, entry, now, rotate)

    def get(self, key: bytes, now: float) -> Entry | None:
        """The entry if it may be answered now: fresh, or stale and held while upstreams fail.

        Where the question has none, the NXDOMAIN of its name.
        """
        entry = self._current(key, now)
        if entry is None:
            return None
        _visit(entry)
        return _copy(entry)

    def peek(self, key: bytes) -> Entry | None:
        """Whatever is there, fresh or not; not counted as a visit."""
        place = self._find(key)
        return _copy(place.entry) if place is not None else None

    def kept(self, key: bytes) -> Entry | None:
        """Whatever is there for a question, fresh or not: its own entry or its name's NXDOMAIN, the later one."""
        own, name = self.peek(key), self.peek(wider_key(key))
        return own if name is None or (own is not None and own.stored > name.stored) else name

    def has(self, entry: Entry) -> bool:
        """Whether this very entry is there, and not an earlier or later one with its key."""
        place = self._find(entry.key)
        return place is not None and place.entry.stored == entry.stored and place.entry.origin == entry.origin

    def put(self, entry: Entry, now: float) -> None:
        """Make room and remember an entry, in place of the one with its key. One too large for it is not kept."""
        mine = _copy(entry)
        mine.visited, mine.hits, mine.origin = False, 0, self._shared(entry.origin)
        known = self._find(entry.key)
        if known is not None:
            mine.visited = known.entry.visited
            mine.renews = entry.renews and known.entry.renews
            self._remove(known)
        if not mine.renews:
            mine.renew_at = FAR
        if mine.action:  # hits of such an entry are looked at more closely, as those are that are to be renewed
            mine.renew_at = -FAR
        size = self._cost(mine)
        if size > self.max_bytes:
            return
        patience = PATIENCE
        while len(self._places) >= self.max_entries or self.size + size > self.max_bytes:
            patience = self._evict(now, patience)
        place = self._places[mine.key] = _Place(mine, self._colour)
        self.size += size
        place.older = self._newest
        if self._newest is not None:
            self._newest.newer = place
        self._newest = place
        if self._oldest is None:
            self._oldest = place

    def learn(self, key: bytes, entry: Entry, now: float) -> None:
        """Put the answer to a question, in place of what it contradicts."""
        if entry.key != key:
            self.drop(key)
        elif answers(entry.rcode):
            self.drop(wider_key(key))
        self.put(entry, now)

    def hold(self, key: bytes, until: float) -> None:
        """Have an entry answered until then though it is stale."""
        place = self._find(key)
        if place is not None:
            place.entry.held_until = until

    def renewed(self, key: bytes) -> None:
        """An entry is being fetched again: its hits need no closer look for that."""
        place = self._find(key)
        if place is not None and not place.entry.action:
            place.entry.renew_at = FAR

    def drop(self, key: bytes) -> None:
        place = self._find(key)
        if place is not None:
            self._remove(place)

    def sweep(self, test: Callable[[Entry], bool], suffixes: Sequence[bytes] = ()) -> Sweep:
        """From now on nothing is found that a test means, of names that end in one of these octets; empty: of all."""
        return Sweep(self, test, suffixes)

    def set_aside(self) -> Cache:
        """Hold nothing from now on; what was held is in a cache of its own, to be emptied in portions."""
        aside = Cache(self.max_entries, self.max_bytes, self.overhead)
        aside._places, self._places = self._places, aside._places
        aside._oldest, aside._newest, aside.size = self._oldest, self._newest, self.size
        aside._colour = self._colour
        self._oldest = self._newest = self._hand = None
        self.size = 0
        for sweep in self._sweeps:
            sweep._at = None
        self._sweeps.clear()
        return aside

    def oldest(self) -> Entry | None:
        """The entry put before all others."""
        return _copy(self._oldest.entry) if self._oldest is not None else None

    def release(self, count: int) -> bool:
        """Forget the oldest entries; whether there are more."""
        while count > 0 and self._oldest is not None:
            self._remove(self._oldest)
            count -= 1
        return self._oldest is not None

    def _shared(self, origin: str) -> str:
        """An equal text that other entries have as well."""
        if len(self._origins) >= _ORIGINS:
            self._origins.clear()
        return self._origins.setdefault(origin, origin)

    def _find(self, key: bytes) -> _Place | None:
        place = self._places.get(key)
        if place is not None and place.colour != self._colour and self._stays(place) is False:
            return None
        return place

    def _stays(self, place: _Place) -> bool | None:
        """Whether no sweep forgets an entry that not all of them have seen; None: its name was enough to tell."""
        stays = None
        for sweep in self._sweeps:
            meant = sweep._means(place)
            if meant:
                self._remove(place)
                return False
            if meant is not None:
                stays = True
        place.colour = self._colour
        return stays

    def _current(self, key: bytes, now: float) -> Entry | None:
        place = self._find(key)
        if place is None or (now >= place.entry.stored + place.entry.ttl and now >= place.entry.held_until):
            place = self._find(wider_key(key))
            if place is None or (now >= place.entry.stored + place.entry.ttl and now >= place.entry.held_until):
                return None
        return place.entry

    def _evict(self, now: float, patience: int) -> int:
        """Move the hand to the first entry that was not visited since it last passed, or is past all use.

        Returns what is left of its patience: if all were visited it would go through all of them.
        """
        place = self._hand or self._oldest
        while place is not None and patience > 0 and place.entry.visited and place.entry.usable(now):
            place.entry.visited = False
            patience -= 1
            place = place.newer or self._oldest
        if place is not None:
            self._hand = place
            self._remove(place)
            self.evictions += 1
        return patience

    def _remove(self, place: _Place) -> None:
        for sweep in self._sweeps:
            sweep._leaves(place)
        if self._hand is place:
            self._hand = place.newer
        if place.older is not None:
            place.older.newer = place.newer
        else:
            self._oldest = place.newer
        if place.newer is not None:
            place.newer.older = place.older
        else:
            self._newest = place.older
        place.newer = place.older = None
        del self._places[place.entry.key]
        self.size -= self._cost(place.entry)

    def _cost(self, entry: Entry) -> int:
        return self.overhead + len(entry.key) + len(entry.tail) + len(entry.ttls)


class Sweep:
    """Forgets what a test means of what is there at its beginning; what is put later is not looked at.

    Each entry is tested once: when it is asked for, or by a step. Until then it is not of the present colour.
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
        """Look at as many entries that come next; False when it is through."""
        tests = TESTS
        while self._at is not None and looks > 0 and tests > 0:
            place, looks = self._at, looks - 1
            self._at = place.newer if place is not self._last else None
            if place.colour != self._cache._colour:
                tests -= self._cache._stays(place) is not None
        if self._at is None:
            self.close()
        return self._at is not None

    def close(self) -> None:
        """Look for nothing any more."""
        self._at = None
        if self in self._cache._sweeps:
            self._cache._sweeps.remove(self)

    def _means(self, place: _Place) -> bool | None:
        """Whether an entry is to be forgotten; None: that could be told by its name."""
        if place.colour >= self._colour or (self._suffixes and not qname(place.entry.key).endswith(self._suffixes)):
            return None
        return self._test(_copy(place.entry))

    def _leaves(self, place: _Place) -> None:
        """A place is about to be empty."""
        if place is self._at:
            self._at = place.newer if place is not self._last else None
        if place is self._last:
            self._last = place.older


def _visit(entry: Entry) -> None:
    entry.visited = True
    entry.hits += 1


def _copy(entry: Entry) -> Entry:
    copy = entry.under(entry.key)
    copy.visited, copy.hits = entry.visited, entry.hits
    return copy
