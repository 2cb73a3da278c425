"""The memory of an entry in L1: `python bench/l1_memory.py [ENTRIES]`. Measures the growth of the process.

Entries are of the kinds that clients ask for most: addresses, also with an alias, and negative answers with an SOA.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from rdnscache.cache import Cache
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import parse_reply
from rdnscache.forms import form

ENTRIES = 100_000
OWNER, APEX = b"\xc0\x0c", b"\xc0\x16"
TTL = (300).to_bytes(4, "big")


def record(owner: bytes, number: int, data: bytes) -> bytes:
    return owner + number.to_bytes(2, "big") + b"\0\1" + TTL + len(data).to_bytes(2, "big") + data


SOA = record(APEX, 6, b"\3ns1" + APEX + b"\12hostmaster" + APEX + bytes(20))
ADDRESS = bytes((192, 0, 2, 1))
ALIAS = record(OWNER, 5, b"\4edge\3cdn" + APEX)
#: Type, RCODE, counts of answers and of authority records, records.
KINDS = (
    (1, 0, 1, 0, record(OWNER, 1, ADDRESS)),
    (1, 0, 2, 0, 2 * record(OWNER, 1, ADDRESS)),
    (1, 0, 2, 0, ALIAS + record(b"\xc0\x33", 1, ADDRESS)),
    (28, 0, 1, 0, record(OWNER, 28, bytes(16))),
    (28, 0, 0, 1, SOA),
    (65, 0, 0, 1, SOA),
    (0, 3, 0, 1, SOA),
)


def entry_of(number: int) -> Entry:
    rtype, rcode, answers, authority, records = KINDS[number % len(KINDS)]
    name = b"\x09n%08d\x07example\x03com\x00" % number
    section = name + rtype.to_bytes(2, "big") + b"\0\1"
    asked = section if rtype else name + b"\0\1\0\1"
    head = bytes((0, 0, 0x81, 0x80 | rcode, 0, 1, 0, answers, 0, authority, 0, 0))
    reply = parse_reply(head + asked + records)
    assert reply is not None
    # a separate string for each entry, as when it is read from the network
    return Entry(section + b"\0", reply, 1000 + number / 1000, 300, 3600, f"from=192.0.2.{number % 4} node=n1")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ENTRIES
    cache = Cache(count, 1 << 40)
    own, before = 0, resident()
    for number in range(count):
        entry = entry_of(number)
        own += len(entry.key) + len(entry.tail) + len(entry.ttls)
        cache.put(entry, 1000.0)
    each = (resident() - before) / count
    print(
        f"{form()}: {each:.0f} bytes for each of {count:,} entries, {own / count:.0f} of them data; "
        f"accounted as {cache.size / count:.0f}"
    )


if __name__ == "__main__":
    main()
