"""The part of the contract about budgets: how the cluster shares out the queries that an upstream may be sent.

A budget is a row of evenly spaced slots, of which workers take runs; see `upstream.allowance`.

A worker's share is the rate at which it may send when it is cut off from Redis. With each request it lends its share to
the cluster until a time that it names, and does not use it before then; after that time the share is reserved for it.
Times are those of the clock of Redis, in microseconds.
"""

from __future__ import annotations

from typing import Any

from rdnscache.store.contract import MEMBER_TTL
from rdnscache.store.script import Script
from rdnscache.upstream.allowance import Allotment

#: Maximum age of a slot when it is handed out, in seconds.
BACKLOG = 0.025
#: Seconds ahead for which slots are handed out; if slots are rare, far enough for one per waiting worker, up to the
#: second value.
REACH, LONGEST_REACH = 0.2, 0.5
#: Seconds after which all members are summed up again.
_LOOK = 0.1
#: Seconds after a request for which a member counts as wanting slots.
_WANTS = 0.5
#: Maximum members of a budget; a key with more was tampered with and is deleted.
_MOST_MEMBERS = 5000

#: KEYS budget; ARGV queries a second, member, its weight (those of a node's workers add up to 1), its share as it knows
#: it, the time until which it lends that, slots wanted, microseconds until they can be used.
#: Returns the time, the number of slots it gets, the first one, the nanoseconds between two, the first free one after
#: them, and in millionths of a query a second: its share, the slots handed out in the last second, the sum reserved for
#: members that may be cut off.
#: Fields: for each member `lent share weight wanted seen`; `.next`, the first free slot; `.used`, the decaying number
#: of slots handed out, and its time; `.sums` over all members, and their time. Each request updates the sums.
ALLOT = Script(
    b"""
local key, me = KEYS[1], ARGV[2]
local rate, weight, share, lent = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local want, ahead = tonumber(ARGV[6]), tonumber(ARGV[7])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if redis.call('TYPE', key).ok ~= 'hash' or redis.call('HLEN', key) > %(members)d then redis.call('DEL', key) end
local told = redis.call('HMGET', key, '.next', '.used', '.sums', me)

local function numbers(text, count)
  local found = {}
  for word in string.gmatch(text or '', '[^ ]+') do found[#found + 1] = tonumber(word) end
  for i = 1, count do
    if not (found[i] and found[i] >= 0 and found[i] < 1e16) then return nil end
  end
  return found
end

-- adds a member to the sums: weight, share, reserved share, weight of those that want slots
local function add(sums, m, sign)
  sums[2] = sums[2] + sign * m[3]
  sums[3] = sums[3] + sign * m[2]
  if m[1] < sums[1] + %(margin)d then sums[4] = sums[4] + sign * m[2] end
  if m[4] > sums[1] - %(wants)d then sums[5] = sums[5] + sign * m[3] end
end

local mine, sums = numbers(told[4], 5), numbers(told[3], 5)
if mine and sums and sums[1] <= now and now - sums[1] < %(look)d then
  add(sums, mine, -1)
else
  sums = {now, 0, 0, 0, 0}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] ~= me and string.sub(all[i], 1, 1) ~= '.' then
      local m = numbers(all[i + 1], 5)
      if m and m[5] <= now + %(ttl)d and now - m[5] < %(ttl)d then
        add(sums, m, 1)
      else
        redis.call('HDEL', key, all[i])
      end
    end
  end
end

local due = math.max(math.min(rate * weight / (sums[2] + weight), rate - sums[3]), 0)
local pool = rate - math.max(sums[4], 0)
local first = now + ahead
local count, apart = 0, 0
local free = (numbers(told[1], 1) or {first})[1]
if pool > 0 then
  apart = 1000000 / pool
  if free > first + %(longest)d + 2 * apart then free = first + apart end -- the clock was set back
  free = math.max(free, first - %(backlog)d)
  local reach = math.min(math.max(%(reach)d, (sums[5] / weight + 1) * apart), %(longest)d)
  if want > 0 and free <= first + reach then
    local part = math.max(math.floor(reach / apart * weight / (math.max(sums[5], 0) + weight)), 1)
    count = math.min(want, math.floor((first + reach - free) / apart) + 1, part)
  end
end
local used = numbers(told[2], 2) or {0, now}
local faded = used[1] * math.exp(-math.max(now - used[2], 0) / 1000000)

mine = {lent, math.max(share, due), weight, want > 0 and now or (mine and mine[4] or 0), now}
add(sums, mine, 1)
for i = 1, 5 do sums[i] = string.format(i == 1 and '%%.0f' or '%%.6f', math.max(sums[i], 0)) end
redis.call('HSET', key, me, string.format('%%.0f %%.6f %%.6f %%.0f %%.0f', unpack(mine)),
  '.next', string.format('%%.0f', free + count * apart),
  '.used', string.format('%%.6f %%.0f', faded + count, now), '.sums', table.concat(sums, ' '))
redis.call('PEXPIRE', key, %(ttl_ms)d)
return {now, count, math.floor(free), math.ceil(apart * 1000), math.floor(free + count * apart),
  math.floor(due * 1000000), math.floor((faded + count) * 1000000), math.floor((rate - pool) * 1000000)}
"""
    % {
        b"members": _MOST_MEMBERS,
        b"margin": round((LONGEST_REACH + _LOOK) * 1e6),
        b"wants": round(_WANTS * 1e6),
        b"look": round(_LOOK * 1e6),
        b"ttl": round(MEMBER_TTL * 1e6),
        b"longest": round(LONGEST_REACH * 1e6),
        b"backlog": round(BACKLOG * 1e6),
        b"reach": round(REACH * 1e6),
        b"ttl_ms": MEMBER_TTL * 1000,
    },
    keys=1,
)


def read_allotment(reply: Any) -> Allotment | None:
    """The allotment in a reply of ALLOT; None if the reply is malformed."""
    if not isinstance(reply, list) or len(reply) != 8 or not all(isinstance(each, int) and each >= 0 for each in reply):
        return None
    now, count, start, apart, free, share, used, reserved = reply
    rates = (share / 1e6, used / 1e6, reserved / 1e6)
    return Allotment(now / 1e6, count, start / 1e6, apart / 1e9, free / 1e6, *rates)
