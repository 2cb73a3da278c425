"""The questions asked most, a part of the contract; the key is `hot`, see `contract`.

Workers add their counts. All scores decay together, so that a query counts half after HALF_LIFE. The score that one
steady query a second would have by now is stored with them and decays likewise: a score divided by it is a rate, from
the first report on and not only after some half-lives.
"""

from __future__ import annotations

import math

from rdnscache.store.script import Script

#: Questions kept; seconds after which a query counts half; the key's lifetime in ms.
KEPT, HALF_LIFE, LIFETIME = 1000, 60, 86_400_000
#: Seconds between two reports of a worker; minimum seconds between two decays.
INTERVAL, _STEP = 10.0, 9.0
#: The member that is not a question: the score of one steady query a second.
SECONDS = b"seconds"
#: The value it converges to.
FULL = HALF_LIFE / math.log(2)

#: KEYS hot; ARGV questions and their queries in turn. The time since the last decay follows from the key's expiry, so
#: no clock is needed. A value of another type is deleted.
HEAT = Script(
    b"""
local left = redis.call('PTTL', KEYS[1])
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then
  redis.call('DEL', KEYS[1])
  left = -1
end
local age = (%(lifetime)d - left) / 1000
if left < 0 or age >= %(step)f then
  local part = left < 0 and 1 or 0.5 ^ (age / %(half)d)
  local seconds = redis.call('ZSCORE', KEYS[1], 'seconds') or (left < 0 and %(interval)f or 0)
  redis.call('ZREM', KEYS[1], 'seconds')
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -%(kept)d - 1)
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', part)
  redis.call('ZADD', KEYS[1], seconds * part + %(full)f * (1 - part), 'seconds')
  left = -1
end
for i = 1, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i + 1], ARGV[i]) end
if left < 0 then redis.call('PEXPIRE', KEYS[1], %(lifetime)d) end
return 0
"""
    % {
        b"lifetime": LIFETIME, b"step": _STEP, b"kept": KEPT, b"half": HALF_LIFE, b"interval": INTERVAL, b"full": FULL,
    },
    1,
)  # fmt: skip


def rate(score: float, seconds: float, left_ms: int) -> float:
    """The rate in queries a second for a score; `seconds` is the score of SECONDS. 0 if it is not known."""
    quiet = max((LIFETIME - left_ms) / 1000 - 2 * INTERVAL, 0.0) if left_ms >= 0 else 0.0
    part = 0.5 ** (quiet / HALF_LIFE)
    weight = max(seconds * part + FULL * (1 - part), 1e-9)
    known = math.isfinite(weight) and weight >= 1.0
    return score * part / weight if known or not math.isfinite(score) else 0.0
