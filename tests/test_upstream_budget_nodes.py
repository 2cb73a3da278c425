"""A budget for the cluster, by real nodes: no second hears more, nobody goes without who need not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import dns.edns
import dns.message
import dns.rcode
import pytest
from support import (
    KINDS,
    Node,
    Peer,
    RedisServer,
    Relay,
    Reply,
    StreamServer,
    Upstream,
    ask,
    attached,
    command,
    cut_off,
    default_handler,
    free_port,
    negative,
    numbers,
    running_cluster,
    wait_for,
)

from bench.counting import CountingUpstream, Flood
from rdnscache.dns.compose import OVER_BUDGET

#: About processes, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

#: What a budget of 200/s lets through in any second.
MOST = 210


@contextmanager
def _nodes(
    upstreams: Sequence[str], urls: Sequence[str], *args: str, budget: str = "200/s", workers: int = 1, links: int = 0
) -> Iterator[list[Node]]:
    """A node for each URL, attached and members of the budget."""
    with ExitStack() as stack:
        nodes = []
        for number, url in enumerate(urls):
            words = ("--upstream-budget", budget, "--warm", "0", "--node-id", f"n{number}", *args)
            environment = {"RDNSCACHE_REDIS_BUDGET": "0.05"}
            nodes.append(stack.enter_context(Node(upstreams, url, workers, words, environment)))
        if urls[0] != "none":
            wait_for(lambda: all(attached(node, links or workers) for node in nodes), 10)
        yield nodes


def _members(server: RedisServer) -> dict[str, list[float]]:
    """What Redis has of each member of the only budget."""
    with server.client() as client:
        keys = list(client.scan_iter("rdns:1:{*}:budget"))
        fields = client.hgetall(keys[0]) if keys else {}
    return {
        name.decode(): [float(word) for word in told.split()]
        for name, told in fields.items()
        if not name.startswith(b".")
    }


def _settled(server: RedisServer, count: int, rate: float) -> bool:
    """Whether all members have their equal share."""
    found = _members(server)
    return len(found) == count and all(abs(told[1] - rate / count) < 0.01 for told in found.values())


def _is_over_budget(reply: dns.message.Message) -> bool:
    texts = [option.text for option in reply.options if isinstance(option, dns.edns.EDEOption)]
    return reply.rcode() == dns.rcode.SERVFAIL and texts == [OVER_BUDGET.decode()]


class TestAcceptance:
    """Three nodes, 200/s, ten times as much asked."""

    def test_no_second_hears_more(self, redis_server: RedisServer) -> None:
        """From the first on; what is in the cache is answered all the while, what is stale at once."""
        with (
            CountingUpstream(ttl=1) as upstream,
            _nodes([upstream.address], [redis_server.url] * 3, "--ttl-max", "600") as nodes,
        ):
            ports = [node.port for node in nodes]
            for port in ports:
                for name in ("s0.test", "s1.test", "s2.test"):
                    assert ask(port, name).rcode() == dns.rcode.NOERROR
            upstream.ttl = 300
            for port in ports:
                assert ask(port, "hot.test").rcode() == dns.rcode.NOERROR
            upstream.ttl = 300
            time.sleep(1.1)  # until s0 and so on are stale
            answered = 0
            with Flood(ports) as flood:
                flood.run(2000, 0.5)
                for number in range(12):
                    flood.run(2000, 0.2)
                    port = ports[number % 3]
                    for name in ("hot.test", f"s{number % 3}.test"):
                        answered += ask(port, name, timeout=10).rcode() == dns.rcode.NOERROR
                wait_for(lambda: flood.take() or flood.rcodes[0] > 0, 10)
            assert answered == 24
            assert len(upstream.heard) > 100
            assert upstream.most_in() <= MOST

    def test_a_node_that_is_cut_off_keeps_to_its_share(self, redis_server: RedisServer) -> None:
        """While the others have the rest, and after it is back."""
        relay = Relay(redis_server.port)
        urls = [relay.url, redis_server.url, redis_server.url]
        with CountingUpstream() as upstream, _nodes([upstream.address], urls) as nodes:
            wait_for(lambda: _settled(redis_server, 3, 200), 10)
            with Flood([node.port for node in nodes]) as flood:
                flood.run(1200, 1.0)
                relay.cut()
                flood.run(1200, 3.0)
                with Flood([nodes[0].port], "alone") as alone:
                    alone.run(300, 2.0)
                    wait_for(lambda: alone.take() or alone.rcodes[0] > 0, 10)
                by_itself = [moment for moment, name in upstream.heard if b"alone" in name]
                relay.heal()
                flood.run(1200, 2.0)
            relay.close()
            assert upstream.most_in() <= MOST
            assert len(by_itself) <= 67 * (by_itself[-1] - by_itself[0] + 1) * 1.05

    def test_without_redis_from_the_start_a_node_is_modest(self) -> None:
        """It cannot know how many others there are: a tenth."""
        url = f"redis://127.0.0.1:{free_port()}"
        with (
            CountingUpstream() as upstream,
            Node([upstream.address], url, 1, ("--upstream-budget", "200/s", "--warm", "0")) as node,
            Flood([node.port]) as flood,
        ):
            flood.run(200, 2.0)
            wait_for(lambda: flood.take() or flood.rcodes[0] > 0, 10)
            assert 10 <= upstream.most_in() <= 21

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_node_of_its_own_has_all_of_it(self, workers: int) -> None:
        """With `--redis none`, whatever the number of its workers."""
        with (
            CountingUpstream() as upstream,
            _nodes([upstream.address], ["none"], budget="6000/m", workers=workers) as nodes,
            Flood([nodes[0].port]) as flood,
        ):
            flood.run(400, 3.0)
            wait_for(lambda: flood.take() or flood.rcodes[0] > 0, 10)
            assert 50 < upstream.most_in() <= 106

    def test_redis_is_restarted(self, redis_server: RedisServer) -> None:
        """Empty: what it had given out is not given again."""
        with (
            CountingUpstream() as upstream,
            _nodes([upstream.address], [redis_server.url] * 2) as nodes,
            Flood([node.port for node in nodes]) as flood,
        ):
            wait_for(lambda: _settled(redis_server, 2, 200), 10)
            flood.run(800, 1.0)
            redis_server.kill()
            redis_server.start()
            flood.run(800, 3.0)
            assert upstream.most_in() <= MOST

    def test_a_redis_cluster(self) -> None:
        """One key, wherever it is."""
        with (
            running_cluster(KINDS["valkey"] or KINDS["redis"], 0) as cluster,
            CountingUpstream() as upstream,
            _nodes([upstream.address], [cluster.url] * 2, links=4) as nodes,
            Flood([node.port for node in nodes]) as flood,
        ):
            flood.run(800, 3.0)
            wait_for(lambda: flood.take() or flood.rcodes[0] > 0, 10)
            assert len(upstream.heard) > 60 and upstream.most_in() <= MOST

    def test_low_budgets_are_shared_fairly(self, redis_server: RedisServer) -> None:
        """Of two nodes that ask for much, neither has all of 10/s."""
        with CountingUpstream() as upstream, _nodes([upstream.address], [redis_server.url] * 2, budget="10/s") as nodes:
            wait_for(lambda: _settled(redis_server, 2, 10), 10)
            with Flood([nodes[0].port], "first") as first, Flood([nodes[1].port], "second") as second:
                for _ in range(40):
                    first.run(100, 0.05)
                    second.run(100, 0.05)
                heard = [b"first" in name for _, name in upstream.heard]
            assert 20 <= len(heard) <= 45
            assert 0.25 <= sum(heard) / len(heard) <= 0.75
            assert upstream.most_in() <= 11


class TestWhatIsAnswered:
    """When the budget is used up."""

    def test_who_is_not_answered_is_told_why(self) -> None:
        """And it is forgotten at once: the next may be luckier."""
        with CountingUpstream() as upstream, _nodes([upstream.address], ["none"], budget="6/m") as nodes:
            assert ask(nodes[0].port, "a.test").rcode() == dns.rcode.NOERROR
            reply = ask(nodes[0].port, "b.test", timeout=10, use_edns=0)
            assert _is_over_budget(reply)
            assert ask(nodes[0].port, "a.test").rcode() == dns.rcode.NOERROR
            assert len(upstream.heard) == 1

    def test_a_stale_answer_is_given_at_once(self) -> None:
        """Long before `--stale-after`, and nothing is asked for it."""
        with (
            CountingUpstream(ttl=1) as upstream,
            _nodes([upstream.address], ["none"], "--stale-after", "60", budget="6/m") as nodes,
        ):
            ask(nodes[0].port, "old.test")
            time.sleep(1.1)  # until it is stale
            reply = ask(nodes[0].port, "old.test", timeout=1.2)
            assert reply.answer and reply.answer[0].ttl == 30
            assert len(upstream.heard) == 1

    def test_another_server_is_asked_first(self) -> None:
        """As long as it may be: what there is no room for goes there, and nobody waits."""
        with (
            CountingUpstream() as dear,
            CountingUpstream() as cheap,
            Node([f"{dear.address}?budget=5/s", cheap.address], "none", 1, ("--upstream-policy", "ordered")) as node,
        ):
            for number in range(60):
                assert ask(node.port, f"x{number}.test").rcode() == dns.rcode.NOERROR
            assert dear.most_in() <= 6
            assert len(cheap.heard) >= 40

    def test_a_failure_is_nobody_elses(self, redis_server: RedisServer) -> None:
        """It is not stored, and the claim is free."""
        with CountingUpstream() as upstream, _nodes([upstream.address], [redis_server.url], budget="6/m") as nodes:
            ask(nodes[0].port, "a.test")
            assert _is_over_budget(ask(nodes[0].port, "b.test", timeout=10, use_edns=0))
            with redis_server.client() as client:
                wait_for(lambda: not client.exists("rdns:1:{b.test.}:A#lead"))
                assert not client.exists("rdns:1:{b.test.}:A")
            assert "no upstream can be reached" not in nodes[0].log()

    def test_who_follows_does_not_wait_for_each_leader_anew(self, redis_server: RedisServer) -> None:
        """The lead goes from one to the next, and all are told within the time of one wait and a little more."""
        with (
            CountingUpstream() as upstream,
            _nodes([upstream.address], [redis_server.url] * 3, budget="6/m") as nodes,
            ThreadPoolExecutor() as pool,
        ):
            ask(nodes[0].port, "a.test", timeout=5)
            asked = [pool.submit(ask, node.port, "b.test", timeout=3.5, use_edns=0) for node in nodes]
            assert all(_is_over_budget(each.result()) for each in asked)

    def test_a_quota_of_0_is_no_bound(self) -> None:
        """A server of its own choice is free of the budget for all."""
        with CountingUpstream() as upstream, _nodes([f"{upstream.address}?budget=0"], ["none"], budget="1/s") as nodes:
            for number in range(20):
                assert ask(nodes[0].port, f"x{number}.test").rcode() == dns.rcode.NOERROR


class TestEverythingCounts:
    """The upstream's count is what matters."""

    def test_what_is_sent_again(self) -> None:
        """To a server that says nothing: repetitions are as dear as first questions."""
        hasty = ("--upstream-retry-min", "0.02", "--upstream-retry-max", "0.05")
        with (
            CountingUpstream(deaf=True) as upstream,
            _nodes([upstream.address], ["none"], *hasty, budget="10/s") as nodes,
            Flood([nodes[0].port]) as flood,
        ):
            flood.run(20, 3.0)
            assert len(upstream.heard) > 10
            assert upstream.most_in() <= 11

    def test_what_is_asked_over_tcp(self) -> None:
        """What is cut off is asked twice."""

        def cut(query: dns.message.Message, transport: str) -> Reply:
            return cut_off(query, transport) if transport == "udp" else default_handler(query, transport)

        with Upstream(cut) as upstream, _nodes([upstream.address], ["none"], budget="10/s") as nodes:
            begun = time.monotonic()
            for number in range(10):
                assert ask(nodes[0].port, f"x{number}.test", timeout=5).rcode() == dns.rcode.NOERROR
            assert len(upstream.raw) >= 20
            assert time.monotonic() - begun > 1.5

    def test_what_is_sent_again_over_another_connection(self) -> None:
        """When one ends with queries on it: they wait for their turn again."""
        heard: list[float] = []

        def script(peer: Peer) -> None:
            for number in range(3):
                query = peer.query()
                if query is None:
                    return
                heard.append(time.monotonic())
                if number == 0:
                    peer.answer(query)
            peer.reset()

        with (
            StreamServer(script) as server,
            _nodes([f"tcp://127.0.0.1:{server.port}"], ["none"], budget="20/s") as nodes,
            Flood([nodes[0].port]) as flood,
        ):
            flood.run(60, 3.0)
            wait_for(lambda: flood.take() or flood.rcodes[0] > 0, 10)
        most = max(sum(moment <= other < moment + 1 for other in heard) for moment in heard)
        assert len(heard) > 10 and most <= 22  # read by a thread, which may come late

    def test_what_is_asked_without_edns(self) -> None:
        """When a server does not know it."""

        def old(query: dns.message.Message, transport: str) -> dns.message.Message:
            return negative(query) if query.edns < 0 else negative(query, dns.rcode.FORMERR)

        with Upstream(old) as upstream, _nodes([upstream.address], ["none"], budget="10/s") as nodes:
            begun = time.monotonic()
            for number in range(10):
                assert ask(nodes[0].port, f"x{number}.test", timeout=5).rcode() == dns.rcode.NXDOMAIN
            assert len(upstream.raw) >= 20
            assert time.monotonic() - begun > 1.5


