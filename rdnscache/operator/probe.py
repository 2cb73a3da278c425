"""Gathers the facts that `audit` judges: inspects a Redis, tries a node's commands, and leaves nothing behind."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from rdnscache.errors import RdnscacheError
from rdnscache.operator.audit import SETTINGS, Command, Facts, needed, unneeded
from rdnscache.operator.entries import TIMEOUT
from rdnscache.operator.redis_clients import primaries
from rdnscache.operator.redis_py import client
from rdnscache.redis_url import Login, RedisUrl, parse
from rdnscache.store.complaint import sentence
from rdnscache.store.contract import Names

PINGS = 100

T = TypeVar("T")


def examine(url: str, prefix: str) -> dict[str, Facts]:
    """The facts about a server; for a cluster, about each primary by name."""
    redis_url = parse(url)
    names = Names(prefix)
    try:
        found = client(redis_url, TIMEOUT)
        servers = primaries(found)
        for each in servers:
            each.set_retry(Retry(NoBackoff(), 0))
        mark = f"check-{os.urandom(6).hex()}"
        facts = {_name(each): Facts(hello=_texts(each.execute_command("HELLO"))) for each in servers}
        refused: dict[str, str] = {}
        for command in needed(names, mark):
            _try(found, command, mark, refused)
        for each, fact in zip(servers, facts.values(), strict=True):
            fact.refused = refused
            _look(each, fact)
            _look_at_the_way(each, redis_url, fact)
            _look_for_excess(each, mark, fact)
            fact.pings = _pings(each)
    except (redis.RedisError, OSError, ValueError, RdnscacheError) as error:
        return {"": Facts(problem=sentence(error))}
    return facts


def _name(server: Any) -> str:
    """The address of a server, for display."""
    known = server.connection_pool.connection_kwargs
    return str(known.get("path") or f"{known.get('host', '')}:{known.get('port', '')}")


def _texts(told: Any) -> dict[str, Any]:
    """A mapping from Redis with texts instead of octets."""

    def text(value: Any) -> Any:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    pairs = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
    return {text(name): text(value) for name, value in pairs}


def _if_allowed(ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except redis.ResponseError:
        return otherwise


def _look(server: Any, facts: Facts) -> None:
    facts.info = _if_allowed(server.info, {})
    facts.settings = _if_allowed(lambda: _texts(server.config_get(*SETTINGS)), {})
    facts.clock = _if_allowed(lambda: _clock(server), None)


def _look_at_the_way(server: Any, redis_url: RedisUrl, facts: Facts) -> None:
    """Who else can reach the server, and whether they need a password."""
    host = server.connection_pool.connection_kwargs.get("host", "")
    facts.local = bool(redis_url.socket) or _is_loopback(str(host))
    facts.encrypted = redis_url.tls
    facts.verified = redis_url.tls_arguments.get("ssl_cert_reqs", "required") == "required"
    facts.password = redis_url.login.given
    facts.lets_anyone_in = (not redis_url.socket or _open_to_others(Path(redis_url.socket))) and _lets_in(redis_url)


def _clock(server: Any) -> float:
    before = time.time()
    seconds, micros = server.time()
    return float(seconds + micros / 1e6 - (before + time.time()) / 2)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open_to_others(path: Path) -> bool:
    """Whether every user of this machine can connect to a socket."""
    modes = [stat.S_IMODE(each.stat().st_mode) for each in path.parents]
    return bool(path.stat().st_mode & 0o002) and all(mode & 0o001 for mode in modes)


def _lets_in(redis_url: RedisUrl) -> bool | None:
    """Whether a client without a login may read; None when that cannot be tried."""
    try:
        anyone = client(replace(redis_url, login=Login()), TIMEOUT)
    except redis.AuthenticationError:
        return False
    except (redis.RedisError, OSError, RdnscacheError):
        return None
    try:
        anyone.exists("rdnscache")
    except redis.ResponseError:  # no permission, or protected mode
        return False
    except redis.AuthenticationError:
        return False
    except (redis.RedisError, OSError):
        return None
    finally:
        anyone.close()
    return True


def _try(found: Any, command: Command, mark: str, refused: dict[str, str]) -> None:
    words = " ".join(command[:2]) if command[0] in ("CLIENT", "MEMORY", "SCRIPT") else str(command[0])
    try:
        if command[0] == "SUBSCRIBE":
            with found.pubsub() as ear:
                ear.subscribe(command[1])
                ear.get_message(timeout=1.0)
        else:
            found.execute_command(*command)
    except redis.ResponseError as error:
        text = str(error)
        if text.startswith("WRONGTYPE"):  # we have permission, and nothing was changed
            return
        if isinstance(error, NoPermissionError):
            if re.search(" (key|channel)", text) and command[0] not in ("EVAL", "EVALSHA"):
                shown = command[1].decode() if isinstance(command[1], bytes) else str(command[1])
                words += f" {shown.replace(mark, '*')}"
            text = f"NOPERM {text}"  # redis-py strips this word
        refused.setdefault(words, text)


def _look_for_excess(server: Any, mark: str, facts: Facts) -> None:
    """Query further permissions; if that is not allowed, try harmless commands."""
    user = _if_allowed(lambda: server.execute_command("ACL", "WHOAMI"), None)
    shown = {"SET": "keys of others", "PUBLISH": "channels of others", "CONFIG": "CONFIG SET", "ACL": "ACL SETUSER"}
    for command in unneeded(mark):
        try:
            told = server.execute_command("ACL", "DRYRUN", user or "default", *command)
            facts.asked = True
            if told in (b"OK", "OK", True):
                facts.excess.append(shown.get(str(command[0]), str(command[0])))
        except redis.ResponseError:
            break
    if not facts.asked:
        for command, what in ((("GET", mark), "keys of others"), (("PUBLISH", mark, ""), "channels of others")):
            told = _if_allowed(lambda command=command: (server.execute_command(*command),), None)  # type: ignore[misc]
            if told is not None:
                facts.excess.append(what)


def _pings(server: Any) -> list[float]:
    times = []
    for _ in range(PINGS):
        started = time.perf_counter()
        try:
            server.ping()
        except redis.ResponseError:
            return []
        times.append(time.perf_counter() - started)
    return times
