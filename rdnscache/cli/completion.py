"""Shell completion: types, names in the cache, and running nodes.

It is quick, bounded in time, and prints no errors: the user has not run anything yet.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import click

from rdnscache.cli.access import find_redis
from rdnscache.cli.question_words import FLAGS
from rdnscache.dns.names import RCODES, TYPES, parse_own_name
from rdnscache.errors import RdnscacheError
from rdnscache.printable import natural

#: Seconds for all commands to Redis; keys that it scans for each; most names and nodes offered.
PATIENCE, PORTION, MOST = 0.75, 2000, 50

_NODE = re.compile(r"[A-Za-z0-9._-]{1,255}")
Offer = Callable[[click.Context, click.Parameter, str], list[str]]


def types(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Types of records, without those that exist only in questions."""
    return [name for number, name in TYPES.items() if name.startswith(begun.upper()) and not 128 <= number < 256]


def rcodes(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [name for number, name in RCODES.items() if name.startswith(begun.upper()) and number < 16]


def words(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Completions of `query` and `flush`: flags, types, names."""
    if begun.startswith("+"):
        return [f"+{name}" for name in FLAGS if name.startswith(begun[1:].lower())] if ctx.info_name == "query" else []
    if begun.startswith("@"):
        return []
    return [*names(ctx, param, begun), *types(ctx, param, begun)]


def names(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Names of entries, as many as can be found within the time limit."""
    from rdnscache.store.patterns import glob_escape

    def find(redis: Any, known: Any, end: float) -> Iterator[str]:
        cursor, pattern = 0, f"{glob_escape(known.root)}{{{glob_escape(begun.lower())}*"
        while time.monotonic() < end:
            told, keys = redis.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", PORTION)
            cursor = int(told)
            for key in keys:
                yield key.decode("utf-8", "replace").partition("{")[2].rpartition("}:")[0]
            if cursor == 0:
                return

    return _found(ctx, find, _is_name)


def nodes(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Nodes in the register."""
    from rdnscache.store.steering import WorkerId

    def find(redis: Any, known: Any, end: float) -> Iterator[str]:
        for member in redis.execute_command("ZREVRANGE", known.nodes, 0, 2 * PORTION):
            worker = WorkerId.parse(member.decode("utf-8", "replace"))
            if worker is not None and worker.node.startswith(begun):
                yield worker.node

    return _found(ctx, find, lambda node: _NODE.fullmatch(node) is not None)


def _is_name(text: str) -> bool:
    """Whether it is a name without characters that are special to a shell."""
    try:
        parse_own_name(text)
    except ValueError:
        return False
    return "\\" not in text


def _found(
    ctx: click.Context, find: Callable[[Any, Any, float], Iterator[str]], fits: Callable[[str], bool]
) -> list[str]:  # fmt: skip
    """What is found in Redis within the time limit, without duplicates; nothing when it is away or refuses."""
    from rdnscache.operator.redis_clients import connect, redis_errors, some_primary
    from rdnscache.redis_url import parse
    from rdnscache.store.contract import Names

    found: dict[str, None] = {}

    def look() -> None:
        end = time.monotonic() + PATIENCE
        try:
            url = parse(find_redis(_given(ctx, "url", "RDNSCACHE_REDIS")))
            known = Names(_given(ctx, "prefix", "RDNSCACHE_PREFIX") or "rdns")
            with redis_errors():
                for text in find(some_primary(connect(url, PATIENCE)), known, end):
                    if fits(text):
                        found[text] = None
                    if len(found) >= MOST or time.monotonic() >= end:
                        return
        except (RdnscacheError, ValueError):
            pass

    looking = Thread(target=look, daemon=True)  # resolving an address cannot be interrupted otherwise
    looking.start()
    looking.join(2 * PATIENCE)
    return sorted(found.copy(), key=natural)


def _given(ctx: click.Context, option: str, variable: str) -> str | None:
    """An option of the command, or what commands that have it would read."""
    return ctx.params.get(option) or os.environ.get(variable) or ctx.lookup_default(option)
