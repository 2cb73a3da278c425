"""The entries of the hottest questions, read when a worker starts, page by page; oversized values are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gevent import sleep

from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import TCP_SIZE
from rdnscache.store.contract import LONGEST_INFO, Names
from rdnscache.store.heat import SECONDS
from rdnscache.store.servers import Servers
from rdnscache.store.trust import Trust

#: Entries read at once.
PAGE = 100


def hottest(servers: Servers, names: Names, trust: Trust, count: int) -> Iterator[list[Entry]]:
    """The usable entries of the hottest questions, the hottest first, a page at a time. Raises StoreDown."""
    (members,) = servers.request((b"ZREVRANGE", names.hot, 0, count))  # one more: SECONDS may be among them
    members = [each for each in members if each != SECONDS][:count] if isinstance(members, list) else []
    for start in range(0, len(members), PAGE):
        page = {key: names.entry(key) for key in _questions(names, members[start : start + PAGE])}
        sleep(0)  # parsing names may take long, and others wait
        fitting = _of_fitting_size(servers, trust, page)
        yield _entries(servers, trust, fitting)


def _questions(names: Names, members: list[Any]) -> list[bytes]:
    """The keys of the members of `hot` that are valid questions."""
    texts = [names.root + each.decode("utf-8", "replace") for each in members if isinstance(each, bytes)]
    return [key for text in texts if (key := names.question(text)) is not None]


def _of_fitting_size(servers: Servers, trust: Trust, page: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The entries whose values do not exceed the sizes of entries: others could be of any size."""
    if not page:
        return {}
    longest = {b"wire": TCP_SIZE, b"info": LONGEST_INFO} | dict.fromkeys(trust.mac_field, LONGEST_INFO)
    sizes = servers.request(*((b"HSTRLEN", name, field) for name in page.values() for field in longest))
    fitting, step = {}, len(longest)
    for at, (key, name) in enumerate(page.items()):
        told = zip(sizes[at * step : (at + 1) * step], longest.values(), strict=True)
        if all(isinstance(size, int) and size <= most for size, most in told):
            fitting[key] = name
    return fitting


def _entries(servers: Servers, trust: Trust, page: dict[bytes, bytes]) -> list[Entry]:
    # PTTL first, as in `RedisClaim`
    fields = (b"wire", b"info", *trust.mac_field)
    commands = [part for name in page.values() for part in ((b"PTTL", name), (b"HMGET", name, *fields))]
    replies = servers.request(*commands) if commands else []
    found = []
    for (key, name), left, told in zip(page.items(), replies[::2], replies[1::2], strict=True):
        if isinstance(told, list) and len(told) >= 2 and told[0] is not None:
            entry = trust.entry_of(key, name, told, left)
            found += [entry] if entry is not None else []
            sleep(0)
    return found
