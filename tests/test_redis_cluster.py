"""A Redis Cluster: slots that move, primaries that die, flushes and people's commands over all of it."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.crc import key_slot
from support import (
    KINDS,
    Changing,
    Load,
    Node,
    RedisCluster,
    Server,
    Upstream,
    above_one,
    answer_of,
    ask,
    asked_at_once,
    command,
    in_order,
    nodes_on,
    running_cluster,
    telling,
    until_shared,
    wait_for,
)

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


STREAM = b"rdns:1:control"


def entry(name: str) -> bytes:
    return f"rdns:1:{{{name}}}:A".encode()


def names_of(cluster: RedisCluster, primary: int, label: str) -> Iterator[str]:
    """Names whose entries a primary has."""
    found = (f"{label}-{number}.example." for number in itertools.count())
    return (name for name in found if cluster.owner(entry(name)) == primary)


def attached(nodes: list[Node]) -> None:
    """All links of all nodes: three shards, and the ear."""
    wait_for(lambda: all(node.log().count("attached to Redis") >= 4 for node in nodes), 10)


@pytest.mark.parametrize(
    ("kind", "which", "how"), [("redis", "keeper", signal.SIGKILL), ("valkey", "other", signal.SIGSTOP)]
)
def test_a_primary_dies_under_load(kind: str, which: str, how: signal.Signals) -> None:
    """Nothing is lost or wrong; the other shards' questions stay single, and its own are again after the failover.

    Killed, it is the one that keeps the control stream; stopped, as a frozen machine, another one.
    """
    keeper = min(key_slot(STREAM) * 3 // 16384, 2)
    dying = keeper if which == "keeper" else (keeper + 1) % 3
    living = (keeper + 2) % 3
    with running_cluster(KINDS[kind], dying) as cluster, Upstream(telling, delay=0.15) as upstream:
        with nodes_on(cluster.url, upstream) as nodes:
            attached(nodes)
            with Load([node.port for node in nodes], 30) as load:
                wait_for(lambda: load.asked > 60)
                until_shared(nodes, upstream, names_of(cluster, dying, "before"))
                ears = sum(f"messages from 127.0.0.1:{cluster.servers[dying].port}" in node.log() for node in nodes)
                killed = time.monotonic()
                cluster.servers[dying].end(how)
                others = until_shared(nodes, upstream, names_of(cluster, living, "living"))
                took = until_shared(nodes, upstream, names_of(cluster, dying, "dying"))
                whole = time.monotonic() - killed
                asked = load.asked
                wait_for(lambda: load.asked > asked + 60)
            above = above_one(upstream, "load")
            print(f"{kind}, {which} with {ears} ears dies: the others after {others:.2f} s, all after {whole:.2f} s")
            print(f"{load.asked} asked, {above} above one, slowest {load.slowest:.2f} s")

            assert load.lost == [] and load.wrong == []
            assert others < took
            cluster.servers[dying].kill()  # one that is only stopped would hold redis-py up
            flushed = command("cache", "flush", "--all", "--json", "--redis", cluster.url)
            assert set(json.loads(flushed.stdout)["confirmed_ms"]) == {"n0", "n1", "n2"}, flushed.stdout


@pytest.mark.parametrize("kind", list(KINDS))
def test_slots_move_and_people_look(kind: str) -> None:
    """A slot moves under load; every command of people works over all primaries; a message that is lost is missed."""
    with running_cluster(KINDS[kind], 0) as cluster, Upstream(telling, delay=0.15) as upstream:
        with nodes_on(cluster.url, upstream, args=("--redis-timeout", "1")) as nodes:
            attached(nodes)
            first = next(names_of(cluster, 0, "moved"))
            slot = key_slot(entry(first))
            ask(nodes[0].port, first)
            wait_for(lambda: cluster.clients[0].exists(entry(first)))
            with Load([node.port for node in nodes], 30) as load:
                cluster.move(slot, [entry(first)], 0, 1)
                assert ask(nodes[1].port, first).answer
                asked = load.asked
                wait_for(lambda: load.asked > asked + 30)
                cluster.settle(slot, 1)
                ask(nodes[2].port, first)
                wait_for(lambda: load.asked > asked + 90)
            above = above_one(upstream, "load")
            print(f"{kind}: {load.asked} asked, {above} above one, {upstream.count(first)} for the name that moved")
            assert load.lost == [] and load.wrong == []
            assert above == 0
            assert cluster.clients[1].exists(entry(first))
            if kind == "redis":
                look_around(cluster, nodes)
            # an event whose message is lost between two nodes of the cluster
            keeper = cluster.clients[cluster.owner(STREAM)]
            keeper.xadd(STREAM, {"event": '{"event": "flush", "name": "silent.example."}'})
            in_order(*(lambda node=node: "silent.example." in node.log() for node in nodes))


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_control_stream_moves(kind: str) -> None:
    """While its slot is on the way, a worker that attaches anew still learns what it has missed: ASK is followed."""
    with running_cluster(KINDS[kind], 0) as cluster, Upstream(telling) as upstream:
        with nodes_on(cluster.url, upstream, 2) as nodes:
            attached(nodes)
            assert command("cache", "flush", "first.example", "--redis", cluster.url).returncode == 0
            owner = cluster.owner(STREAM)
            target = (owner + 1) % 3
            cluster.move(key_slot(STREAM), [STREAM], owner, target)
            with cluster.clients[target].pipeline(transaction=False) as pipeline:
                pipeline.execute_command("ASKING")
                pipeline.xadd(STREAM, {"event": '{"event": "flush", "name": "asked.example."}'})
                pipeline.execute()
            for client in cluster.clients[:3]:
                client.client_kill_filter(_type="pubsub")
            in_order(*(lambda node=node: "asked.example." in node.log() for node in nodes))
            assert not any("cannot be read" in node.log() for node in nodes)


def look_around(cluster: RedisCluster, nodes: list[Node]) -> None:
    """ls, export, import, status, hot names, flush by name and of everything."""

    def run(*words: str) -> Any:
        found = command(*words, "--redis", cluster.url)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    held = sum(len(list(client.scan_iter("rdns:1:{*.}*"))) for client in cluster.clients[:3])
    listed = [json.loads(line) for line in run("cache", "ls", "--jsonl").splitlines()]
    assert len(listed) == held > 20
    file = str(nodes[0].folder / "snapshot")
    run("cache", "export", file)
    assert len(json.loads(run("cluster", "status", "--json"))) == 3
    name = listed[0]["question"].split(" ")[0]
    flushed = json.loads(run("cache", "flush", name, "--json"))
    assert (flushed["entries"], set(flushed["confirmed_ms"])) == (1, {"n0", "n1", "n2"})
    run("cache", "flush", "--all")
    assert sum(len(list(client.scan_iter("rdns:1:{*.}*"))) for client in cluster.clients[:3]) == 0
    run("cache", "import", file)
    assert sum(len(list(client.scan_iter("rdns:1:{*.}*"))) for client in cluster.clients[:3]) == held


def test_a_shard_that_is_away_costs_a_query_for_each_node() -> None:
    """Not for each worker: about its questions the workers of a node bring themselves together, as without Redis."""
    keeper = min(key_slot(STREAM) * 3 // 16384, 2)
    dying = (keeper + 1) % 3
    with running_cluster(KINDS["valkey"], keeper) as cluster, Upstream(telling, delay=0.15) as upstream:
        with Node([upstream.address], cluster.url, 2) as node:
            wait_for(lambda: node.log().count("attached to Redis") >= 8, 10)
            cluster.servers[dying].end(signal.SIGKILL)
            shard = f"no Redis (shard 127.0.0.1:{cluster.servers[dying].port})"
            wait_for(lambda: node.log().count(shard) >= 2)
            names = list(itertools.islice(names_of(cluster, dying, "away"), 10))
            for name in names:
                asked_at_once([node.port] * 20, name)

            assert [upstream.count(name) for name in names] == [1] * 10


class Backward:
    """Names of a shard that every node has asked for, and that are flushed before the shard is back on a server."""

    def __init__(self, cluster: RedisCluster, nodes: list[Node], shard: int, server: Server, handler: Changing) -> None:
        self.names = list(itertools.islice(names_of(cluster, shard, f"back{shard}"), 12))
        self._nodes, self._handler, self._url = nodes, handler, cluster.url
        self._server = server
        handler.address = "192.0.2.1"
        for name in self.names:
            assert self._answers(name) == {"192.0.2.1"}
        copies = [cluster.clients[shard], *cluster.clients[3:]][: 2 if cluster.replicated == shard else 1]
        wait_for(lambda: all(client.dbsize() >= len(self.names) for client in copies))

    def flush(self) -> None:
        self._before = [self._attached(node) for node in self._nodes]
        self._handler.address = "192.0.2.2"
        flushed = command("cache", "flush", "--zone", "example", "--json", "--redis", self._url)
        assert flushed.returncode == 0, flushed.stdout + flushed.stderr

    def _attached(self, node: Node) -> int:
        return node.log().count(f"attached to Redis (shard 127.0.0.1:{self._server.port})")

    def answers(self) -> set[str]:
        """What the nodes say once they are attached to the server; nobody has asked since the flush."""
        for node, before in zip(self._nodes, self._before, strict=True):
            wait_for(lambda node=node, before=before: self._attached(node) > before, 30)
        wait_for(lambda: b"cluster_state:ok" in self._server.client().execute_command("CLUSTER", "INFO"), 10)
        return set().union(*(self._answers(name) for name in self.names))

    def _answers(self, name: str) -> set[str]:
        return {answer_of(node.port, name, timeout=5) for node in self._nodes}


def test_a_shard_goes_back_in_time() -> None:
    """What was flushed is deleted again before anybody reads from it, whichever shard it is and however it comes back.

    One is started again from an older file; of the one with the control stream a replica takes over that has missed the
    flush. A mark that was merely lost costs one deletion.
    """
    keeper = min(key_slot(STREAM) * 3 // 16384, 2)
    other = (keeper + 1) % 3
    handler = Changing()
    with running_cluster(KINDS["redis"], keeper) as cluster, Upstream(handler) as upstream:
        with nodes_on(cluster.url, upstream, 2) as nodes:

            def lost(server: Server) -> int:
                return sum(node.log().count(f"127.0.0.1:{server.port} has lost flushes") for node in nodes)

            attached(nodes)
            a_mark_is_lost(cluster, nodes, other)
            assert lost(cluster.servers[other]) == 1

            back = Backward(cluster, nodes, other, cluster.servers[other], handler)
            cluster.clients[other].save()
            back.flush()
            cluster.servers[other].kill()
            cluster.servers[other].start()
            assert back.answers() == {"192.0.2.2"}
            assert lost(cluster.servers[other]) == 2

            replica = cluster.servers[3]
            back = Backward(cluster, nodes, keeper, replica, handler)
            replica.end(signal.SIGSTOP)
            cluster.clients[keeper].client_kill_filter(_type="replica")
            back.flush()
            cluster.servers[keeper].kill()
            replica.end(signal.SIGCONT)
            assert back.answers() == {"192.0.2.2"}
            # twice when a node attaches while the flush is announced again, and the shard not yet swept for that
            assert 1 <= lost(replica) <= 2
            wait_for(lambda: any("flushed zone example. again" in node.log() for node in nodes), 20)


def a_mark_is_lost(cluster: RedisCluster, nodes: list[Node], shard: int) -> None:
    """What was flushed is deleted there once more, however often nodes attach to it."""
    flush = ("cache", "flush", "--zone", "gone.example", "--redis", cluster.url)
    assert command(*flush).returncode == 0
    client = cluster.clients[shard]
    wait_for(lambda: len(list(client.scan_iter("*:swept"))) == 1, 20)  # a node may do it
    (mark,) = client.scan_iter("*:swept")
    assert key_slot(mark) == [0, 5461, 10923][shard]
    assert client.get(mark).count(b"-") == 1
    client.delete(mark)
    attached_to = f"attached to Redis (shard 127.0.0.1:{cluster.servers[shard].port})"
    for number in (2, 3):
        client.client_kill_filter(_type="normal", skipme=True)
        in_order(*(lambda node=node, number=number: node.log().count(attached_to) >= number for node in nodes))
    assert client.get(mark).count(b"-") == 1
    listed = command("cache", "ls", "--redis", cluster.url)
    assert (listed.returncode, "swept" in listed.stdout) == (0, False)
