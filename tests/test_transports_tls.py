"""Queries over TLS: only to who the server should be, padded, resumed; handshakes beside the hub."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.message
import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Asked, Peer, StreamServer, all_ended, answered, turning
from support.certificates import Authority

from rdnscache.address import Address
from rdnscache.errors import UNREACHABLE, ConfigError
from rdnscache.upstream.certificates import Identity, context, public_key
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.handshakes import NICE, Handshakes
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.tls import COPIES, Secured
from rdnscache.upstream.transports import over_tls

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def pool_to(port: int, identity: Identity, secured: Secured | None = None, **limits: Any) -> Iterator[Pool]:
    secured = secured or Secured(identity, context(identity, "dot"))
    pool = over_tls(Address("127.0.0.1", port), secured, replace(Limits(), **limits))
    try:
        yield pool
    finally:
        pool.close()
        gevent.sleep(0)


def ask(pool: Pool, count: int = 1) -> list[Asked]:
    queries = [Asked(f"n{number}") for number in range(count)]
    for query in queries:
        pool.send(query)
    all_ended(queries)
    return queries


def serve(peer: Peer) -> None:
    peer.serve()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["dns.example", "127.0.0.1"])
def test_the_right_server_is_asked(authority: Authority, name: str, version: ssl.TLSVersion) -> None:
    """Known by its name or its address, over both versions of TLS that are in use; many queries on one connection."""
    server_context = authority.sign(name).server()
    server_context.minimum_version = server_context.maximum_version = version
    identity = Identity(name, ca=str(authority.file))
    with StreamServer(serve, server_context) as server, pool_to(server.port, identity) as pool:
        assert answered(ask(pool, 100))
        assert server.connections == 1


@pytest.mark.parametrize(
    ("names", "days", "alone", "told"),
    [
        (("other.example",), 2, False, "it is for another name than dns.example"),
        (("127.0.0.1",), 2, False, "it is for another name than dns.example"),
        (("dns.example",), -1, False, "it has expired"),
        (("dns.example",), 2, True, "it is self-signed"),
    ],
    ids=["other name", "address only", "expired", "self-signed"],
)
def test_a_wrong_certificate_is_refused_and_said(
    authority: Authority, names: tuple[str, ...], days: int, alone: bool, told: str
) -> None:
    """No query is sent, and the failure says in one sentence what is wrong."""
    came: list[bytes | None] = []
    certificate = authority.sign(*names, days=days, alone=alone)
    identity = Identity("dns.example", ca=str(authority.file))
    with StreamServer(lambda peer: came.append(peer.query()), certificate.server()) as server:
        with pool_to(server.port, identity) as pool:
            (query,) = ask(pool)
    assert query.why == UNREACHABLE
    assert str(query.failure) == f"127.0.0.1:{server.port}: its certificate is refused: {told}"
    assert not any(came)


def test_an_authority_nobody_trusts_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Its certificate is right in everything else."""
    certificate = Authority(tmp_path, "strange").sign("dns.example")
    identity = Identity("dns.example", ca=str(authority.file))
    with StreamServer(serve, certificate.server()) as server, pool_to(server.port, identity) as pool:
        (query,) = ask(pool)
    assert "its issuer is not known" in str(query.failure)


def test_a_pin_takes_the_place_of_a_name(authority: Authority) -> None:
    """Whatever the certificate says, the key counts; and with a name as well, both do."""
    certificate, other = authority.sign("whatever.example", alone=True), authority.sign("other.example")
    with StreamServer(serve, certificate.server()) as server:
        for pins, good in (((other.pin, certificate.pin), True), ((other.pin,), False)):
            with pool_to(server.port, Identity(pins=pins)) as pool:
                queries = ask(pool)
                assert answered(queries) == good
                assert good or "its key has none of the pins" in str(queries[0].failure)
    with StreamServer(serve, other.server()) as server:
        for name, pin in (("other.example", certificate.pin), ("wrong.example", other.pin)):
            with pool_to(server.port, Identity(name, (pin,), str(authority.file))) as pool:
                assert not answered(ask(pool))


def test_a_client_certificate(authority: Authority) -> None:
    """Is shown to a server that asks for one; without it there is no answer."""
    ours = authority.sign("client.example")
    server_context = authority.sign("dns.example").server(client_ca=authority.file)
    identity = Identity("dns.example", ca=str(authority.file))
    known = replace(identity, certificate=str(ours.certificate), key=str(ours.key))
    with StreamServer(serve, server_context) as server:
        with pool_to(server.port, known) as pool:
            assert answered(ask(pool, 3))
        with pool_to(server.port, identity) as pool:
            assert ask(pool)[0].why == UNREACHABLE


