"""TCP to a running node, by plain sockets."""

from __future__ import annotations

import resource
import socket
import time
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest
from support import Node, Upstream, answer, ask, wait_for

#: Octets of the largest answer here, about.
LARGE = 61_000


def _connect(node: Node, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), 5, (source, 0))


def _large_or_never(query: dns.message.Message, transport: str) -> dns.message.Message | None:
    """An answer near the largest there can be for `large.test`, none ever for names under `dead.`."""
    labels = query.question[0].name.labels
    if b"dead" in labels:
        return None
    if labels[0] == b"large":
        return answer(query, *(f'300 TXT "{number:0240}"' for number in range(LARGE // 260)))
    return answer(query, "300 A 192.0.2.1")


def _memory(node: Node) -> int:
    """Octets in memory of all workers."""
    fields = [Path(f"/proc/{pid}/statm").read_text().split() for pid in node.children()]
    return sum(int(each[1]) for each in fields) * resource.getpagesize()


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


def test_who_reads_late_gets_everything() -> None:
    """A client that asks 300 times for a large answer and reads only then has each of them, in the end."""
    with Upstream(_large_or_never) as upstream, Node([upstream.address]) as node, _connect(node) as sock:
        queries = [dns.message.make_query("large.test", "TXT", id=number) for number in range(300)]
        sock.sendall(b"".join(map(_framed, queries)))
        ask(node.port, "other.test", tcp=True)
        with sock.makefile("rb") as stream:
            replies = [stream.read(int.from_bytes(stream.read(2), "big")) for _ in queries]
        assert {int.from_bytes(reply[:2], "big") for reply in replies} == set(range(300))
        assert min(map(len, replies)) > LARGE * 0.9


def test_who_does_not_read_costs_little() -> None:
    """200 connections with 128 questions each for a large answer: 1.5 GB of answers, of which few are made."""
    with Upstream(_large_or_never) as upstream, Node([upstream.address], workers=2) as node:
        for _ in range(20):
            ask(node.port, "large.test", "TXT", tcp=True)
        idle = _memory(node)
        data = b"".join(_framed(dns.message.make_query("large.test", "TXT", id=number)) for number in range(128))
        socks = [_connect(node) for _ in range(200)]
        for sock in socks:
            sock.sendall(data)
        for _ in range(20):  # all workers have had their turns
            assert ask(node.port, "large.test", "TXT", tcp=True, timeout=5).answer
        assert _memory(node) - idle < 64 << 20
        for sock in socks:
            sock.close()
        wait_for(lambda: _memory(node) - idle < 16 << 20, 10)


def test_who_does_not_read_is_closed() -> None:
    """After --tcp-idle in which the client takes nothing."""
    with Upstream(_large_or_never) as upstream, Node([upstream.address], args=["--tcp-idle", "0.5"]) as node:
        with _connect(node) as sock:
            query = _framed(dns.message.make_query("large.test", "TXT"))
            sock.sendall(query * 128)
            wait_for(lambda: _peers_of(node, sock) == 0)


def _peers_of(node: Node, sock: socket.socket) -> int:
    """How many of the node's sockets are connected to this one, by the kernel's table."""
    port, peer = f":{node.port:04X}", f":{sock.getsockname()[1]:04X}"
    lines = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(port) and remote.endswith(peer) and state == "01" for local, remote, state in lines)


@pytest.mark.parametrize("source", ["127.0.2.1", "127.0.1.1"])
def test_slots_are_shared_among_clients(source: str) -> None:
    """A client with many connections that wait for answers that never come keeps nobody out, not even itself."""
    args = ["--tcp-connections", "40"]
    with Upstream(_large_or_never) as upstream, Node([upstream.address], args=args) as node:
        greedy = []
        for number in range(80):
            greedy.append(_connect(node, "127.0.1.1"))
            greedy[-1].sendall(_framed(dns.message.make_query(f"n{number}.dead.test", "A")))
        query = dns.message.make_query("good.test", "A")
        honest = []
        for _ in range(20):
            honest.append(_connect(node, source))
            honest[-1].sendall(_framed(query))
            assert query.is_response(_receive(honest[-1]))
        if source != "127.0.1.1":  # nor did they take each other's place
            for sock in honest:
                sock.sendall(_framed(query))
                assert query.is_response(_receive(sock))
        for sock in (*greedy, *honest):
            sock.close()


def test_out_of_descriptors(upstream: Upstream) -> None:
    """TCP waits then, and says so; datagrams are answered, and so is TCP when there are descriptors again."""
    with Node([upstream.address]) as node:
        ask(node.port, "a.test")
        (worker,) = node.children()
        used = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 5, limits[1]))
        socks = [_connect(node) for _ in range(20)]
        wait_for(lambda: "no TCP connection can be accepted" in node.log())
        assert ask(node.port, "a.test").answer
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
        assert ask(node.port, "a.test", tcp=True, timeout=5).answer
        assert node.log().count("no TCP connection can be accepted") < 5
        for sock in socks:
            sock.close()
