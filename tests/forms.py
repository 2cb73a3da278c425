"""Prints what the hot modules make of a corpus, one line per item. test_forms.py compares the lines of the two forms.

An item is a list: what to do, and with what; octets are hexadecimal. A line is a list of facts, `label=value`.
An exception is a fact too: its type. Run as `python forms.py CORPUS`; without a corpus it describes the modules.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from support.compiled import modules
from support.entries import held as entries
from support.entries import same

from rdnscache.cache import Cache
from rdnscache.clients.limit import Limiter
from rdnscache.clients.networks import Networks
from rdnscache.clients.proxy import parse_proxy, proxy_end, tls_name
from rdnscache.dns.compose import compose, compose_error, compose_local
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import Identity, Limits, answer_ourselves, distill, failure_wire, settle
from rdnscache.dns.splice import (
    aged_tail,
    cut,
    rebased,
    repeats,
    splice_key,
    splice_query,
    splice_reply,
    splice_stored,
    splice_type,
    splice_view,
    whole,
)
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import NO_EDE, Query, Reply, build_query, parse_error, parse_query, parse_reply, read_u32
from rdnscache.forms import form
from rdnscache.store.contract import Names
from rdnscache.store.decoding import decode
from rdnscache.store.packing import pack, spell, widen

Facts = Iterator[str]

QUERY = ("data", "do", "edns", "end", "error", "key", "limit", "note", "qclass", "qtype", "trace", "watch")
REPLY = (
    "wire", "flags", "rcode", "end", "ancount", "nscount", "arcount", "authority", "additional", "ttls", "types",
    "soa_ttl_at", "soa_minimum", "truncated", "authentic", "ede", "plain",
)  # fmt: skip
ENTRY = (
    "action", "additional", "aged", "ancount", "arcount", "authentic", "ede", "essential", "held_until", "hits", "key",
    "nscount", "rcode", "origin", "renew_at", "renews", "scope", "stale", "stored", "tail", "ttl", "ttls", "visited",
)  # fmt: skip

PROXIED = ("source", "source_port", "destination", "destination_port", "stream", "end")

NOW = 1000.25
#: In this order, so that ageing goes on from what was aged before; and back again.
AGES = (-3.0, 0.0, 0.75, 1.0, 59.99, 60.0, 299.5, 300.0, 5.0, 301.0, 4000.0, 2.0e9)
LIMITS = (
    Limits(),
    Limits(ttl_min=60, ttl_max=604800, negative_ttl_max=604800),
    Limits(ttl_max=1, failure_ttl=300, stale=0),
)
IDENTITY = Identity("rdnscache 1", "n1")
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def shown(value: object) -> str:
    """A value with its type: 1 is not True. Long octets as their number, beginning and digest."""
    if isinstance(value, bytes) and len(value) > 48:
        return f"{len(value)} octets {value[:32].hex()} {hashlib.sha1(value).hexdigest()[:16]}"
    return repr(value)


def fact(label: str, make: Callable[[], Any]) -> str:
    try:
        return f"{label}={shown(make())}"
    except Exception as error:
        return f"{label}!{type(error).__name__}"


def attributes(label: str, thing: object, names: tuple[str, ...]) -> Facts:
    for name in names:
        yield fact(f"{label}.{name}", lambda name=name: getattr(thing, name))


def askers(key: bytes) -> Iterator[Query]:
    """Queries for a key from clients of all kinds: flags, EDNS sizes, TCP, and an ID and spelling of their own."""
    question = key[:-5].upper() + key[-5:-1]
    for number, (low, opt, stream) in enumerate(
        (
            (0x00, b"", False),
            (0x30, b"", True),
            (0x20, OPT, False),
            (0x10, OPT[:3] + b"\0\x40" + OPT[5:], False),
            (0x00, OPT[:3] + b"\2\xbc" + OPT[5:7] + b"\x80" + OPT[8:], False),
            (0x20, OPT[:7] + b"\x80" + OPT[8:], True),
        )
    ):
        head = bytes((0xAB, number, number & 1, low, 0, 1, 0, 0, 0, 0, 0, 1 if opt else 0))
        query = parse_query(head + question + opt, stream)
        if query is not None and not query.error:
            yield query


def packet(data: bytes) -> Facts:
    """Octets that came from a client, or from an upstream, or from Redis."""
    for stream in (False, True):
        query = parse_query(data, stream)
        yield f"query({stream}) {query is not None}"
        if query is not None:
            yield from attributes(f"query({stream})", query, QUERY)
            yield from replies_of_our_own(f"query({stream})", query)
    told = parse_error(b"\1a\0\0\1\0\1\0", data)
    yield f"error {told is not None}"
    if told is not None:
        yield from attributes("error", told, REPLY)
    reply = parse_reply(data)
    yield f"reply {reply is not None}"
    if reply is not None:
        yield from attributes("reply", reply, REPLY)
        yield fact("question", reply.question)
        yield fact("text", lambda: answer_text(reply))
        yield fact("redis key", lambda: Names("rdns").entry(reply.question() + b"\3"))
        yield fact("decoded", lambda: decoded(reply))
        yield from stored(reply, data)


def decoded(reply: Reply) -> Any:
    """What becomes of a reply that lies in Redis."""
    info = b"rcode=NOERROR ttl=60 stale=3600 stored=2026-11-23T07:00:00Z from=192.0.2.53 node=n1"
    entry = decode(reply.question() + b"\0", info, reply.wire, 3_600_000, NOW)
    return entry and [getattr(entry, name) for name in ENTRY]


def replies_of_our_own(label: str, query: Query) -> Facts:
    for rcode, ede in ((query.error, NO_EDE), (2, 14), (16, NO_EDE), (5, 22), (3841, 0)):
        yield fact(f"{label}.compose_error({rcode}, {ede})", lambda r=rcode, e=ede: compose_error(query, r, e))
    for rdata, ttl in ((b"", 0), (b"\7RFC8482\0", 3600), (b"x" * 300, 0xFFFFFFFF)):
        yield fact(f"{label}.compose_local({ttl})", lambda d=rdata, t=ttl: compose_local(query, d, 13, 3, t))
    yield fact(f"{label}.answer_ourselves", lambda: answer_ourselves(query, IDENTITY))
    if query.key and not query.error:
        failed = parse_reply(failure_wire(query.key))
        assert failed is not None
        entry = Entry(query.key, failed, NOW, 5, 0)
        yield fact(f"{label}.compose", lambda: compose(query, entry, NOW + 1))


def stored(reply: Reply, data: bytes) -> Facts:
    """A reply as it came, and settled under several limits, kept as an entry and given to clients of all kinds."""
    for variant in range(4):
        key = reply.question() + bytes((variant,))
        yield fact(f"failure_wire({variant})", lambda key=key: failure_wire(key))
        for number, limits in enumerate(LIMITS):
            yield fact(f"settle({variant}, {number})", lambda key=key, limits=limits: settle(key, reply, limits))
    for variant in (0, 1):  # what is left of it, read anew each time: it is changed where it is
        key = reply.question() + bytes((variant,))
        again = parse_reply(data)
        kept = distill(key, again) if again is not None else None
        yield f"distill({variant}) {kept is not None}"
        if kept is not None:
            yield from attributes(f"distill({variant})", kept, REPLY)
    key = reply.question() + b"\0"
    yield from entry_of("raw", key, reply, 300, 3600)
    yield from entry_of("raw and TTL 0", key, reply, 0, 0)
    wire, ttl = settle(key, reply, LIMITS[0])
    settled = parse_reply(wire)
    if settled is not None:
        yield from entry_of("settled", key, settled, ttl, 3600)


def entry_of(label: str, key: bytes, reply: Reply, ttl: int, stale: int) -> Facts:
    """All that is said about an entry, and what each client reads of it at each age."""
    entry = Entry(key, reply, NOW, ttl, stale)
    yield from attributes(label, entry, ENTRY)
    clients = list(askers(key))
    for age in AGES:
        now = NOW + age
        yield fact(f"{label}@{age}", lambda now=now: (entry.fresh(now), entry.usable(now)))
        for number, query in enumerate(clients):
            yield fact(f"{label}@{age} to {number}", lambda now=now, query=query: compose(query, entry, now))
        yield from attributes(f"{label}@{age}", entry, ("aged", "tail"))
    for number, query in enumerate(clients):
        yield fact(f"{label} rotated for {number}", lambda query=query: compose(query, entry, NOW, True))
    for query in clients:
        query.note = b"layer=l1"
        yield fact(f"{label} noted", lambda query=query: compose(query, entry, NOW + 1))
        query.note = b""
    # room for exactly so much, and one octet less: where the additional section goes, and where all records go
    for query in clients[1:3]:
        opt = 11 if query.edns else 0
        for size in sorted({len(entry.tail), entry.additional, entry.essential}):
            for limit in (query.end + size + opt, query.end + size + opt - 1):
                query.limit = limit
                yield fact(f"{label} in {limit}", lambda query=query: compose(query, entry, NOW + 1))


def built(key: bytes, ident: int) -> Facts:
    for edns in (False, True):
        yield fact(f"build_query({edns})", lambda edns=edns: build_query(ident.to_bytes(2, "big"), key, edns))


def aged(tail: bytes, ttls: bytes, seconds: int, fixed: int) -> Facts:
    yield fact("aged_tail", lambda: aged_tail(tail, ttls, seconds, fixed))
    yield fact("rebased", lambda: rebased(ttls, fixed & 0xFF))


def number_at(data: bytes, at: int) -> Facts:
    yield fact("read_u32", lambda: read_u32(data, at))


def key_spliced(data: bytes, root: int, variant: int) -> Facts:
    yield fact("splice_key", lambda: splice_key(data, root, variant))
    key = splice_key(data, root, variant)
    for number in (0, 7, 250):
        yield fact(f"splice_view {number}", lambda number=number: splice_view(key, len(key) - 5, number))
    for number in (0, 28, 65535):
        yield fact(f"splice_type {number}", lambda number=number: splice_type(key, number))
    for end in (len(key) - 1, len(key), len(key) + 1):
        yield fact(f"cut {end}", lambda end=end: cut(key, 1, end))
    yield fact("whole", lambda: whole(bytearray(key)))
    for end in (root + 4, root + 5, root + 6):
        yield fact(f"repeats {end}", lambda end=end: repeats(data, end, key[:-1]))
    yield fact("splice_query", lambda: splice_query(data[:2], 0x130, key[:-1], data[:variant]))


def reply_spliced(
    data: bytes, end: int, flags: int, ancount: int, nscount: int, arcount: int, tail: bytes, size: int, opt: bytes
) -> Facts:
    yield fact("splice_reply", lambda: splice_reply(data, end, flags, ancount, nscount, arcount, tail, size, opt))
    yield fact("splice_stored", lambda: splice_stored(data, end, flags, ancount, nscount, arcount, opt))


def for_redis(name: bytes, *words: bytes | int | str) -> Facts:
    """A name on the wire, whole or not, as part of a key; words of a command."""
    yield fact("pack", lambda: pack(words))
    for tail in (b"}:A", b"}:TYPE65280:CH:do:cd", b"}:A:cd:via=0123456789abcdef:ecs=192.0.2.0/24"):
        yield fact("spell", lambda tail=tail: spell(b"rdns:1:{", name, tail))
        yield fact("widen", lambda tail=tail: widen(spell(b"rdns:1:{", name, tail), b"NXDOMAIN"))
    yield fact("widen nothing", lambda: widen(b"rdns:1:control", b"NXDOMAIN"))


def cached(max_entries: int, max_bytes: int, operations: list[tuple[str, int, int, int]]) -> Facts:
    """A life of a cache: after every step, what it said and what it holds, oldest first."""
    cache, now = Cache(max_entries, max_bytes, 100), NOW

    def entry_for(key: bytes, size: int, ttl: int, stale: int) -> Entry:
        record = b"\xc0\x0c\0\x10\0\1\0\0\1\x2c" + size.to_bytes(2, "big") + b"x" * size
        reply = parse_reply(b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + key[:-1] + record)
        assert reply is not None
        return Entry(key, reply, now, ttl, stale)

    def step(name: str, number: int, size: int, seconds: int) -> object:
        nonlocal now
        label = f"n{number // 4}".encode()
        key = bytes((len(label),)) + label + b"\0\0" + bytes((1 + number % 2,)) + b"\0\1" + bytes((number // 2 % 2,))
        there = cache.peek(key)
        match name:
            case "put":
                return cache.put(entry_for(key, size, seconds, seconds % 3), now)
            case "again":
                return None if there is None else cache.put(there, now)
            case "get":
                found = cache.get(key, now)
                return None if found is None else (same(found, there), found.key, found.visited)
            case "drop":
                return cache.drop(key)
            case "drop_name":
                gone: list[bytes] = []
                sweep = cache.sweep(lambda entry: gone.append(entry.key) is None, [key[:-5]])
                return [cache.peek(key) is None, sweep.step(), gone]
            case "clear":
                return len(cache.set_aside())
            case "hold":
                cache.hold(key, now + seconds)
                return [same(cache.get(key, now + seconds + more), there) for more in (0.25, 0.0, -0.25)]
            case "hit":
                query = parse_query(build_query(b"ab", key, size % 2 == 0), False)
                return query and (cache.hit(query, now, bool(seconds % 2)), query.rcode)
            case _:
                now += seconds
                return now

    for operation in operations:
        yield fact(operation[0], lambda operation=operation: step(*operation))
        order = [(entry.key, entry.visited) for entry in entries(cache)]
        yield fact("holds", lambda order=order: (order, cache.hand(), len(cache), cache.size, cache.evictions))


def proxied(data: bytes) -> Facts:
    """Octets that may begin with a PROXY header."""
    yield fact("proxy_end", lambda: proxy_end(data))
    header = parse_proxy(data)
    yield f"proxied {header is not None}"
    if header is not None:
        yield from attributes("proxied", header, PROXIED)
        if header.source:
            yield fact("tls_name", lambda: tls_name(data, header.end))


def held(texts: list[str], but_not: list[str], addresses: list[str]) -> Facts:
    """Which addresses, in hexadecimal, are in a set of networks, and in which group."""
    networks = Networks(texts, but_not)
    grouped = Networks(texts, but_not, [(1, texts[:2]), (250, texts[1:])])
    for address in addresses:
        yield fact(address, lambda address=address: networks.holds(bytes.fromhex(address)))
        yield fact(f"group {address}", lambda address=address: grouped.group(bytes.fromhex(address)))


def limited(arguments: list[Any], exempt: list[str], queries: list[tuple[str, float]]) -> Facts:
    """What a limiter says to queries: from where, in hexadecimal, and how long after the one before."""
    rates, prefixes = arguments[:4], arguments[4:]
    limiter, now = Limiter(*rates, Networks(exempt), *prefixes), NOW  # type: ignore[call-arg]
    for source, pause in queries:
        now += pause
        yield fact("check", lambda source=source, now=now: limiter.check(bytes.fromhex(source), now))
        yield fact("limited", lambda now=now: limiter.limited(now))


MAKERS: dict[str, Callable[..., Facts]] = {
    maker.__name__: maker
    for maker in (packet, built, aged, number_at, key_spliced, reply_spliced, for_redis, cached, proxied, held, limited)
}


def facts(item: list[Any]) -> list[str]:
    """What this form makes of an item; octets are written `{"hex": "00"}`."""
    name, *told = item
    arguments = [bytes.fromhex(part["hex"]) if isinstance(part, dict) else part for part in told]
    out = []
    try:
        for each in MAKERS[name](*arguments):
            out.append(each)
    except Exception as error:
        out.append(f"{name}!{type(error).__name__}")
    return out


#: Where each form has a source of its own.
TWINS = ("rdnscache.cache", "rdnscache.dns.splice", "rdnscache.server.batch", "rdnscache.store.packing")
#: All that are compiled.
HOT = tuple(modules())


def described(name: str) -> dict[str, object]:
    """What others may use of a module: constants with their value, functions and methods with their parameters."""
    module = importlib.import_module(name)
    out: dict[str, object] = {}
    for label, value in vars(module).items():
        if label.startswith("_"):
            continue
        if inspect.isclass(value) and value.__module__ == name:
            methods = [each for each in dir(value) if not each.startswith("_") and callable(getattr(value, each))]
            out |= {f"{label}.{each}": list(inspect.signature(getattr(value, each)).parameters) for each in methods}
        elif callable(value) and getattr(value, "__module__", "") == name:
            out[label] = list(inspect.signature(value).parameters)
        elif isinstance(value, int | bytes | str) and not label.startswith("IP"):  # the kernel's numbers, IP_PKTINFO
            out[label] = value
    return out


def describe() -> dict[str, object]:
    compiled = [name for name in HOT if (importlib.import_module(name).__file__ or "").endswith(".so")]
    return {"hot": list(HOT), "compiled": compiled, "twins": {name: described(name) for name in TWINS}}


def main(arguments: list[str]) -> None:
    print(form())
    if not arguments:
        print(json.dumps(describe()))
        return
    with open(arguments[0]) as corpus:
        for line in corpus:
            print(json.dumps(facts(json.loads(line))))


if __name__ == "__main__":
    main(sys.argv[1:])
