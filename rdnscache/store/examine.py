"""Gathers what `check` judges: looks at a Redis, tries what a node does, and leaves nothing behind."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from rdnscache.store.browse import Browser
from rdnscache.store.check import SETTINGS, Command, Facts, needed, unneeded
from rdnscache.store.contract import Names

PINGS = 100

T = TypeVar("T")


def examine(url: str, prefix: str) -> Facts:
    """Everything there is to know. Raises StoreDown for a URL that cannot be used."""
    browser = Browser(url, prefix)
    client: Any = browser.redis
    client.set_retry(Retry(NoBackoff(), 0))
    facts = Facts()
    try:
        facts.hello = _texts(client.execute_command("HELLO"))
        _look(client, facts)
        mark = f"check-{os.urandom(6).hex()}"
        for command in needed(browser.names, mark):
            _try(client, command, mark, facts)
        _look_for_excess(client, browser.names, mark, facts)
        facts.pings = _pings(client)
    except (redis.RedisError, OSError) as error:
        facts.problem = str(error)
    return facts


def _texts(told: Any) -> dict[str, Any]:
    """A map of Redis, octets as texts."""

    def text(value: Any) -> Any:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    pairs = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
    return {text(name): text(value) for name, value in pairs}


def _if_allowed(ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except redis.ResponseError:
        return otherwise


def _look(client: Any, facts: Facts) -> None:
    facts.info = _if_allowed(client.info, {})
    facts.settings = _if_allowed(lambda: _texts(client.config_get(*SETTINGS)), {})
    facts.clock = _if_allowed(lambda: _clock(client), None)
    pool = client.connection_pool
    known = pool.connection_kwargs
    facts.encrypted = issubclass(pool.connection_class, SSLConnection)
    facts.verified = str(known.get("ssl_cert_reqs", "required")) != "none"
    facts.password = bool(known.get("password"))
    facts.local = "path" in known or _is_loopback(str(known.get("host", "localhost")))
    if "path" in known:
        facts.strangers = _open_to_others(Path(known["path"])) and _lets_in(pool)
    else:
        facts.strangers = _lets_in(pool)


def _clock(client: Any) -> float:
    before = time.time()
    seconds, micros = client.time()
    return float(seconds + micros / 1e6 - (before + time.time()) / 2)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open_to_others(path: Path) -> bool:
    """Whether every user of this machine gets at a socket."""
    modes = [stat.S_IMODE(each.stat().st_mode) for each in path.parents]
    return bool(path.stat().st_mode & 0o002) and all(mode & 0o001 for mode in modes)


def _lets_in(pool: ConnectionPool) -> bool | None:
    """Whether somebody without a name may read; None when that cannot be tried."""
    kwargs = {name: value for name, value in pool.connection_kwargs.items() if name not in ("username", "password")}
    stranger = redis.Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **kwargs))
    try:
        stranger.exists("rdnscache")
    except redis.ResponseError:  # no permission, or protected mode
        return False
    except redis.AuthenticationError:
        return False
    except (redis.RedisError, OSError):
        return None
    finally:
        stranger.close()
    return True


def _try(client: Any, command: Command, mark: str, facts: Facts) -> None:
    words = " ".join(command[:2]) if command[0] in ("CLIENT", "SCRIPT") else str(command[0])
    try:
        if command[0] == "SUBSCRIBE":
            with client.pubsub() as ear:
                ear.subscribe(command[1])
                ear.get_message(timeout=1.0)
        else:
            client.execute_command(*command)
    except redis.ResponseError as error:
        text = str(error)
        if isinstance(error, NoPermissionError):
            if re.search(" (key|channel)", text) and command[0] not in ("EVAL", "EVALSHA"):
                place = command[1].decode() if isinstance(command[1], bytes) else str(command[1])
                words += f" {place.replace(mark, '*')}"
            text = f"NOPERM {text}"  # redis-py takes this word off
        facts.refused.setdefault(words, text)


def _look_for_excess(client: Any, names: Names, mark: str, facts: Facts) -> None:
    """Ask what else we may; where that is not allowed, try what does no harm."""
    user = _if_allowed(lambda: client.execute_command("ACL", "WHOAMI"), None)
    shown = {"SET": "keys of others", "PUBLISH": "channels of others", "CONFIG": "CONFIG SET", "ACL": "ACL SETUSER"}
    for command in unneeded(mark):
        try:
            told = client.execute_command("ACL", "DRYRUN", user or "default", *command)
            facts.asked = True
            if told in (b"OK", "OK", True):
                facts.excess.append(shown.get(str(command[0]), str(command[0])))
        except redis.ResponseError:
            break
    if not facts.asked:
        for command, what in ((("GET", mark), "keys of others"), (("PUBLISH", mark, ""), "channels of others")):
            told = _if_allowed(lambda command=command: (client.execute_command(*command),), None)  # type: ignore[misc]
            if told is not None:
                facts.excess.append(what)


def _pings(client: Any) -> list[float]:
    times = []
    for _ in range(PINGS):
        started = time.perf_counter()
        try:
            client.ping()
        except redis.ResponseError:
            return []
        times.append(time.perf_counter() - started)
    return times
