"""What a slow Redis may cost a query, and what beats waiting: an upstream beside it, stale answers, prefetch."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest
from support import Node, RedisServer, Upstream, answer, ask, failure, free_port, negative, wait_for

from rdnscache.cache import Cache
from rdnscache.dns.policy import Limits, failure_wire
from rdnscache.dns.wire import parse_reply
from rdnscache.journal import Journal
from rdnscache.metrics import Board
from rdnscache.resolver import Resolver
from rdnscache.store.nostore import NoStore

KEY = b"\1a\0\0\1\0\1\0"
OLD, NEW, ELSEWHERE = "192.0.2.1", "192.0.2.2", "192.0.2.7"
EDE = dns.edns.EDECode


class Wire:
    """The way to a Redis; how long it is can be changed."""

    def __init__(self, redis: RedisServer) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.relay", str(redis.port), str(port)],
            stdin=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
        )  # fmt: skip

    def delay(self, seconds: float) -> None:
        """In each direction, for what passes from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"delay 0 {seconds}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """One kind will do here."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[Wire]:
    wire = Wire(redis_server)
    yield wire
    wire.close()


def slow_node(wire: Wire, upstream: Upstream, delay: float, *args: str) -> Node:
    """Attached to a Redis that is near, which then moves away: its link waits long, each query as by default."""
    words = ("--redis-timeout", "10", "--redis-budget", "0.05", "--node-id", "n1", "--warm", "0", *args)
    node = Node([upstream.address], wire.url, 1, words)
    wait_for(lambda: "attached to Redis" in node.log())
    wire.delay(delay)
    return node


def store(redis: RedisServer, name: str) -> None:
    """Have an entry of another node in Redis, which no upstream knows."""
    with Upstream(lambda query, _: answer(query, f"300 A {ELSEWHERE}")) as other:
        with Node([other.address], redis.url, 1, ["--node-id", "n2"]) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            ask(node.port, name)
            wait_for(lambda: redis.client().exists(f"rdns:1:{{{name}}}:A"))


def address(reply: dns.message.Message) -> str:
    assert reply.rcode() == dns.rcode.NOERROR
    return str(reply.answer[0][0])


def codes(reply: dns.message.Message) -> list[int]:
    return [int(option.code) for option in reply.options if option.otype == dns.edns.OptionType.EDE]


def timed(port: int, name: str) -> tuple[dns.message.Message, float]:
    began = time.monotonic()
    return ask(port, name, timeout=10, use_edns=0), time.monotonic() - began


class TestSlowRedis:
    """A round trip takes 1 s."""

    def test_an_upstream_is_asked_beside_it_and_what_it_brings_is_stored(
        self, wire: Wire, redis_server: RedisServer
    ) -> None:
        """Nobody waits for the claim, which comes late and still makes room for the fill."""
        with Upstream() as upstream, slow_node(wire, upstream, 0.5) as node:
            reply, taken = timed(node.port, "cold.budget.")
            assert (address(reply), upstream.total()) == (OLD, 1)
            assert taken < 0.6
            client = redis_server.client()
            wait_for(lambda: client.exists("rdns:1:{cold.budget.}:A"))
            wait_for(lambda: not client.exists("rdns:1:{cold.budget.}:A#lead"))
            assert b"node=n1" in client.hget("rdns:1:{cold.budget.}:A", "info")

    def test_whoever_is_first_answers(self, wire: Wire, redis_server: RedisServer) -> None:
        """The upstream takes longer still: the entry from Redis, late as it is, ends the wait."""
        store(redis_server, "known.budget.")
        with Upstream(delay=4.0) as upstream, slow_node(wire, upstream, 0.5) as node:
            reply, taken = timed(node.port, "known.budget.")
            assert address(reply) == ELSEWHERE
            assert 0.9 < taken < 3.5
            assert upstream.total() == 1
            wait_for(lambda: address(ask(node.port, "known.budget.")) == ELSEWHERE)

    def test_the_budget_can_be_raised(self, wire: Wire, redis_server: RedisServer) -> None:
        """With 5 s for a query, it waits, and no upstream is asked."""
        store(redis_server, "known.budget.")
        with Upstream() as upstream, slow_node(wire, upstream, 0.5, "--redis-budget", "5") as node:
            reply, taken = timed(node.port, "known.budget.")
            assert (address(reply), upstream.total()) == (ELSEWHERE, 0)
            assert 0.9 < taken < 5

    def test_it_is_left_alone_and_used_again(self, wire: Wire, redis_server: RedisServer) -> None:
        """After a few late answers nothing is sent there but probes; one that is answered soon closes the breaker."""
        with Upstream() as upstream, slow_node(wire, upstream, 0.5) as node:
            number = 0

            def left_alone() -> bool:
                nonlocal number
                number += 1
                assert address(ask(node.port, f"x{number}.budget.")) == OLD
                return "Redis is left alone for now: it does not answer in time" in node.log()

            wait_for(left_alone)
            _, taken = timed(node.port, "alone.budget.")
            assert taken < 0.5
            assert upstream.count("alone.budget.") == 1
            wire.delay(0)
            wait_for(lambda: "Redis is used again" in node.log(), 15)
            ask(node.port, "shared.budget.")
            wait_for(lambda: redis_server.client().exists("rdns:1:{shared.budget.}:A"))
            assert node.log().count("attached to Redis") == 1

    @pytest.mark.parametrize("claimed", [True, False])
    def test_who_has_claimed_asks_by_itself(self, claimed: bool) -> None:
        """The claim may be what opens the breaker: a sibling, if asked, would follow who is waiting for it."""

        class Asked:
            """Siblings or upstreams."""

            def __init__(self, said: object) -> None:
                self.said = said

            def ask(self, key: bytes) -> object:
                return self.said

        parts = Cache(1, 1), NoStore(), Asked((None, "upstream")), Asked(parse_reply(failure_wire(KEY))), Limits()
        resolver = Resolver(*parts, 1.0, 1.0, "n1", Journal(0), Board.scrap())
        assert resolver._ask(KEY, claimed)[1] == ("upstream" if claimed else "sibling")


