"""Flushes and orders while no node is running: there is nobody to wait for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from support import KINDS, RedisServer, running_cluster

from rdnscache.operator.announcer import SETTLED, Announcer
from rdnscache.operator.entries import Browser
from rdnscache.operator.flush import Flush
from rdnscache.operator.members import Members
from rdnscache.store.scope import Scope

#: About commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


@pytest.fixture(params=["server", "cluster"])
def place(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[tuple[Browser, Any]]:
    """The entries of a single server, and of a Redis Cluster; with a client of a server."""
    if request.param == "server":
        yield Browser(redis_server.url, "rdns"), redis_server.client()
        return
    with running_cluster(next(filter(None, KINDS.values())), 0) as cluster:
        yield Browser(cluster.url, "rdns"), cluster.clients[2]


def test_nobody_is_waited_for(place: tuple[Browser, Any]) -> None:
    """Neither a flush nor an order waits for an empty register to fill where nobody listens to events."""
    browser, _ = place
    members = Members(browser.redis, browser.names)
    began = time.monotonic()
    assert not Flush(browser, members, Scope(), 5.0).run().confirmed
    assert not Announcer(members, 5.0).once({"event": "policy"}).confirmed
    assert time.monotonic() - began < SETTLED


def test_somebody_who_listens_is_waited_for(place: tuple[Browser, Any]) -> None:
    """A worker that is not in the register yet may hear of a flush, at any server of a Redis Cluster."""
    browser, client = place
    with client.pubsub() as listener:
        listener.subscribe(browser.names.control)
        assert listener.get_message(timeout=5)
        began = time.monotonic()
        Announcer(Members(browser.redis, browser.names), 0.0).once({"event": "policy"})
        assert time.monotonic() - began >= SETTLED - 1.0
