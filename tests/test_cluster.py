"""Three nodes, one Redis, an upstream that counts: the promise, kept by separate processes."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

import dns.message
import dns.rcode
import pytest
from support import Node, RedisServer, Upstream, addresses, free_port, nodes_on, wait_for

pytestmark = pytest.mark.both


def ask_all(
    questions: Sequence[tuple[int, str]], timeout: float, tries: int
) -> tuple[dict[int, dns.message.Message], float]:
    """Send every (port, name) from a socket of its own at once; the replies by index, and when the last one came.

    A client that has no reply after `timeout` asks again from the same socket, `tries` times in all.
    """
    replies: dict[int, dns.message.Message] = {}
    started, last = time.monotonic(), 0.0
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        clients = []
        for index, (port, name) in enumerate(questions):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.setblocking(False)
            sock.connect(("127.0.0.1", port))
            selector.register(sock, selectors.EVENT_READ, index)
            clients.append((sock, dns.message.make_query(name, "A").to_wire()))
        for attempt in range(tries):
            for index, (sock, query) in enumerate(clients):
                if index not in replies:
                    sock.send(query)
            deadline = started + timeout * (attempt + 1)
            while len(replies) < len(clients) and (left := deadline - time.monotonic()) > 0:
                for ready, _ in selector.select(left):
                    try:
                        data = ready.fileobj.recv(4096)  # type: ignore[union-attr]
                    except OSError:
                        continue
                    replies[ready.data] = dns.message.from_wire(data)
                    last = time.monotonic() - started
    return replies, last


def children(pid: int) -> list[int]:
    """The worker processes of a supervisor, oldest first."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


#: With many questions at once and few CPUs Redis itself is late: that is not what is looked at.
ROOMY = ("--redis-timeout", "2")


class TestOneUpstreamQueryPerQuestion:
    def test_three_hundred_clients_on_all_nodes_cost_one_upstream_query(self, redis_server: RedisServer) -> None:
        """300 clients ask one cold name over 3 nodes of 2 workers: the upstream hears it once, all are answered."""
        with Upstream(delay=0.2) as upstream, nodes_on(redis_server.url, upstream, 3, 2, ROOMY) as nodes:
            ports = [node.port for node in nodes]
            replies, last = ask_all([(ports[i % 3], "cold.example.") for i in range(300)], 5.0, 1)

            assert len(replies) == 300
            assert all(addresses(reply) == ["192.0.2.1"] for reply in replies.values())
            assert upstream.counts == {("cold.example.", "A"): 1}
            print(f"last of 300 clients answered after {last * 1000:.0f} ms")

    def test_five_hundred_names_cost_five_hundred_upstream_queries(self, redis_server: RedisServer) -> None:
        """500 cold names, each asked at all three nodes at once: 500 upstream queries."""
        with Upstream(delay=0.2) as upstream, nodes_on(redis_server.url, upstream, 3, 2, ROOMY) as nodes:
            asked = [(node.port, f"n{i}.example.") for i in range(500) for node in nodes]
            replies, _ = ask_all(asked, 10.0, 1)

            assert len(replies) == 1500
            assert all(addresses(reply) == ["192.0.2.1"] for reply in replies.values())
            assert sum(upstream.counts.values()) == len(upstream.counts) == 500