class TestWhatIsTold:
    """How near it is."""

    def test_status_and_metrics(self, redis_server: RedisServer) -> None:
        """In queries a second, of the whole cluster."""
        admin = free_port()
        args = ("--admin", f"127.0.0.1:{admin}")
        with (
            CountingUpstream() as upstream,
            _nodes([upstream.address], [redis_server.url], *args, budget="50/s") as nodes,
            Flood([nodes[0].port]) as flood,
        ):
            flood.run(200, 3.0)
            found = numbers(admin)
            assert found[f"upstream_budget.{upstream.address}"] == 50
            assert 20 < found[f"upstream_budget_used.{upstream.address}"] < 60
            assert found[f"upstream_budget_granted_total.{upstream.address}"] >= len(upstream.heard) - 5 > 50
            assert found[f"upstream_budget_waited_total.{upstream.address}"] > 0
            assert found[f"upstream_budget_refused_total.{upstream.address}"] > 0

            def told() -> str:
                flood.run(200, 0.5)
                return command("cluster", "status", "--redis", redis_server.url).stdout

            wait_for(lambda: f"budget {upstream.address}: " in told() and "/s of 50/s" in told(), 10)
            status = json.loads(command("cluster", "status", "--json", "--redis", redis_server.url).stdout)
            (told_of,) = status[0]["upstreams"]
            assert told_of["budget"] == 50 and told_of["used"] > 0

    def test_who_leaves_has_no_share(self, redis_server: RedisServer) -> None:
        """The others have all of it."""
        with CountingUpstream() as upstream, _nodes([upstream.address], [redis_server.url] * 2) as nodes:
            wait_for(lambda: _settled(redis_server, 2, 200), 10)
            nodes[1].stop()
            wait_for(lambda: _settled(redis_server, 1, 200), 10)

    def test_who_is_forgotten_has_no_share(self, redis_server: RedisServer) -> None:
        """Killed, it may as well be cut off, until somebody says that it is not."""
        with CountingUpstream() as upstream, _nodes([upstream.address], [redis_server.url] * 2) as nodes:
            wait_for(lambda: _settled(redis_server, 2, 200), 10)
            wait_for(lambda: "n1" in command("cluster", "status", "--redis", redis_server.url).stdout)
            workers = nodes[1].children()
            os.kill(nodes[1].process.pid, signal.SIGSTOP)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            nodes[1].kill()
            assert len(_members(redis_server)) == 2
            assert command("cluster", "forget", "n1", "--redis", redis_server.url).returncode == 0
            wait_for(lambda: _settled(redis_server, 1, 200), 10)
