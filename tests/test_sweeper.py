"""L1 swept in portions: what is meant is gone, all else stays, and others have their turn meanwhile."""

from __future__ import annotations

import itertools

import gevent
import pytest
from support.entries import held

from rdnscache import clock
from rdnscache.cache import Cache
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import parse_reply
from rdnscache.store.scope import Scope
from rdnscache.sweeper import Sweeper

COUNT = 20_000
MEANT = Scope(zone=b"\3old\0")


def make_key(number: int, zone: bytes = b"") -> bytes:
    label = b"n%d" % number
    return bytes((len(label),)) + label + (zone or (b"\3old\0" if number % 2 else b"\4kept\0")) + b"\0\1\0\1\0"


def make_entry(key: bytes) -> Entry:
    reply = parse_reply(b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + key[:-1] + b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1")
    assert reply is not None
    return Entry(key, reply, clock.now(), 300, 0)


def full(most: int = 10 * COUNT) -> Cache:
    cache = Cache(most, 1 << 30)
    for number in range(COUNT):
        cache.put(make_entry(make_key(number)), clock.now())
    return cache


def keys(cache: Cache) -> set[bytes]:
    return {entry.key for entry in held(cache)}


KEPT = {make_key(number) for number in range(0, COUNT, 2)}


def test_others_have_their_turn_and_keep_what_they_store() -> None:
    """What is stored during a sweep stays, what is renewed in it is not replaced, and only what is meant is gone."""
    cache = full()
    renewed = make_entry(make_key(0))
    sweep = gevent.spawn(Sweeper(cache).sweep, [MEANT])
    turns = 0
    while not sweep.ready():
        gevent.sleep(0)
        turns += 1
        cache.put(make_entry(make_key(turns, b"\3new\0")), clock.now())
        cache.put(renewed, clock.now())
    assert turns > 5
    assert sweep.get() == [COUNT // 2]
    assert keys(cache) == KEPT | {make_key(number, b"\3new\0") for number in range(1, turns + 1)}
    assert cache.has(renewed)


def test_at_once_nothing_that_is_meant_is_found() -> None:
    """From the first moment on, by whoever has a turn; and another sweep need not wait for the first."""
    cache = full()
    sweeper = Sweeper(cache)
    first = gevent.spawn(sweeper.sweep, [MEANT])
    gevent.sleep(0)
    assert not first.ready()
    assert not any(MEANT.holds(key, 0) for key in keys(cache))
    other = Scope(name=make_key(COUNT - 2)[:-5])
    assert sweeper.sweep([other]) == [1]
    assert first.get() == [COUNT // 2]
    assert keys(cache) == KEPT - {make_key(COUNT - 2)}


def test_who_waits_is_told_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with what has been found so far; then nothing that is meant can be found, though most is still there."""
    monkeypatch.setattr("rdnscache.sweeper.LATE", 0.0)
    cache, told = full(), list[list[int]]()
    work = gevent.spawn(Sweeper(cache).sweep, [MEANT], told.append)
    while not told:
        gevent.sleep(0)
    assert not any(MEANT.holds(key, 0) for key in keys(cache))
    assert work.get() == [COUNT // 2]
    assert len(told) == 1 and told[0][0] <= COUNT // 2
    assert Sweeper(full()).sweep([Scope()], told.append) and len(told) == 1


def test_everything_is_forgotten_in_a_moment() -> None:
    """No matter how much; what another sweep was about to look at as well, and nothing stays in memory."""
    cache = full()
    sweeper = Sweeper(cache)
    gevent.spawn(sweeper.sweep, [MEANT])
    gevent.sleep(0)
    sweeper.sweep([Scope()])
    assert len(cache) == 0
    gevent.wait()
    assert (len(cache), cache.size) == (0, 0)


def test_a_walk_gets_to_the_end_though_entries_are_evicted() -> None:
    """Whatever is put and evicted meanwhile, nothing that is meant is left of what was there."""
    cache = full(COUNT)
    sweep = gevent.spawn(Sweeper(cache).sweep, [MEANT])
    for number in itertools.count():
        gevent.sleep(0)
        if sweep.ready():
            break
        for more in range(50):
            cache.put(make_entry(make_key(50 * number + more, b"\3new\0")), clock.now())
    sweep.get()
    assert not any(MEANT.holds(key, 0) for key in keys(cache))
    gevent.wait()


def test_flushes_that_come_together_are_counted_each() -> None:
    """Each entry once, by the first that means it."""
    cache = full()
    scopes = [Scope(name=make_key(1)[:-5]), MEANT, Scope(qtype=28), Scope(name=make_key(2)[:-5])]
    assert Sweeper(cache).sweep(scopes) == [1, COUNT // 2 - 1, 0, 1]
    assert keys(cache) == KEPT - {make_key(2)}
    assert Sweeper(cache).sweep([*scopes, Scope()]) == [0, 0, 0, 0, COUNT // 2 - 1]
    gevent.wait()


def test_sweeps_that_overlap_find_all_that_they_mean() -> None:
    """What the second has seen before the first came to it is gone as well."""
    cache = full()
    sweeper = Sweeper(cache)
    one = gevent.spawn(sweeper.sweep, [Scope(name=make_key(COUNT - 2)[:-5])])
    gevent.sleep(0)
    gevent.joinall([one, gevent.spawn(sweeper.sweep, [MEANT])])
    assert keys(cache) == KEPT - {make_key(COUNT - 2)}
