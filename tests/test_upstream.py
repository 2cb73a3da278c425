"""How a node asks the servers it forwards to."""

from __future__ import annotations

import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from support import Node, Upstream, addresses, answer, ask, default_handler, failure, free_port, wait_for


def _altered(query: dns.message.Message, ident: int | None = None, name: str | None = None) -> bytes:
    """A forged reply: another ID, or another question; its address is wrong either way."""
    fake = dns.message.make_query(name, "A") if name else query
    reply = answer(fake, "300 A 203.0.113.66")
    reply.id = query.id if ident is None else ident
    return reply.to_wire()


def test_what_has_another_id_is_ignored() -> None:
    """Forged replies before the real one change nothing (RFC 5452 section 9.1)."""

    def handler(query: dns.message.Message, transport: str) -> list[bytes]:
        good = answer(query, "300 A 192.0.2.1").to_wire()
        return [_altered(query, ident=query.id ^ 1), b"", bytes((query.id >> 8 ^ 1,)), good]

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert addresses(ask(node.port, "forged.test")) == ["192.0.2.1"]
        assert upstream.transports == ["udp"]


@pytest.mark.parametrize("odd", ["another name", "another type", "a query", "cut"])
def test_what_has_our_id_and_another_question_is_asked_for_over_tcp(odd: str) -> None:
    """It is not believed, and not waited out either, whatever comes behind it."""

    def handler(query: dns.message.Message, transport: str) -> list[bytes] | dns.message.Message:
        good = answer(query, "300 A 192.0.2.1")
        if transport == "tcp":
            return good
        other_type = dns.message.make_response(dns.message.make_query("forged.test", "AAAA", id=query.id))
        forged = {
            "another name": _altered(query, name="other.test"),
            "another type": other_type.to_wire(),
            "a query": query.to_wire(),
            "cut": good.to_wire()[:11],
        }
        return [forged[odd], answer(query, "300 A 203.0.113.66").to_wire()]

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert addresses(ask(node.port, "forged.test")) == ["192.0.2.1"]
        assert upstream.transports == ["udp", "tcp"]


def test_many_guesses_lead_to_tcp() -> None:
    """Whoever floods guesses does not win: the node asks over TCP instead (RFC 5452 section 9.2)."""

    def handler(query: dns.message.Message, transport: str) -> list[bytes] | dns.message.Message:
        if transport == "tcp":
            return answer(query, "300 A 192.0.2.1")
        return [_altered(query, ident=query.id ^ guess) for guess in range(1, 40)]

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert addresses(ask(node.port, "flood.test")) == ["192.0.2.1"]
        assert upstream.transports == ["udp", "tcp"]


def test_a_wrong_source_is_ignored() -> None:
    """A fitting reply counts only from the address and port that were asked."""
    upstream: Upstream

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        target = upstream.sources[-1]
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((host, upstream.port if host == "127.0.0.2" else 0))
                try:
                    sock.sendto(_altered(query), target)
                except OSError:
                    pass
        return answer(query, "300 A 192.0.2.1")

    with Upstream(handler, delay=0.05) as upstream, Node([upstream.address]) as node:
        assert addresses(ask(node.port, "source.test")) == ["192.0.2.1"]


def test_a_cut_reply_is_asked_again_over_tcp() -> None:
    """TC over UDP leads to TCP, and the whole answer is kept."""
    many = [f"300 A 192.0.2.{number}" for number in range(1, 151)]
    with Upstream(lambda query, transport: answer(query, *many)) as upstream, Node([upstream.address]) as node:
        assert len(addresses(ask(node.port, "big.test", tcp=True))) == 150
        assert upstream.transports == ["udp", "tcp"]


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, None], ids=["servfail", "refused", "silent"])
def test_the_next_server_is_asked(rcode: dns.rcode.Rcode | None) -> None:
    """SERVFAIL, REFUSED and silence send the question to the next server."""

    def bad(query: dns.message.Message, transport: str) -> dns.message.Message | None:
        return None if rcode is None else failure(query, rcode)

    with Upstream(bad) as first, Upstream() as second:
        with Node([first.address, second.address], args=["--upstream-policy", "round-robin"]) as node:
            for number in range(2):  # they are asked in turn: one of the two questions begins with the bad one
                assert addresses(ask(node.port, f"next{number}.test")) == ["192.0.2.1"]
            assert first.total() >= 1
            assert second.total() == 2


