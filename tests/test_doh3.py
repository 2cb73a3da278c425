"""DNS over HTTP/3: the queries of a pool as requests, in any order, refused, reset, and lost with their connection."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import pytest
from support import Node, addresses, all_ended, answer, answered, ask, sent
from support.quic import QuicServer

from rdnscache.endpoint import Endpoint
from rdnscache.errors import SAID, UNREACHABLE
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.pool import Pool

pytest.importorskip("aioquic", reason="aioquic is not installed")

from rdnscache.upstream.doh3 import REJECTED, over_http3

pytestmark = pytest.mark.once

USUAL = ((b":status", b"200"), (b"content-type", b"application/dns-message"))


def told(protocol: Any, stream: int, message: bytes, head: Any = USUAL) -> None:
    protocol.http.send_headers(stream, list(head))
    protocol.http.send_data(stream, message, end_stream=True)
    protocol.transmit()


@contextmanager
def pool_to(server: QuicServer) -> Iterator[Pool]:
    (endpoint,) = Endpoint.parse(f"h3://127.0.0.1:{server.port}/q?ca={server.ca}#dns.example")
    pool = over_http3(endpoint, Limits())
    yield pool
    pool.close()


def test_queries_have_their_own_answers_in_any_order(tmp_path: Path) -> None:
    """ID 0, sizes padded, POST with the message's type; what is asked first may be answered last."""
    seen: list[bytes] = []

    def script(protocol: Any, stream: int, message: bytes) -> None:
        seen.append(message)
        protocol._loop.call_later(0.1 if b"n000000" in message else 0, told, protocol, stream, message)

    with QuicServer(tmp_path, script, http=True) as server, pool_to(server) as pool:
        queries = sent(pool, 300)
        all_ended(queries, 20)
        assert answered(queries)
        assert {(message[:2], len(message) % 128) for message in seen} == {(b"\0\0", 0)}
        assert pool.openings <= Limits().connections
        head = server.heads[0]
        assert (head[b":method"], head[b":path"], head[b":scheme"]) == (b"POST", b"/q", b"https")
        assert head[b":authority"] == f"dns.example:{server.port}".encode()
        assert head[b"content-type"] == head[b"accept"] == b"application/dns-message"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ((b":status", b"500"), b"x" * 20), ((b":status", b"200"), b""), ((b":status", b"200"), b"x" * 70_000),
        ((b":status", b"404"), b""),
    ],
)  # fmt: skip
def test_what_is_no_answer_ends_the_query(tmp_path: Path, head: tuple[bytes, bytes], body: bytes) -> None:
    """Another status, too little, more than any message has: told once, and the connection goes on."""

    def script(protocol: Any, stream: int, message: bytes) -> None:
        if b"n000000" in message:
            told(protocol, stream, body, (head, USUAL[1]))
        else:
            told(protocol, stream, message)

    with QuicServer(tmp_path, script, http=True) as server, pool_to(server) as pool:
        odd, usual = sent(pool, 2)
        all_ended([odd, usual], 20)
        assert (odd.ends, odd.why) == (1, SAID)
        assert answered([usual])
        assert len(server.connections) == 1


def test_another_type_is_no_message(tmp_path: Path) -> None:
    """A page of somebody in between, for instance."""

    def script(protocol: Any, stream: int, message: bytes) -> None:
        told(protocol, stream, b"<html>" * 10, ((b":status", b"200"), (b"content-type", b"text/html")))

    with QuicServer(tmp_path, script, http=True) as server, pool_to(server) as pool:
        (query,) = sent(pool, 1)
        all_ended([query], 20)
        assert "not a DNS message" in str(query.failure)


@pytest.mark.parametrize(("code", "again"), [(REJECTED, True), (0x102, False)])
def test_a_request_that_is_reset(tmp_path: Path, code: int, again: bool) -> None:
    """What was not looked at is sent again; anything else is all that comes of it."""
    seen: list[int] = []

    def script(protocol: Any, stream: int, message: bytes) -> None:
        seen.append(stream)
        if len(seen) == 1:
            protocol._quic.reset_stream(stream, code)
        else:
            told(protocol, stream, message)

    with QuicServer(tmp_path, script, http=True) as server, pool_to(server) as pool:
        (query,) = sent(pool, 1)
        all_ended([query], 20)
        assert answered([query]) == again
        assert len(seen) == 1 + again


def test_a_connection_that_ends_costs_no_answer(tmp_path: Path) -> None:
    """What was on its way is asked again over the next one."""
    ended: list[int] = []

    def script(protocol: Any, stream: int, message: bytes) -> None:
        if len(ended) < 2 and b"n000010" in message:
            ended.append(stream)
            protocol._quic.close(error_code=0x100)
        else:
            told(protocol, stream, message)

    with QuicServer(tmp_path, script, http=True) as server, pool_to(server) as pool:
        queries = sent(pool, 40)
        all_ended(queries, 20)
        assert answered(queries)
        assert len(ended) == 2


def test_what_is_not_http(tmp_path: Path) -> None:
    """A body before its headers ends the connection and its queries, and nothing else."""

    def script(protocol: Any, stream: int, message: bytes) -> None:
        protocol._quic.send_stream_data(stream, b"\0\5hello" * 10, end_stream=True)

    with QuicServer(tmp_path, script, http=True) as server, pool_to(server) as pool:
        (query,) = sent(pool, 1)
        all_ended([query], 20)
        assert query.ends == 1
        assert query.why in (SAID, UNREACHABLE)


def test_a_node_forwards_over_http3(tmp_path: Path) -> None:
    """Many names at a time, over a connection or two."""

    def script(protocol: Any, stream: int, message: bytes) -> None:
        told(protocol, stream, answer(dns.message.from_wire(message), "300 A 192.0.2.1").to_wire())

    with QuicServer(tmp_path, script, http=True) as server:
        with Node([f"h3://127.0.0.1:{server.port}?ca={server.ca}#dns.example"]) as node:
            with ThreadPoolExecutor(20) as pool:
                replies = pool.map(lambda number: ask(node.port, f"n{number}.test", timeout=5), range(100))
                assert all(addresses(reply) == ["192.0.2.1"] for reply in replies)
            assert len(server.connections) <= 2
            assert server.heads[0][b":path"] == b"/dns-query"
