"""How many queries wait for one upstream at a time, what becomes of those beyond, and what the network says of them."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import dns.message
import dns.rcode
import gevent
import pytest
from support import Node, Upstream, addresses, ask, default_handler, extended_errors, free_port, key_of

from rdnscache import metrics
from rdnscache.address import Address
from rdnscache.endpoint import Endpoint
from rdnscache.errors import LOCAL, UpstreamFailed
from rdnscache.metrics import SERVER_QUERIES, Board
from rdnscache.upstream import ways
from rdnscache.upstream.defence import Measures
from rdnscache.upstream.search import NETWORK_ERROR
from rdnscache.upstream.server import Server
from rdnscache.upstream.servers import Upstreams


class Counting:
    """A handler that counts how many are on their way at a time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, query: dns.message.Message, transport: str) -> Any:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        threading.Timer(self.seconds, self._over).start()
        return default_handler(query, transport)

    def _over(self) -> None:
        with self._lock:
            self._now -= 1


def _upstreams(
    *ports: int, outstanding: int = 2000, timeout: float = 1.0, deadline: float = 4.0
) -> tuple[Upstreams, Board]:
    board = Board(1)
    endpoints = [Endpoint("udp", Address("127.0.0.1", port)) for port in ports]
    board.make_room([each.label for each in endpoints])
    row, measures = board.row(0), Measures(outstanding=outstanding)
    servers = [
        Server(each, ways.find(each), board.block(each.label), row, board.numbers(each.label), measures=measures)
        for each in endpoints
    ]
    return Upstreams(servers, timeout, deadline, row, "ordered"), board


def test_what_is_too_much_waits_its_turn() -> None:
    """Twelve questions, four at a time, all answered."""
    handler = Counting(0.05)
    with Upstream(handler, delay=0.1) as upstream:
        upstreams, board = _upstreams(upstream.port, outstanding=4)
        asked = [gevent.spawn(upstreams.ask, key_of(f"n{number}.test")) for number in range(12)]
        gevent.joinall(asked, raise_error=True)
        assert handler.most <= 4
        assert upstream.total() == 12
        assert board.count(metrics.UPSTREAM_LOCAL_ERRORS) > 0
        assert not upstreams.servers[0].health.failures


def test_what_is_too_much_for_one_goes_to_another() -> None:
    """Nobody waits while there is somebody to ask."""
    with Upstream(delay=0.3) as first, Upstream(delay=0.3) as second:
        upstreams, board = _upstreams(first.port, second.port, outstanding=4)
        asked = [gevent.spawn(upstreams.ask, key_of(f"n{number}.test")) for number in range(8)]
        gevent.sleep(0.1)
        assert (first.total(), second.total()) == (4, 4)
        gevent.joinall(asked, raise_error=True)
        assert board.count(metrics.UPSTREAM_LOCAL_ERRORS) == 0


def test_one_at_a_time() -> None:
    """The least that can be said."""
    handler = Counting(0.05)
    with Upstream(handler, delay=0.06) as upstream:
        upstreams, _ = _upstreams(upstream.port, outstanding=1)
        asked = [gevent.spawn(upstreams.ask, key_of(f"n{number}.test")) for number in range(3)]
        gevent.joinall(asked, raise_error=True)
        assert (handler.most, upstream.total()) == (1, 3)


def test_a_failure_for_want_of_room_is_no_fact_about_the_name() -> None:
    """Nor does it blame the server."""
    with Upstream(lambda query, transport: None) as silent:
        upstreams, _ = _upstreams(silent.port, outstanding=4, deadline=0.5)
        upstreams.servers[0].waiting = 4
        with pytest.raises(UpstreamFailed) as caught:
            upstreams.ask(key_of("beyond.test"))
        assert (caught.value.why, caught.value.ede) == (LOCAL, NETWORK_ERROR)
        assert silent.total() == 0


def test_hits_do_not_suffer() -> None:
    """While forty silent names take all the room, a node answers what it knows; others get SERVFAIL, and why."""

    def handler(query: dns.message.Message, transport: str) -> Any:
        name = query.question[0].name.to_text()
        return None if name.startswith("dead") else default_handler(query, transport)

    args = ["--max-outstanding", "10", "--upstream-timeout", "1", "--upstream-deadline", "1.5"]
    with Upstream(handler) as upstream, Node([upstream.address], args=args) as node:
        assert addresses(ask(node.port, "known.test")) == ["192.0.2.1"]
        for number in range(40):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                query = dns.message.make_query(f"dead{number}.test", "A")
                sock.sendto(query.to_wire(), ("127.0.0.1", node.port))
        assert addresses(ask(node.port, "known.test")) == ["192.0.2.1"]
        reply = ask(node.port, "dead-as-well.test", timeout=10, use_edns=0)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert extended_errors(reply) == [NETWORK_ERROR]
        assert len([name for name, _ in upstream.counts if name.startswith("dead")]) <= 30
        assert "queries wait for it" in node.log()


# What the network says


def test_a_closed_port_sends_us_to_the_next_server_at_once() -> None:
    """By the ICMP error, not after a timeout."""
    with Upstream() as upstream:
        upstreams, _ = _upstreams(free_port(), upstream.port, timeout=20, deadline=20)
        began = time.monotonic()
        assert upstreams.ask(key_of("refused.test"))[0].ancount == 1
        assert time.monotonic() - began < 5


def test_a_server_that_goes_away_with_a_query_is_noticed_at_once() -> None:
    """What was sent before its port closed is not waited for once something else is refused."""
    port = free_port()
    gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gone.bind(("127.0.0.1", port))
    with Upstream() as upstream:
        upstreams, _ = _upstreams(port, upstream.port, timeout=20, deadline=20)
        asked = gevent.spawn(upstreams.ask, key_of("gone.test"))
        gevent.sleep(0.05)
        gone.close()
        began = time.monotonic()
        assert asked.get(timeout=15)[0].ancount == 1
        assert time.monotonic() - began < 5


def test_a_server_that_refuses_is_not_hammered_while_another_is_silent() -> None:
    """A question is asked of it with growing pauses, whoever else it waits for."""
    with Upstream(lambda query, transport: None) as silent:
        upstreams, board = _upstreams(silent.port, free_port(), timeout=0.2, deadline=3.0)
        with pytest.raises(UpstreamFailed):
            upstreams.ask(key_of("hammered.test"))
        assert 3 < board.count(board.block(upstreams.servers[1].label) + SERVER_QUERIES) < 20


def test_a_server_without_room_is_not_asked_in_a_circle_while_another_is_silent() -> None:
    """It would keep the hub from everybody else."""
    with Upstream(lambda query, transport: None) as silent, Upstream(lambda query, transport: None) as full:
        upstreams, board = _upstreams(silent.port, full.port, outstanding=4, timeout=0.2, deadline=2.0)
        upstreams.servers[1].waiting = 4
        with pytest.raises(UpstreamFailed):
            upstreams.ask(key_of("circle.test"))
        assert board.count(metrics.UPSTREAM_LOCAL_ERRORS) < 20
