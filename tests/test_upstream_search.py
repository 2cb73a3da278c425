"""How one worker looks for an answer among its upstreams: retries, rests, probes, and what a failure proves."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import gevent
import pytest
from support import Upstream, cut_off, default_handler, free_port, key_of, says, wait_for

from rdnscache import metrics
from rdnscache.address import Address
from rdnscache.dns.policy import Limits
from rdnscache.dns.wire import NOTIMP, REFUSED, SERVFAIL
from rdnscache.endpoint import Endpoint
from rdnscache.errors import LOCAL, SAID, SILENT, UNREACHABLE, UpstreamFailed
from rdnscache.metrics import Board
from rdnscache.upstream import ways
from rdnscache.upstream.health import FAILURES_BEFORE_REST
from rdnscache.upstream.routes import Route, Routes
from rdnscache.upstream.search import NETWORK_ERROR, NO_REACHABLE_AUTHORITY, ROUNDS
from rdnscache.upstream.server import SEVERAL, Server
from rdnscache.upstream.servers import Upstreams

Handler = Callable[[dns.message.Message, str], Any]


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _make(
    *addresses: str,
    timeout: float = 0.1,
    deadline: float = 0.6,
    board: Board | None = None,
    policy: str = "round-robin",
) -> Upstreams:
    board = board or Board(1)
    parsed = [Endpoint("udp", Address(*_split(address))) for address in addresses]
    board.make_room(map(str, parsed))
    row = board.row(0)
    servers = [Server(each, ways.find(each), board.block(str(each)), row, board.numbers(str(each))) for each in parsed]
    return Upstreams(servers, timeout, deadline, row, policy)


def _why(upstreams: Upstreams, name: str) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as caught:
        upstreams.ask(key_of(name))
    return caught.value


def _end_rest(server: Server) -> None:
    """It was to end long ago."""
    server.health.postpone(1.0)


def _silent(query: dns.message.Message, transport: str) -> None:
    """A server that is not there."""


def _silent_about(prefix: str) -> Handler:
    def handler(query: dns.message.Message, transport: str) -> Any:
        return None if query.question[0].name.to_text().startswith(prefix) else default_handler(query, transport)

    return handler


def _cut_if_big(query: dns.message.Message, transport: str) -> Any:
    return (cut_off if query.question[0].name.to_text().startswith("big") else default_handler)(query, transport)


# Retries


def test_a_restart_of_the_only_upstream_costs_a_moment() -> None:
    """While its port refuses, the question is asked again with pauses, until the deadline."""
    port = free_port()
    upstream = Upstream(port=port)
    starter = threading.Timer(0.3, upstream.__enter__)
    upstreams = _make(upstream.address, deadline=20)
    starter.start()
    try:
        reply, source = upstreams.ask(key_of("restart.test"))
    finally:
        starter.join()
        upstream.close()
    assert (reply.rcode, source) == (0, "127.0.0.1")
    assert upstream.total() == 1


def test_a_lost_datagram_is_sent_again_though_the_only_upstream_rests() -> None:
    """Dead names have made it rest; with nobody else to ask, that takes no retry away."""
    lost = set()

    def handler(query: dns.message.Message, transport: str) -> Any:
        name = query.question[0].name.to_text()
        if name.startswith("dead") or (name.startswith("lost") and name not in lost):
            lost.add(name)
            return None
        return default_handler(query, transport)

    with Upstream(handler) as upstream:
        upstreams = _make(upstream.address)
        for number in range(3):
            _why(upstreams, f"dead{number}.test")
        (server,) = upstreams.servers
        assert server.health.resting
        for number in range(3):
            server.health.failed(server.health.rests_until, server.health.rests_until)  # it rests long
            assert upstreams.ask(key_of(f"lost{number}.test"))[0].ancount == 1
            assert upstream.datagrams(f"lost{number}.test.") == 2


def test_silence_is_met_with_a_few_datagrams_over_the_whole_deadline() -> None:
    """The last of them is waited for as long as there is time."""
    sent = []

    def handler(query: dns.message.Message, transport: str) -> Any:
        sent.append(query.id)
        return default_handler(query, transport) if len(sent) == ROUNDS else None

    with Upstream(handler, delay=0.25) as upstream:
        upstreams = _make(upstream.address, timeout=0.05, deadline=10)
        assert upstreams.ask(key_of("slow.test"))[0].ancount == 1
        assert len(sent) == ROUNDS


def test_silence_of_all_ends_after_as_many() -> None:
    """No more datagrams than that, for each server."""
    with Upstream(_silent) as first, Upstream(_silent) as second:
        upstreams = _make(first.address, second.address, timeout=0.05)
        _why(upstreams, "void.test")
        assert first.datagrams() == second.datagrams() == ROUNDS


def test_a_pause_of_the_process_is_no_failure() -> None:
    """A reply that came while nobody looked is read, and what did not come is asked again, beyond the deadline."""
    asked = threading.Event()

    def handler(query: dns.message.Message, transport: str) -> Any:
        asked.set()
        name = query.question[0].name.to_text()
        return None if name.startswith("lost") and upstream.datagrams(name) == 1 else default_handler(query, transport)

    def pause() -> None:
        """Block the hub, as a stopped process does, until the time is over."""
        assert asked.wait(5)
        threading.Event().wait(0.8)

    with Upstream(handler) as upstream:
        for name in ("came.test", "lost.test"):
            asked.clear()
            upstreams = _make(upstream.address, timeout=0.4, deadline=0.4)
            question = gevent.spawn(upstreams.ask, key_of(name))
            gevent.spawn(pause)
            assert question.get()[0].ancount == 1
            assert upstreams.servers[0].health.failures == 0
        assert upstream.datagrams("came.test.") == 1
        assert upstream.datagrams("lost.test.") == 2


# Rests and probes


def test_silence_about_names_is_no_silence_of_the_server() -> None:
    """However many dead names are asked of it, a server that answers others is used as before."""
    with Upstream(_silent_about("dead")) as first, Upstream(_silent_about("dead")) as second:
        upstreams = _make(first.address, second.address, timeout=0.2, deadline=1.5)
        dead = [gevent.spawn(_why, upstreams, f"dead{number}.test") for number in range(30)]
        number = 0
        while not all(each.ready() for each in dead):
            assert upstreams.ask(key_of(f"live{number}.test"))[0].ancount == 1
            number += 1
            gevent.sleep(0.01)
        assert {each.get().why for each in dead} == {SILENT}
        assert not any(server.health.resting for server in upstreams.servers)


def test_a_black_hole_costs_few_questions() -> None:
    """Of two servers one is silent: it hears a few questions before it is in doubt, and then a probe now and then."""
    with Upstream(_silent) as hole, Upstream() as other:
        upstreams = _make(hole.address, other.address, timeout=1.0, deadline=5)
        questions = []
        for number in range(360):
            questions.append(gevent.spawn(upstreams.ask, key_of(f"n{number}.test")))
            gevent.sleep(1 / 60)
        gevent.joinall(questions, raise_error=True)
        assert other.total() == 360
        assert hole.total() < 30


def test_a_server_that_rests_comes_back_by_a_probe_nobody_waits_for() -> None:
    """The question itself is asked of another; many at once are one probe."""
    with Upstream(_silent) as sick, Upstream() as other:
        upstreams = _make(sick.address, other.address)
        server = upstreams.servers[0]
        for number in range(20):
            upstreams.ask(key_of(f"n{number}.test"))
        assert server.health.resting
        before = sick.total()
        _end_rest(server)
        for number in range(20):
            upstreams.ask(key_of(f"probe{number}.test"))
        wait_for(lambda: sick.total() == before + 1)
        gevent.sleep(0.15)  # until the probe has timed out
        assert server.health.resting
        assert server.health.rests_until > 100.0
        sick.handler = default_handler
        _end_rest(server)
        upstreams.ask(key_of("last.test"))
        gevent.sleep(0.05)
        assert not server.health.resting
        assert sick.total() == before + 2


def test_refusals_are_silence_of_the_server_at_once() -> None:
    """A closed port makes a server rest like one that says nothing."""
    with Upstream() as other:
        upstreams = _make(f"127.0.0.1:{free_port()}", other.address)
        for number in range(2 * FAILURES_BEFORE_REST):
            upstreams.ask(key_of(f"n{number}.test"))
        assert upstreams.servers[0].health.resting


# TCP apart from UDP


def test_closed_tcp_fails_the_names_that_need_it_and_no_others() -> None:
    """Cut names fail with a Network Error; all others are asked of that server as before."""
    with Upstream(_cut_if_big, tcp=False) as upstream:
        upstreams = _make(upstream.address, deadline=2)
        for number in range(6):
            failed = _why(upstreams, f"big{number}.test")
            assert (failed.rcode, failed.ede, failed.why) == (SERVFAIL, NETWORK_ERROR, UNREACHABLE)
        (server,) = upstreams.servers
        assert server.tcp_health.resting
        assert not server.health.resting
        for number in range(40):
            assert upstreams.ask(key_of(f"n{number}.test"))[0].ancount == 1
            assert upstream.count(f"n{number}.test.") == 1


def test_with_closed_tcp_another_server_is_asked_first_for_cut_names() -> None:
    """And the first keeps its share of all others."""
    with Upstream(_cut_if_big, tcp=False) as first, Upstream() as other:
        upstreams = _make(first.address, other.address, deadline=2)
        for number in range(12):
            assert upstreams.ask(key_of(f"big{number}.test"))[0].ancount == 1
        heard = first.total()
        for number in range(40):
            upstreams.ask(key_of(f"n{number}.test"))
        assert first.total() - heard == 20


def test_tcp_comes_back() -> None:
    """When its rest is over, a question that needs it finds out."""
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(Upstream(_cut_if_big, port=port, tcp=False))
        upstreams = _make(first.address, deadline=2)
        _why(upstreams, "big0.test")
        _why(upstreams, "big1.test")
        server = upstreams.servers[0]
        assert server.tcp_health.resting
        first.close()
        stack.enter_context(
            Upstream(lambda query, how: (cut_off if how == "udp" else default_handler)(query, how), port=port)
        )
        assert upstreams.ask(key_of("big2.test"))[0].ancount == 1
        assert not server.tcp_health.resting


# What a failure proves


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (says(REFUSED), says(REFUSED), (REFUSED, -1, SAID)),
        (says(NOTIMP), says(NOTIMP), (NOTIMP, -1, SAID)),
        (says(SERVFAIL), says(SERVFAIL), (SERVFAIL, -1, SAID)),
        (says(REFUSED), says(SERVFAIL), (SERVFAIL, -1, SAID)),
        (says(REFUSED), says(NOTIMP), (SERVFAIL, -1, SAID)),
        (says(9), says(9), (SERVFAIL, -1, SAID)),
        (cut_off, cut_off, (SERVFAIL, -1, SAID)),
        (says(SERVFAIL), _silent, (SERVFAIL, NETWORK_ERROR, UNREACHABLE)),
        (says(REFUSED), None, (SERVFAIL, NETWORK_ERROR, UNREACHABLE)),
        (_silent, _silent, (SERVFAIL, NO_REACHABLE_AUTHORITY, UNREACHABLE)),
        (None, None, (SERVFAIL, NO_REACHABLE_AUTHORITY, UNREACHABLE)),
    ],
)
def test_why_there_is_no_answer(first: Handler | None, second: Handler | None, expected: tuple[int, int, str]) -> None:
    """What all say, is said; what could not be reached is no fact about the name."""
    with ExitStack() as stack:
        addresses = []
        for handler in (first, second):
            if handler is None:
                addresses.append(f"127.0.0.1:{free_port()}")
            else:
                addresses.append(stack.enter_context(Upstream(handler)).address)
        upstreams = _make(*addresses)
        for number in range(2):  # whoever is asked first
            failed = _why(upstreams, f"n{number}.test")
            assert (failed.rcode, failed.ede, failed.why) == expected


def test_who_said_no_is_not_asked_again_and_others_that_rest_are_not_waited_for() -> None:
    """A name without an answer does not take longer because another server is dead."""
    with Upstream(says(SERVFAIL)) as first, Upstream(_silent) as hole:
        upstreams = _make(first.address, hole.address)
        for number in range(8):
            _why(upstreams, f"n{number}.test")
        server = upstreams.servers[1]
        assert server.health.resting
        server.health.postpone(time.monotonic() + 1000)
        first_before, before = first.total(), hole.total()
        for number in range(8):
            assert _why(upstreams, f"later{number}.test").why == UNREACHABLE
        assert hole.total() == before
        assert first.total() == first_before + 8


def test_silent_about_a_name_while_others_are_answered() -> None:
    """That is a fact about the name; without an answer in between it is not."""
    with Upstream(_silent_about("dead")) as upstream:
        upstreams = _make(upstream.address)
        dead = gevent.spawn(_why, upstreams, "dead1.test")
        wait_for(lambda: gevent.sleep(0.001) or upstream.count("dead1.test.") == 1)
        upstreams.ask(key_of("live.test"))
        assert (dead.get().why, dead.get().ede) == (SILENT, NETWORK_ERROR)
        assert _why(upstreams, "dead2.test").why == UNREACHABLE


def test_falling_silent_for_all_is_no_fact_about_a_name() -> None:
    """The server has answered something else since the question was sent, but nothing that others wait for now."""
    names = ["dead"]

    def handler(query: dns.message.Message, transport: str) -> Any:
        return _silent_about(names[0])(query, transport)

    with Upstream(handler) as upstream:
        upstreams = _make(upstream.address, timeout=0.6, deadline=2.0)
        released: list[str] = []
        first = gevent.spawn(upstreams.ask, key_of("dead1.test"), lambda *asked: released.append("dead1"))
        wait_for(lambda: gevent.sleep(0.001) or upstream.count("dead1.test.") == 1)
        upstreams.ask(key_of("live.test"))
        names[0] = ""
        others = [gevent.spawn(_why, upstreams, f"later{number}.test") for number in range(4)]
        wait_for(lambda: gevent.sleep(0.001) or released)
        names[0] = "nothing"
        assert first.get()[0].ancount == 1
        gevent.killall(others)


# Faults of our own


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_no_server_is_blamed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lacking here is asked for again until the deadline, and counted as our own."""
    from rdnscache.upstream import datagrams

    class Sockets:
        failing = True

        def socket(self, *args: Any) -> Any:
            if self.failing:
                raise OSError(number, "lacking")
            return socket.socket(*args)

    sockets = Sockets()
    monkeypatch.setattr(datagrams, "_socket", sockets)
    board = Board(1)
    with Upstream() as upstream:
        upstreams = _make(upstream.address, board=board)
        assert _why(upstreams, "none.test").why == LOCAL
        (server,) = upstreams.servers
        assert not server.health.resting
        assert server.health.failures == 0
        assert board.count(metrics.UPSTREAM_LOCAL_ERRORS) >= 3
        question = gevent.spawn(upstreams.ask, key_of("again.test"))
        gevent.sleep(0.05)
        sockets.failing = False
        assert question.get()[0].ancount == 1


