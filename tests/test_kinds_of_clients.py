"""Clients of all kinds ask one question: what a client may vary makes neither a key nor an upstream query more."""

from __future__ import annotations

import random
import socket

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Node, Upstream, answer

from rdnscache.dns.wire import parse_query

OPTIONS = st.lists(
    st.builds(
        dns.edns.CookieOption, st.binary(min_size=8, max_size=8), st.just(b"") | st.binary(min_size=8, max_size=32)
    )
    | st.integers(0, 400).map(lambda size: dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(size)))
    | st.just(dns.edns.ECSOption("192.0.2.0", 24))
    | st.builds(dns.edns.GenericOption, st.integers(65001, 65534), st.binary(max_size=20)),
    max_size=4,
)


def spelled(name: str, upper: int) -> str:
    """A name with the letters in upper case whose bits are set (draft-vixie-dnsext-dns0x20)."""
    return "".join(letter.upper() if upper >> at & 1 else letter for at, letter in enumerate(name))


def client_wire(
    name: str,
    *,
    ident: int,
    upper: int,
    ad: bool,
    cd: bool,
    do: bool,
    edns: bool,
    size: int,
    options: list[dns.edns.Option],
) -> bytes:
    """One client's query for the A records of a name; DO takes EDNS."""
    message = dns.message.make_query(spelled(name, upper), "A", id=ident, use_edns=False)
    message.flags |= (dns.flags.AD if ad else 0) | (dns.flags.CD if cd else 0)
    if edns or do:
        message.use_edns(0, dns.flags.DO if do else 0, size, options=options)
    return message.to_wire(max_size=65535)


@pytest.mark.pure
@settings(max_examples=300)
@given(
    st.integers(0, 65535), st.integers(0, 2**17 - 1), st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    st.integers(0, 65535), OPTIONS, st.booleans(),
)  # fmt: skip
def test_clients_of_all_kinds_share_a_key(
    ident: int,
    upper: int,
    ad: bool,
    cd: bool,
    do: bool,
    edns: bool,
    size: int,
    options: list[dns.edns.Option],
    tcp: bool,
) -> None:
    """ID, 0x20 spelling, AD, EDNS or not, its size, cookies (RFC 7873), padding (RFC 7830), transport: one key.

    DO and CD, and nothing else, each make another.
    """
    data = client_wire(
        "www-1.example.com.", ident=ident, upper=upper, ad=ad, cd=cd, do=do, edns=edns, size=size, options=options
    )
    query = parse_query(data, tcp)
    assert query is not None
    assert query.error == 0
    assert query.key == b"\5www-1\7example\3com\0\0\1\0\1" + bytes((do + 2 * cd,))


def variant_of(query: dns.message.Message) -> int:
    """DO and CD as the last octet of a key has them."""
    return (1 if query.ednsflags & dns.flags.DO else 0) + (2 if query.flags & dns.flags.CD else 0)


def test_clients_of_all_kinds_share_an_upstream_query() -> None:
    """Forty queries that differ in all a client may vary: the upstream hears each of DO and CD once, and no options."""
    rng = random.Random(7873)
    queries = []
    for number in range(40):
        cookie = dns.edns.CookieOption(rng.randbytes(8), rng.choice((b"", rng.randbytes(16))))
        padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(rng.randrange(200)))
        data = client_wire(
            "mix.shared.test.", ident=rng.randrange(65536), upper=rng.randrange(2**16), ad=rng.random() < 0.5,
            do=number % 2 == 1, cd=number // 2 % 2 == 1, edns=rng.random() < 0.7,
            size=rng.choice((512, 1232, 1400, 4096)), options=rng.sample([cookie, padding], rng.randrange(3)),
        )  # fmt: skip
        queries.append(data)
    assert len({data[2:] for data in queries}) == 40  # two may not be alike, even without their IDs

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        """Each of the four answers is different, so that nobody has another's unnoticed."""
        return answer(query, f"300 A 192.0.2.{variant_of(query)}")

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        for together in (queries[:20], queries[20:]):  # misses that wait for one another, then hits
            sockets = [socket.create_connection(("127.0.0.1", node.port), 5) for _ in together[:4]]
            sockets += [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in together[4:]]
            for sock, data in zip(sockets, together, strict=True):
                sock.settimeout(5)
                if sock.type == socket.SOCK_DGRAM:
                    sock.connect(("127.0.0.1", node.port))
                    sock.send(data)
                else:
                    sock.sendall(len(data).to_bytes(2, "big") + data)
            for sock, data in zip(sockets, together, strict=True):
                with sock, sock.makefile("rb") as stream:
                    datagram = sock.type == socket.SOCK_DGRAM
                    reply = sock.recv(65535) if datagram else stream.read(int.from_bytes(stream.read(2), "big"))
                query, message = dns.message.from_wire(data), dns.message.from_wire(reply)
                assert query.is_response(message)
                assert reply[12:33] == data[12:33]  # in its own spelling
                assert message.answer[0][0].to_text() == f"192.0.2.{variant_of(query)}"
        heard = [dns.message.from_wire(data) for data in upstream.raw]
    assert sorted(map(variant_of, heard)) == [0, 1, 2, 3]
    assert {query.question[0].name.labels for query in heard} == {(b"mix", b"shared", b"test", b"")}
    assert not any(query.options for query in heard)
