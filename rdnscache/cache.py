"""L1: the entries this worker remembers, bounded by number and by bytes.

Eviction is SIEVE (Zhang et al., NSDI 2024): a hit sets one flag and moves nothing; a hand that walks from the oldest
entry to the newest clears flags and takes the first entry without one. A flood of names asked once passes through
without pushing out the names that are asked again.
"""

from __future__ import annotations

from rdnscache.dns.entry import FAR, Entry
from rdnscache.dns.policy import answers
from rdnscache.dns.question import wider_key

#: What an entry costs beside its bytes: objects, links, table slot (`python bench/l1_memory.py` measures it).
ENTRY_OVERHEAD = 330


class Cache:
    """Entries by key. Every method is O(1), but for `after`: that is O(count)."""

    __slots__ = ("_entries", "_hand", "_newest", "_oldest", "evictions", "max_bytes", "max_entries", "size")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        #: Bytes held, overhead included.
        self.size = 0
        self.evictions = 0
        self._entries: dict[bytes, Entry] = {}
        self._newest: Entry | None = None
        self._oldest: Entry | None = None
        self._hand: Entry | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> Entry | None:
        """The entry if it may be answered now: fresh, or stale and held while upstreams fail.

        Where the question has none, the NXDOMAIN of its name.
        """
        entry = self._entries.get(key)
        if entry is None or (now >= entry.stored + entry.ttl and now >= entry.held_until):
            entry = self._entries.get(wider_key(key))
            if entry is None or (now >= entry.stored + entry.ttl and now >= entry.held_until):
                return None
        entry.visited = True
        entry.hits += 1
        return entry

    def peek(self, key: bytes) -> Entry | None:
        """Whatever is there, fresh or not; not counted as a visit."""
        return self._entries.get(key)

    def kept(self, key: bytes) -> Entry | None:
        """Whatever is there for a question, fresh or not: its own entry or its name's NXDOMAIN, the later one."""
        own, name = self._entries.get(key), self._entries.get(wider_key(key))
        return own if name is None or (own is not None and own.stored > name.stored) else name

    def put(self, entry: Entry, now: float) -> None:
        """Make room and remember an entry, in place of the one with its key. One too large for it is not kept."""
        known = self._entries.get(entry.key)
        if known is not None:
            entry.visited = known.visited
            entry.renews = entry.renews and known.renews
            self._remove(known)
        if not entry.renews:
            entry.renew_at = FAR
        if entry.action:  # hits of such an entry are looked at more closely, as those are that are to be renewed
            entry.renew_at = -FAR
        size = _cost(entry)
        if size > self.max_bytes:
            return
        while len(self._entries) >= self.max_entries or self.size + size > self.max_bytes:
            self._evict(now)
        self._entries[entry.key] = entry
        self.size += size
        entry.older = self._newest
        if self._newest is not None:
            self._newest.newer = entry
        self._newest = entry
        if self._oldest is None:
            self._oldest = entry

    def learn(self, key: bytes, entry: Entry, now: float) -> None:
        """Put the answer to a question, in place of what it contradicts."""
        if entry.key != key:
            self.drop(key)
        elif answers(entry.rcode):
            self.drop(wider_key(key))
        self.put(entry, now)

    def drop(self, key: bytes) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            self._remove(entry)

    def after(self, entry: Entry | None, count: int) -> list[Entry]:
        """The entries put next after this one, `count` at most; the oldest where it is not there any more."""
        if entry is None or self._entries.get(entry.key) is not entry:
            following = self._oldest
        else:
            following = entry.newer
        found: list[Entry] = []
        while following is not None and len(found) < count:
            found.append(following)
            following = following.newer
        return found

    def newest(self) -> Entry | None:
        """The entry put last."""
        return self._newest

    def set_aside(self) -> Cache:
        """Hold nothing from now on; what was held is in a cache of its own, to be emptied entry by entry.

        Let go as a whole, the entries would keep each other alive until the collector comes.
        """
        aside = Cache(self.max_entries, self.max_bytes)
        aside._entries, self._entries = self._entries, aside._entries
        aside._oldest, aside._newest, aside.size = self._oldest, self._newest, self.size
        self._oldest = self._newest = self._hand = None
        self.size = 0
        return aside

    def _evict(self, now: float) -> None:
        """Move the hand to the first entry that was not visited since it last passed, or is past all use."""
        entry = self._hand or self._oldest
        while entry is not None and entry.visited and now < entry.stored + entry.ttl + entry.stale:
            entry.visited = False
            entry = entry.newer or self._oldest
        if entry is not None:
            self._hand = entry
            self._remove(entry)
            self.evictions += 1

    def _remove(self, entry: Entry) -> None:
        if self._hand is entry:
            self._hand = entry.newer
        if entry.older is not None:
            entry.older.newer = entry.newer
        else:
            self._oldest = entry.newer
        if entry.newer is not None:
            entry.newer.older = entry.older
        else:
            self._newest = entry.older
        entry.newer = entry.older = None
        del self._entries[entry.key]
        self.size -= _cost(entry)


def _cost(entry: Entry) -> int:
    return ENTRY_OVERHEAD + len(entry.key) + len(entry.tail) + len(entry.ttls)
