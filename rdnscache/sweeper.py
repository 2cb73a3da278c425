"""Sweeps L1 for a flush, in steps: it may hold a million entries, and other work must not wait for that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import gevent

from rdnscache.breath import Breath
from rdnscache.cache import SWEEPS, Cache
from rdnscache.dns.entry import Entry
from rdnscache.store.scope import Scope

#: Tests whether an entry is to be deleted.
Test = Callable[[Entry], bool]
#: Told how many entries each scope has meant so far.
Late = Callable[[list[int]], None]
#: Seconds after which a sweep that goes on is late.
LATE = 0.2
#: Entries that are let go before others may have their turn.
RELEASED = 2000


class _Meant:
    """A test that combines several: an entry is deleted if any of them says so; `counts` has how many each said
    first."""

    def __init__(self, tests: Sequence[Test]) -> None:
        self._tests = tests
        self.counts = [0] * len(tests)

    def __call__(self, entry: Entry) -> bool:
        for index, test in enumerate(self._tests):
            if test(entry):
                self.counts[index] += 1
                return True
        return False


class Sweeper:
    """Deletes entries from L1. They cannot be found from the first moment on, and are gone when a sweep returns."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._underway = 0

    def sweep(self, scopes: Sequence[Scope], late: Late | None = None) -> list[int]:
        """Forget what the scopes hold; how many entries by each of them. Others run meanwhile.

        `late` is called once where that takes long: what is meant is not found any more, but not all of it is counted.
        """
        if any(scope.everything for scope in scopes):
            count = self._forget()
            return [count if scope.everything else 0 for scope in scopes]
        meant = _Meant([_test_of(scope) for scope in scopes])
        suffixes = [scope.suffix for scope in scopes]
        self._sweep(meant, suffixes if all(suffixes) else (), late)
        return meant.counts

    def sweep_meant(self, test: Test) -> int:
        """The same for the entries a test selects."""
        meant = _Meant([test])
        self._sweep(meant, ())
        return meant.counts[0]

    def _sweep(self, meant: _Meant, suffixes: Sequence[bytes], late: Late | None = None) -> None:
        if self._underway == SWEEPS:
            meant.counts[0] += self._forget()
            return
        breath, sweep = Breath(), self._cache.sweep(meant, suffixes)
        self._underway += 1
        ends = time.monotonic() + LATE
        try:
            while sweep.step():
                breath.take()
                if late is not None and time.monotonic() > ends:
                    late(list(meant.counts))
                    late = None
        finally:
            sweep.close()
            self._underway -= 1

    def _forget(self) -> int:
        aside = self._cache.set_aside()
        count = len(aside)
        gevent.spawn(_release, aside)
        return count


def _test_of(scope: Scope) -> Test:
    return lambda entry: scope.holds(entry.key, entry.rcode)


def _release(aside: Cache) -> None:
    """Free all of them in steps: at once this could take a second."""
    breath = Breath()
    while aside.release(RELEASED):
        breath.take()
