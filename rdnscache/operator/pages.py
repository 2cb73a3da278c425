"""All entries of a server, page by page: one script scans and reads many keys, instead of one command per key.

A page is small, so that Redis serves nodes between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.operator.places import line
from rdnscache.store.complaint import sentence
from rdnscache.store.contract import Script

#: Keys per page; octets of values after which a page has only the keys of the rest, which are then read one by one.
KEYS, OCTETS = 300, 1 << 20
#: In place of a key's remaining time: its values were left out.
NOT_TOLD = -3

#: ARGV: cursor, pattern, number of keys, fields. Returns the cursor, for each hash its key, PTTL and fields, and how
#: many keys matched.
READ = Script(
    b"""
local found, told, octets = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3]), {}, 0
for _, key in ipairs(found[2]) do
  local left, values = %d, {}
  if octets < %d then
    values = redis.pcall('HMGET', key, unpack(ARGV, 4))
    left = values.err and -2 or redis.call('PTTL', key)
    for i = 1, #ARGV - 3 do octets = octets + (values[i] and #values[i] or 0) end
  end
  if left ~= -2 then
    told[#told + 1] = key
    told[#told + 1] = left
    for i = 1, #ARGV - 3 do told[#told + 1] = values[i] or false end
  end
end
return {found[1], told, #found[2]}
"""
    % (NOT_TOLD, OCTETS),
    0,
)

#: A key, its remaining time in ms, its fields.
Row = tuple[str, int, list[Any]]


class Page(list[Row]):
    """Rows of the keys that match a pattern, and the number of matching keys of any type."""

    keys = 0


def read(server: Any, pattern: str, *fields: str) -> Iterator[Page]:
    """The hashes whose keys match a pattern; reads ahead by one page. Raises the client's errors, and StoreDown."""
    cursor, width = b"0", len(fields) + 2
    with line(server) as one:
        one.send((b"EVAL", READ.source, 0, cursor, pattern, KEYS, *fields))
        while True:
            reply = one.receive()
            if not isinstance(reply, list) or len(reply) != 3:
                raise StoreDown(sentence(reply) if isinstance(reply, Exception) else "entries cannot be read")
            cursor, told, keys = reply
            if cursor != b"0":
                one.send((b"EVAL", READ.source, 0, cursor, pattern, KEYS, *fields))
            starts = range(0, len(told), width)
            page = Page((told[at].decode("utf-8", "replace"), told[at + 1], told[at + 2 : at + width]) for at in starts)
            page.keys = keys
            yield page
            if cursor == b"0":
                return
