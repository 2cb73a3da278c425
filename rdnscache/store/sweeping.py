"""Deleting the entries of a flush from one server, over one connection.

A script in Redis scans the keys and deletes, in steps of a few milliseconds, between which it serves nodes.

If the connection is lost, the caller must start again: another server, or one that was restarted, does not know how far
SCAN has come, and may have entries again that were deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

from rdnscache.dns.names import rcode_text
from rdnscache.errors import StoreDown
from rdnscache.store.contract import CLAIM_SUFFIX, FLUSHED, Names
from rdnscache.store.odd import guesses, in_slot, listed
from rdnscache.store.scope import Scope
from rdnscache.store.script import Script
from rdnscache.store.servers import Ask

#: Known keys handled at once: by commands, and by a worker, which has other work to do meanwhile.
PAGE, STEP = 500, 50
#: Keys of one SCAN; the work after which a step ends, in units of about a microsecond: time stands still in scripts.
KEYS, WORK = 100, 1500
#: What a pass does: take claims, delete entries.
CLAIMS, ENTRIES, BOTH = b"claims", b"entries", b"both"
#: The passes over the keys: usually; if all workers have confirmed that no earlier leader will store anything; and if
#: the flush is so long ago that there are no such leaders.
CAREFUL, CONFIRMED, LATER = (CLAIMS, ENTRIES), (BOTH,), (ENTRIES,)

#: ARGV cursor, pattern, what to do, root with its brace, name, zone, RCODE, the event that must not have been seen
#: (each of the last four may be empty), and types, if there are any. Returns the cursor, the number of keys scanned,
#: the number of entries deleted, and keys that have moved.
SWEEP = Script(
    b"""