class TestLosses:
    def test_a_killed_leader_is_replaced_when_its_lease_ends(self, redis_server: RedisServer) -> None:
        """kill -9 of the leader mid-flight: all followers are answered, and the upstream hears one more query.

        The lease is 1.5 s, whatever the upstream's deadline.
        """
        with Upstream(delay=0.6) as upstream, nodes_on(redis_server.url, upstream, 3, 1) as nodes:
            answered: dict[int, dns.message.Message] = {}
            leader, *followers = nodes
            clients = threading.Thread(
                target=lambda: answered.update(ask_all([(node.port, "lost.example.") for node in followers], 4.0, 1)[0])
            )
            first = threading.Thread(target=lambda: ask_all([(leader.port, "lost.example.")], 0.1, 1))
            redis = redis_server.client()
            first.start()
            assert wait_for(lambda: redis.exists("rdns:1:{lost.example.}:A#lead") == 1)
            clients.start()
            assert wait_for(lambda: redis.scard("rdns:1:{lost.example.}:A#wait") == 2)
            (worker,) = children(leader.process.pid)
            os.kill(worker, signal.SIGKILL)
            first.join()
            clients.join()

            assert [addresses(reply) for reply in answered.values()] == [["192.0.2.1"]] * 2
            assert upstream.counts == {("lost.example.", "A"): 2}

    def test_a_leader_that_takes_long_is_not_replaced(self, redis_server: RedisServer) -> None:
        """Its lease is renewed while the upstream takes twice as long: one query, and nothing is left behind."""
        timing = ("--upstream-timeout", "4", "--stale-after", "10")
        with Upstream(delay=3.0) as upstream, nodes_on(redis_server.url, upstream, 3, 1, timing) as nodes:
            replies, _ = ask_all([(node.port, "long.example.") for node in nodes], 8.0, 1)

            assert [addresses(reply) for reply in replies.values()] == [["192.0.2.1"]] * 3
            assert upstream.counts == {("long.example.", "A"): 1}
            assert wait_for(lambda: not redis_server.client().exists("rdns:1:{long.example.}:A#lead"))

    def test_a_dropped_wake_up_is_made_good_by_looking_again(self, redis_server: RedisServer) -> None:
        """With every registration removed no message is sent, and followers still find the entry."""
        with Upstream(delay=0.3) as upstream, nodes_on(redis_server.url, upstream, 3, 1) as nodes:
            redis, stop = redis_server.client(), threading.Event()

            def drop() -> None:
                while not stop.is_set():
                    redis.delete("rdns:1:{drop.example.}:A#wait")

            dropper = threading.Thread(target=drop)
            dropper.start()
            replies, last = ask_all([(node.port, "drop.example.") for node in nodes], 5.0, 1)
            stop.set()
            dropper.join()

            assert len(replies) == 3
            assert upstream.counts == {("drop.example.", "A"): 1}
            print(f"last follower answered after {last * 1000:.0f} ms, fill at about 300 ms")

    def test_no_query_is_lost_when_redis_is_killed_and_restarted_under_load(self, redis_server: RedisServer) -> None:
        """Clients with 2 s and one retry lose nothing; the upstream hears a question once per node at most."""
        with Upstream(delay=0.02) as upstream, nodes_on(redis_server.url, upstream, 3, 2) as nodes:
            ports = [node.port for node in nodes]
            lost: list[str] = []
            for round_number in range(30):
                if round_number == 8:
                    redis_server.kill()
                if round_number == 18:
                    redis_server.start()
                asked = [(port, f"r{round_number}-{i}.example.") for i in range(20) for port in ports]
                replies, _ = ask_all(asked, 2.0, 2)
                lost += [asked[index][1] for index in range(len(asked)) if index not in replies]
                assert all(addresses(reply) == ["192.0.2.1"] for reply in replies.values())

            assert lost == []
            assert max(upstream.counts.values()) <= 3
            assert all(wait_for(lambda node=node: node.log().count("attached to Redis") >= 4) for node in nodes)


@pytest.mark.parametrize("redis_url", ["unix:///nonexistent/redis.sock", "redis://127.0.0.1:1"])
def test_a_node_starts_without_redis_and_attaches_when_it_appears(redis_url: str) -> None:
    """An unreachable Redis delays neither the start nor the answers."""
    with Upstream() as upstream, Node([upstream.address], redis=redis_url) as node:
        replies, _ = ask_all([(node.port, "alone.example.")], 2.0, 1)

        assert addresses(replies[0]) == ["192.0.2.1"]


def test_a_node_attaches_when_redis_appears(redis_server: RedisServer) -> None:
    """Redis comes up after the node: the next answer is shared."""
    redis_server.kill()
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
        ask_all([(node.port, "before.example.")], 2.0, 1)
        redis_server.start()
        assert wait_for(lambda: "attached to Redis" in node.log())
        ask_all([(node.port, "after.example.")], 2.0, 1)

        assert wait_for(lambda: redis_server.client().exists("rdns:1:{after.example.}:A") == 1)


