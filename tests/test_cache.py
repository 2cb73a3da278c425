"""L1: what it keeps, what it lets go, and that its list, table and size always tell the same story."""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.entries import held, same

from rdnscache.cache import LOOKS, PATIENCE, SWEEPS, TESTS, Cache
from rdnscache.dns.compose import compose
from rdnscache.dns.entry import FAR, Entry
from rdnscache.dns.wire import Query, build_query, parse_query, parse_reply
from rdnscache.store.scope import Scope

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


def check(cache: Cache) -> None:
    """What is walked is what is found, size and count are right, and the bounds hold."""
    entries = held(cache)
    assert len({entry.key for entry in entries}) == len(entries) == len(cache) <= cache.max_entries
    assert all(same(cache.peek(entry.key), entry) for entry in entries)
    costs = [cache.overhead + len(e.key) + len(e.tail) + len(e.ttls) for e in entries]
    assert cache.size == sum(costs) <= cache.max_bytes
    assert cache.hand() is None or cache.hand() in {entry.key for entry in entries}


def test_entry_is_there_until_its_ttl_is_over() -> None:
    """Fresh until the very second; afterwards it is seen by `peek` only."""
    cache, key = Cache(10, 10**6), make_key(1)
    entry = make_entry(key, ttl=60, stale=100)
    assert cache.get(key, NOW) is None
    cache.put(entry, NOW)
    assert same(cache.get(key, NOW + 59.999), entry)
    assert cache.get(key, NOW + 60) is None
    assert same(cache.peek(key), entry)


def test_stale_entry_is_answered_while_it_is_held() -> None:
    """`held_until` says that upstreams have just failed; no longer than that."""
    cache, key = Cache(10, 10**6), make_key(1)
    entry = make_entry(key, ttl=60, stale=100)
    cache.put(entry, NOW)
    cache.hold(key, NOW + 70)
    assert same(cache.get(key, NOW + 69), entry)
    assert cache.get(key, NOW + 70) is None


def test_peek_is_not_a_visit() -> None:
    """Only hits protect an entry from eviction."""
    cache, key = Cache(10, 10**6), make_key(1)
    cache.put(make_entry(key), NOW)
    assert not [entry.hits for entry in held(cache) if entry.visited]
    cache.get(key, NOW + 61)
    assert not [entry.hits for entry in held(cache) if entry.visited]
    cache.get(key, NOW)
    assert [entry.hits for entry in held(cache) if entry.visited] == [1]


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


def test_a_visit_is_not_worth_a_walk_through_all_entries() -> None:
    """Where all were visited, one that is put clears a few flags and takes what is next, in place of a whole round."""
    count = 10 * PATIENCE
    cache = Cache(count, 10**9)
    for number in range(count):
        cache.put(make_entry(make_key(number)), NOW)
        cache.get(make_key(number), NOW)
    cache.put(make_entry(make_key(count)), NOW)
    assert sum(not entry.visited for entry in held(cache)) == PATIENCE + 1
    assert cache.peek(make_key(PATIENCE)) is None
    check(cache)
    cache.max_bytes = cache.size
    cache.put(make_entry(make_key(count + 1), size=50_000), NOW)  # makes room for one that is as large as hundreds
    assert sum(not entry.visited for entry in held(cache)) <= 2 * PATIENCE + 2
    check(cache)


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
    assert same(cache.peek(key), second)
    assert [entry.visited for entry in held(cache)] == [True]
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
    assert aside.release(4)
    check(aside)
    assert not aside.release(100)
    assert (len(aside), aside.size, aside.oldest()) == (0, 0, None)
    check(cache)


def test_what_is_handed_out_is_a_copy() -> None:
    """Nobody changes what is kept by changing what was put or found."""
    cache, key = Cache(10, 10**6), make_key(1)
    put = make_entry(key, stale=100)
    cache.put(put, NOW)
    for entry in (put, cache.get(key, NOW), cache.peek(key), cache.kept(key), cache.oldest()):
        assert entry is not None
        entry.ttl, entry.held_until, entry.renew_at, entry.tail, entry.visited = 0, 1e9, FAR, b"", True
    found = cache.peek(key)
    assert found is not None
    assert (found.ttl, found.held_until, found.renew_at) == (60, 0, NOW + 54)
    assert found.tail.endswith(b"xxxx")


