"""The part of the contract about members and control events: scripts, limits, worker IDs. Keys: see `contract`."""

from __future__ import annotations

import re
from typing import NamedTuple

from rdnscache.store.script import Script

#: Maximum octets of the control stream: EVENTS_KEPT of the longest events take a quarter. A larger one, which nodes do
#: not make, would block Redis whenever it is read, so it is deleted; workers treat that as lost events.
LARGEST_STREAM = 1 << 24
_BOUND = (
    b"""
local size = redis.pcall('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0)
if type(size) == 'number' and size > %d then redis.call('UNLINK', KEYS[1]) end
"""
    % LARGEST_STREAM
)

#: KEYS stream; ARGV channel, event, how many to keep. Returns the event's ID, and the number of clients of this server
#: that got it. The message is "ID event", with the ID of the preceding event in the event. A value of another type is
#: deleted.
_TELL = (
    _BOUND
    + b"""
local function tell()
  local last = redis.pcall('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
  if last.err then
    redis.call('DEL', KEYS[1])
    last = {}
  end
  local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'event', ARGV[2])
  local after = last[1] and last[1][1] or '0-0'
  local heard = redis.call('PUBLISH', ARGV[1], id .. ' {"after": "' .. after .. '", ' .. string.sub(ARGV[2], 2))
  return {id, heard}
end
"""
)
ANNOUNCE = Script(_TELL + b"return tell()\n", 1)

#: Maximum flushes under way at the same time, and octets of the event of one.
MOST_UNDER_WAY, LONGEST_FLUSH = 64, 2500
#: KEYS stream, flushes under way; ARGV as for ANNOUNCE, and the maximum number of flushes under way. Enters the event
#: among them, with its ID. Returns the same, or nil if there are too many.
BEGIN = Script(
    _TELL
    + b"""
local known = redis.pcall('HGETALL', KEYS[2])
if known.err then
  redis.call('DEL', KEYS[2])
elseif #known >= 2 * ARGV[4] and not redis.call('HMGET', KEYS[2], ARGV[2])[1] then
  return false
end
local told = tell()
redis.call('HSET', KEYS[2], ARGV[2], told[1])
return told
""",
    2,
)

#: KEYS and ARGV as for ANNOUNCE, with flushes under way, and the event and ID of one that is over. Removes it, unless
#: the same flush has been ordered again since.
END = Script(
    _TELL
    + b"""
if redis.call('HMGET', KEYS[2], ARGV[4])[1] == ARGV[5] then redis.call('HDEL', KEYS[2], ARGV[4]) end
return tell()
""",
    2,
)

#: KEYS flushes under way; ARGV their maximum number, maximum octets of one. Returns events and IDs in turn; an event
#: that is too long is returned empty. A value that is not made by nodes is deleted.
UNDER_WAY = Script(
    b"""
local told = redis.pcall('HGETALL', KEYS[1])
if told.err or #told > 2 * ARGV[1] then
  redis.call('UNLINK', KEYS[1])
  return {}
end
for i = 1, #told, 2 do
  if #told[i] > tonumber(ARGV[2]) then told[i] = '' end
end
return told
""",
    1,
)

#: KEYS stream; ARGV how many. Returns the IDs of the newest events, the newest first.
NEWEST = Script(
    _BOUND
    + b"""
local told = {}
for i, event in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])) do told[i] = event[1] end
return told
"""
)

#: Seconds of a step of the history in a worker's report, and the number of steps; aligned to the wall clock, so that
#: those of several workers can be added up.
STEP, STEPS = 5, 60
#: Maximum flushes in the mark of a primary of a Redis Cluster, and its octets.
MARKS_KEPT, LONGEST_MARK = 200, 200 * 42
#: Follows a flush in a mark: a worker has deleted its entries while the flush itself was still under way.
PROVISIONAL = b"?"

