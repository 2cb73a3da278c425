"""TCP to a running node, by plain sockets."""

from __future__ import annotations

import socket
import time

import dns.message
import dns.query
import dns.rcode
from support import Node, Upstream, ask


def _connect(node: Node) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), 5)


def _framed(query: dns.message.Message) -> bytes:
    wire = query.to_wire()
    return len(wire).to_bytes(2, "big") + wire


def _receive(sock: socket.socket) -> dns.message.Message:
    reply, _ = dns.query.receive_tcp(sock, time.time() + 5)
    return reply


def _slow_names(query: dns.message.Message) -> float:
    return 0.4 if query.question[0].name.labels[0].startswith(b"slow") else 0.0


def test_pipelined_queries_are_answered_as_they_are_ready() -> None:
    """A quick answer does not wait for a slow one asked before (RFC 7766 section 6.2.1.1)."""
    with Upstream(delay=_slow_names) as upstream, Node([upstream.address]) as node, _connect(node) as sock:
        slow, quick = dns.message.make_query("slow.test", "A"), dns.message.make_query("quick.test", "A")
        sock.sendall(_framed(slow) + _framed(quick))
        first, second = _receive(sock), _receive(sock)
        assert [first.id, second.id] == [quick.id, slow.id]
        assert quick.is_response(first) and slow.is_response(second)


def test_a_query_in_small_pieces(upstream: Upstream) -> None:
    """The length and the message may come octet by octet."""
    with Node([upstream.address]) as node, _connect(node) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        query = dns.message.make_query("pieces.test", "A")
        for octet in _framed(query):
            sock.sendall(bytes((octet,)))
        assert query.is_response(_receive(sock))


def test_idle_connections_are_closed(upstream: Upstream) -> None:
    """--tcp-idle counts from the last whole query."""
    with Node([upstream.address], args=["--tcp-idle", "0.5"]) as node, _connect(node) as sock:
        query = dns.message.make_query("idle.test", "A")
        sock.sendall(_framed(query))
        assert query.is_response(_receive(sock))
        started = time.monotonic()
        assert sock.recv(1) == b""
        assert 0.3 < time.monotonic() - started < 4


def test_a_connection_that_dribbles_is_idle(upstream: Upstream) -> None:
    """Octets without a whole query do not keep a connection open."""
    with Node([upstream.address], args=["--tcp-idle", "0.5"]) as node, _connect(node) as sock:
        sock.sendall(b"\x00")
        assert sock.recv(1) == b""


def test_a_waiting_connection_is_not_idle() -> None:
    """A client whose query takes longer than --tcp-idle still gets its answer."""
    with Upstream(delay=1.8) as upstream, Node([upstream.address], args=["--tcp-idle", "0.2"]) as node:
        assert ask(node.port, "late.test", tcp=True, timeout=5).answer


def test_a_half_closed_client_gets_its_answer() -> None:
    """A client may shut its sending side down right after the query."""
    with Upstream(delay=0.3) as upstream, Node([upstream.address]) as node, _connect(node) as sock:
        query = dns.message.make_query("half.test", "A")
        sock.sendall(_framed(query))
        sock.shutdown(socket.SHUT_WR)
        assert query.is_response(_receive(sock))
        assert sock.recv(1) == b""


def test_the_connection_limit_closes_the_idlest(upstream: Upstream) -> None:
    """With --tcp-connections 2, the third connection takes the place of the one unused for longest."""
    with Node([upstream.address], args=["--tcp-connections", "2"]) as node:
        with _connect(node) as first, _connect(node) as second, _connect(node) as third:
            query = dns.message.make_query("limit.test", "A")
            # first and second are accepted before third is: each has answered a query; then first once more
            for sock in (third, second):
                sock.sendall(_framed(query))
                assert query.is_response(_receive(sock))
            assert first.recv(1) == b""
            with _connect(node) as fourth:
                fourth.sendall(_framed(query))
                assert query.is_response(_receive(fourth))
                assert third.recv(1) == b""
                second.sendall(_framed(query))
                assert query.is_response(_receive(second))


def test_more_pipelined_than_are_taken_at_a_time() -> None:
    """300 queries at once on one connection are all answered, 128 in flight at a time."""
    with Upstream(delay=0.1) as upstream, Node([upstream.address]) as node, _connect(node) as sock:
        queries = [dns.message.make_query(f"n{number}.test", "A", id=number) for number in range(300)]
        sock.sendall(b"".join(map(_framed, queries)))
        sock.shutdown(socket.SHUT_WR)
        replies = {reply.id: reply for reply in (_receive(sock) for _ in queries)}
        assert len(replies) == 300
        assert all(query.is_response(replies[query.id]) for query in queries)
        assert sock.recv(1) == b""


def test_a_message_that_is_no_query_ends_the_connection(upstream: Upstream) -> None:
    """A reply, or less than a header, closes the connection; others go on."""
    with Node([upstream.address]) as node:
        reply = dns.message.make_response(dns.message.make_query("bad.test", "A"))
        for data in (_framed(reply), b"\x00\x00", b"\x00\x05hello"):
            with _connect(node) as sock:
                sock.sendall(data)
                assert sock.recv(1) == b""
        assert ask(node.port, "good.test", tcp=True).rcode() == dns.rcode.NOERROR
