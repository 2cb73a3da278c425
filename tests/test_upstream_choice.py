"""Whom a worker asks first, when it asks another, and how often: by policy, and by what was measured."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import dns.message
import gevent
import pytest
from support import Upstream, default_handler, key_of, wait_for

from rdnscache.address import Address
from rdnscache.endpoint import Endpoint
from rdnscache.metrics import SERVER_RESTING, Board
from rdnscache.upstream import ways
from rdnscache.upstream.choice import Choice
from rdnscache.upstream.estimate import MOST_PATIENCE, ROOM, UNKNOWN, Estimate
from rdnscache.upstream.server import MOST_EARLY, Patience, Server
from rdnscache.upstream.servers import Upstreams

FLOOR, CEILING = 0.02, 1.0
USUAL = Patience()


def _servers(*endpoints: str, board: Board | None = None, patience: Patience = USUAL) -> list[Server]:
    parsed = [each for text in endpoints for each in Endpoint.parse(text)]
    board = board or Board(1)
    board.make_room(each.label for each in parsed)
    row = board.row(0)
    return [
        Server(each, ways.find(each), board.block(each.label), row, board.numbers(each.label), patience)
        for each in parsed
    ]


def _upstreams(*addresses: str, policy: str = "fastest", timeout: float = 2.0, patience: Patience = USUAL) -> Upstreams:
    return Upstreams(_servers(*addresses, patience=patience), timeout, 4.5, Board(1).row(0), policy)


def _first(choice: Choice, times: int) -> Counter[str]:
    return Counter(choice.order(100.0)[0].endpoint.address.host for _ in range(times))


def _known(servers: Sequence[Server], *seconds: float) -> None:
    for server, each in zip(servers, seconds, strict=True):
        for _ in range(50):
            server.estimate.measured(each)


class TestEstimate:
    """How long is too long."""

    def estimate(self) -> Estimate:
        return Estimate(memoryview(bytearray(8 * ROOM)).cast("d"), FLOOR, CEILING)

    def test_what_is_not_known_is_given_time(self) -> None:
        """A second, as RFC 6298 section 2.1 has it."""
        assert self.estimate().patience() == UNKNOWN
        assert self.estimate().cost() == 0.0

    def test_patience_follows_round_trip_and_variation(self) -> None:
        """Never below the floor, never above the ceiling."""
        estimate = self.estimate()
        for _ in range(200):
            estimate.measured(0.001)
        assert estimate.patience() == FLOOR
        for seconds in (0.05, 0.15) * 100:
            estimate.measured(seconds)
        assert 0.15 < estimate.patience() < 0.5
        for seconds in (0.1, 3.0) * 100:
            estimate.measured(seconds)
        assert estimate.patience() == CEILING

    def test_haste_is_regretted(self) -> None:
        """Each time it was too early patience grows, up to a bound, and shrinks with the answers that follow."""
        estimate = self.estimate()
        for _ in range(100):
            estimate.measured(0.05)
        before = estimate.patience()
        estimate.hasty()
        assert estimate.patience() > before
        for _ in range(20):
            estimate.hasty()
        assert estimate.patience() <= before * MOST_PATIENCE * 1.01
        for _ in range(2000):
            estimate.measured(0.05)
        assert estimate.patience() == pytest.approx(before, rel=0.05)

    def test_losses_cost_time(self) -> None:
        """Of two with the same round trip, the one that loses less is cheaper; both are finite."""
        good, bad = self.estimate(), self.estimate()
        for each in (good, bad):
            each.measured(0.02)
        for number in range(300):
            (bad.lost(float(number)) if number % 3 == 0 else bad.arrived())
        assert good.cost() < bad.cost() < 1.0
        for number in range(1000):
            bad.lost(float(number))
        assert bad.cost() < 100

    def test_workers_of_a_node_share_it(self) -> None:
        """What one has measured, and found out, another goes by."""
        board = Board(2)
        (endpoint,) = Endpoint.parse("192.0.2.1")
        board.make_room([endpoint.label])
        block, numbers = board.block(endpoint.label), board.numbers(endpoint.label)
        first, second = (Server(endpoint, ways.find(endpoint), block, board.row(each), numbers) for each in (0, 1))
        first.estimate.measured(0.05)
        for _ in range(3):
            first.health.failed(1.0, 3.0)
        assert second.estimate.rtt == 0.05
        assert second.health.resting
        column = block + SERVER_RESTING
        for server in (first, second):
            server.catch_up(3.5)
        assert board.count(column) == 2
        second.heard(4.0)
        assert not first.health.resting
        first.catch_up(4.5)
        assert board.count(column) == 0


class TestPolicies:
    """Who is first."""

    ALL = ("192.0.2.1?weight=1", "192.0.2.2?weight=3", "192.0.2.3?weight=6")

    def test_fastest(self) -> None:
        """Nearly always the one with the least to wait; the others are looked at now and then."""
        servers = _servers(*self.ALL)
        _known(servers, 0.02, 0.002, 0.05)
        found = _first(Choice(servers, "fastest"), 20_000)
        assert found["192.0.2.2"] > 0.99 * 20_000
        assert found["192.0.2.1"] > 5
        assert found["192.0.2.3"] > 5

    def test_fastest_looks_at_the_unknown_one_query_at_a_time(self) -> None:
        """The first question goes to each, but a second does not follow before the first is answered."""
        servers = _servers(*self.ALL)
        _known(servers[:2], 0.02, 0.002)
        choice = Choice(servers, "fastest")
        assert choice.order(1.0)[0] is servers[2]
        servers[2].asked(1.0)
        assert choice.order(1.0)[0] is servers[1]

    def test_round_robin(self) -> None:
        """Each as often as the others."""
        assert _first(Choice(_servers(*self.ALL), "round-robin"), 300) == dict.fromkeys(
            ("192.0.2.1", "192.0.2.2", "192.0.2.3"), 100
        )

    def test_ordered(self) -> None:
        """As they are given."""
        assert _first(Choice(_servers(*self.ALL), "ordered"), 10) == {"192.0.2.1": 10}

    def test_random_by_weight(self) -> None:
        """A share of the questions as large as its share of the weights."""
        found = _first(Choice(_servers(*self.ALL), "random"), 20_000)
        for host, share in (("192.0.2.1", 0.1), ("192.0.2.2", 0.3), ("192.0.2.3", 0.6)):
            assert found[host] / 20_000 == pytest.approx(share, abs=0.03)

    @pytest.mark.parametrize("policy", ["fastest", "round-robin", "ordered", "random", "race"])
    def test_who_rests_is_last(self, policy: str) -> None:
        """Whatever the policy."""
        servers = _servers(*self.ALL)
        _known(servers, 0.001, 0.02, 0.02)
        for _ in range(3):
            servers[0].health.failed(1.0, 3.0)
        choice = Choice(servers, policy)
        assert all(choice.order(3.5)[-1] is servers[0] for _ in range(50))


def _drops(share: Callable[[int], bool]) -> Callable[[dns.message.Message, str], Any]:
    """A server that loses the datagrams whose number is said to be lost."""
    count = iter(range(1_000_000))
    return lambda query, transport: None if share(next(count)) else default_handler(query, transport)


class TestAsking:
    """Real datagrams to servers that differ."""

    def test_the_quick_one_has_nearly_all(self) -> None:
        """Beside a slow, a lossy and a dead one: under 3 % of the queries go to the two bad ones."""
        with (
            Upstream() as quick,
            Upstream(delay=0.02) as slow,
            Upstream(_drops(lambda number: number % 3 == 0), delay=0.02) as lossy,
            Upstream(lambda query, transport: None) as dead,
        ):
            upstreams = _upstreams(quick.address, slow.address, lossy.address, dead.address)
            for number in range(1000):
                assert upstreams.ask(key_of(f"n{number}.test"))[0].ancount == 1
            assert lossy.datagrams() + dead.datagrams() < 30
            assert quick.total() > 900

    def test_a_race_asks_two(self) -> None:
        """And takes what comes first."""
        with Upstream() as quick, Upstream(delay=0.3) as slow:
            upstreams = _upstreams(quick.address, slow.address, policy="race")
            for number in range(5):
                upstreams.ask(key_of(f"n{number}.test"))
            wait_for(lambda: quick.total() == slow.total() == 5)

    def test_a_race_of_one_asks_once(self) -> None:
        """There is nobody to race against."""
        with Upstream() as upstream:
            upstreams = _upstreams(upstream.address, policy="race")
            for number in range(5):
                upstreams.ask(key_of(f"n{number}.test"))
            assert upstream.datagrams() == 5

    def test_one_query_for_a_question_whatever_the_policy(self) -> None:
        """Where nothing is lost, nothing is asked twice."""
        for policy in ("fastest", "round-robin", "ordered", "random"):
            with Upstream(delay=0.005) as first, Upstream(delay=0.01) as second:
                patience = Patience(floor=1.0)  # a thread of ours that gets no CPU is no loss
                upstreams = _upstreams(first.address, second.address, policy=policy, patience=patience)
                for turn in range(20):
                    asked = [gevent.spawn(upstreams.ask, key_of(f"n{number}-{turn}.test")) for number in range(5)]
                    gevent.joinall(asked, raise_error=True)
                assert first.datagrams() + second.datagrams() == 100

    def test_a_loss_is_mended_before_the_timeout(self) -> None:
        """The only server loses each tenth datagram: it is sent again, from the same port with the same ID."""
        with Upstream(_drops(lambda number: number % 10 == 9)) as upstream:
            upstreams = _upstreams(upstream.address, timeout=20.0)
            for number in range(60):
                assert upstreams.ask(key_of(f"n{number}.test"))[0].ancount == 1
            assert upstream.total() == 60
            assert upstream.datagrams() > 60

    def test_slow_names_are_asked_once(self) -> None:
        """What takes longer than usual is rarely lost: without losses nobody is asked again early."""
        slow = 0.3
        with Upstream(delay=lambda query: slow if "slow" in query.question[0].name.to_text() else 0.0) as upstream:
            upstreams = _upstreams(upstream.address)
            for number in range(50):
                upstreams.ask(key_of(f"quick{number}.test"))
            asked = [gevent.spawn(upstreams.ask, key_of(f"slow{number}.test")) for number in range(20)]
            gevent.joinall(asked, raise_error=True)
            assert upstream.datagrams() == 70

    def test_slow_names_cost_other_servers_little(self) -> None:
        """With two servers the second is asked early for few of them."""
        with (
            Upstream(delay=lambda query: 0.15 if "slow" in query.question[0].name.to_text() else 0.0) as first,
            Upstream(delay=0.1) as second,
        ):
            upstreams = _upstreams(first.address, second.address, policy="ordered")
            for number in range(30):
                upstreams.ask(key_of(f"quick{number}.test"))
            asked = [gevent.spawn(upstreams.ask, key_of(f"slow{number}.test")) for number in range(60)]
            gevent.joinall(asked, raise_error=True)
            assert second.total() <= MOST_EARLY + 4

    def test_a_late_answer_of_the_first_counts(self) -> None:
        """The second server has been asked, and says nothing: what the first says late is taken."""
        with Upstream(delay=0.3) as first, Upstream(lambda query, transport: None) as second:
            upstreams = _upstreams(first.address, second.address, policy="ordered")
            _known(upstreams.servers, 0.001, 0.001)
            reply, _ = upstreams.ask(key_of("late.test"))
            assert reply.ancount == 1
            assert (first.datagrams(), second.total()) == (1, 1)

    def test_nothing_stays_open(self) -> None:
        """However a question ended, its sockets are closed, and nobody is said to wait."""
        with Upstream(delay=0.05) as first, Upstream(lambda query, transport: None) as second:
            upstreams = _upstreams(first.address, second.address, policy="race", timeout=0.2)
            for number in range(10):
                upstreams.ask(key_of(f"n{number}.test"))
            given_up = gevent.spawn(upstreams.ask, key_of("given-up.test"))
            gevent.sleep(0.01)
            given_up.kill()
            deadline = time.monotonic() + 10
            while any(server.waiting for server in upstreams.servers) and time.monotonic() < deadline:
                gevent.sleep(0.01)
            assert [(server.waiting, server.overdue) for server in upstreams.servers] == [(0, 0), (0, 0)]


def test_an_endpoint_without_a_port_of_its_own() -> None:
    """An address is reached over UDP, and over TCP for what does not fit."""
    found = ways.find(Endpoint("udp", Address("192.0.2.1", 53)))
    assert found.udp is found.own
    assert found.tcp is not found.own  # type: ignore[comparison-overlap]
    assert found.tcp.connections == []  # type: ignore[attr-defined]
