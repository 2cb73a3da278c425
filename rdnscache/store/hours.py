"""The cluster's last hour: part of the contract. A key for each minute, `{hour}:<minute since 1970>`, see `contract`.

Every worker adds what it has counted in a minute when that is over. It is a sorted set so that people can read it, and
because nodes may add to one already. A minute has 35 members at most and takes 2.5 KB, so all take 165 KB whatever the
number of nodes.
"""

from __future__ import annotations

from rdnscache.store.script import Script

#: Lifetime of a minute's key in ms: the hour that is shown, and five minutes in which workers may be late.
LIFETIME = 3_900_000
#: Members that are read of a minute.
MOST_MEMBERS = 100

#: KEYS minute; ARGV what was counted, how often, and so on. A value of another type makes room.
ADD = Script(
    b"""
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
for i = 1, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i + 1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], %d)
return 0
"""
    % LIFETIME,
    1,
)
