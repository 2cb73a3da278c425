"""L1 swept for a flush: in portions, since it may hold a million entries, and other work waits meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import gevent

from rdnscache import clock
from rdnscache.breath import Breath
from rdnscache.cache import Cache
from rdnscache.dns.entry import Entry
from rdnscache.store.scope import Scope

#: Whether an entry is to be forgotten.
Test = Callable[[Entry], bool]
#: Entries that are looked at before others may have their turn.
STEP = 100
#: How often a walk restarts because the entry it had reached is gone.
ANEW = 3


class Sweeper:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        #: What each of those that bring entries back leaves out.
        self._returning: list[list[Test]] = []

    def sweep(self, scopes: Sequence[Scope], at_once: bool) -> int:
        """Forget what the scopes hold; how many entries. Others run meanwhile.

        With `at_once` nothing that is meant can be found from the first moment on; for a while, nor can anything else.
        """
        if any(scope.everything for scope in scopes):
            for left_out in self._returning:
                left_out.append(_any)
            return self._forget()
        return self.sweep_meant(lambda entry: any(scope.holds(entry.key, entry.rcode) for scope in scopes), at_once)

    def sweep_meant(self, means: Test, at_once: bool) -> int:
        """The same for the entries that a test means."""
        for left_out in self._returning:
            left_out.append(means)
        return self._sweep_aside(means) if at_once else self._walk(means)

    def _forget(self) -> int:
        aside = self._cache.set_aside()
        count = len(aside)
        gevent.spawn(_release, aside)
        return count

    def _sweep_aside(self, means: Test) -> int:
        """Set everything aside, then bring back what is out of scope and has not been replaced since."""
        cache, aside, count = self._cache, self._cache.set_aside(), 0
        tests = [means]
        self._returning.append(tests)
        try:
            for entry in _taken(aside):
                if any(test(entry) for test in tests):
                    count += 1
                elif cache.peek(entry.key) is None:
                    cache.put(entry, clock.now())
        finally:
            self._returning.remove(tests)
        return count

    def _walk(self, means: Test) -> int:
        """Drop what is meant of what there is now, from the oldest on."""
        cache, breath, count, anew = self._cache, Breath(), 0, 0
        last, kept = cache.newest(), None
        while last is not None and (entries := cache.after(kept, STEP)):
            for entry in entries:
                if means(entry):
                    cache.drop(entry.key)
                    count += 1
                else:
                    kept = entry
                if entry is last:
                    return count
            breath.take()
            if kept is not None and cache.peek(kept.key) is not kept:  # evicted or renewed: start again
                anew += 1
                if anew > ANEW:
                    return count + self._forget()
        return count


def _any(entry: Entry) -> bool:
    return True


def _taken(aside: Cache) -> Iterator[Entry]:
    """Take out all entries, the oldest first."""
    breath = Breath()
    while entries := aside.after(None, STEP):
        for entry in entries:
            aside.drop(entry.key)
            yield entry
        breath.take()


def _release(aside: Cache) -> None:
    """Let go of all of them: at once it would take as long as a second."""
    for _ in _taken(aside):
        pass
