"""All entries of a server, page by page: Redis walks and reads in one step, instead of being asked for each key.

A step is short, so nodes have their turn between two of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.store.contract import Script

#: Keys of a step; octets of values after which the rest of a page is told without them, to be read one by one.
KEYS, OCTETS = 300, 1 << 20
#: In place of the rest of a key's life: its values have not been told.
NOT_TOLD = -3

#: ARGV cursor, pattern, keys, fields. Returns the cursor, and for each hash its key, PTTL and fields.
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
return {found[1], told}
"""
    % (NOT_TOLD, OCTETS),
    0,
)

#: ARGV cursor, pattern, keys. Returns the cursor, and of each type, RCODE and state, in words, how many entries it has.
COUNT = Script(
    b"""
local found, counts, told = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3]), {}, {}
local find, match, call, pcall, sub = string.find, string.match, redis.call, redis.pcall, string.sub
for _, key in ipairs(found[2]) do
  local at = find(key, '}:', 1, true)
  local kind = at and match(key, '^[%u%d-]+', at + 2)
  local info = kind and not find(key, '#', at, true) and pcall('HMGET', key, 'info')[1]
  if type(info) == 'string' then
    local rcode, stale = match(info, '^rcode=([%u%d]+) ttl=%d+ stale=(%d+) ')
    local state = call('PTTL', key) > (tonumber(stale) or 0) * 1000 and 'fresh' or 'stale'
    local word = sub(kind, 1, 20) .. ' ' .. sub(rcode or '?', 1, 20) .. ' ' .. state
    counts[word] = (counts[word] or 0) + 1
  end
end
for word, count in pairs(counts) do
  told[#told + 1] = word
  told[#told + 1] = count
end
return {found[1], told}
""",
    0,
)
#: A key, the ms it has left, its fields.
Row = tuple[str, int, list[Any]]


def read(server: Any, pattern: str, *fields: str) -> Iterator[list[Row]]:
    """The hashes whose keys fit a pattern. Raises what redis-py does, StoreDown."""
    for told in _steps(server, READ, pattern, *fields):
        width = len(fields) + 2
        starts = range(0, len(told), width)
        yield [(told[at].decode("utf-8", "replace"), told[at + 1], told[at + 2 : at + width]) for at in starts]


def count(server: Any, pattern: str) -> Iterator[Counter[tuple[str, str, str]]]:
    """How many entries there are by type, RCODE and state, page by page. Raises what redis-py does, StoreDown."""
    for told in _steps(server, COUNT, pattern):
        found: Counter[tuple[str, str, str]] = Counter()
        for word, number in zip(told[::2], told[1::2], strict=True):
            kind, rcode, state = word.decode("ascii", "replace").split(" ")
            found[kind, rcode, state] += number
        yield found


def _steps(server: Any, script: Script, pattern: str, *fields: str) -> Iterator[list[Any]]:
    cursor = b"0"
    while True:
        reply = server.eval(script.source.decode(), 0, cursor, pattern, KEYS, *fields)
        if not isinstance(reply, list) or len(reply) != 2:
            raise StoreDown(f"entries cannot be read: {reply}"[:200])
        cursor, told = reply
        yield told
        if cursor == b"0":
            return