class Fickle:
    """First an answer that lives for a second, then what is set."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.then = "answer"

    def __call__(self, query: dns.message.Message, transport: str) -> dns.message.Message | None:
        name = query.question[0].name.to_text()
        first = name not in self.seen
        self.seen.add(name)
        if name.startswith("nx"):
            return negative(query, ttl=1 if first else 300)
        if first or self.then == "answer":
            return answer(query, f"1 A {OLD}" if first else f"300 A {NEW}")
        return failure(query) if self.then == "failure" else None


def expire(node: Node, name: str) -> None:
    """Have it in L1, and wait until it is stale: it is not given to those who do not want recursion any more."""
    ask(node.port, name)
    wait_for(lambda: ask(node.port, name, flags=0).rcode() == dns.rcode.REFUSED)


class TestServeStale:
    """RFC 8767, with --stale-after 0.4 instead of 1.8."""

    WORDS = ("--stale-after", "0.4", "--warm", "0", "--failure-ttl", "1")

    @pytest.mark.parametrize("name", ["old.stale.", "nx.stale."])
    def test_from_l1_while_the_upstream_is_slow_and_then_the_fresh_one(self, name: str) -> None:
        """TTL 30 and EDE 3 (19 for NXDOMAIN) at 0.4 s; the upstream's answer at 2 s is kept."""
        with Upstream(Fickle()) as upstream, Node([upstream.address], args=self.WORDS) as node:
            expire(node, name)
            upstream.delay = 2.0
            reply, taken = timed(node.port, name)
            missing = name.startswith("nx")
            assert 0.35 < taken < 1.7
            assert codes(reply) == [EDE.STALE_NXDOMAIN_ANSWER if missing else EDE.STALE_ANSWER]
            assert [rrset.ttl for rrset in reply.answer + reply.authority] == [30]
            wait_for(lambda: not codes(ask(node.port, name, use_edns=0)))
            fresh = ask(node.port, name)
            assert upstream.count(name) == 2
            assert fresh.rcode() == dns.rcode.NXDOMAIN if missing else address(fresh) == NEW

    def test_from_l2_while_the_upstream_is_slow(self, redis_server: RedisServer) -> None:
        """A node that never had it; the fresh answer then replaces the stale one for all."""
        with Upstream(Fickle()) as upstream, ExitStack() as stack:
            first, second = (
                stack.enter_context(Node([upstream.address], redis_server.url, 1, (*self.WORDS, "--node-id", node)))
                for node in ("n1", "n2")
            )
            wait_for(lambda: all("attached to Redis" in node.log() for node in (first, second)))
            expire(first, "old.stale.")
            upstream.delay = 2.0
            reply, taken = timed(second.port, "old.stale.")
            assert (address(reply), reply.answer[0].ttl, codes(reply)) == (OLD, 30, [EDE.STALE_ANSWER])
            assert 0.35 < taken < 1.7
            wait_for(lambda: b"ttl=300" in redis_server.client().hget("rdns:1:{old.stale.}:A", "info"))
            assert address(ask(first.port, "old.stale.", timeout=5)) == NEW
            assert upstream.count("old.stale.") == 2

    def test_never_when_the_fresh_one_comes_in_time(self) -> None:
        """The upstream is tried first."""
        with Upstream(Fickle()) as upstream, Node([upstream.address], args=("--stale-after", "5")) as node:
            expire(node, "old.stale.")
            upstream.delay = 0.2
            reply, _ = timed(node.port, "old.stale.")
            assert (address(reply), reply.answer[0].ttl, codes(reply)) == (NEW, 300, [])

    @pytest.mark.parametrize("then", ["failure", "silence"])
    def test_no_failure_takes_its_place(self, then: str, redis_server: RedisServer) -> None:
        """SERVFAIL and silence: stale in L1 and L2 as it was, and the fresh answer once there is one again."""
        handler = Fickle()
        words = (*self.WORDS, "--upstream-timeout", "0.2", "--upstream-deadline", "0.3")
        with Upstream(handler) as upstream, Node([upstream.address], redis_server.url, 1, words) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            expire(node, "old.stale.")
            handler.then = then
            for _ in range(5):
                reply, taken = timed(node.port, "old.stale.")
                assert (address(reply), reply.answer[0].ttl, codes(reply)) == (OLD, 30, [EDE.STALE_ANSWER])
                assert taken < 1.5
            assert b"rcode=NOERROR ttl=1" in redis_server.client().hget("rdns:1:{old.stale.}:A", "info")
            handler.then = "answer"
            wait_for(lambda: address(ask(node.port, "old.stale.")) == NEW)


