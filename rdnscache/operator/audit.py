"""Judges from facts what is wrong or risky about a Redis as the shared cache. Uses no connection.

`probe` gathers the facts; `needed` lists the commands a node must be allowed, which are tried one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rdnscache.store.contract import CLAIM, Names
from rdnscache.store.seal import TOLERANCE

#: From fine to unusable.
OK, NOTE, RISKY, WRONG = LEVELS = ("ok", "note", "risky", "wrong")
#: The oldest supported versions.
OLDEST = {"redis": (7, 0), "valkey": (8, 0)}
#: Seconds: the default of redis_budget; the latency above which a Redis is not nearby; the tolerance for clocks.
BUDGET, NEARBY, SAME_TIME = 0.05, 0.005, 2.0
#: The longest value in octets up to which hashes should use the compact encoding.
LISTPACK = 1024
#: The settings that are read.
SETTINGS = (
    "maxmemory", "maxmemory-policy", "hash-max-listpack-value", "save", "appendonly", "min-replicas-to-write",
)  # fmt: skip

Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the result: the level, the subject, and a sentence."""

    level: str
    subject: str
    text: str


@dataclass(slots=True)
class Facts:
    """The facts. None, or an empty mapping, stands for anything that could not be read."""

    #: Why it cannot be used at all.
    problem: str = ""
    #: `server`, `version`, `role` and `mode`, as HELLO tells everybody.
    hello: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Whether only this machine can reach it; whether the connection is encrypted, and the server authenticated.
    local: bool = False
    encrypted: bool = False
    verified: bool = True
    #: Whether we sent a password; whether clients without one may read.
    password: bool = False
    lets_anyone_in: bool | None = None
    #: Commands that a node needs and that were refused, with the error of Redis.
    refused: dict[str, str] = field(default_factory=dict)
    #: Permissions that no node needs; and whether all could be queried, or only a few tried.
    excess: list[str] = field(default_factory=list)
    asked: bool = False
    #: Seconds.
    pings: list[float] = field(default_factory=list)
    #: Seconds its clock is ahead of ours.
    clock: float | None = None


def needed(names: Names, mark: str) -> list[Command]:
    """Every command of a node, in harmless form: on keys and channels that nobody else uses, or without effect.

    The keys contain `mark`; they are deleted afterwards, or expire within a second.
    """
    key = f"{names.root}{{{mark}}}:check"
    lead, wait, wake = f"{key}#lead", f"{key}#wait", names.wake(mark)
    claim = (4, key, lead, wait, f"{key}#name", mark, 100, wake, 0, 0)
    return [
        ("PING",),
        ("SCRIPT", "LOAD", CLAIM.source),
        ("EVALSHA", CLAIM.sha, *claim),
        ("EVAL", CLAIM.source, *claim),
        ("SET", lead, mark, "PX", 1000),
        ("GET", lead),
        ("PTTL", lead),
        ("EXISTS", key),
        ("HSET", key, "info", "-"),
        ("PEXPIRE", key, 1000),
        ("HMGET", key, "wire", "info", "mac"),
        ("HLEN", key),
        ("HGETALL", key),
        ("HDEL", key, "-"),
        ("SADD", wait, mark),
        ("PEXPIRE", wait, 1000),
        ("SMEMBERS", wait),
        ("DEL", lead, wait),
        ("UNLINK", key),
        ("ZINCRBY", key, 1, mark),
        ("PEXPIRE", key, 1000),
        ("ZUNIONSTORE", key, 1, key),
        ("DEL", key),
        ("TIME",),
        ("TYPE", names.hot),
        ("ZREMRANGEBYRANK", names.hot, 1, 0),
        ("ZREVRANGE", names.hot, 0, 0),
        ("DEL", names.node(mark)),
        ("GETRANGE", names.node(mark), 0, 0),
        ("TIME",),
        ("MEMORY", "USAGE", key),
        ("ZADD", names.nodes, "XX", 0, mark),
        ("ZSCORE", names.nodes, mark),
        ("ZCARD", names.nodes),
        ("ZREM", names.nodes, mark),
        ("ZREMRANGEBYSCORE", names.nodes, 1, 0),
        ("SCAN", 0, "COUNT", 1),
        ("XADD", f"{key}#stream", "*", "event", ""),
        ("XREVRANGE", names.control, "+", "-", "COUNT", 1),
        ("ZREMRANGEBYSCORE", names.control, 1, 0),  # the key has another type: this tells whether we may write it
        ("DEL", f"{key}#stream"),
        ("XRANGE", names.control, "-", "+", "COUNT", 1),
        ("PUBLISH", wake, ""),
        ("PUBLISH", names.acks, "{}"),
        ("SUBSCRIBE", names.control),
        ("SUBSCRIBE", wake),
    ]