def test_nobody_answers() -> None:
    """When every server fails, the client gets SERVFAIL within the deadline."""
    args = ["--upstream-timeout", "0.1", "--upstream-deadline", "0.5"]
    with Upstream(lambda query, transport: None) as upstream, Node([upstream.address], args=args) as node:
        reply = ask(node.port, "void.test", use_edns=0)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert [int(option.otype) for option in reply.options] == [dns.edns.OptionType.EDE]
        assert 1 <= upstream.datagrams() <= 4


@pytest.mark.parametrize("header_only", [False, True])
def test_servers_without_edns(header_only: bool) -> None:
    """FORMERR to a query with EDNS, even as a bare header, leads to the same query without."""

    def handler(query: dns.message.Message, transport: str) -> bytes | dns.message.Message:
        if query.edns < 0:
            return answer(query, "300 A 192.0.2.1")
        reply = dns.message.make_response(dns.message.from_wire(query.to_wire()))
        reply.use_edns(-1)
        reply.set_rcode(dns.rcode.FORMERR)
        wire = reply.to_wire()
        return wire[:4] + bytes(8) if header_only else wire

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert addresses(ask(node.port, "old.test")) == ["192.0.2.1"]
        assert [dns.message.from_wire(raw).edns for raw in upstream.raw] == [0, -1]


def test_a_dead_server_rests_and_comes_back() -> None:
    """After three failures a server is left alone for a while; alive again, it is used again."""
    port = free_port()
    with ExitStack() as stack:
        live = stack.enter_context(Upstream())
        dead = stack.enter_context(Upstream(lambda query, transport: None, port=port))
        node = stack.enter_context(
            Node([dead.address, live.address], args=["--upstream-timeout", "0.1", "--upstream-policy", "round-robin"])
        )
        for number in range(8):
            ask(node.port, f"dead{number}.test")
        assert 3 <= dead.total() <= 5
        dead.handler = default_handler
        numbers = iter(range(10_000))

        def used_again() -> bool:
            ask(node.port, f"again{next(numbers)}.test")
            return dead.total() > 8

        wait_for(used_again)


def test_ports_and_ids_differ(upstream: Upstream) -> None:
    """Every query has an ID of its own, and a port carries 16 of them at most (RFC 5452 section 9.2)."""
    with Node([upstream.address]) as node:
        for number in range(60):
            ask(node.port, f"n{number}.test")
        ports = Counter(port for _, port in upstream.sources)
        ids = {raw[:2] for raw in upstream.raw}
        assert max(ports.values()) <= 16 and len(ids) > 50
        steps = {b - a for a, b in zip(sorted(ports), sorted(ports)[1:], strict=False)}
        assert len(steps) == len(ports) - 1


def test_what_upstreams_see(upstream: Upstream) -> None:
    """One question in lower case, RD, an OPT of 1232 octets without options."""
    with Node([upstream.address]) as node:
        ask(node.port, "What.They.SEE")
        query = dns.message.from_wire(upstream.raw[-1])
        assert query.question[0].name.to_text() == "what.they.see."
        assert query.flags & dns.flags.RD
        assert (query.edns, query.payload, list(query.options)) == (0, 1232, [])


def test_what_waited_too_long_for_a_greenlet_is_let_go() -> None:
    """Twelve silent names and two greenlets: most are answered with SERVFAIL before upstream hears of them."""

    def silent(query: dns.message.Message, transport: str) -> dns.message.Message | None:
        name = query.question[0].name.to_text()
        return None if name.startswith("dead") else dns.message.make_response(query)

    args = ("--max-flights", "2", "--upstream-timeout", "1.5", "--upstream-deadline", "1.5")
    with Upstream(silent) as upstream, Node([upstream.address], args=args) as node:
        with ThreadPoolExecutor(12) as pool:
            replies = pool.map(lambda number: ask(node.port, f"dead{number}.test", timeout=5), range(12))
            assert {reply.rcode() for reply in replies} == {dns.rcode.SERVFAIL}

        assert len(upstream.counts) <= 6
        assert ask(node.port, "late.test", timeout=5).rcode() == dns.rcode.NOERROR
