"""L1: what it keeps, what it lets go, and that its list, table and size always tell the same story."""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.cache import ENTRY_OVERHEAD, Cache
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import parse_reply

pytestmark = pytest.mark.pure

NOW = 1000.0


def make_key(number: int, rtype: int = 1, variant: int = 0) -> bytes:
    """The key of a numbered name."""
    label = f"n{number}".encode()
    return bytes((len(label),)) + label + b"\7example\0" + rtype.to_bytes(2, "big") + b"\0\1" + bytes((variant,))


def make_entry(key: bytes, size: int = 4, ttl: int = 60, stale: int = 0, stored: float = NOW) -> Entry:
    """An entry with one record of `size` octets."""
    record = b"\xc0\x0c\xff\x78\0\1\0\0\1\x2c" + size.to_bytes(2, "big") + b"x" * size
    reply = parse_reply(b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + key[:-1] + record)
    assert reply is not None
    return Entry(key, reply, stored, ttl, stale)


def chain(cache: Cache) -> list[Entry]:
    """The entries from oldest to newest, with all links checked both ways."""
    out: list[Entry] = []
    entry, before = cache._oldest, None
    while entry is not None:
        assert entry.older is before
        out.append(entry)
        before, entry = entry, entry.newer
        assert len(out) <= len(cache)
    assert cache._newest is before
    return out


def check(cache: Cache) -> None:
    """List, table, hand and size agree, and the bounds hold."""
    entries = chain(cache)
    assert {entry.key: entry for entry in entries} == cache._entries
    assert len(entries) == len(cache) <= cache.max_entries
    costs = [ENTRY_OVERHEAD + len(e.key) + len(e.tail) + len(e.ttls) for e in entries]
    assert cache.size == sum(costs) <= cache.max_bytes
    assert cache._hand is None or cache._hand in entries


def test_entry_is_there_until_its_ttl_is_over() -> None:
    """Fresh until the very second; afterwards it is seen by `peek` only."""
    cache, key = Cache(10, 10**6), make_key(1)
    entry = make_entry(key, ttl=60, stale=100)
    assert cache.get(key, NOW) is None
    cache.put(entry, NOW)
    assert cache.get(key, NOW + 59.999) is entry
    assert cache.get(key, NOW + 60) is None
    assert cache.peek(key) is entry


def test_stale_entry_is_answered_while_it_is_held() -> None:
    """`held_until` says that upstreams have just failed; no longer than that."""
    cache, key = Cache(10, 10**6), make_key(1)
    entry = make_entry(key, ttl=60, stale=100)
    cache.put(entry, NOW)
    entry.held_until = NOW + 70
    assert cache.get(key, NOW + 69) is entry
    assert cache.get(key, NOW + 70) is None


def test_peek_is_not_a_visit() -> None:
    """Only hits protect an entry from eviction."""
    cache, key = Cache(10, 10**6), make_key(1)
    cache.put(make_entry(key), NOW)
    entry = cache.peek(key)
    assert entry is not None
    assert not entry.visited
    cache.get(key, NOW + 61)
    assert not entry.visited
    cache.get(key, NOW)
    assert entry.visited


def test_names_asked_again_survive_a_flood_of_names_asked_once() -> None:
    """SIEVE: a flood fifty times the cache's size passes through; the busy names stay."""
    cache = Cache(100, 10**9)
    busy = [make_key(n) for n in range(20)]
    for key in busy:
        cache.put(make_entry(key), NOW)
    for number in range(5000):
        if number % 10 == 0:
            for key in busy:
                assert cache.get(key, NOW) is not None
        cache.put(make_entry(make_key(1000 + number)), NOW)
    assert all(cache.peek(key) is not None for key in busy)
    assert len(cache) == 100
    assert cache.evictions == 4920
    check(cache)


def test_more_requests_are_hits_than_with_lru() -> None:
    """A Zipf(1.0) mix over 50,000 names, every second request for a name asked once, room for 5,000 entries.

    Ratios are shares of all requests, the names asked once included: the 5,000 most popular names carry
    H(5000)/H(50000) = 80 % of the other half, so that whoever knew them beforehand (static LFU) would have 0.40;
    LRU, most of whose room goes to names asked once, has 0.30.
    """
    names, room, warming, counted = 50_000, 5000, 100_000, 300_000
    rng = random.Random(2024)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, names + 1)))
    popular = rng.choices(range(names), cum_weights=weights, k=warming + counted)
    once = itertools.count(names)
    requests = [next(once) if rng.random() < 0.5 else name for name in popular]

    cache, like = Cache(room, 10**9), make_entry(make_key(0))
    reply = parse_reply(b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + like.key[:-1] + like.tail)
    assert reply is not None
    recent: OrderedDict[int, None] = OrderedDict()
    ours = lru = lfu = 0
    for position, name in enumerate(requests):
        count = position >= warming
        key = make_key(name)
        if cache.get(key, NOW) is not None:
            ours += count
        else:
            cache.put(Entry(key, reply, NOW, 60, 0), NOW)
        if name in recent:
            lru += count
            recent.move_to_end(name)
        else:
            recent[name] = None
            if len(recent) > room:
                recent.popitem(last=False)
        lfu += count and name < room

    print(f"share of requests that hit: ours {ours / counted:.3f}, LRU {lru / counted:.3f}, LFU {lfu / counted:.3f}")
    assert 0.29 < lru / counted < 0.31
    assert 0.39 < lfu / counted < 0.41
    assert 0.34 * counted <= ours < lfu
    assert ours > lru
    assert len(cache) == room
    check(cache)


