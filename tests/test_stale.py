"""What beats waiting for an upstream: a stale answer (RFC 8767), and having asked before an entry ends."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import dns.edns
import dns.message
import dns.rcode
import pytest
from support import (
    Node,
    RedisServer,
    Upstream,
    address,
    answer,
    ask,
    extended_errors,
    failure,
    negative,
    timed,
    wait_for,
)

OLD, NEW = "192.0.2.1", "192.0.2.2"
EDE = dns.edns.EDECode


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
            assert taken > 0.35
            assert extended_errors(reply) == [EDE.STALE_NXDOMAIN_ANSWER if missing else EDE.STALE_ANSWER]
            assert [rrset.ttl for rrset in reply.answer + reply.authority] == [30]
            wait_for(lambda: not extended_errors(ask(node.port, name, use_edns=0)))
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
            assert (address(reply), reply.answer[0].ttl, extended_errors(reply)) == (OLD, 30, [EDE.STALE_ANSWER])
            assert taken > 0.35
            wait_for(lambda: b"ttl=300" in redis_server.client().hget("rdns:1:{old.stale.}:A", "info"))
            assert address(ask(first.port, "old.stale.", timeout=5)) == NEW
            assert upstream.count("old.stale.") == 2

    def test_never_when_the_fresh_one_comes_in_time(self) -> None:
        """The upstream is tried first."""
        with Upstream(Fickle()) as upstream, Node([upstream.address], args=("--stale-after", "5")) as node:
            expire(node, "old.stale.")
            upstream.delay = 0.2
            reply, _ = timed(node.port, "old.stale.")
            assert (address(reply), reply.answer[0].ttl, extended_errors(reply)) == (NEW, 300, [])

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
                reply = ask(node.port, "old.stale.", timeout=5, use_edns=0)
                assert (address(reply), reply.answer[0].ttl, extended_errors(reply)) == (OLD, 30, [EDE.STALE_ANSWER])
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

    def asked_in_the_last_tenth(self, name: str) -> bool:
        """Whether it was asked for again then; a busy machine may be too late to hit it in that second at all."""
        first = self.asked[name][0]
        hit = any(first + 9.1 < at < first + 9.6 for at, _ in self.got[name])
        return 8.9 < self.gap(name) < 10 or not hit


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
        assert prefetching.asked_in_the_last_tenth("hot.pre.")

    def test_what_was_hit_once_is_not(self, prefetching: Prefetching) -> None:
        """The one hit was in the last tenth."""
        assert len(prefetching.got["once.pre."]) == 1
        first, *later = prefetching.asked["once.pre."]
        assert all(at >= first + 9.95 for at in later)  # a busy machine may be late with that hit: then it is none

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
        assert prefetching.asked_in_the_last_tenth("failing.pre.")
        assert all(address(reply) == OLD and not extended_errors(reply) for reply in before_end)
        assert len([at for at in later if at < first + 9.95]) <= 3
