"""A node that forwards over TCP, TLS, HTTPS and QUIC to real servers: what its clients get, and who is refused."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest
from support import (
    Node,
    Peer,
    RedisServer,
    StreamServer,
    Upstream,
    addresses,
    answer,
    ask,
    asked_at_once,
    attached,
    default_handler,
    free_port,
    wait_for,
)
from support.certificates import Authority
from support.http2 import MESSAGE, Http2Peer
from support.peers import PEERS, peer
from support.quic import QuicServer

pytestmark = [pytest.mark.once]

#: Those a server gives over each connection, where it resets them.
ANSWERS = 10


@pytest.mark.parametrize("program", PEERS)
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "https"])
def test_a_node_forwards_over_each(tmp_path: Path, program: str, transport: str) -> None:
    """Many names at a time, each answered, whoever made the server."""
    with peer(program, tmp_path) as server, Node([server.url(transport)]) as node:
        with ThreadPoolExecutor(20) as pool:
            replies = pool.map(lambda number: ask(node.port, f"n{number}.test", timeout=5), range(200))
            assert all(addresses(reply) == ["192.0.2.1"] for reply in replies)


@pytest.mark.parametrize("program", PEERS)
@pytest.mark.parametrize(
    ("transport", "name", "days", "alone", "told"),
    [
        ("tls", "other.example", 2, False, "it is for another name than dns.example"),
        ("https", "dns.example", -1, False, "it has expired"),
        ("tls", "dns.example", 2, True, "it is self-signed"),
    ],
    ids=["another name", "expired", "self-signed"],
)
def test_a_certificate_that_is_wrong_is_refused_and_said(
    tmp_path: Path, program: str, transport: str, name: str, days: int, alone: bool, told: str
) -> None:
    """The client gets SERVFAIL, the log one clear sentence."""
    args = ["--upstream-timeout", "1", "--upstream-deadline", "1"]
    with (
        peer(program, tmp_path, name, days=days, alone=alone) as server,
        Node([server.url(transport)], args=args) as node,
    ):
        for number in range(4):
            assert ask(node.port, f"n{number}.test", timeout=5).rcode() == dns.rcode.SERVFAIL
        wait_for(lambda: f"its certificate is refused: {told}" in node.log())


def test_a_node_forwards_over_quic(tmp_path: Path) -> None:
    """Many names at a time, each on a stream of its own, over a connection or two."""
    pytest.importorskip("aioquic", reason="aioquic is not installed")

    def script(protocol: Any, stream: int, message: bytes) -> None:
        reply = answer(dns.message.from_wire(message), "300 A 192.0.2.1").to_wire()
        protocol._quic.send_stream_data(stream, len(reply).to_bytes(2, "big") + reply, end_stream=True)

    with QuicServer(tmp_path, script) as server:
        url = f"quic://127.0.0.1:{server.port}?ca={server.ca}#dns.example"
        with Node([url]) as node:
            with ThreadPoolExecutor(20) as pool:
                replies = pool.map(lambda number: ask(node.port, f"n{number}.test", timeout=5), range(100))
                assert all(addresses(reply) == ["192.0.2.1"] for reply in replies)
            assert len(server.connections) <= 2


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


class Resetting(Upstream):
    """Over TCP it resets each connection after a few answers, whatever has been sent on it that it has not read."""

    def _serve_connection(self, sock: socket.socket, source: tuple[str, int]) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is answered has left before the reset
        with sock, sock.makefile("rb", buffering=0) as stream:
            try:
                for _ in range(ANSWERS):
                    size = int.from_bytes(_exactly(stream, 2), "big")
                    data = _exactly(stream, size)
                    self._take(data, "tcp", source, lambda reply: sock.sendall(len(reply).to_bytes(2, "big") + reply))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except (OSError, EOFError):
                pass


def _exactly(stream: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class Encrypted:
    """Servers over TLS, HTTPS, QUIC and HTTP/3 that end each connection after a few answers; how often each was asked
    what."""

    def __init__(self, folder: Path) -> None:
        self.asked: dict[str, Counter[str]] = {}
        self._authority = Authority(folder)
        self._made = self._authority.sign("dns.example")
        self._folder = folder

    def _reply(self, scheme: str, query: bytes) -> bytes:
        asked = dns.message.from_wire(query)
        self.asked[scheme][str(asked.question[0].name).lower()] += 1
        return answer(asked, "300 A 192.0.2.1").to_wire()

    def _tls(self, peer: Peer) -> None:
        for _ in range(ANSWERS):
            query = peer.query()
            if query is not None:
                peer.send(self._reply("tls", query))
        peer.reset()

    def _https(self, peer: Peer) -> None:
        http = Http2Peer(peer)
        for _ in range(ANSWERS):
            request = http.request()
            if request is not None:
                http.head(request[0])
                http.body(request[0], self._reply("https", request[1]))
        peer.reset()

    def _quic(self, protocol: Any, stream: int, message: bytes) -> None:
        def tell(reply: bytes) -> None:
            protocol._quic.send_stream_data(stream, len(reply).to_bytes(2, "big") + reply, end_stream=True)

        self._some_of("quic", protocol, message, tell)

    def _http3(self, protocol: Any, stream: int, message: bytes) -> None:
        def tell(reply: bytes) -> None:
            protocol.http.send_headers(stream, [(b":status", b"200"), (b"content-type", MESSAGE.encode())])
            protocol.http.send_data(stream, reply, end_stream=True)

        self._some_of("h3", protocol, message, tell)

    def _some_of(self, scheme: str, protocol: Any, message: bytes, tell: Callable[[bytes], None]) -> None:
        given = getattr(protocol, "answers", 0)
        if given < ANSWERS:
            protocol.answers = given + 1
            tell(self._reply(scheme, message))
            if given + 1 == ANSWERS:
                protocol.transmit()
                protocol._quic.close()

    @contextmanager
    def serving(self) -> Iterator[list[str]]:
        """Their URLs; without QUIC and HTTP/3 where aioquic is not installed."""
        ca = f"?ca={self._authority.file}#dns.example"
        with ExitStack() as stack:
            tls = stack.enter_context(StreamServer(self._tls, self._made.server()))
            https = stack.enter_context(StreamServer(self._https, self._made.server(("h2",))))
            found = {"tls": f"tls://127.0.0.1:{tls.port}{ca}",
                     "https": f"https://127.0.0.1:{https.port}/dns-query{ca}"}  # fmt: skip
            if find_spec("aioquic") is not None:
                for scheme, script, path in (("quic", self._quic, ""), ("h3", self._http3, "/dns-query")):
                    folder = self._folder / scheme
                    folder.mkdir()
                    server = stack.enter_context(QuicServer(folder, script, http=scheme == "h3"))
                    found[scheme] = f"{scheme}://127.0.0.1:{server.port}{path}?ca={server.ca}#dns.example"
            self.asked = {scheme: Counter() for scheme in found}
            yield list(found.values())


def names(upstream: Upstream) -> Counter[str]:
    """How often each was asked for."""
    return Counter(name for name, _ in upstream.counts.elements())


@pytest.mark.parametrize("policy", ["fastest", "round-robin", "ordered", "random"])
def test_one_query_for_a_question_whatever_happens_to_connections(
    redis_server: RedisServer, tmp_path: Path, policy: str
) -> None:
    """Three nodes of two workers are asked the same at once; upstreams end their connections, another is dead."""
    dead, encrypted = f"127.0.0.1:{free_port()}", Encrypted(tmp_path)
    # a busy machine is no loss, and no reason to leave Redis alone: nobody says that a zone's servers are faster
    patient = ("--upstream-retry-min", "2", "--upstream-retry-max", "3", "--upstream-timeout", "3",
               "--upstream-deadline", "8", "--redis-budget", "1", "--redis-timeout", "2",
               "--upstream-policy", policy)  # fmt: skip
    with Resetting() as resetting, Upstream() as usual, encrypted.serving() as urls:
        zone = "test=" + ",".join((f"tcp://{resetting.address}", *urls, usual.address, dead))
        with ExitStack() as stack:
            nodes = [
                stack.enter_context(
                    Node([dead], redis_server.url, 2, (*patient, "--zone", zone, "--node-id", f"n{number}"))
                )
                for number in range(3)
            ]
            wait_for(lambda: all(attached(node, 2) for node in nodes), 10)
            ports = [node.port for node in nodes] * 2
            for number in range(12):  # the first handshakes of six workers at a time may seem like losses
                asked_at_once(ports, f"early{number}.test.")
            with ThreadPoolExecutor(8) as pool:
                heard = pool.map(lambda number: asked_at_once(ports, f"n{number}.test."), range(300))
                assert list(heard) == [len(ports)] * 300
        asked = {**encrypted.asked, "tcp": names(resetting), "udp": names(usual)}
        where: dict[str, list[str]] = {f"n{number}.test.": [] for number in range(300)}
        for transport, counts in asked.items():
            for name in counts.elements():
                where.setdefault(name, []).append(transport)
        late = {name: transports for name, transports in where.items() if not name.startswith("early")}
        assert {name: transports for name, transports in late.items() if len(transports) != 1} == {}
        assert resetting.total() > 20 or policy == "fastest"  # which may have found another faster
        assert len(set(resetting.sources)) >= resetting.total() // ANSWERS
        if policy in ("round-robin", "random"):
            assert all(each.total() > 20 for each in encrypted.asked.values())