@pytest.mark.parametrize(
    "value",
    ["a string", {"wire": "junk", "info": "junk"}, {"info": "rcode=NOERROR ttl=9 stale=9 x"}, {"wire": "\0" * 40}],
)
def test_a_value_that_is_no_entry_is_a_miss_and_heals(redis_server: RedisServer, value: object) -> None:
    """A foreign, corrupt or truncated value is deleted and replaced by a true answer."""
    key = "rdns:1:{heal.example.}:A"
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
        assert wait_for(lambda: "attached to Redis" in node.log())
        redis = redis_server.client()
        if isinstance(value, str):
            redis.set(key, value)
        else:
            redis.hset(key, mapping=value)
        redis.pexpire(key, 15_000)
        replies, _ = ask_all([(node.port, "heal.example.")], 2.0, 1)

        assert addresses(replies[0]) == ["192.0.2.1"]
        assert wait_for(
            lambda: redis.type(key) == b"hash" and b"rcode=NOERROR ttl=300" in (redis.hget(key, "info") or b"")
        )


@pytest.mark.parametrize("how", ["set", "sadd", "persist"])
def test_a_claim_that_is_nobodys_is_taken_over(redis_server: RedisServer, how: str) -> None:
    """Somebody else's value in its place, for longer than any lease or for ever: nobody waits for it to end."""
    lead = "rdns:1:{taken.example.}:A#lead"
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
        assert wait_for(lambda: "attached to Redis" in node.log())
        redis = redis_server.client()
        if how == "sadd":
            redis.sadd(lead, "rubbish")
        else:
            redis.set(lead, "rubbish")
        if how != "persist":
            redis.pexpire(lead, 60_000)
        replies, last = ask_all([(node.port, "taken.example.")], 4.0, 1)

        assert addresses(replies[0]) == ["192.0.2.1"], f"after {last} s"
        assert wait_for(lambda: redis.exists("rdns:1:{taken.example.}:A") == 1)
        assert upstream.counts == {("taken.example.", "A"): 1}


def test_without_redis_the_workers_of_a_node_ask_once_among_them() -> None:
    """200 clients ask one cold name of a node with 4 workers and no Redis: one upstream query."""
    with Upstream(delay=0.2) as upstream, Node([upstream.address], redis="none", workers=4) as node:
        for name in ("a.example.", "b.example.", "c.example."):
            replies, _ = ask_all([(node.port, name)] * 200, 5.0, 1)

            assert len(replies) == 200
            assert upstream.counts[(name, "A")] == 1


def test_what_is_asked_while_a_node_starts_comes_from_redis(redis_server: RedisServer) -> None:
    """Queries that wait in the kernel while the workers begin are no reason to ask what the cluster knows."""
    names = [f"k{i}.example." for i in range(50)]
    port = free_port()
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node, ExitStack() as stack:
        ask_all([(node.port, name) for name in names], 4.0, 1)
        assert wait_for(lambda: len(redis_server.client().keys("rdns:1:{k*")) == 50)
        socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in names]
        starting = threading.Thread(
            target=lambda: stack.enter_context(
                Node([upstream.address], redis_server.url, 2, ["--warm", "0"], listen=f"127.0.0.1:{port}")
            )
        )
        starting.start()
        replies = asked_until_read(socks, names, port)
        starting.join()

        assert [reply for reply in replies if addresses(reply) == ["192.0.2.1"]] == replies
        assert upstream.total() == 50


def asked_until_read(socks: list[socket.socket], names: list[str], port: int) -> list[dns.message.Message]:
    """Ask as soon as the port is there; the replies once all have come."""
    for sock, name in zip(socks, names, strict=True):
        sock.connect(("127.0.0.1", port))
        sock.settimeout(10)
        query = dns.message.make_query(name, "A").to_wire()

        def queued(sock: socket.socket = sock, query: bytes = query) -> bool:
            """Sent, and not refused."""
            try:
                sock.send(query)
                sock.getpeername()
                return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            except OSError:
                return False

        wait_for(queued, 15)
    return [dns.message.from_wire(sock.recv(4096)) for sock in socks]