def unneeded(mark: str) -> list[Command]:
    """Commands that no node needs; queried with ACL DRYRUN, never run."""
    return [
        ("FLUSHALL",),
        ("CONFIG", "SET", "maxmemory", "0"),
        ("ACL", "SETUSER", mark),
        ("SHUTDOWN",),
        ("KEYS", "*"),
        ("SET", mark, "0"),
        ("PUBLISH", mark, ""),
    ]


def judge(facts: Facts) -> Iterator[Finding]:
    """All findings, the most important subjects first."""
    if facts.problem:
        yield Finding(WRONG, "reachable", facts.problem)
        return
    yield Finding(OK, "reachable", "it answers")
    yield from _version(facts)
    yield from _role(facts)
    yield from _rights(facts)
    yield from _memory(facts)
    yield from _settings(facts)
    yield from _latency(facts)
    yield from _clock(facts)
    yield from _way(facts)


def judge_all(servers: Mapping[str, Facts]) -> Iterator[Finding]:
    """Like `judge`, for several servers: good findings are given for the first one only, others with the server's
    name."""
    for number, (name, facts) in enumerate(servers.items()):
        for finding in judge(facts):
            if len(servers) > 1 and finding.level != OK:
                yield replace(finding, text=f"{name}: {finding.text}")
            elif number == 0:
                yield finding


def worst(findings: list[Finding]) -> str:
    return max((finding.level for finding in findings), key=LEVELS.index, default=OK)


def _version(facts: Facts) -> Iterator[Finding]:
    server = "valkey" if "valkey_version" in facts.info else str(facts.hello.get("server", "?"))
    version = str(facts.info.get("valkey_version") or facts.hello.get("version", "?"))
    name = f"{server.capitalize()} {version}"
    oldest = OLDEST.get(server)
    parts = version.split(".")
    if oldest is None or not all(part.isdigit() for part in parts[:2]) or len(parts) < 2:
        yield Finding(NOTE, "version", f"{name}: only Redis and Valkey are tested")
    elif (int(parts[0]), int(parts[1])) < oldest:
        yield Finding(WRONG, "version", f"{name} is too old: {oldest[0]}.{oldest[1]} or later is needed")
    else:
        yield Finding(OK, "version", name)


def _is_replica(facts: Facts) -> bool:
    return facts.hello.get("role") in ("replica", "slave")


def _replicas(facts: Facts) -> list[Mapping[str, Any]]:
    if _is_replica(facts):
        return []
    return [value for name, value in facts.info.items() if name.startswith("slave") and isinstance(value, dict)]


def _role(facts: Facts) -> Iterator[Finding]:
    info = facts.info
    if facts.hello.get("mode") == "sentinel":
        yield Finding(WRONG, "role", "this is a Sentinel, which stores nothing")
    elif _is_replica(facts):
        yield Finding(WRONG, "role", "this is a replica, where nothing can be stored: give the primary's URL")
        if info.get("master_link_status") == "down":
            yield Finding(WRONG, "replication", "its primary is not connected")
    else:
        lags = [int(replica.get("lag", 0)) for replica in _replicas(facts)]
        words = f"with {len(lags)} replicas, the last heard of {max(lags)} s ago" if lags else "without replicas"
        yield Finding(NOTE if max(lags, default=0) > SAME_TIME else OK, "role", f"a primary {words}")


def _rights(facts: Facts) -> Iterator[Finding]:
    forbidden = sorted(name for name, words in facts.refused.items() if is_forbidden(words))
    if forbidden:
        yield Finding(WRONG, "rights", f"not allowed, and needed: {', '.join(forbidden)}")
    others = {words for words in facts.refused.values() if not is_forbidden(words)}
    if others and not _is_replica(facts):
        yield Finding(WRONG, "writing", f"Redis refuses what a node does: {min(others, key=len)}")
    if not facts.refused:
        yield Finding(OK, "rights", "everything a node needs is allowed")
    if facts.excess:
        text = f"more is allowed than a node needs: {', '.join(facts.excess)}; see the user for nodes in docs/redis.md"
        yield Finding(NOTE if facts.local else RISKY, "privilege", text)
    elif facts.asked:
        yield Finding(OK, "privilege", "nothing beyond a node's needs is allowed")
    else:
        text = "keys and channels of others are not accessible; more is not known without ACL DRYRUN"
        yield Finding(OK, "privilege", text)


def is_forbidden(words: str) -> bool:
    """Whether an error means that the user lacks permission."""
    return words.startswith("NOPERM") or "permission" in words or "user executing the script" in words