local cursor, looked, deleted, moved = ARGV[1], 0, 0, {}
local claims, entries = ARGV[3] ~= 'entries', ARGV[3] ~= 'claims'
local root, name, zone = ARGV[4], ARGV[5], ARGV[6]
local rcode, kinds = ARGV[7] ~= '' and 'rcode=' .. ARGV[7] .. ' ', ARGV[9] and {}
for i = 9, #ARGV do kinds[ARGV[i]] = true end
local sub, find, match, call, pcall = string.sub, string.find, string.match, redis.call, redis.pcall
local ms, number = match(ARGV[8], '^(%%d+)-(%%d+)$')
ms, number = tonumber(ms), tonumber(number)
local failed
local function done(key, reply)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if find(reply.err, 'non local key', 1, true) then
    moved[#moved + 1] = key
  elseif not find(reply.err, 'WRONGTYPE', 1, true) then
    failed = reply
  end
end
local function meant(key)
  if sub(key, 1, #root) ~= root then return end
  local own, kind = match(key, '^([a-z0-9_.\\\\-]*%%.)}:([%%u%%d-]+)', #root + 1)
  if not own or (name ~= '' and own ~= name) then return end
  if zone ~= '' and own ~= zone and sub(own, -#zone - 1) ~= '.' .. zone then return end
  return kind
end
local function older(info)
  if not ms then return true end
  local seen_ms, seen_number = match(info, ' seen=(%%d+)-(%%d+)')
  seen_ms = tonumber(seen_ms) or 0
  return seen_ms < ms or (seen_ms == ms and tonumber(seen_number) < number)
end
local work = 0
repeat
  local found = call('SCAN', cursor, 'MATCH', ARGV[2], 'COUNT', %d)
  cursor, looked, work = found[1], looked + %d, work + %d
  for _, key in ipairs(found[2]) do
    local claim = sub(key, -5) == '#lead'
    local kind = (claim and claims or not claim and entries) and meant(key)
    work = work + (kind and 5 or 1)
    if kind and claim then
      done(key, pcall('SET', key, 'flushed', 'XX', 'KEEPTTL'))
    elseif kind and (not kinds or kinds[kind]) and not find(key, '#', 1, true) then
      local info = (rcode or ms) and done(key, pcall('HMGET', key, 'info'))
      info = info and info[1] or ''
      work = work + ((rcode or ms) and 5 or 0)
      if (not rcode or find(info .. ' ', rcode, 1, true)) and older(info) then
        deleted = deleted + (done(key, pcall('UNLINK', key)) or 0)
      end
    end
  end
  if failed then return failed end
until cursor == '0' or work >= %d
return {cursor, looked, deleted, moved}
"""
    % (KEYS, KEYS, KEYS, WORK),
    0,
)


class Where(Enum):
    """How the keys of one name can be found without scanning all keys."""

    #: The server has all keys: they can be guessed, and the others are in the index of odd entries.
    INDEX = "index"
    #: A server of a Redis Cluster can list the keys of a slot.
    SLOT = "slot"
    UNKNOWN = "unknown"


class Swept(NamedTuple):
    """The result of a step."""

    #: The approximate number of keys scanned.
    looked: int
    deleted: int


def sweep(
    ask: Ask,
    names: Names,
    scope: Scope,
    page: int = PAGE,
    moved: Ask | None = None,
    where: Where = Where.UNKNOWN,
    steps: Sequence[bytes] = CAREFUL,
    before: bytes = b"",
) -> Iterator[Swept]:
    """Delete the entries in a scope, step by step.

    Current leaders lose their claims, so that their answers are not stored. That is done before entries are deleted:
    else a leader could store an entry behind the scan and free its claim before the scan finds that.
    Entries stored by nodes that had heard of the event `before` are kept, if all keys are scanned.
    `moved` sends commands about keys that have moved to another server of a Redis Cluster meanwhile. For a single name
    the keys are not scanned if they can be found otherwise: see `Where`.
    """
    keys = _keys_of(ask, names, scope.name, where) if scope.name is not None else None
    if keys is not None:
        for some in _pages(keys, page):
            claims = [key if key.endswith(CLAIM_SUFFIX) else key + CLAIM_SUFFIX for key in some]
            _run(ask, [(b"SET", key, FLUSHED, b"XX", b"KEEPTTL") for key in dict.fromkeys(claims)], moved)
            yield Swept(len(some), 0)
        keys = _keys_of(ask, names, scope.name or b"", where)
    if keys is not None:
        wanted = scope.in_words()
        for some in _pages([key for key in keys if wanted.holds(names.words(key))], page):
            entries = some if scope.rcode is None else list(_with_rcode(ask, some, rcode_text(scope.rcode)))
            yield Swept(len(some), _run(ask, [(b"UNLINK", key) for key in entries], moved))
        return
    for what in steps:
        yield from _steps(ask, names, scope, what, moved, before)


def _keys_of(ask: Ask, names: Names, name: bytes, where: Where) -> Sequence[str] | None:
    """The possible keys of a name; None if all keys have to be scanned."""
    if where is Where.SLOT:
        return in_slot(ask, names, name)
    known = listed(ask, names) if where is Where.INDEX else None
    return None if known is None else list(guesses(names, name, known))


def _pages(keys: Sequence[str], page: int) -> Iterator[Sequence[str]]:
    found = iter(keys)
    while some := list(islice(found, page)):
        yield some


def _steps(
    ask: Ask, names: Names, scope: Scope, what: bytes, moved: Ask | None, before: bytes
) -> Iterator[Swept]:  # fmt: skip
    """One pass over all keys by the script. Raises StoreDown."""
    pattern, words = scope.pattern(names) + (CLAIM_SUFFIX if what == CLAIMS else ""), scope.in_words()
    rcode = rcode_text(scope.rcode) if scope.rcode is not None else ""
    told = (pattern, what, names.root + "{", words.name or "", words.zone or "", rcode, before, *(words.kinds or ()))
    cursor = b"0"
    while True:
        (reply,) = ask((b"EVAL", SWEEP.source, b"0", cursor, *told))
        if not isinstance(reply, list) or len(reply) != 4:
            raise StoreDown(f"not all entries can be deleted: {reply}"[:200])
        cursor, looked, deleted, elsewhere = reply
        if elsewhere:
            deleted += _delete_elsewhere(moved or _failed, elsewhere, rcode)
        yield Swept(looked, deleted)
        if cursor == b"0":
            return


def _delete_elsewhere(moved: Ask, keys: Sequence[bytes], rcode: str) -> int:
    """Handle keys in the scope that have moved to another server of a Redis Cluster."""
    deleted = 0
    for key in keys:
        if key.endswith(CLAIM_SUFFIX.encode()):
            _run(moved, [(b"SET", key, FLUSHED, b"XX", b"KEEPTTL")])
        elif not rcode or list(_with_rcode(moved, [key], rcode)):
            deleted += _run(moved, [(b"UNLINK", key)])
    return deleted


def _run(ask: Ask, commands: list[tuple[bytes | str, ...]], moved: Ask | None = None) -> int:
    """Send commands; returns the sum of the replies that are numbers. Raises StoreDown for other errors than MOVED."""
    count = 0
    for command, reply in zip(commands, ask(*commands) if commands else (), strict=True):
        if isinstance(reply, Exception):
            (reply,) = (moved or _failed)(command) if str(reply).startswith(("MOVED", "ASK")) else _failed(reply)
        count += reply if isinstance(reply, int) else 0
    return count


def _failed(*told: object) -> Sequence[Any]:
    raise StoreDown(f"not all entries can be deleted: {told[0]}"[:200])


def _with_rcode(ask: Ask, keys: Sequence[Any], rcode: str) -> Iterable[Any]:
    word = b"rcode=%s " % rcode.encode()
    told = ask(*((b"HMGET", key, b"info") for key in keys)) if keys else ()
    for key, reply in zip(keys, told, strict=True):
        if isinstance(reply, list) and isinstance(reply[0], bytes) and word in reply[0] + b" ":
            yield key