def query_of(key: bytes) -> Query:
    query = parse_query(build_query(b"ab", key, True), False)
    assert query is not None
    return query


@given(
    age=st.integers(0, 70), aged=st.integers(0, 50), size=st.sampled_from([4, 4, 600, 1300]), bits=st.integers(0, 3),
    edns=st.booleans(), ede=st.sampled_from([-1, -1, 15]), rcode=st.sampled_from([0, 0, 3]),
    records=st.integers(0, 3), rotate=st.booleans(),
)  # fmt: skip
def test_a_hit_says_what_is_composed_from_the_entry(
    age: int, aged: int, size: int, bits: int, edns: bool, ede: int, rcode: int, records: int, rotate: bool
) -> None:
    """Whatever the query and the entry; where it is to be renewed, it is left to others to look at it."""
    key = make_key(1, 0xFF78 if size > 4 else 1, bits)
    record = b"\xc0\x0c" + key[-5:-1] + b"\0\0\0\x32" + size.to_bytes(2, "big") + b"x" * size
    head = b"\0\0\x81" + bytes((0x80 | 0x20 * (bits & 1) | rcode,)) + b"\0\1" + bytes((0, records)) + b"\0\0\0\0"
    reply = parse_reply(head + key[:-1] + record * records)
    assert reply is not None
    entry = Entry(key, reply, NOW, 60, 0)
    entry.ede = ede
    if aged <= age:
        entry.tail_at(aged)
    cache, now = Cache(10, 10**6), NOW + age
    cache.put(entry, now)
    query, other = (parse_query(build_query(b"ab", key, edns), False) for _ in range(2))
    assert query is not None
    assert other is not None
    query.key = key  # without EDNS there is no DO
    said = cache.hit(query, now, rotate)
    if age >= 60:
        assert said is None
    elif age >= 54:
        assert said == b""
        assert not [entry for entry in held(cache) if entry.visited]
    else:
        assert said == compose(other, entry, now, rotate)
        assert query.rcode == other.rcode
        assert [entry.hits for entry in held(cache)] == [1]


def test_a_hit_leaves_what_needs_a_closer_look() -> None:
    """What is to be renewed until somebody does, what policy does something else with for good; not what is held."""
    cache, key = Cache(10, 10**6), make_key(1)
    cache.put(make_entry(key, ttl=60, stale=100), NOW)
    assert cache.hit(query_of(key), NOW, False)
    assert cache.hit(query_of(key), NOW + 54, False) == b""
    cache.renewed(key)
    assert cache.hit(query_of(key), NOW + 54, False)
    assert cache.hit(query_of(key), NOW + 60, False) is None
    cache.hold(key, NOW + 70)
    assert cache.hit(query_of(key), NOW + 60, False)
    dropped = make_entry(key)
    dropped.action = 1
    cache.put(dropped, NOW)
    cache.renewed(key)
    assert cache.hit(query_of(key), NOW, False) == b""
    name = make_entry(make_key(2, rtype=0))
    cache.put(name, NOW)
    assert cache.hit(query_of(make_key(2, rtype=28)), NOW, False)
    assert cache.hit(query_of(make_key(3)), NOW, False) is None


def test_an_entry_is_told_from_another_with_its_key() -> None:
    """The same question answered at another moment is another entry."""
    cache, key = Cache(10, 10**6), make_key(1)
    first, second = make_entry(key), make_entry(key, stored=NOW + 1)
    assert not cache.has(first)
    cache.put(first, NOW)
    assert cache.has(first)
    cache.put(second, NOW)
    assert not cache.has(first)
    assert cache.has(second)