def _memory(facts: Facts) -> Iterator[Finding]:
    limit = facts.info.get("maxmemory", facts.settings.get("maxmemory"))
    policy = facts.info.get("maxmemory_policy", facts.settings.get("maxmemory-policy"))
    if limit is None or policy is None:
        yield Finding(NOTE, "memory", "not known: neither INFO nor CONFIG GET is allowed")
        return
    if int(limit) == 0:
        yield Finding(RISKY, "memory", "maxmemory is not set: the cache grows until the machine is full")
        return
    used = facts.info.get("used_memory")
    share = f", {int(used) * 100 // int(limit)} % used" if used is not None else ""
    yield Finding(OK, "memory", f"maxmemory is {int(limit) / (1 << 20):.0f} MB{share}")
    if policy == "allkeys-lfu":
        yield Finding(OK, "eviction", "allkeys-lfu")
    elif policy == "allkeys-random":
        text = "allkeys-random: the register of nodes may be evicted like any other key; set allkeys-lfu"
        yield Finding(RISKY, "eviction", text)
    elif policy == "noeviction":
        yield Finding(RISKY, "eviction", "noeviction: once it is full, no more answers are shared; set allkeys-lfu")
    elif str(policy).startswith("volatile"):
        yield Finding(RISKY, "eviction", f"{policy}: keys without expiry can fill it for good; set allkeys-lfu")
    else:
        yield Finding(NOTE, "eviction", f"{policy} works; allkeys-lfu keeps the names that are asked often")


def _settings(facts: Facts) -> Iterator[Finding]:
    settings = facts.settings
    if not settings:
        yield Finding(NOTE, "settings", "listpack size and persistence are not known: CONFIG GET is not allowed")
        return
    size = int(settings.get("hash-max-listpack-value", LISTPACK))
    if size < LISTPACK:
        text = f"hash-max-listpack-value is {size}: with 2048 an entry takes 510 instead of 700 octets"
        yield Finding(NOTE, "entries", text)
    else:
        yield Finding(OK, "entries", f"hash-max-listpack-value is {size}")
    yield from _persistence(settings)
    # a primary of a Redis Cluster that is cut off stops by itself
    alone = facts.hello.get("mode") != "cluster"
    if alone and _replicas(facts) and settings.get("min-replicas-to-write", "0") == "0":
        text = "min-replicas-to-write is 0: a primary that is cut off takes flushes that a failover loses; set it to 1"
        yield Finding(RISKY, "replicas", text)


def _persistence(settings: Mapping[str, str]) -> Iterator[Finding]:
    if settings.get("save"):
        text = f'save {settings["save"]}: a restart brings back entries flushed since then; set save ""'
        yield Finding(RISKY, "persistence", text)
    elif settings.get("appendonly") == "yes":
        text = "appendonly yes: a cache need not be persistent, and a restart may bring back entries flushed last"
        yield Finding(NOTE, "persistence", text)
    else:
        yield Finding(OK, "persistence", "off")


def _latency(facts: Facts) -> Iterator[Finding]:
    if not facts.pings:
        return
    times = sorted(facts.pings)
    half, most = times[len(times) // 2], times[len(times) * 99 // 100]
    words = f"half within {half * 1000:.1f} ms, 99 % within {most * 1000:.1f} ms"
    if most > BUDGET:
        yield Finding(RISKY, "latency", f"{words}: a node waits for {BUDGET * 1000:.0f} ms (redis_budget)")
    else:
        yield Finding(NOTE if half > NEARBY else OK, "latency", words)


def _clock(facts: Facts) -> Iterator[Finding]:
    if facts.clock is None:
        yield Finding(NOTE, "clock", "not known: TIME is not allowed")
        return
    apart = abs(facts.clock)
    words = f"{apart:.1f} s {'ahead of' if facts.clock > 0 else 'behind'} ours"
    if apart > TOLERANCE:
        yield Finding(
            RISKY, "clock", f"{words}: nodes with a secret refuse entries {TOLERANCE} s apart; set the clocks"
        )
    else:
        yield Finding(NOTE if apart > SAME_TIME else OK, "clock", words if apart >= 0.1 else "as ours")


def _way(facts: Facts) -> Iterator[Finding]:
    if facts.local:
        yield Finding(OK, "way", "inside this machine")
    elif not facts.encrypted:
        yield Finding(RISKY, "way", "not encrypted: anybody on the path can read and change answers; use rediss://")
    elif not facts.verified:
        yield Finding(RISKY, "way", "encrypted, but the certificate is not verified: a man in the middle is possible")
    else:
        yield Finding(OK, "way", "encrypted")
    if facts.lets_anyone_in is None:
        yield Finding(NOTE, "access", "not known whether it admits clients without a password")
    elif facts.lets_anyone_in:
        where = "on this machine" if facts.local else "that can reach it"
        text = f"anybody {where} may use it without a password, and so control the answers"
        yield Finding(NOTE if facts.local else RISKY, "access", text)
    else:
        how = "are asked for a password" if facts.password else "cannot reach its socket"
        yield Finding(OK, "access", f"clients without a password {how}")