#: KEYS mark; ARGV how many to keep, and the flushes that the server has now been swept for. Puts them in front. A value
#: of another type is replaced.
MARK = Script(
    b"""
local told = redis.pcall('GETRANGE', KEYS[1], 0, %d)
local marks = {}
for i = #ARGV, 2, -1 do marks[#marks + 1] = ARGV[i] end
for mark in string.gmatch(type(told) == 'string' and told or '', '[^ ]+') do
  if #marks < tonumber(ARGV[1]) then marks[#marks + 1] = mark end
end
redis.call('SET', KEYS[1], table.concat(marks, ' '))
return #marks
"""
    % LONGEST_MARK
)

#: KEYS stream; ARGV the last known event, and 1 to check whether the stream has it. Returns whether it has, and the ID
#: of the event after it, if any. Other events are not read: they may be of any size.
SEEN = Script(
    _BOUND
    + b"""
local there = 1
if ARGV[2] == '1' then there = #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) end
local later = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)
return {there, later[1] and later[1][1] or ''}
"""
)

#: KEYS stream; ARGV the first ID, how many, maximum octets of an event, and `back` to go backwards from there.
#: Returns IDs and events in turn; an event that is too long or malformed is returned empty.
READ = Script(
    _BOUND
    + b"""
local events, told
if ARGV[4] then
  events = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])
else
  events = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
end
told = {}
for _, event in ipairs(events) do
  local text = event[2][1] == 'event' and event[2][2] or ''
  told[#told + 1] = event[1]
  told[#told + 1] = #text <= tonumber(ARGV[3]) and text or ''
end
return told
"""
)

#: Maximum workers of the register that are read: those with the latest heartbeats.
MOST_WORKERS = 2000
#: The event that says that an earlier one was not confirmed by all in time; it names the worker that counts it.
UNCONFIRMED = "unconfirmed"
#: Maximum octets of a control event; a longer one counts as a flush of everything.
LONGEST_EVENT = 4096

#: KEYS register; ARGV seconds after which a worker is forgotten, how many to tell, and who speaks, if somebody does.
#: Returns 1 if that one was not listed, the register's age in seconds, the time, the workers that spoke last, each with
#: the moment, and how many are listed; seconds and moments as text. `since`, when the register began, may be among the
#: workers. Who only reads changes nothing. A value of another type makes room.
ROLL = Script(
    b"""
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local since, new = redis.pcall('ZSCORE', KEYS[1], 'since'), 0
if type(since) == 'table' and ARGV[3] then redis.call('DEL', KEYS[1]) end
if type(since) ~= 'string' then since = now end
if ARGV[3] then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
  redis.call('ZADD', KEYS[1], since, 'since')
  new = redis.call('ZADD', KEYS[1], now, ARGV[3])
end
local told = {}
if ARGV[2] ~= '0' then told = redis.pcall('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1, 'WITHSCORES') end
if told.err then told = {} end
local total = redis.pcall('ZCARD', KEYS[1])
return {new, tostring(now - since), string.format('%.6f', now), told, type(total) == 'number' and total - 1 or 0}
"""
)

#: KEYS register; ARGV workers and the seconds since their last heartbeats in turn. Enters those that are not listed.
RESTORE = Script(
    b"""
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
for i = 1, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'NX', now - ARGV[i + 1], ARGV[i]) end
return 0
"""
)


def order(event_id: bytes) -> tuple[int, ...]:
    """The parts of an event's ID, by which events are ordered."""
    return tuple(map(int, event_id.split(b"-")))


class WorkerId(NamedTuple):
    """A worker of the cluster: its node, that node's incarnation, and its number in the node."""

    node: str
    incarnation: str
    worker: int

    def __str__(self) -> str:
        return f"{self.node}.{self.incarnation}.{self.worker}"

    @classmethod
    def parse(cls, text: str) -> WorkerId | None:
        match = _WORKER_ID.fullmatch(text)
        return cls(match[1], match[2], int(match[3])) if match else None


_WORKER_ID = re.compile(r"(.{1,255})\.([0-9a-f]{8})\.([0-9]{1,4})", re.DOTALL)
