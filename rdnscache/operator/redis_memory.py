"""Statistics of Redis: keys, memory, evictions."""

from __future__ import annotations

from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.operator.redis_clients import primaries, redis_errors
from rdnscache.operator.told import number, word
from rdnscache.store.complaint import may_not

#: Fields that are added up over the primaries of a Redis Cluster, and their names in INFO.
_SUMS = {"bytes": "used_memory", "room_bytes": "maxmemory", "evictions": "evicted_keys", "expirations": "expired_keys"}


def redis_memory(client: Any) -> dict[str, Any]:
    """The sums over all primaries; with `problem` when our user lacks permission. `room_bytes` is 0 without a limit.

    Raises StoreDown.
    """
    found: dict[str, Any] = {"keys": 0} | dict.fromkeys(_SUMS, 0)
    try:
        with redis_errors():
            for server in primaries(client):
                told = server.info("memory") | server.info("stats")
                found["keys"] += int(server.dbsize())
                for name, field in _SUMS.items():
                    found[name] += int(number(told.get(field)))
                found["policy"] = word(told.get("maxmemory_policy", ""))
    except StoreDown as error:
        if may_not(error):
            return {"problem": "the user of Redis may not run INFO and DBSIZE"}
        raise
    return found