def test_files_that_cannot_be_used_are_named(tmp_path: Path, authority: Authority) -> None:
    """One sentence each, before anything is asked."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for identity in (
        Identity("dns.example", ca=str(tmp_path / "none")),
        Identity("dns.example", ca=str(empty)),
        Identity("dns.example", ca=str(authority.file), certificate=str(empty)),
    ):
        with pytest.raises(ConfigError, match=r"none|empty\.pem"):
            context(identity, "dot")
    with pytest.raises(ConfigError, match="needs a name or a pin"):
        context(Identity(), "dot")


def test_connections_are_resumed(authority: Authority) -> None:
    """The second is cheaper for both sides, and counted."""
    identity = Identity("dns.example", ca=str(authority.file))
    secured = Secured(identity, context(identity, "dot"))
    with StreamServer(serve, authority.sign("dns.example").server()) as server:
        for _ in range(3):
            with pool_to(server.port, identity, secured) as pool:
                assert answered(ask(pool, 2))
        turning(lambda: server.resumed == 2)
        assert (secured.full, secured.resumed) == (1, 2)


class _Ended:
    """A connection at its end, with a session that is copied for who asks for it."""

    def __init__(self, has_ticket: bool) -> None:
        self.copies = 0
        self.has_ticket = has_ticket

    @property
    def session(self) -> Any:
        self.copies += 1
        return SimpleNamespace(has_ticket=self.has_ticket)

    def version(self) -> str:
        return "TLSv1.3"


@pytest.mark.parametrize(("has_ticket", "copies", "later"), [(True, COPIES, 2 * COPIES), (False, 1, 1)])
def test_few_sessions_are_copied(authority: Authority, has_ticket: bool, copies: int, later: int) -> None:
    """A server that ends each connection does not have us copy each session, nor any where it gives no tickets."""
    identity = Identity("dns.example", ca=str(authority.file))
    secured, ended = Secured(identity, context(identity, "dot")), _Ended(has_ticket)
    for now, count in ((100.0, copies), (101.0, later)):
        for _ in range(200):
            secured.keep_session(ended, now)  # type: ignore[arg-type]
        assert ended.copies == count
    assert (secured.take_session() is not None) == has_ticket
    assert secured.take_session() is None


def test_queries_are_padded(authority: Authority) -> None:
    """To multiples of 128 octets, by the last option (RFC 8467), except where there is no EDNS to pad with."""
    came: list[bytes] = []

    def script(peer: Peer) -> None:
        while (query := peer.query()) is not None:
            came.append(query)
            peer.answer(query)

    identity = Identity("dns.example", ca=str(authority.file))
    with StreamServer(script, authority.sign("dns.example").server()) as server, pool_to(server.port, identity) as pool:
        queries = [Asked("x" * size, edns) for size in (1, 30, 63) for edns in (True, False)]
        for query in queries:
            pool.send(query)
        all_ended(queries)
    read = [dns.message.from_wire(data) for data in came]
    padded = [data for data, message in zip(came, read, strict=True) if message.edns == 0]
    assert {len(data) for data in padded} == {128}
    assert all(message.options[-1].otype == 12 for message in read if message.edns == 0)
    assert len(padded) == 3


def test_what_is_not_tls_is_said() -> None:
    """A server that speaks plain DNS, HTTP or nothing at all at that port fails the query, in time."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.sock.recv(4096)

    identity = Identity("dns.example", pins=("x" * 43 + "=",))
    with StreamServer(script) as server, pool_to(server.port, identity) as pool:
        (query,) = ask(pool)
        assert query.why == UNREACHABLE
        assert "no TLS handshake" in str(query.failure)
    with StreamServer(lambda peer: peer.hear_out()) as server, pool_to(server.port, identity, opening=0.3) as pool:
        (query,) = ask(pool)
        assert "no connection in 0.3 s" in str(query.failure)


def test_a_handshake_octet_by_octet(authority: Authority) -> None:
    """A server behind a slow path that sends every octet alone is understood."""
    server_context = authority.sign("dns.example").server()

    def script(peer: Peer) -> None:
        with socket.create_connection(("127.0.0.1", inner.port)) as far:
            far.setblocking(False)
            peer.sock.setblocking(False)
            over = time.monotonic() + 10
            while time.monotonic() < over:
                for source, sink, size in ((peer.sock, far, 4096), (far, peer.sock, 1)):
                    try:
                        data = source.recv(size)
                    except BlockingIOError:
                        continue
                    if not data:
                        return
                    sink.sendall(data)

    identity = Identity("dns.example", ca=str(authority.file))
    with StreamServer(serve, server_context) as inner, StreamServer(script) as server:
        with pool_to(server.port, identity, opening=8) as pool:
            assert answered(ask(pool, 3))


def test_a_connection_that_ends_midway_costs_a_retry(authority: Authority) -> None:
    """With and without a word, over TLS as over TCP."""

    def script(peer: Peer) -> None:
        if peer.number < 2:
            for query in peer.queries(10)[:5]:
                peer.answer(query)
        if peer.number == 0:
            peer.reset()
        if peer.number > 1:
            peer.serve()

    identity = Identity("dns.example", ca=str(authority.file))
    with StreamServer(script, authority.sign("dns.example").server()) as server, pool_to(server.port, identity) as pool:
        assert answered(ask(pool, 40))


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_handshakes_are_computed_with_a_lower_priority() -> None:
    """The thread gives way to the hub on the same CPU; nothing else of the process does."""
    usual, found = os.getpriority(os.PRIO_PROCESS, 0), []
    assert Handshakes().do(lambda: os.getpriority(os.PRIO_PROCESS, 0), found.append)
    turning(lambda: found)
    assert found == [min(usual + NICE, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual


def test_closing_during_a_handshake_leaves_nothing_behind(authority: Authority) -> None:
    """A thread may still be at work for a connection that is closed."""
    identity = Identity("dns.example", ca=str(authority.file))
    with StreamServer(serve, authority.sign("dns.example").server()) as server:
        for turn in range(30):
            with pool_to(server.port, identity) as pool:
                query = Asked()
                pool.send(query)
                gevent.sleep(turn * 0.0003)
            assert turning(lambda query=query: query.ends) == 1


@given(st.binary(max_size=200))
def test_a_key_is_looked_for_in_anything(data: bytes) -> None:
    """Whatever a server shows as its certificate, reading its key raises nothing."""
    assert public_key(data) in data
