"""Open files are budgeted: TCP connections give way to what resolving needs."""

from __future__ import annotations

import resource
import signal
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Node, Upstream, ask, wait_for

from rdnscache.address import Address
from rdnscache.config import Config
from rdnscache.endpoint import Endpoint
from rdnscache.errors import ConfigError
from rdnscache.node.descriptors import LEAST_CONNECTIONS, LEAST_FLIGHTS, RESERVE, fit

pytestmark = pytest.mark.once

CONFIG = Config(upstream=(Endpoint("udp", Address("192.0.2.53", 53)),), workers=2)


def test_what_fits_is_left_alone() -> None:
    """And nothing is said about it."""
    assert fit(CONFIG, 20_000) == (CONFIG, "")


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 64))
def test_the_budget(limit: int, flights: int, connections: int, workers: int) -> None:
    """Never more than wanted, nor than the limit; a sentence when it is less; refused when it is next to nothing."""
    config = replace(CONFIG, max_flights=flights, tcp_connections=connections, workers=workers)
    try:
        fitted, less = fit(config, limit)
    except ConfigError:
        assert limit < RESERVE + 5 * workers or limit < RESERVE + 5 + LEAST_FLIGHTS + LEAST_CONNECTIONS
        return
    assert fitted.max_flights + fitted.tcp_connections + RESERVE <= limit
    assert min(flights, LEAST_FLIGHTS) <= fitted.max_flights <= flights
    assert min(connections, LEAST_CONNECTIONS) <= fitted.tcp_connections <= connections
    assert bool(less) == (fitted != config)
    if fitted.max_flights < flights:  # then TCP has given way as far as it does
        assert fitted.tcp_connections <= max(limit / 8, LEAST_CONNECTIONS)


def test_idle_tcp_connections_leave_room_for_questions() -> None:
    """1,000 of them, a limit of 1,024 open files: every cold name is answered, and the log says what was reduced."""
    with Upstream(delay=0.2) as upstream, Node([upstream.address], open_files=1024) as node, ExitStack() as stack:
        assert node.log().count("the limit of open files is 1024") == 1
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", node.port), 5))
        sockets = []
        for number in range(60):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.settimeout(5)
            sock.connect(("127.0.0.1", node.port))
            sock.send(dns.message.make_query(f"n{number}.test", "A").to_wire())
            sockets.append(sock)
        rcodes = [dns.message.from_wire(sock.recv(4096)).rcode() for sock in sockets]
        assert rcodes == [dns.rcode.NOERROR] * 60


def test_too_few_open_files_are_refused() -> None:
    """One sentence, before anything is served."""
    with pytest.raises(AssertionError, match="the limit of open files is 100, a node like this needs"):
        Node(["192.0.2.53"], open_files=100)


def test_a_worker_out_of_descriptors_blames_nobody() -> None:
    """What it cannot ask it asks again when it can; the upstream keeps its name, the log says whose fault it is."""
    with Upstream() as upstream, Node([upstream.address]) as node:
        (worker,) = node.children()
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, before[1]))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.connect(("127.0.0.1", node.port))
            sock.send(dns.message.make_query("cold.test", "A").to_wire())
            wait_for(lambda: "Too many open files: not the upstream's fault" in node.log())
            resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
            assert dns.message.from_wire(sock.recv(4096)).rcode() == dns.rcode.NOERROR
        assert "times in a row" not in node.log()
        assert ask(node.port, "next.test").rcode() == dns.rcode.NOERROR


def test_a_reload_is_held_against_the_limit_as_well(tmp_path: Path) -> None:
    """More than fits is said again."""
    file = tmp_path / "node.toml"
    file.write_text("max_flights = 100\ntcp_connections = 100\n")
    with Upstream() as upstream, Node([upstream.address], args=["--config", str(file)], open_files=1024) as node:
        assert "open files" not in node.log()
        file.write_text("max_flights = 100\ntcp_connections = 5000\n")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the limit of open files is 1024" in node.log())
        wait_for(lambda: "all workers use the new configuration" in node.log(), 20)
