"""A node that forwards over TCP, TLS, HTTPS and QUIC to real servers: what its clients get, and who is refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest
from support import Node, Upstream, addresses, answer, ask, default_handler, free_port, wait_for
from support.certificates import Authority

pytestmark = [pytest.mark.once]

needs_unbound = pytest.mark.skipif(not shutil.which("unbound", path="/usr/sbin"), reason="no unbound")

CONFIG = """server:
 interface: 127.0.0.1@{plain}
 interface: 127.0.0.1@{tls}
 interface: 127.0.0.1@{https}
 tls-port: {tls}
 https-port: {https}
 tls-service-key: {key}
 tls-service-pem: {certificate}
 http-endpoint: /dns-query
 num-threads: 1
 do-daemonize: no
 username: ""
 chroot: ""
 pidfile: ""
 use-syslog: no
 local-zone: "test." redirect
 local-data: "test. 300 IN A 192.0.2.1"
remote-control:
 control-enable: no
"""


@contextmanager
def unbound(folder: Path, name: str, days: int = 2) -> Iterator[dict[str, str]]:
    """A server with a certificate for `name`: its URLs by transport, which trust who signed it."""
    authority = Authority(folder)
    made = authority.sign(name, days=days)
    ports = {each: free_port() for each in ("plain", "tls", "https")}
    file = folder / "unbound.conf"
    file.write_text(CONFIG.format(**ports, key=made.key, certificate=made.certificate))
    server = subprocess.Popen(["/usr/sbin/unbound", "-c", file])
    ca = f"?ca={authority.file}"
    try:
        wait_for(lambda: _answers(ports["plain"]))
        yield {
            "udp": f"udp://127.0.0.1:{ports['plain']}",
            "tcp": f"tcp://127.0.0.1:{ports['plain']}",
            "tls": f"tls://127.0.0.1:{ports['tls']}{ca}#dns.example",
            "https": f"https://127.0.0.1:{ports['https']}/dns-query{ca}#dns.example",
        }
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def _answers(port: int) -> bool:
    try:
        return ask(port, "up.test", timeout=0.2).rcode() == dns.rcode.NOERROR
    except (OSError, dns.exception.DNSException):
        return False


@needs_unbound
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "https"])
def test_a_node_forwards_over_each(tmp_path: Path, transport: str) -> None:
    """Many names at a time, each answered."""
    with unbound(tmp_path, "dns.example") as urls, Node([urls[transport]]) as node:
        with ThreadPoolExecutor(20) as pool:
            replies = pool.map(lambda number: ask(node.port, f"n{number}.test", timeout=5), range(200))
            assert all(addresses(reply) == ["192.0.2.1"] for reply in replies)


@needs_unbound
@pytest.mark.parametrize("transport", ["tls", "https"])
@pytest.mark.parametrize(
    ("name", "days", "told"),
    [("other.example", 2, "it is for another name than dns.example"), ("dns.example", -1, "it has expired")],
    ids=["another name", "expired"],
)
def test_a_certificate_that_is_wrong_is_refused_and_said(
    tmp_path: Path, transport: str, name: str, days: int, told: str
) -> None:
    """The client gets SERVFAIL, the log one clear sentence."""
    args = ["--upstream-timeout", "1", "--upstream-deadline", "1"]
    with unbound(tmp_path, name, days) as urls, Node([urls[transport]], args=args) as node:
        for number in range(4):
            assert ask(node.port, f"n{number}.test", timeout=5).rcode() == dns.rcode.SERVFAIL
        wait_for(lambda: f"its certificate is refused: {told}" in node.log())


def test_connections_are_kept_and_shared() -> None:
    """All names of a burst go over a connection or two, and each is asked once."""
    with Upstream(delay=0.05) as upstream, Node([f"tcp://{upstream.address}"]) as node:
        with ThreadPoolExecutor(50) as pool:
            replies = list(pool.map(lambda number: ask(node.port, f"n{number}.test", timeout=5), range(300)))
        assert all(reply.rcode() == dns.rcode.NOERROR for reply in replies)
        assert len(set(upstream.sources)) <= 4
        assert set(upstream.transports) == {"tcp"}
        assert upstream.total() == 300


def test_a_connection_that_died_unnoticed_costs_a_moment() -> None:
    """Nothing comes over it any more, as when a middlebox has forgotten it: the query goes out on another one."""
    silent: set[tuple[str, int]] = set()

    def handler(query: dns.message.Message, transport: str) -> Any:
        if query.question[0].name.to_text().startswith("last"):
            silent.add(upstream.sources[-1])
        return None if upstream.sources[-1] in silent and len(silent) == 1 else default_handler(query, transport)

    with Upstream(handler) as upstream, Node([f"tcp://{upstream.address}"]) as node:
        assert ask(node.port, "first.test").rcode() == dns.rcode.NOERROR
        assert ask(node.port, "last.test", timeout=10).rcode() == dns.rcode.NOERROR
        assert len(set(upstream.sources)) == 2


def test_cut_replies_share_connections_too() -> None:
    """What does not fit into a datagram is asked over connections that are kept."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        return answer(query, *(f"300 A 192.0.2.{number}" for number in range(1, 151)))

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        for number in range(20):
            assert len(addresses(ask(node.port, f"big{number}.test", tcp=True))) == 150
        over_tcp = {source for source, how in zip(upstream.sources, upstream.transports, strict=True) if how == "tcp"}
        assert len(over_tcp) <= 2
