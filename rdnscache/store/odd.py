"""Odd entries, whose keys cannot be guessed from a name: types without a mnemonic, other classes, networks of clients,
and routes of views.

All others are tried key by key. The odd ones are listed in an index, which a leader writes before it claims and before
it fills, so that a flush of a name need not search all keys. In a Redis Cluster the index is on another server than the
entries, and writes have no order; there it is not used, since a server can list the keys of a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rdnscache.dns.names import TYPES
from rdnscache.dns.question import VARIANT_ROUTE, VARIANT_SUBNET, qclass, qtype, questions, variant
from rdnscache.dns.wire import IN
from rdnscache.store.contract import Names
from rdnscache.store.script import Script
from rdnscache.store.slots import slot_of

#: Maximum entries in the index; beyond them `MORE` says that there are others.
LISTED = 10_000
#: Maximum keys of a slot that are listed to find those of a name (of ten million keys a slot has 600), and how many
#: more are asked for, since keys may be added meanwhile.
MOST_IN_SLOT, SPARE = 20_000, 100
MORE = b"more"

#: KEYS index; ARGV entry, ms for which it may exist. Scores are the end of that, by the clock of Redis. A value of
#: another type is deleted.
NOTE = Script(
    b"""
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local ends = now + ARGV[2] / 1000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known or tonumber(known) < ends then redis.call('ZADD', KEYS[1], ends, ARGV[1]) end
if redis.call('ZCARD', KEYS[1]) > %d then
  local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, 0)
  redis.call('ZADD', KEYS[1], last[2], 'more')
end
local left = redis.call('PTTL', KEYS[1])
if left < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
    % LISTED,
    1,
)


def guessable(key: bytes) -> bool:
    """Whether the key of a question is among those that `guesses` tries for its name."""
    return (
        not variant(key) & (VARIANT_SUBNET | VARIANT_ROUTE)
        and qclass(key) == IN
        and (qtype(key) in TYPES or not qtype(key))
    )


def guesses(names: Names, name: bytes, listed: Sequence[Any]) -> Iterator[str]:
    """The keys of all possible entries of a name, including those in the index."""
    for question in questions(name, sorted(TYPES), IN):
        yield names.entry(question).decode("ascii")
    head = names.entries_of(name)
    for member in listed:
        text = member.decode("utf-8", "replace") if isinstance(member, bytes) else ""
        if text.startswith(head):
            yield text


def in_slot(ask: Callable[..., Sequence[Any]], names: Names, name: bytes) -> list[str] | None:
    """The keys of a name on a server of a Redis Cluster, by its list of the slot's keys; None if it cannot tell."""
    head = names.entries_of(name)
    slot = slot_of(head.encode())
    (count,) = ask((b"CLUSTER", b"COUNTKEYSINSLOT", slot))
    if not isinstance(count, int) or count > MOST_IN_SLOT:
        return None
    (keys,) = ask((b"CLUSTER", b"GETKEYSINSLOT", slot, count + SPARE)) if count else ([],)
    if not isinstance(keys, list):
        return None
    texts = (key.decode("utf-8", "replace") for key in keys if isinstance(key, bytes))
    return [text for text in texts if text.startswith(head)]


def listed(ask: Callable[[Sequence[Any]], Sequence[Any]], names: Names) -> Sequence[Any] | None:
    """The members of the index; None if it is incomplete or cannot be read."""
    (told,) = ask((b"ZREVRANGE", names.odd, 0, -1))
    if not isinstance(told, list):
        return [] if str(told).startswith("WRONGTYPE") else None
    return None if MORE in told else told
