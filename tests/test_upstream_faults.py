"""A node and upstreams that fail: what its clients see, what it logs, and what it shows."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from support import Handler, Node, Upstream, ask, cut_off, free_port, says, wait_for

pytestmark = pytest.mark.once


def _send(port: int, name: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", port))
    sock.send(dns.message.make_query(name, "A").to_wire())
    return sock


def test_a_stopped_worker_reads_what_came_meanwhile() -> None:
    """Suspended for longer than any timeout while the replies arrive, it answers with them; nothing failed."""
    args = ["--upstream-timeout", "0.5", "--upstream-deadline", "0.5"]
    with Upstream(delay=0.4) as upstream, Node([upstream.address], args=args) as node:
        (worker,) = node.children()
        sockets = [_send(node.port, f"n{number}.test") for number in range(20)]
        wait_for(lambda: upstream.total() == 20)
        os.kill(worker, signal.SIGSTOP)
        over = time.monotonic() + 1
        wait_for(lambda: time.monotonic() > over)
        os.kill(worker, signal.SIGCONT)
        for sock in sockets:
            with sock:
                assert dns.message.from_wire(sock.recv(4096)).rcode() == dns.rcode.NOERROR
        assert upstream.total() == 20


@pytest.mark.parametrize(
    ("handler", "rcode", "told"),
    [
        (says(dns.rcode.REFUSED), dns.rcode.REFUSED, []),
        (says(dns.rcode.NOTIMP), dns.rcode.NOTIMP, []),
        (says(dns.rcode.SERVFAIL, 6), dns.rcode.SERVFAIL, [6]),
        (says(dns.rcode.SERVFAIL), dns.rcode.SERVFAIL, []),
        (lambda query, transport: None, dns.rcode.SERVFAIL, [22]),
        (cut_off, dns.rcode.SERVFAIL, [23]),
    ],
    ids=["refused", "notimp", "bogus", "servfail", "silent", "cut, and TCP is closed"],
)
def test_clients_are_told_what_the_upstream_said(handler: Handler, rcode: int, told: list[int]) -> None:
    """The RCODE, and the Extended DNS Error: the upstream's own, or what the node knows itself."""
    args = ["--upstream-timeout", "0.1", "--upstream-deadline", "0.5"]
    with Upstream(handler, tcp=False) as upstream, Node([upstream.address], args=args) as node:
        for _ in range(2):  # from the upstream, and kept
            reply = ask(node.port, "none.test", use_edns=0)
            assert reply.rcode() == rcode
            assert [option.code for option in reply.options] == told


def test_a_dead_upstream_is_told_of_once_and_when_it_is_back() -> None:
    """One line when it begins to rest, one when it answers again, however many questions failed."""
    port = free_port()
    args = ["--upstream-timeout", "0.1", "--upstream-deadline", "0.3"]
    with Node([f"127.0.0.1:{port}"], args=args) as node:
        for number in range(10):
            assert ask(node.port, f"n{number}.test").rcode() == dns.rcode.SERVFAIL
        wait_for(lambda: "times in a row: it is still asked, as the only one" in node.log())
        with Upstream(port=port):
            assert ask(node.port, "back.test").rcode() == dns.rcode.NOERROR
            wait_for(lambda: f"127.0.0.1:{port} answers again after" in node.log(), 10)
        assert node.log().count("times in a row") == 1


def test_what_a_reload_removed_is_no_longer_shown(tmp_path: Path) -> None:
    """Its series end; those of the others go on, and a new one begins at 0."""
    port = free_port()
    file = tmp_path / "node.toml"

    def shown() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        head = 'rdnscache_upstream_queries_total{upstream="'
        return {line[len(head) :].partition('"')[0]: float(line.split()[-1]) for line in lines if line.startswith(head)}

    with Upstream() as first, Upstream() as second, Upstream() as third:
        file.write_text(f'upstream = ["{first.address}", "{second.address}"]\n')
        with Node([], workers=2, args=["--config", str(file), "--admin", f"127.0.0.1:{port}"]) as node:
            for number in range(10):
                ask(node.port, f"a{number}.test")
            before = shown()
            assert set(before) == {first.address, second.address}
            assert sum(before.values()) == 10
            file.write_text(f'upstream = ["{second.address}", "{third.address}"]\n')
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "all workers use the new configuration" in node.log(), 20)
            assert shown() == {second.address: before[second.address], third.address: 0}
