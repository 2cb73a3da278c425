"""Deleting what a flush means from one server, over one connection.

Who asks must not open another connection where it is lost: another server, or one that has been started again, does not
know how far SCAN has come, and may have entries again that were deleted. It starts again, or it has not been done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rdnscache.dns.names import rcode_text
from rdnscache.errors import StoreDown
from rdnscache.store.contract import CLAIM_SUFFIX, FLUSHED, Names
from rdnscache.store.odd import guesses, listed
from rdnscache.store.scope import Scope
from rdnscache.store.servers import Ask

#: Keys asked for in one go; where a worker asks, which has other things to do between.
PAGE, STEP = 500, 50


def sweep(
    ask: Ask, names: Names, scope: Scope, page: int = PAGE, moved: Ask | None = None, guess: bool = False
) -> Iterator[int]:
    """Delete the entries a scope holds; how many, page by page.

    Leaders under way lose their claim, so that what they are about to bring is not stored. All of them do before
    entries are looked for: one that fills meanwhile could store behind the search, and its claim would be gone.
    `moved` is for commands about keys that have left a server of a Redis Cluster since it told of them. With `guess`,
    for a server that has all keys, those of a single name are tried one by one instead of searched for, where all can
    be known.
    """
    wanted = scope.in_words()
    for keys in _places(ask, names, scope, page, guess, CLAIM_SUFFIX):
        claims = [key for key in keys if wanted.holds(names.words(key.removesuffix(CLAIM_SUFFIX)), any_type=True)]
        _run(ask, [(b"SET", key, FLUSHED, b"XX", b"KEEPTTL") for key in claims], moved)
        yield 0
    for keys in _places(ask, names, scope, page, guess):
        entries = [key for key in keys if wanted.holds(names.words(key))]
        if scope.rcode is not None:
            entries = list(_with_rcode(ask, entries, scope.rcode))
        groups = [entries] if guess and entries else [[key] for key in entries]
        yield _run(ask, [(b"UNLINK", *group) for group in groups], moved)


def _places(ask: Ask, names: Names, scope: Scope, page: int, guess: bool, suffix: str = "") -> Iterator[Sequence[str]]:
    """Where entries of a scope may be, or their claims."""
    known = listed(ask, names) if guess and scope.name is not None else None
    if scope.name is None or known is None:
        yield from scan(ask, scope.pattern(names) + suffix, page)
        return
    found = guesses(names, scope.name, known)
    while keys := [key + suffix for key in islice(found, page)]:
        yield keys


def scan(ask: Ask, pattern: str, page: int) -> Iterator[list[str]]:
    """Keys that fit a pattern, as SCAN brings them. Raises StoreDown."""
    cursor = b"0"
    while True:
        (told,) = ask((b"SCAN", cursor, b"MATCH", pattern, b"COUNT", page))
        if not isinstance(told, list) or len(told) != 2:
            raise StoreDown(f"keys cannot be looked for: {told}"[:200])
        cursor, keys = told
        yield [key.decode("utf-8", "replace") for key in keys]
        if cursor == b"0":
            return


def _run(ask: Ask, commands: list[tuple[bytes | str, ...]], moved: Ask | None) -> int:
    """The sum of the replies that are numbers."""
    count = 0
    for command, reply in zip(commands, ask(*commands) if commands else (), strict=True):
        if isinstance(reply, Exception):
            (reply,) = (moved or _failed)(command) if str(reply).startswith(("MOVED", "ASK")) else _failed(reply)
        count += reply if isinstance(reply, int) else 0
    return count


def _failed(told: object) -> Sequence[Any]:
    raise StoreDown(f"not all can be deleted: {told}"[:200])


def _with_rcode(ask: Ask, keys: list[str], rcode: int) -> Iterable[str]:
    word = b"rcode=%s " % rcode_text(rcode).encode()
    told = ask(*((b"HMGET", key, b"info") for key in keys)) if keys else ()
    for key, reply in zip(keys, told, strict=True):
        if isinstance(reply, list) and isinstance(reply[0], bytes) and word in reply[0] + b" ":
            yield key
