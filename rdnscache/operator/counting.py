"""The number of entries, counted one by one or estimated from a sample of all keys.

SCAN returns keys in the order of their hashes, which nobody can choose, so the first ones are a random sample.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.store.script import Script

#: Keys in a sample: with this many, a share of all keys is exact within half a percent. With signatures it costs more.
SAMPLE, SIGNED_SAMPLE = 50_000, 5_000
#: Keys per SCAN, and per step; a step takes Redis a millisecond.
KEYS, STEP = 100, 200
#: The error margin in standard errors, for 95 % confidence.
CONFIDENCE = 1.96

#: ARGV: cursor, root with its brace, and a zone, which may be empty. Returns the cursor, how many keys were examined,
#: and the number of entries for each combination of type, RCODE and state.
COUNT = Script(
    b"""
local cursor, looked, counts, told = ARGV[1], 0, {}, {}
local root, zone = ARGV[2], ARGV[3]
local find, match, call, pcall, sub = string.find, string.match, redis.call, redis.pcall, string.sub
repeat
  local found = call('SCAN', cursor, 'COUNT', %d)
  cursor, looked = found[1], looked + #found[2]
  for _, key in ipairs(found[2]) do
    local at = sub(key, 1, #root) == root and find(key, '}:', #root + 1, true)
    local kind = at and match(key, '^[%%u%%d-]+', at + 2)
    if kind and zone ~= '' then
      local name = sub(key, #root + 1, at - 1)
      kind = (name == zone or sub(name, -#zone - 1) == '.' .. zone) and kind
    end
    local info = kind and not find(key, '#', at, true) and pcall('HMGET', key, 'info')[1]
    if type(info) == 'string' then
      local rcode, stale = match(info, '^rcode=([%%u%%d]+) ttl=%%d+ stale=(%%d+) ')
      local state = call('PTTL', key) > (tonumber(stale) or 0) * 1000 and 'fresh' or 'stale'
      local word = sub(kind, 1, 20) .. ' ' .. sub(rcode or '?', 1, 20) .. ' ' .. state
      counts[word] = (counts[word] or 0) + 1
    end
  end
until cursor == '0' or looked >= %d
for word, count in pairs(counts) do
  told[#told + 1] = word
  told[#told + 1] = count
end
return {cursor, looked, told}
"""
    % (KEYS, STEP),
    0,
)


@dataclass(slots=True)
class Counts:
    """Entries by type, RCODE and state, among the keys examined."""

    #: How many keys of any kind there are; how many of them were examined, and whether all were.
    keys: int = 0
    looked: int = 0
    exact: bool = False
    found: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def margin(self) -> int:
        """The margin of error of a figure in entries, with 95 % confidence."""
        if self.exact or not self.looked:
            return 0
        unseen = max(self.keys - self.looked, 0) / self.keys if self.keys else 0.0
        return math.ceil(CONFIDENCE * 0.5 / math.sqrt(self.looked) * math.sqrt(unseen) * self.keys)

    def estimate(self, count: int) -> int:
        """A count among the examined keys, scaled up to all keys."""
        return count if self.exact or not self.looked else round(count * max(self.keys / self.looked, 1.0))

    def by(self, place: int) -> dict[str, int]:
        """The entries by type (0), RCODE (1) or state (2), the most frequent first."""
        sums = Counter[str]()
        for words, count in self.found.items():
            sums[words[place]] += count
        return {word: self.estimate(count) for word, count in sums.most_common()}

    @property
    def entries(self) -> int:
        return self.estimate(self.found.total())


def count(server: Any, root: str, zone: str, most: int) -> Iterator[tuple[int, Counter[tuple[str, str, str]]]]:
    """Yields, step by step, how many keys were examined, and what they are; stops at `most` keys, or (0) at the end.

    Raises what redis-py does, StoreDown.
    """
    cursor, total = b"0", 0
    while True:
        reply = server.eval(COUNT.source.decode(), 0, cursor, root, zone)
        if not isinstance(reply, list) or len(reply) != 3:
            raise StoreDown(f"entries cannot be counted: {reply}"[:200])
        cursor, looked, told = reply
        total += looked
        found: Counter[tuple[str, str, str]] = Counter()
        for word, number in zip(told[::2], told[1::2], strict=True):
            kind, rcode, state = word.decode("ascii", "replace").split(" ")
            found[kind, rcode, state] += number
        yield looked, found
        if cursor == b"0" or (most and total >= most):
            return
