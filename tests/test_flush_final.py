"""A confirmed flush is final, from end to end: no answer from before it is given to who asks after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import dns.message
import dns.rcode
import pytest
from support import ChaosRelay, Node, RedisServer, Upstream, addresses, answer, ask, command, wait_for

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

OLD, NEW = "192.0.2.1", "192.0.2.2"
NAME = "www.flush.test."
KEY = "rdns:1:{www.flush.test.}:A"


class Versions:
    """An upstream's handler: what it answers is settled when it is asked. While `silent`, it does not answer."""

    def __init__(self, ttl: int = 300) -> None:
        self.address, self.ttl = OLD, ttl
        self.silent = False

    def __call__(self, query: dns.message.Message, transport: str) -> dns.message.Message | None:
        return None if self.silent else answer(query, f"{self.ttl} A {self.address}")


def flush(server: RedisServer, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code of a flush of the name, and what it said."""
    done = command("cache", "flush", NAME, "--json", "--redis", server.url, *words)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def expire(node: Node) -> None:
    """Have the name in L1, and wait until it is stale: then nothing is there for who does not want recursion."""
    ask(node.port, NAME)
    wait_for(lambda: ask(node.port, NAME, flags=0).rcode() == dns.rcode.REFUSED)


@contextmanager
def asking(port: int, names: Sequence[str] = (NAME,)) -> Iterator[list[Future[dns.message.Message]]]:
    """Clients that wait for their replies."""
    with ThreadPoolExecutor(len(names)) as pool:
        yield [pool.submit(ask, port, name, timeout=10) for name in names]


def start(stack: ExitStack, upstream: Upstream, url: str, name: str = "n1", *args: str) -> Node:
    node = stack.enter_context(Node([upstream.address], redis=url, args=("--node-id", name, *args)))
    wait_for(lambda: "attached to Redis" in node.log())
    return node


def test_who_asks_after_the_proof_does_not_join_a_flight_from_before(
    redis_server: RedisServer, stack: ExitStack
) -> None:
    """That flight answers its own client; the newcomer's is another, and what it brings stays."""
    versions = Versions()
    with Upstream(versions, delay=4) as upstream:
        node = start(stack, upstream, redis_server.url, "n1", "--upstream-timeout", "9", "--upstream-deadline", "9")
        with asking(node.port) as (before,):
            wait_for(lambda: upstream.count(NAME) == 1)
            versions.address = NEW
            assert flush(redis_server)[0] == 0
            assert not before.done()
            assert addresses(ask(node.port, NAME, timeout=9)) == [NEW]
            assert addresses(before.result()) == [OLD]
        assert addresses(ask(node.port, NAME)) == [NEW]
        assert upstream.count(NAME) == 2


def test_the_stale_timer_puts_nothing_back(redis_server: RedisServer, stack: ExitStack) -> None:
    """A flight from before the flush has a stale entry for its clients in case it takes long: that is gone with it."""
    versions = Versions(ttl=1)
    with Upstream(versions) as upstream:
        node = start(stack, upstream, redis_server.url, "n1", "--stale-after", "3", "--upstream-timeout", "3.5")
        expire(node)
        versions.silent, asked = True, upstream.count(NAME)
        with asking(node.port) as (before,):
            wait_for(lambda: upstream.count(NAME) > asked)
            assert flush(redis_server)[0] == 0
            versions.address, versions.ttl, versions.silent = NEW, 300, False
            before.result()
        assert addresses(ask(node.port, NAME, timeout=5)) == [NEW]


def test_a_fill_that_arrives_when_its_lease_has_run_out_is_not_stored(
    redis_server: RedisServer, stack: ExitStack
) -> None:
    """A node is cut off with its fill on the way, which arrives long after a flush it could not hear of."""
    versions = Versions()
    with Upstream(versions, delay=0.5) as upstream:
        relay = stack.enter_context(ChaosRelay(redis_server.port))
        cut = start(stack, upstream, relay.url, "cut")
        other = start(stack, upstream, redis_server.url, "other")
        with asking(cut.port) as (before,):
            wait_for(lambda: upstream.count(NAME) == 1 and redis_server.client().exists(KEY + "#lead"))
            relay.tell("hole 0")
            assert addresses(before.result()) == [OLD]
        versions.address = NEW
        code, told = flush(redis_server, "--wait", "0.3")
        assert (code, list(told["missing"])) == (1, ["cut"])
        wait_for(lambda: not redis_server.client().exists(KEY + "#lead"))
        back = cut.log().count("attached to Redis")
        relay.tell("heal 0")
        wait_for(lambda: cut.log().count("attached to Redis") > back, 15)
        assert redis_server.client().hget(KEY, "answer") is None
        for node in (other, cut):
            assert addresses(ask(node.port, NAME, timeout=5)) == [NEW]


def test_a_claim_and_a_fill_that_arrive_together_are_not_stored(redis_server: RedisServer, stack: ExitStack) -> None:
    """A node is cut off before its claim arrives, and asks beside it: the claim comes when the flush is over."""
    versions = Versions()
    with Upstream(versions) as upstream:
        relay = stack.enter_context(ChaosRelay(redis_server.port))
        patient = ("--redis-budget", "0.05", "--redis-timeout", "10")
        cut = start(stack, upstream, relay.url, "cut", *patient)
        other = start(stack, upstream, redis_server.url, "other")
        relay.tell("hole 0")
        assert addresses(ask(cut.port, NAME, timeout=5)) == [OLD]
        versions.address = NEW
        code, told = flush(redis_server, "--wait", "0.2")
        assert (code, list(told["missing"])) == (1, ["cut"])
        before = scripts(redis_server)
        relay.tell("heal 0")
        wait_for(lambda: scripts(redis_server) >= before + 2)  # the claim, and what the leader has to say
        assert redis_server.client().hget(KEY, "answer") is None
        assert addresses(ask(other.port, NAME, timeout=5)) == [NEW]


def scripts(server: RedisServer) -> int:
    """How often a worker's script has run."""
    stats: Any = server.client().info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


def test_replies_that_arrive_during_a_pause_are_answers() -> None:
    """A worker is stopped for longer than it waits for an upstream, as when a VM is suspended: nothing has failed."""
    names = [f"w{number}.flush.test." for number in range(20)]
    with Upstream(Versions(), delay=0.5) as upstream, Node([upstream.address]) as node:
        (worker,) = node.children()
        with asking(node.port, names) as waiting:
            wait_for(lambda: all(upstream.count(name) for name in names))
            os.kill(worker, signal.SIGSTOP)
            try:
                subprocess.run(["sleep", "3"], check=True)
            finally:
                os.kill(worker, signal.SIGCONT)
            assert [addresses(each.result()) for each in waiting] == [[OLD]] * len(names)


def test_a_stale_answer_is_held_while_its_flight_is_up(redis_server: RedisServer, stack: ExitStack) -> None:
    """The entry is in L1 and in Redis; who asks while the upstream is silent still is answered from L1."""
    versions = Versions(ttl=1)
    with Upstream(versions) as upstream:
        words = ("--stale-after", "0.4", "--upstream-timeout", "3", "--upstream-deadline", "3")
        node = start(stack, upstream, redis_server.url, "n1", *words)
        expire(node)
        versions.silent, asked = True, upstream.count(NAME)
        for _ in range(3):
            assert addresses(ask(node.port, NAME, timeout=2)) == [OLD]
        assert upstream.count(NAME) == asked + 1
