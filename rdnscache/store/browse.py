"""The cache as people look at it and steer it: rare and unhurried, through redis-py as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from rdnscache.dns.names import name_text
from rdnscache.errors import StoreDown
from rdnscache.store.contract import ANNOUNCE, EVENTS_KEPT, Names, glob_escape

#: Keys asked for in one go.
PAGE = 500
TIMEOUT = 5.0

_INFO_PAIR = re.compile(r"(\w+)=(\S*)")


@dataclass(frozen=True, slots=True)
class View:
    """One entry as a person sees it; times in seconds."""

    key: str
    rcode: str
    ttl_left: int
    age: int
    state: str
    stored: str
    source: str
    node: str
    answer: list[str]


class Browser:
    """Reads and flushes the cache. Every method raises StoreDown when Redis cannot be used."""

    def __init__(self, url: str, prefix: str) -> None:
        self.names = Names(prefix)
        with _redis_errors():
            self._redis = redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)

    def find(self, name_pattern: str, rtype: str = "") -> Iterator[View]:
        """The entries whose name fits a pattern (see `contract.pattern_text`), of one type or of all."""
        for keys in self._pages(
            f"{glob_escape(self.names.root)}{{{name_pattern}}}:{rtype or '*'}{'*' if rtype else ''}"
        ):
            keys = [key for key in keys if not rtype or _type_of(key) == rtype]
            yield from self._views(keys)

    def flush(self, name: bytes | None) -> int:
        """Delete the entries of a wire name, or all, then tell every worker. Returns how many were in Redis."""
        pattern = self.names.pattern("" if name is None else name_text(name))
        count = 0
        for keys in self._pages(pattern):
            with _redis_errors():
                count += int(self._redis.unlink(*keys)) if keys else 0
        event: dict[str, str] = {"event": "flush"}
        if name is not None:
            event["name"] = name_text(name)
        with _redis_errors():
            control = self.names.control
            self._redis.eval(ANNOUNCE.source.decode(), 1, control, control, json.dumps(event), EVENTS_KEPT)
        return count

    def _pages(self, pattern: str) -> Iterator[list[str]]:
        """Keys of entries (not of claims) that fit a pattern, as SCAN brings them."""
        cursor = 0
        while True:
            with _redis_errors():
                answer: Any = self._redis.scan(cursor, match=pattern, count=PAGE)
            cursor, raw = answer
            keys = [key.decode("utf-8", "replace") for key in raw]
            yield [key for key in keys if self.names.question(key) is not None]
            if not cursor:
                return

    def _views(self, keys: list[str]) -> Iterator[View]:
        with _redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.hmget(key, "info", "answer")
                pipeline.pttl(key)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        for key, fields, left in zip(keys, replies[::2], replies[1::2], strict=True):
            view = _view(key, fields, left)
            if view is not None:
                yield view


def _view(key: str, fields: Any, left_ms: Any) -> View | None:
    """None for what has expired meanwhile, or is not an entry."""
    if not isinstance(fields, list) or not isinstance(fields[0], bytes) or not isinstance(left_ms, int):
        return None
    info = dict(_INFO_PAIR.findall(fields[0].decode("utf-8", "replace")))
    ttl, stale = (int(info[name]) if info.get(name, "").isdigit() else 0 for name in ("ttl", "stale"))
    left = left_ms // 1000 - stale
    return View(
        key=key,
        rcode=info.get("rcode", "?"),
        ttl_left=max(left, 0),
        age=max(ttl - left, 0),
        state="fresh" if left_ms > stale * 1000 else "stale",
        stored=info.get("stored", "?"),
        source=info.get("from", "?"),
        node=info.get("node", "?"),
        answer=(fields[1] or b"").decode("utf-8", "replace").splitlines(),
    )


def _type_of(key: str) -> str:
    return key.rpartition("}:")[2].partition(":")[0]


@contextmanager
def _redis_errors() -> Iterator[None]:
    """What redis-py raises, as our own error."""
    try:
        yield
    except (redis.RedisError, OSError, ValueError) as error:
        raise StoreDown(str(error)) from None
