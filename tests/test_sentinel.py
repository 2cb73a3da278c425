"""A Redis that sentinels look after: its primary dies or is moved under load."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import (
    Load,
    Node,
    Sentinel,
    Server,
    Upstream,
    above_one,
    ask,
    command,
    nodes_on,
    telling,
    until_shared,
    wait_for,
)

REDIS, SENTINEL = shutil.which("redis-server"), shutil.which("redis-sentinel")
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not REDIS or not SENTINEL, reason="there is no redis-server or redis-sentinel here"),
]


class Trio:
    """A primary, two replicas and three sentinels, all with passwords."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        login = {"requirepass": "data", "masterauth": "data", "repl-diskless-sync-delay": "0"}
        assert REDIS and SENTINEL
        self.servers = [stack.enter_context(Server(REDIS, login))]
        follow = {"replicaof": f"127.0.0.1|{self.servers[0].port}"}
        self.servers += [stack.enter_context(Server(REDIS, login | follow)) for _ in range(2)]
        lines = [
            f"sentinel monitor mymaster 127.0.0.1 {self.servers[0].port} 2",
            "sentinel auth-pass mymaster data", "sentinel down-after-milliseconds mymaster 800",
            "sentinel failover-timeout mymaster 4000", "requirepass watch", "sentinel sentinel-pass watch",
        ]  # fmt: skip
        self.sentinels = [stack.enter_context(Sentinel(SENTINEL, lines)) for _ in range(3)]
        secret = folder / "secret"
        secret.write_text("data\n")
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"valkey+sentinel://{hosts}/mymaster/0?password_file={secret}&sentinel_password=watch"
        wait_for(self._ready, 15)

    def _ready(self) -> bool:
        """Every sentinel knows all the others and both replicas."""
        states = [sentinel.client(password="watch").sentinel_masters()["mymaster"] for sentinel in self.sentinels]
        return all(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2 for state in states)

    def primary(self) -> Server:
        """By the first sentinel's word."""
        host = self.sentinels[0].client(password="watch").sentinel_get_master_addr_by_name("mymaster")
        return next(server for server in self.servers if server.port == host[1])


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    with ExitStack() as stack:
        yield Trio(stack, tmp_path)


@contextmanager
def under_load(url: str) -> Iterator[tuple[Upstream, list[Node], Load]]:
    with Upstream(telling, delay=0.15) as upstream, nodes_on(url, upstream) as nodes:
        with Load([node.port for node in nodes], 40) as load:
            wait_for(lambda: load.asked > 60)
            yield upstream, nodes, load
            asked = load.asked
            wait_for(lambda: load.asked > asked + 60)
        above = above_one(upstream, "load")
        print(f"{load.asked} asked, {above} above one, slowest {load.slowest:.2f} s")
        assert load.lost == [] and load.wrong == []


def test_the_primary_dies_under_load(trio: Trio) -> None:
    """No answer is lost or wrong; the flight of the cluster works again soon after the sentinels have elected."""
    names = (f"again-{number}.example." for number in itertools.count())
    with under_load(trio.url) as (upstream, nodes, _):
        until_shared(nodes, upstream, names)
        old = trio.primary()
        killed = time.monotonic()
        old.kill()
        wait_for(lambda: trio.primary() is not old, 20)
        elected = time.monotonic() - killed
        took = until_shared(nodes, upstream, names)
        print(f"elected after {elected:.2f} s, the flight works again {took:.2f} s later")

        assert trio.primary().client(password="data").exists("rdns:1:control") in (0, 1)
        found = command("cluster", "members", "--json", "--redis", trio.url)
        assert {each["node"] for each in json.loads(found.stdout)} == {"n0", "n1", "n2"}


def test_the_primary_is_moved_while_it_lives(trio: Trio) -> None:
    """A planned failover: the links let go of the server that has become a replica, and flushes reach every node."""
    names = (f"again-{number}.example." for number in itertools.count())
    with under_load(trio.url) as (upstream, nodes, _):
        old = trio.primary()
        moved = time.monotonic()
        trio.sentinels[1].client(password="watch").execute_command("SENTINEL", "FAILOVER", "mymaster")
        wait_for(lambda: trio.primary() is not old, 20)
        wait_for(lambda: all(node.log().count("attached to Redis") >= 2 for node in nodes), 10)
        took = until_shared(nodes, upstream, names)
        print(f"the flight works again {time.monotonic() - moved:.2f} s after the order, {took:.2f} s to see it")
        flushed = command("cache", "flush", "--all", "--json", "--redis", trio.url)

        assert flushed.returncode == 0, flushed.stdout
        assert set(json.loads(flushed.stdout)["confirmed_ms"]) == {"n0", "n1", "n2"}
        assert "data" not in "".join(node.log() for node in nodes).replace("database", "")


def test_a_server_found_by_its_name_becomes_a_replica() -> None:
    """No sentinels: a refused write makes the link look again where the name leads."""
    assert REDIS
    with Server(REDIS, {}) as server, Server(REDIS, {}) as other, Upstream(telling) as upstream:
        with nodes_on(f"redis://localhost:{server.port}", upstream, 1) as (node,):
            server.client().replicaof("127.0.0.1", other.port)
            wait_for(lambda: "carrying on without: READONLY" in node.log())
            server.client().replicaof("NO", "ONE")
            attached = node.log().count("attached to Redis")
            wait_for(lambda: node.log().count("attached to Redis") > attached)
            ask(node.port, "again.example.")
            wait_for(lambda: server.client().exists("rdns:1:{again.example.}:A"))