class Prefetching:
    """An entry of 10 s is worth asking for anew from 9 s on: what happened to several names in that time."""

    NAMES = {"hot.pre.": 10, "once.pre.": 10, "short.pre.": 9, "failing.pre.": 10, "off.pre.": 10}

    def __init__(self) -> None:
        self.asked: dict[str, list[float]] = defaultdict(list)
        #: What clients got for each name: when, and the reply.
        self.got: dict[str, list[tuple[float, dns.message.Message]]] = defaultdict(list)

    def handler(self, query: dns.message.Message, transport: str) -> dns.message.Message:
        name = query.question[0].name.to_text()
        self.asked[name].append(time.monotonic())
        if name == "failing.pre." and len(self.asked[name]) > 1:
            return failure(query)
        return answer(query, f"{self.NAMES[name]} A {OLD}")

    def run(self, nodes: list[Node], patient: Node) -> Prefetching:
        """Until everything has been asked twice, and what ended has ended."""
        ask(nodes[0].port, "once.pre.")
        busy = [name for name in self.NAMES if name not in ("once.pre.", "off.pre.")]
        while not all(len(self.asked[name]) > 1 for name in (*busy, "off.pre.")):
            for node in nodes:
                for name in busy:
                    self._ask(node, name)
            if time.monotonic() - self.asked["once.pre."][0] > 9.2 and not self.got["once.pre."]:
                self._ask(nodes[0], "once.pre.")
            self._ask(patient, "off.pre.")
            threading.Event().wait(0.1)
            assert time.monotonic() - self.asked["once.pre."][0] < 20, dict(self.asked)
        return self

    def _ask(self, node: Node, name: str) -> None:
        reply = ask(node.port, name, timeout=5, use_edns=0)
        self.got[name].append((time.monotonic(), reply))

    def gap(self, name: str) -> float:
        first, second = self.asked[name][:2]
        return second - first


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[Future[Prefetching]]:
    """It takes its time, beside all other tests of this file."""
    found = Prefetching()
    with RedisServer() as redis, Upstream(found.handler) as upstream, ExitStack() as stack:
        nodes = [
            stack.enter_context(Node([upstream.address], redis.url, 1, ["--node-id", f"n{number}"]))
            for number in range(3)
        ]
        patient = stack.enter_context(Node([upstream.address], args=["--prefetch", "no"]))
        wait_for(lambda: all("attached to Redis" in node.log() for node in nodes))
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(found.run, nodes, patient)


@pytest.fixture
def prefetching(running: Future[Prefetching]) -> Prefetching:
    return running.result(30)


class TestPrefetch:
    def test_what_is_in_use_is_asked_for_once_in_its_last_tenth(self, prefetching: Prefetching) -> None:
        """By one of three nodes; nobody waited, nobody saw it end."""
        assert len(prefetching.asked["hot.pre."]) == 2
        assert 8.9 < prefetching.gap("hot.pre.") < 10

    def test_what_was_hit_once_is_not(self, prefetching: Prefetching) -> None:
        """The one hit was in the last tenth."""
        assert len(prefetching.got["once.pre."]) == 1
        assert len(prefetching.asked["once.pre."]) == 1

    def test_what_lives_less_than_ten_seconds_is_not(self, prefetching: Prefetching) -> None:
        """It is asked for when it has ended."""
        assert prefetching.gap("short.pre.") >= 8.99

    def test_nothing_is_with_prefetch_no(self, prefetching: Prefetching) -> None:
        """Asked for when it has ended."""
        assert prefetching.gap("off.pre.") >= 9.99

    def test_a_failed_one_changes_nothing(self, prefetching: Prefetching) -> None:
        """Until its end the entry is answered as it was; each node tries once at most."""
        first, *later = prefetching.asked["failing.pre."]
        before_end = [reply for at, reply in prefetching.got["failing.pre."] if at < first + 9.95]
        assert 8.9 < prefetching.gap("failing.pre.") < 10
        assert all(address(reply) == OLD and not codes(reply) for reply in before_end)
        assert len([at for at in later if at < first + 9.95]) <= 3
