"""Ports that queries leave from over UDP: a few queries each, one at a time, as long as nothing odd comes."""

from __future__ import annotations

import _socket
import gc
import socket
import time
from collections import Counter
from contextlib import closing, nullcontext
from typing import Any

import dns.message
import dns.rcode
import gevent
import pytest
from support import Upstream, default_handler, key_of

from rdnscache.address import Address
from rdnscache.endpoint import Endpoint
from rdnscache.errors import UpstreamFailed
from rdnscache.metrics import Board
from rdnscache.upstream import ways
from rdnscache.upstream.alarms import TICK, Alarms
from rdnscache.upstream.datagrams import LIFE, USES, Port
from rdnscache.upstream.packets import receive
from rdnscache.upstream.search import Search
from rdnscache.upstream.server import Server
from rdnscache.upstream.servers import Upstreams


def _asking(port: int) -> Upstreams:
    board, endpoint = Board(1), Endpoint("udp", Address("127.0.0.1", port))
    board.make_room([endpoint.label])
    server = Server(endpoint, ways.find(endpoint), board.block(endpoint.label), board.row(0))
    return Upstreams([server], 1.0, 4.0, board.row(0))


def _is_open(port: int) -> bool:
    """Whether somebody here has a socket with this port."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _until_closed(ports: set[int]) -> None:
    end = time.monotonic() + 10 * LIFE + 5
    while any(map(_is_open, ports)):
        assert time.monotonic() < end
        gevent.sleep(0.02)


def test_a_port_carries_few_queries() -> None:
    """In quick succession queries share ports, none more than USES; a moment later all are closed."""
    with Upstream() as upstream:
        upstreams = _asking(upstream.port)
        for number in range(3 * USES):
            upstreams.ask(key_of(f"n{number}.test"))
        counts = Counter(port for _, port in upstream.sources)
        assert max(counts.values()) <= USES
        assert len(counts) < 3 * USES
        assert len({data[:2] for data in upstream.raw}) > 2 * USES
        _until_closed(set(counts))


def test_queries_at_the_same_time_have_ports_of_their_own() -> None:
    """Whoever guesses has to find the one of each."""
    with Upstream(delay=0.1) as upstream:
        upstreams = _asking(upstream.port)
        gevent.joinall([gevent.spawn(upstreams.ask, key_of(f"n{number}.test")) for number in range(20)])
        assert len({port for _, port in upstream.sources}) == 20


def _stray(query: dns.message.Message) -> list[Any]:
    other = bytes((query.id >> 8 ^ 1, query.id & 0xFF)) + bytes(10)
    return [other, default_handler(query, "udp")]


def _twice(query: dns.message.Message) -> list[Any]:
    return [default_handler(query, "udp")] * 2


def _refused(query: dns.message.Message) -> list[Any]:
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.REFUSED)
    return [reply]


@pytest.mark.parametrize("odd", [_stray, _twice, _refused])
def test_what_is_odd_ends_a_port(odd: Any) -> None:
    """A datagram that is no reply, a second answer, an answer that is none: the next query has another port."""

    def handler(query: dns.message.Message, transport: str) -> Any:
        return odd(query) if query.question[0].name.to_text() == "odd.test." else default_handler(query, transport)

    with Upstream(handler) as upstream:
        upstreams = _asking(upstream.port)
        with pytest.raises(UpstreamFailed) if odd is _refused else nullcontext():
            upstreams.ask(key_of("odd.test"))
        if odd is _twice:
            _until_closed({upstream.sources[-1][1]})
        upstreams.ask(key_of("next.test"))
        assert upstream.sources[-1][1] != upstream.sources[-2][1]


def test_a_closed_port_reads_from_no_other() -> None:
    """The system gives the descriptor's number to the next that is opened."""
    port = Port(_socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM), 0.0)
    number = port.fd
    port.close()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        assert other.fileno() == number != port.fd
        with pytest.raises(OSError, match="Bad file descriptor"):
            receive(port.fd)


def test_a_question_that_is_answered_leaves_nothing_behind() -> None:
    """However long it might have waited: memory does not grow with what is asked in that time."""

    def searches() -> int:
        return sum(isinstance(each, Search) for each in gc.get_objects())

    with Upstream() as upstream:
        upstreams, before = _asking(upstream.port), searches()
        for number in range(10):
            upstreams.ask(key_of(f"n{number}.test"))
        assert searches() <= before


def test_alarms_go_off_in_order_and_not_too_early() -> None:
    """Each at its moment or a little later, whenever it was set; one that fails harms no other."""
    alarms = Alarms()
    rung: list[tuple[float, float]] = []

    class Sleeper:
        def __init__(self, moment: float) -> None:
            self.moment = moment

        def alarm(self, now: float) -> None:
            rung.append((self.moment, now))
            if len(rung) == 2:
                raise ValueError("on purpose")

    begun = time.monotonic()
    moments = [begun + each * TICK for each in (90, 3, 1, 40, 0, 41.5, 2.5, -5)]
    for moment in moments:
        alarms.set(Sleeper(moment), moment)
    while len(rung) < len(moments):
        assert time.monotonic() < begun + 20
        gevent.sleep(TICK)
    assert all(now >= moment for moment, now in rung)
    ticks = [int(moment / TICK) for moment, _ in rung]
    assert ticks[1:] == sorted(ticks[1:])