def test_a_visit_protects_once() -> None:
    """A name that was busy and is not asked any more goes in its turn."""
    cache = Cache(2, 10**6)
    for number in (1, 2):
        cache.put(make_entry(make_key(number)), NOW)
        cache.get(make_key(number), NOW)
    for number in (3, 4):
        cache.put(make_entry(make_key(number)), NOW)
    assert cache.peek(make_key(1)) is None
    check(cache)


def test_entry_past_all_use_goes_even_if_it_was_visited() -> None:
    """A visit counts for nothing once neither TTL nor stale time is left."""
    cache = Cache(2, 10**6)
    cache.put(make_entry(make_key(1), ttl=10, stale=10), NOW)
    cache.put(make_entry(make_key(2), ttl=1000), NOW)
    assert cache.get(make_key(1), NOW) is not None
    cache.put(make_entry(make_key(3), ttl=1000, stored=NOW + 20), NOW + 20)
    assert cache.peek(make_key(1)) is None
    assert cache.peek(make_key(2)) is not None


def test_all_visited_still_makes_room() -> None:
    """When every entry was visited the hand goes round once; the bound holds."""
    cache = Cache(5, 10**6)
    for number in range(50):
        cache.put(make_entry(make_key(number)), NOW)
        for other in range(number + 1):
            cache.get(make_key(other), NOW)
        check(cache)
    assert len(cache) == 5


def test_bytes_are_bounded() -> None:
    """Large entries push out many small ones; one larger than everything is not kept."""
    cache = Cache(10**6, 20_000)
    for number in range(100):
        cache.put(make_entry(make_key(number), size=100 * (number % 7)), NOW)
        check(cache)
    cache.put(make_entry(make_key(1000), size=30_000), NOW)
    assert cache.peek(make_key(1000)) is None
    check(cache)


def test_replacing_keeps_one_entry_and_its_visit() -> None:
    """The newer reply takes the place; a name asked again stays a name asked again."""
    cache, key = Cache(10, 10**6), make_key(1)
    cache.put(make_entry(key, size=4000), NOW)
    cache.get(key, NOW)
    second = make_entry(key, size=1)
    cache.put(second, NOW)
    assert cache.peek(key) is second
    assert second.visited
    assert len(cache) == 1
    check(cache)
    cache.put(second, NOW)
    check(cache)


def test_drop_and_set_aside_give_all_bytes_back() -> None:
    """Size is 0 again, by whichever way the entries went."""
    cache = Cache(10, 10**6)
    for number in range(5):
        cache.put(make_entry(make_key(number)), NOW)
    for number in range(5):
        cache.drop(make_key(number))
        cache.drop(make_key(number))
    assert (len(cache), cache.size) == (0, 0)
    check(cache)
    for number in range(25):
        cache.put(make_entry(make_key(number)), NOW)
    aside = cache.set_aside()
    assert (len(cache), cache.size, len(aside)) == (0, 0, 10)
    check(aside)
    cache.put(make_entry(make_key(1)), NOW)
    check(cache)
    for entry in aside.after(None, 100):
        aside.drop(entry.key)
    assert (len(aside), aside.size) == (0, 0)
    check(cache)
    check(aside)


def test_entries_are_walked_in_portions() -> None:
    """From the oldest on, each once; begun anew where the entry it had come to is gone or was put again."""
    cache = Cache(100, 10**6)
    for number in range(10):
        cache.put(make_entry(make_key(number)), NOW)
    first = cache.after(None, 4)
    assert [entry.key for entry in first] == [make_key(number) for number in range(4)]
    rest = cache.after(first[-1], 100)
    assert [entry.key for entry in rest] == [make_key(number) for number in range(4, 10)]
    assert rest[-1] is cache.newest()
    assert cache.after(rest[-1], 100) == []
    cache.drop(first[0].key)
    cache.put(make_entry(first[3].key), NOW)
    assert [entry.key for entry in cache.after(first[3], 2)] == [make_key(1), make_key(2)]
    assert Cache(1, 1).after(None, 1) == []


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "get", "get", "drop", "aside", "hold", "wait"]),
        st.integers(0, 12),
        st.integers(0, 900),
        st.integers(0, 20),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(st.integers(1, 8), st.integers(600, 8000), OPERATIONS)
def test_any_sequence_of_operations_leaves_it_whole(
    max_entries: int, max_bytes: int, operations: list[tuple[str, int, int, int]]
) -> None:
    """List, table, hand and size agree after each step, and a hit is always the last reply put, in its time."""
    cache, now = Cache(max_entries, max_bytes), NOW
    last: dict[bytes, Entry] = {}
    for name, number, size, seconds in operations:
        key = make_key(number // 2, rtype=1 + number % 2)
        match name:
            case "put":
                last[key] = make_entry(key, size, ttl=seconds, stale=seconds % 3, stored=now)
                cache.put(last[key], now)
            case "get":
                entry = cache.get(key, now)
                if entry is not None:
                    assert entry is last[key]
                    assert entry.fresh(now) or now < entry.held_until
            case "drop":
                cache.drop(key)
                assert cache.peek(key) is None
            case "aside":
                check(cache.set_aside())
                assert (len(cache), cache.size) == (0, 0)
            case "hold":
                held = cache.peek(key)
                if held is not None:
                    held.held_until = now + seconds
            case _:
                now += seconds
        check(cache)