def test_a_sweep_looks_at_each_entry_once() -> None:
    """From the oldest on, at what was there at the beginning and not asked for since, whatever goes meanwhile."""
    cache = Cache(100, 10**6)
    for number in range(10):
        cache.put(make_entry(make_key(number)), NOW)
    tested: list[bytes] = []
    sweep = cache.sweep(lambda entry: bool(tested.append(entry.key)))
    assert sweep.step(3)
    assert cache.get(make_key(7), NOW) is not None
    assert cache.peek(make_key(7)) is not None
    for number in (0, 3, 9):  # behind, next, and the last
        cache.drop(make_key(number))
    cache.put(make_entry(make_key(5)), NOW)
    assert not sweep.step(100)
    assert sorted(set(tested)) == sorted(tested)
    assert [key for key in tested if key not in {make_key(number) for number in (3, 5, 9)}] == [
        make_key(number) for number in (0, 1, 2, 7, 4, 6, 8)
    ]
    assert not sweep.step()
    sweep.close()
    assert not Cache(1, 1).sweep(lambda entry: True).step()
    sweep = cache.sweep(lambda entry: True)
    cache.set_aside()
    cache.put(make_entry(make_key(1)), NOW)
    assert not sweep.step()
    assert cache.peek(make_key(1)) is not None


def test_what_a_sweep_means_is_not_found_from_its_first_moment_on() -> None:
    """By no way of looking; what is put later is; two sweeps forget what either of them means."""
    cache = Cache(100, 10**6)
    for number in range(9):
        cache.put(make_entry(make_key(number), stale=100), NOW)
    first = cache.sweep(lambda entry: entry.key in (make_key(1), make_key(2), make_key(3), make_key(4), make_key(8)))
    cache.put(make_entry(make_key(8)), NOW)
    second = cache.sweep(lambda entry: entry.key in (make_key(5), make_key(8)), [make_key(5)[:-5], make_key(8)[:-5]])
    assert cache.get(make_key(1), NOW) is None
    assert cache.hit(query_of(make_key(2)), NOW, False) is None
    assert cache.peek(make_key(3)) is None
    assert cache.kept(make_key(4)) is None
    assert not cache.has(make_entry(make_key(5), stale=100))
    assert cache.get(make_key(8), NOW) is None
    cache.put(make_entry(make_key(1)), NOW)
    assert cache.get(make_key(6), NOW) is not None
    assert not first.step()
    assert not second.step()
    assert [entry.key for entry in held(cache)] == [make_key(number) for number in (0, 6, 7, 1)]
    check(cache)


def test_a_sweep_looks_at_a_bounded_number_of_entries_a_step() -> None:
    """And tests still fewer: only those of the names in question."""
    cache, count = Cache(10**6, 10**9), LOOKS + 10
    for number in range(count):
        cache.put(make_entry(make_key(number)), NOW)
    tested: list[bytes] = []
    sweep = cache.sweep(lambda entry: tested.append(entry.key) is None, [make_key(count - 1)[:-5], b"\7nowhere\0"])
    assert sweep.step()
    assert tested == []
    assert not sweep.step()
    assert tested == [make_key(count - 1)]
    every = cache.sweep(lambda entry: tested.append(entry.key) is None)
    assert every.step()
    assert len(tested) == 1 + TESTS
    every.close()
    assert not every.step()
    assert len(cache) == count - len(tested)


