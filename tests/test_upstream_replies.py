"""Replies of upstreams that are odd, cut or broken: what is made of them, and that the server is not blamed."""

from __future__ import annotations

from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import pytest
from support import Node, Upstream, addresses, answer, ask, failure

Oddity = Callable[[dns.message.Message], "bytes | dns.message.Message"]


def _good(query: dns.message.Message) -> dns.message.Message:
    return answer(query, "300 A 192.0.2.1")


def _header(query: dns.message.Message, rcode: int, cut: bool = False, opt: bool = False) -> bytes:
    """A reply without a question."""
    flags = bytes((0x82 if cut else 0x80, 0x80 | rcode))
    head = query.id.to_bytes(2, "big") + flags + bytes(7) + bytes((1 if opt else 0,))
    return head + (b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if opt else b"")


def _cut_in_question(query: dns.message.Message) -> bytes:
    return _good(query).to_wire()[:18]


def _cut_in_record(query: dns.message.Message) -> bytes:
    return _good(query).to_wire()[:-3]


def _cut_header(query: dns.message.Message) -> bytes:
    return _header(query, 0, cut=True)


def _bare_nxdomain(query: dns.message.Message) -> bytes:
    return _header(query, dns.rcode.NXDOMAIN)


def _two_questions(query: dns.message.Message) -> bytes:
    wire = bytearray(_good(query).to_wire())
    wire[5] = 2
    return bytes(wire)


IN_TURN = ["--upstream-policy", "round-robin"]
OVER_TCP = [_cut_in_question, _cut_in_record, _cut_header, _bare_nxdomain, _two_questions]


@pytest.mark.parametrize("oddity", OVER_TCP, ids=[each.__name__.lstrip("_") for each in OVER_TCP])
def test_what_cannot_be_read_is_asked_over_tcp_at_once(oddity: Oddity) -> None:
    """A reply with the right ID that is broken costs a connection, no wait, and not the server's good name."""

    def handler(query: dns.message.Message, transport: str) -> bytes | dns.message.Message:
        return _good(query) if transport == "tcp" else oddity(query)

    args = ["--upstream-timeout", "20", "--upstream-deadline", "20", *IN_TURN]
    with Upstream(handler) as odd, Upstream() as other, Node([odd.address, other.address], args=args) as node:
        for number in range(16):
            assert addresses(ask(node.port, f"n{number}.test")) == ["192.0.2.1"]
        assert odd.transports == ["udp", "tcp"] * 8
        assert other.total() == 8


@pytest.mark.parametrize("oddity", OVER_TCP, ids=[each.__name__.lstrip("_") for each in OVER_TCP])
def test_what_cannot_be_read_over_tcp_either_sends_us_to_the_next_server(oddity: Oddity) -> None:
    """TC over TCP, a broken message, a bare NXDOMAIN: no answer, though the server is there."""
    with Upstream(lambda query, transport: oddity(query)) as odd, Upstream() as other:
        with Node([odd.address, other.address], args=IN_TURN) as node:
            for number in range(16):
                assert addresses(ask(node.port, f"n{number}.test")) == ["192.0.2.1"]
            assert odd.transports == ["udp", "tcp"] * 8


def test_octets_behind_the_message_are_passed_over() -> None:
    """Over UDP and over TCP."""

    def handler(query: dns.message.Message, transport: str) -> bytes:
        if transport == "udp" and query.question[0].name.to_text().startswith("big"):
            return _cut_header(query)
        return _good(query).to_wire() + b"rest"

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert addresses(ask(node.port, "small.test")) == ["192.0.2.1"]
        assert addresses(ask(node.port, "big.test")) == ["192.0.2.1"]
        assert upstream.transports == ["udp", "udp", "tcp"]


