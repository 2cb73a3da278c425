"""The part of the contract about what is asked most: the script that counts it."""

from __future__ import annotations

from rdnscache.store.contract import Script

#: Questions kept in `hot`, the seconds after which a query counts half, the key's lifetime in ms.
HOT_KEPT, HOT_HALF_LIFE, HOT_LIFETIME = 1000, 600, 86_400_000
#: What a steady query a second amounts to there.
HOT_UNIT = HOT_HALF_LIFE / 0.6931
_HOT_STEP = 60_000

#: KEYS hot; ARGV question, queries, and so on. Every minute all scores are aged, by the key's own expiry: no clock is
#: asked. A value of another type makes room.
HEAT = Script(
    b"""
local left = redis.call('PTTL', KEYS[1])
local age = %(lifetime)d - left
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then
  redis.call('DEL', KEYS[1])
  left = -1
elseif left < 0 or age >= %(step)d then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -%(kept)d - 1)
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', left < 0 and 1 or 0.5 ^ (age / %(half)d))
  left = -1
end
for i = 1, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i + 1], ARGV[i]) end
if left < 0 then redis.call('PEXPIRE', KEYS[1], %(lifetime)d) end
return 0
"""
    % {b"lifetime": HOT_LIFETIME, b"step": _HOT_STEP, b"kept": HOT_KEPT, b"half": HOT_HALF_LIFE * 1000}
)
