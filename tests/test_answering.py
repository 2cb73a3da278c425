"""Two that answer from one L1: a worker's clients, and its siblings, for whom policy has no say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rdnscache import metrics
from rdnscache.cache import Cache
from rdnscache.departure import Departure
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import Identity
from rdnscache.dns.wire import Query, build_query, parse_query, parse_reply
from rdnscache.flights import Flights
from rdnscache.metrics import Board
from rdnscache.policy.verdict import DROPPED, TRUNCATED
from rdnscache.query_log import QueryLog
from rdnscache.server.answering import Answering

pytestmark = pytest.mark.pure

NOW = 1000.0
KEY = b"\7example\4test\0\0\1\0\1\0"


def answering(cache: Cache, enforces: bool) -> Answering:
    pilot: Any = SimpleNamespace(delay=0.0)
    flights = Flights(pilot, 100, 100, 100)
    found = Answering(cache, flights, Identity(), QueryLog(0), "", True, Board.scrap(), Departure())
    found.enforces = enforces
    return found


def query() -> Query:
    found = parse_query(build_query(b"ab", KEY, True), False)
    assert found is not None
    return found


@pytest.mark.parametrize("action", [DROPPED, TRUNCATED])
def test_what_siblings_ask_for_changes_nothing_for_clients(action: int) -> None:
    """An entry that policy drops or truncates stays that for clients however often siblings are given the answer."""
    record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1"
    reply = parse_reply(b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + KEY[:-1] + record)
    assert reply is not None
    entry = Entry(KEY, reply, NOW, 60, 0)
    entry.action, entry.renews = action, False
    cache = Cache(10, 10**6)
    cache.put(entry, NOW)
    clients, siblings = answering(cache, True), answering(cache, False)
    for _ in range(5):
        found = siblings.lookup(query(), NOW)
        assert found is not None
        assert found.endswith(b"\xc0\0\2\1" + b"\0\0\x29\4\xd0" + bytes(6))
        said = clients.lookup(query(), NOW)
        assert said is not None
        assert said[2:3] == (b"" if action == DROPPED else b"\x83")
    counted = metrics.POLICY_DROPPED if action == DROPPED else metrics.POLICY_TRUNCATED
    assert clients.counters[counted] == 5
    assert not siblings.counters[metrics.PREFETCHES]
