"""What a slow Redis may cost a query: an upstream is asked beside it, and the first answer wins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import ChaosRelay, Node, RedisServer, Upstream, address, answer, ask, timed, wait_for

from rdnscache.aliases import Aliases
from rdnscache.cache import Cache
from rdnscache.decider import Decider
from rdnscache.dns.policy import Limits, failure_wire
from rdnscache.dns.wire import parse_reply
from rdnscache.flights import Flight
from rdnscache.metrics import Board
from rdnscache.policy.rules import no_policy
from rdnscache.query_log import QueryLog
from rdnscache.resolution import Sources, Terms
from rdnscache.resolver import Resolver
from rdnscache.store.interface import Claim, NullStore
from rdnscache.upstream.routes import Route, Routes

KEY = b"\1a\0\0\1\0\1\0"
OLD, ELSEWHERE = "192.0.2.1", "192.0.2.7"


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[ChaosRelay]:
    with ChaosRelay(redis_server.port) as found:
        yield found


def slow_node(wire: ChaosRelay, upstream: Upstream, delay: float, *args: str) -> Node:
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


class TestSlowRedis:
    """A round trip takes 1 s."""

    def test_an_upstream_is_asked_beside_it_and_what_it_brings_is_stored(
        self, wire: ChaosRelay, redis_server: RedisServer
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

    def test_whoever_is_first_answers(self, wire: ChaosRelay, redis_server: RedisServer) -> None:
        """The upstream takes longer still: the entry from Redis, late as it is, ends the wait."""
        store(redis_server, "known.budget.")
        with Upstream(delay=4.0) as upstream, slow_node(wire, upstream, 0.5) as node:
            reply, taken = timed(node.port, "known.budget.")
            assert address(reply) == ELSEWHERE
            assert 0.9 < taken < 3.5
            assert upstream.total() == 1
            wait_for(lambda: address(ask(node.port, "known.budget.")) == ELSEWHERE)

    def test_the_budget_can_be_raised(self, wire: ChaosRelay, redis_server: RedisServer) -> None:
        """With 5 s for a query, it waits, and no upstream is asked."""
        store(redis_server, "known.budget.")
        with Upstream() as upstream, slow_node(wire, upstream, 0.5, "--redis-budget", "5") as node:
            reply, taken = timed(node.port, "known.budget.")
            assert (address(reply), upstream.total()) == (ELSEWHERE, 0)
            assert 0.9 < taken < 5

    def test_it_is_left_alone_and_used_again(self, wire: ChaosRelay, redis_server: RedisServer) -> None:
        """After a few late answers nothing is sent there but probes; one that is answered soon closes the breaker."""
        with Upstream() as upstream, slow_node(wire, upstream, 0.5) as node:
            number = 0

            def left_alone() -> bool:
                nonlocal number
                number += 1
                assert address(ask(node.port, f"x{number}.budget.")) == OLD
                return "Redis is not used until a probe succeeds: it does not answer in time" in node.log()

            wait_for(left_alone)
            _, taken = timed(node.port, "alone.budget.")
            assert taken < 0.5
            assert upstream.count("alone.budget.") == 1
            wire.delay(0)
            wait_for(lambda: "Redis is used again" in node.log(), 15)
            ask(node.port, "shared.budget.")
            wait_for(lambda: redis_server.client().exists("rdns:1:{shared.budget.}:A"))
            assert node.log().count("attached to Redis") == 1

    @pytest.mark.parametrize("alone", [True, False])
    def test_who_has_claimed_asks_by_itself(self, alone: bool) -> None:
        """The claim may be what opens the breaker: a sibling, if asked, would follow who is waiting for it."""

        class Asked:
            """Siblings or upstreams."""

            budgeted, several = False, True

            def __init__(self, said: object) -> None:
                self.said = said

            def ask(self, key: bytes, client_or_on_trouble: object, *more: object) -> object:
                return self.said

        siblings, upstreams = Asked(parse_reply(failure_wire(KEY))), Asked((None, "upstream"))
        route = Route(upstreams, Limits(), 1.0)  # type: ignore[arg-type]
        cache = Cache(1, 1)
        sources = Sources(cache, NullStore(), siblings, Routes(route, {}, []), Aliases(cache, None))  # type: ignore[arg-type]
        resolver = Resolver(
            sources, Terms(1.0, "n1", Decider(no_policy(), Cache(1, 1), "n1")), QueryLog(0), Board.scrap()
        )
        flight = Flight(KEY, 0.0, b"")
        claim = type("Mine", (Claim,), {"alone": alone})(KEY, flight, lambda flight, entry: None)
        flight.route = route
        assert resolver._ask(flight, claim)[1] == ("sibling" if alone else "upstream")