@pytest.mark.parametrize("opt", [False, True])
@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
def test_an_error_without_a_question_is_that_error(rcode: dns.rcode.Rcode, opt: bool) -> None:
    """The next server is asked at once, as if the question had been repeated."""
    args = ["--upstream-timeout", "20", "--upstream-deadline", "20"]
    with Upstream(lambda query, transport: _header(query, rcode, opt=opt)) as odd, Upstream() as other:
        with Node([odd.address, other.address], args=args) as node:
            for number in range(8):
                assert addresses(ask(node.port, f"n{number}.test")) == ["192.0.2.1"]
            assert set(odd.transports) == {"udp"}


@pytest.mark.parametrize("opt", [False, True])
@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_an_error_of_who_does_not_know_edns(rcode: dns.rcode.Rcode, opt: bool) -> None:
    """Asked again without EDNS, even where the error comes without the question."""

    def handler(query: dns.message.Message, transport: str) -> bytes | dns.message.Message:
        return _header(query, rcode, opt=opt) if query.edns >= 0 else _good(query)

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert addresses(ask(node.port, "old.test")) == ["192.0.2.1"]
        assert [dns.message.from_wire(raw).edns for raw in upstream.raw] == [0, -1]


def test_a_datagram_may_be_as_large_as_it_can() -> None:
    """A server that sends 32,000 octets over UDP, whatever we said, is understood without TCP."""
    many = [f"300 A 192.0.{number >> 8}.{number & 255}" for number in range(2000)]

    def handler(query: dns.message.Message, transport: str) -> bytes:
        return answer(query, *many).to_wire(max_size=65535)

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert len(addresses(ask(node.port, "huge.test", tcp=True))) == 2000
        assert upstream.transports == ["udp"]


@pytest.mark.parametrize("records", [[], ["300 A 192.0.2.9"]], ids=["empty", "one of many"])
def test_tc_over_tcp_is_a_failure(records: list[str]) -> None:
    """What is cut there as well is never taken for the whole (RFC 2181 section 9)."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = answer(query, *records)
        reply.flags |= dns.flags.TC
        return reply

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        reply = ask(node.port, "cut.test")
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert reply.answer == []
        assert upstream.transports == ["udp", "tcp"]


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.NOTIMP])
def test_what_all_servers_say_ends_the_search_at_once(rcode: dns.rcode.Rcode) -> None:
    """Each is asked once."""
    with (
        Upstream(lambda query, transport: failure(query, rcode)) as first,
        Upstream(lambda query, transport: failure(query, rcode)) as second,
        Node([first.address, second.address]) as node,
    ):
        assert ask(node.port, "no.test").rcode() != dns.rcode.NOERROR
        assert first.total() == second.total() == (2 if rcode == dns.rcode.NOTIMP else 1)  # NOTIMP: without EDNS again


def test_a_message_of_65535_octets_reaches_a_sibling_whole() -> None:
    """Without Redis the workers of a node ask each other: nothing is lost on that way, however large."""

    def handler(query: dns.message.Message, transport: str) -> bytes:
        if transport == "udp":
            return _cut_header(query)
        reply = dns.message.make_response(query)
        reply.use_edns(-1)
        wire = bytearray(reply.to_wire())
        count, rest = divmod(65535 - len(wire), 112)
        for number in range(count):
            size = 100 + (rest if number == 0 else 0)  # of the RDATA: some text, and a number for each
            text = bytes((size - 5, *b"%04d" % number, *b"x" * (size - 5 - 4), 0)) if size > 9 else b""
            wire += b"\xc0\x0c\0\x10\0\x01\0\0\1\x2c" + size.to_bytes(2, "big") + text.ljust(size, b"\0")
        wire[6:8] = count.to_bytes(2, "big")
        return bytes(wire)

    with Upstream(handler) as upstream, Node([upstream.address], workers=2) as node:
        for number in range(16):
            name = f"n{number:02}.test"
            for edns in (False, 0):
                reply = ask(node.port, name, "TXT", tcp=True, timeout=5, use_edns=edns)
                assert not reply.flags & dns.flags.TC
                assert sum(map(len, reply.answer)) == (65535 - 12 - len(name) - 2 - 4) // 112
            assert upstream.count(f"{name}.", "TXT") == 2  # once over UDP, once over TCP
