"""What a small entry costs in L1: `python bench/l1_memory.py`. Prints bytes per entry, as tracemalloc counts them."""

from __future__ import annotations

import tracemalloc

from rdnscache.cache import Cache
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import parse_reply

ENTRIES = 20_000


def main() -> None:
    cache = Cache(ENTRIES, 1 << 40)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    own = 0
    for number in range(ENTRIES):
        key = b"\x06n%05d\x07example\x03com\x00\x00\x01\x00\x01\x00" % number
        record = b"\xc0\x0c\0\1\0\1" + (300).to_bytes(4, "big") + b"\0\4\xc0\0\2\1"
        reply = parse_reply(bytes.fromhex("000081800001000100000000") + key[:-1] + record)
        assert reply is not None
        entry = Entry(key, reply, 1000 + number / 1000, 300, 3600)
        own += len(entry.key) + len(entry.tail) + len(entry.ttls)
        cache.put(entry, 1000.0)
    each = (tracemalloc.get_traced_memory()[0] - before) / ENTRIES
    print(f"{each:.0f} bytes an entry, {own / ENTRIES:.0f} of them its own, {each - own / ENTRIES:.0f} overhead")


if __name__ == "__main__":
    main()
