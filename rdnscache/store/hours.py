"""The cluster's last hour, a part of the contract: a key for each minute, `{hour}:<minute since 1970>`, see `contract`.

Every worker adds its counts of a minute when that is over. It is a sorted set, which people can read and nodes can add
to. A minute has 35 members at most and takes 2.5 KB, so all take 165 KB whatever the number of nodes.
"""

from __future__ import annotations

from rdnscache.store.script import Script

#: Lifetime of a minute's key in ms: an hour, and five minutes more for workers that are late.
LIFETIME = 3_900_000
#: Maximum members of a minute that are read.
MOST_MEMBERS = 100

#: KEYS minute; ARGV names and counts in turn. A value of another type is deleted.
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