def test_sweeps_at_the_same_time_are_bounded() -> None:
    """Beyond that there are no more, and colours that have been used up come again."""
    cache = Cache(10, 10**6)
    cache.put(make_entry(make_key(1)), NOW)
    sweeps = [cache.sweep(lambda entry: False) for _ in range(SWEEPS)]
    with pytest.raises(OverflowError):
        cache.sweep(lambda entry: True)
    for sweep in sweeps:
        assert not sweep.step()
    for _ in range(70_000):
        assert not cache.sweep(lambda entry: False, [b"x"]).step()
    cache.put(make_entry(make_key(2)), NOW)
    assert not cache.sweep(lambda entry: True).step()
    assert len(cache) == 0


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
@given(st.integers(1, 8), st.integers(300, 8000), OPERATIONS)
def test_any_sequence_of_operations_leaves_it_whole(
    max_entries: int, max_bytes: int, operations: list[tuple[str, int, int, int]]
) -> None:
    """Order, table and size agree after each step, and a hit is always the last reply put, in its time."""
    cache, now = Cache(max_entries, max_bytes, 100), NOW
    last: dict[bytes, Entry] = {}
    until: dict[bytes, float] = {}
    for name, number, size, seconds in operations:
        key = make_key(number // 2, rtype=1 + number % 2)
        match name:
            case "put":
                last[key], until[key] = make_entry(key, size, ttl=seconds, stale=seconds % 3, stored=now), 0.0
                cache.put(last[key], now)
            case "get":
                entry = cache.get(key, now)
                if entry is not None:
                    assert same(entry, last[key])
                    assert entry.fresh(now) or now < until[key]
            case "drop":
                cache.drop(key)
                assert cache.peek(key) is None
            case "aside":
                check(cache.set_aside())
                assert (len(cache), cache.size) == (0, 0)
            case "hold":
                cache.hold(key, now + seconds)
                until[key] = now + seconds
            case _:
                now += seconds
        check(cache)


#: What a flush may mean of the names n0.example. to n12.example.
SCOPES = (
    Scope(name=make_key(3)[:-5]), Scope(name=make_key(1)[:-5], qtype=1), Scope(zone=make_key(12)[:-5]),
    Scope(zone=b"\7example\0", qtype=2), Scope(zone=b"\0", rcode=0), Scope(qtype=1), Scope(zone=b"\7nowhere\0"),
)  # fmt: skip


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 25)), st.tuples(st.just("drop"), st.integers(0, 25)),
            st.tuples(st.just("flush"), st.integers(0, len(SCOPES) - 1)), st.tuples(st.just("step"), st.integers(1, 4)),
        ),
        max_size=80,
    )
)  # fmt: skip
def test_flushes_in_steps_come_to_the_same_as_flushes_in_a_moment(operations: list[tuple[str, int]]) -> None:
    """Whatever is put and dropped between their steps: each look finds what it would find."""
    cache, model = Cache(1000, 10**6), dict[bytes, Entry]()
    sweeps = []
    for turn, (name, number) in enumerate(operations):
        key = make_key(number // 2, rtype=1 + number % 2)
        if name == "put":
            model[key] = make_entry(key, stored=NOW + turn)
            cache.put(model[key], NOW)
        elif name == "drop":
            model.pop(key, None)
            cache.drop(key)
        elif name == "flush":
            scope = SCOPES[number]
            means = partial(lambda scope, entry: scope.holds(entry.key, entry.rcode), scope)
            sweeps.append(cache.sweep(means, [scope.suffix] if scope.suffix else []))
            model = {each: entry for each, entry in model.items() if not scope.holds(each, entry.rcode)}
        else:
            for sweep in sweeps:
                sweep.step(number)
        asked = make_key(turn % 13, rtype=1 + turn % 2)
        assert same(cache.peek(asked), model.get(asked))
    for sweep in sweeps:
        while sweep.step(3):
            pass
    assert sorted((entry.key, entry.stored) for entry in held(cache)) == sorted(
        (key, entry.stored) for key, entry in model.items()
    )
    check(cache)


def test_many_come_and_go() -> None:
    """As it grows to 30,000 entries and shrinks again, each of them is found."""
    cache, count = Cache(10**6, 10**9), 30_000
    for number in range(count):
        cache.put(make_entry(make_key(number)), NOW)
        assert cache.peek(make_key(number // 2)) is not None
    for number in range(count):
        cache.drop(make_key(number))
        assert cache.peek(make_key(number)) is None
        if number % 1000 == 0 and number < count - 1:
            assert all(cache.peek(make_key(each)) is not None for each in range(number + 1, count, 97))
    assert (len(cache), cache.size) == (0, 0)