def test_a_missing_route_is_our_own() -> None:
    """An address that this host has no way to costs nobody's good name, and others are asked."""
    board = Board(1)
    with Upstream() as upstream:
        upstreams = _make("[fe80::1%nosuch]:53", upstream.address, board=board)
        for number in range(8):
            assert upstreams.ask(key_of(f"n{number}.test"))[0].ancount == 1
        assert not upstreams.servers[0].health.resting
        assert board.count(metrics.UPSTREAM_LOCAL_ERRORS) == 4


class TestDelay:
    """By how much a server answers later than it could."""

    def server(self) -> Server:
        (server,) = _make("127.0.0.1:53").servers
        return server

    def answers(self, server: Server, *seconds: float) -> None:
        for each in seconds * SEVERAL:
            server.answered(each)

    def test_all_late_is_a_queue(self) -> None:
        """The quickest counts: names that take their time say nothing."""
        server = self.server()
        self.answers(server, 0.01, 2.0)
        assert server.delay(1.0) == 0
        self.answers(server, 0.31, 2.0)
        assert server.delay(2.0) == pytest.approx(0.3)
        self.answers(server, 0.31, 0.01)
        assert server.delay(3.0) == 0

    def test_a_few_say_nothing(self) -> None:
        """Each may be of a slow name; they are kept for the next look."""
        server = self.server()
        assert server.delay(1.0) < 0
        for _ in range(SEVERAL - 1):
            server.answered(0.5)
        assert server.delay(2.0) < 0
        server.answered(0.01)
        assert server.delay(3.0) == 0

    def test_one_that_is_slower_now_is_not_late(self) -> None:
        """After a while what it takes counts as usual: nothing that we hold back makes it quicker."""
        server = self.server()
        self.answers(server, 0.01)
        assert server.delay(0.0) == 0
        for now in range(1, 20):
            self.answers(server, 0.3)
            delay = server.delay(float(now))
        assert delay == 0

    def test_the_latest_of_several(self) -> None:
        """A queue at one of them is a queue; what is not asked does not matter."""
        upstreams = _make("127.0.0.1:53", "127.0.0.2:53", "127.0.0.3:53")
        late, fine, _ = upstreams.servers
        self.answers(late, 0.01)
        routes = Routes(Route(upstreams, Limits(), 1.0), {}, upstreams.servers)
        routes.delay(0.0)
        self.answers(late, 0.11)
        self.answers(fine, 0.01)
        assert routes.delay(1.0) == pytest.approx(0.1)
