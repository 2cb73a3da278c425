"""NOTIFY messages for transferred zones, received at a worker's port and passed to the process for lists."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from rdnscache.config import Config
from rdnscache.dns.names import parse_name
from rdnscache.dns.notify import NotifiedZone, answer_notify
from rdnscache.dns.tsig import Key
from rdnscache.dns.wire import Query
from rdnscache.lists.shelf import Shelf
from rdnscache.lists.sources import all_transfers

log = logging.getLogger(__name__)

#: Least seconds between two notifications of the process about the same zone.
PAUSE = 0.1


def make_notified(config: Config, shelf: Shelf | None) -> Callable[[Query], bytes] | None:
    """The handler of NOTIFY messages; None when no zone is transferred."""
    zones: list[NotifiedZone] = []
    for word, source in all_transfers(config).items():
        assert source.server is not None
        key = Key(parse_name(source.key.name), source.key.algorithm, source.key.secret) if source.key else None
        server = ipaddress.ip_address(source.server.host.partition("%")[0]).packed
        zones.append(NotifiedZone(word, parse_name(source.zone), server, key))
    if not zones or shelf is None:
        return None
    told_at: dict[str, float] = {}

    def answer(query: Query) -> bytes:
        reply, words = answer_notify(query, zones, int(time.time()))
        now = time.monotonic()
        for word in words:
            if now - told_at.get(word, -PAUSE) >= PAUSE:
                told_at[word] = now
                with suppress(OSError):
                    shelf.notify(word)
        return reply

    return answer
