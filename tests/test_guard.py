"""Who is answered, how often, and in whose name: over real sockets."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from support import Node, Upstream, ask, command, extended_errors, free_port, numbers, wait_for, watched
from support.peers import WHERE, peer

from rdnscache.clients.proxy import LOCAL_HEADER, build_proxy

V6 = "::1"


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def header(client: str, stream: bool = False, fields: bytes = b"") -> bytes:
    server = "2001:db8::53" if ":" in client else "198.51.100.53"
    return build_proxy(packed(client), 4711, packed(server), 53, stream, fields)


def udp(port: int, data: bytes, source: str = "127.0.0.1", seconds: float = 2.0) -> Any:
    """The reply to a datagram; None when there is none in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.settimeout(seconds)
        sock.sendto(data, ("127.0.0.1", port))
        with contextlib.suppress(TimeoutError):
            return dns.message.from_wire(sock.recv(4096))
    return None


def tcp(port: int, *parts: bytes, source: str = "127.0.0.9") -> list[dns.message.Message]:
    """The replies on one connection to these octets, sent part by part; until the node closes it."""
    found = []
    with socket.create_connection(("127.0.0.1", port), 5, (source, 0)) as sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            sock.sendall(part)
            time.sleep(0.02)  # so that the parts arrive apart; whether they do decides nothing
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while len(size := stream.read(2)) == 2:
                found.append(dns.message.from_wire(stream.read(int.from_bytes(size, "big"))))
    return found


def query(name: str = "a.test", **how: Any) -> bytes:
    return dns.message.make_query(name, "A", **how).to_wire()


def framed(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def test_only_those_allowed_are_answered(upstream: Upstream) -> None:
    """The longest prefix decides; the others get REFUSED with EDE 18 and cost the upstream nothing."""
    args = ("--allow", "127.0.0.0/8", "--deny", "127.0.1.0/24", "--deny", "127.0.0.3")
    with watched(upstream, "none", 1, *args) as (node, admin):
        assert udp(node.port, query()).rcode() == dns.rcode.NOERROR
        for source in ("127.0.0.3", "127.0.1.9"):
            reply = udp(node.port, query("b.test", use_edns=0), source)
            assert reply.rcode() == dns.rcode.REFUSED
            assert extended_errors(reply) == [18]
            assert not reply.answer
        assert udp(node.port, query("b.test"), "127.0.2.9").rcode() == dns.rcode.NOERROR
        (reply,) = tcp(node.port, framed(query("c.test")), source="127.0.0.3")
        assert reply.rcode() == dns.rcode.REFUSED
        wait_for(lambda: numbers(admin)["queries_denied_total"] == 3)
        assert upstream.count("c.test.") == 0


def test_by_default_nobody_from_outside(upstream: Upstream) -> None:
    """Told by a trusted proxy who asks: private and loopback clients are answered, public ones are not."""
    with Node([upstream.address], "none", 1, ("--proxy-from", "127.0.0.9")) as node:
        for client, rcode in (
            ("10.1.2.3", "NOERROR"),
            ("192.168.1.1", "NOERROR"),
            ("fd00::1", "NOERROR"),
            ("::1", "NOERROR"),
            ("8.8.8.8", "REFUSED"),
            ("172.32.0.1", "REFUSED"),
            ("2001:db8::1", "REFUSED"),
            ("::ffff:9.9.9.9", "REFUSED"),
        ):
            reply = udp(node.port, header(client) + query(), "127.0.0.9")
            assert dns.rcode.to_text(reply.rcode()) == rcode, client


class TestProxy:
    """PROXY protocol version 2, from those who may send it."""

    def test_the_log_names_the_real_client(self, upstream: Upstream) -> None:
        """Over UDP and TCP, IPv4 and IPv6; a LOCAL header stands for the proxy itself."""
        args = ("--proxy-from", "127.0.0.9", "--allow", "any", "--log-queries", "1", "--log-format", "json")
        with Node([upstream.address], "none", 1, args) as node:
            assert udp(node.port, header("203.0.113.7") + query("udp4.test"), "127.0.0.9").answer
            assert udp(node.port, header("2001:db8::7", fields=b"\x04\0\1\0") + query("udp6.test"), "127.0.0.9").answer
            assert udp(node.port, LOCAL_HEADER + query("local.test"), "127.0.0.9").answer
            assert udp(node.port, query("direct.test"), "127.0.0.8").answer

            def clients() -> dict[str, str]:
                lines = [json.loads(line) for line in node.log().splitlines() if line.startswith("{")]
                return {line["name"]: line["client"] for line in lines if line["message"] == "query"}

            wanted = {
                "udp4.test.": "203.0.113.7",
                "udp6.test.": "2001:db8::7",
                "local.test.": "127.0.0.9",
                "direct.test.": "127.0.0.8",
            }
            wait_for(lambda: wanted.items() <= clients().items())

    def test_over_tcp_once_for_each_connection(self, upstream: Upstream) -> None:
        """In pieces, with several queries behind it."""
        args = ("--proxy-from", "127.0.0.9", "--allow", "loopback,10.0.0.0/8", "--allow", "fd00::/8")
        with Node([upstream.address], "none", 1, args) as node:
            for client, rcode in (("10.0.0.1", dns.rcode.NOERROR), ("11.0.0.1", dns.rcode.REFUSED)):
                head = header(client, stream=True)
                replies = tcp(node.port, head + framed(query("a.test")) + framed(query("b.test")))
                assert [reply.rcode() for reply in replies] == [rcode, rcode]
                replies = tcp(node.port, head[:5], head[5:20], head[20:] + framed(query())[:7], framed(query())[7:])
                assert [reply.rcode() for reply in replies] == [rcode]
            assert [reply.rcode() for reply in tcp(node.port, header("fd00::1", True) + framed(query()))] == [0]
            # without a header, or with a broken one, a proxy is told nothing
            assert tcp(node.port, framed(query())) == []
            assert tcp(node.port, header("10.0.0.1", True)[:15] + b"\xff\xff" + framed(query())) == []

    def test_a_forged_header_is_dropped(self, upstream: Upstream) -> None:
        """From who is no proxy; and a proxy's datagram without one, or with half of one."""
        args = ("--proxy-from", "127.0.0.9", "--allow", "any")
        with watched(upstream, "none", 1, *args) as (node, admin):
            before = numbers(admin)["proxy_errors_total"]
            assert udp(node.port, header("10.0.0.1") + query(), "127.0.0.1", 0.3) is None
            assert udp(node.port, query(), "127.0.0.9", 0.3) is None
            assert udp(node.port, header("10.0.0.1")[:20], "127.0.0.9", 0.3) is None
            assert numbers(admin)["proxy_errors_total"] - before == 3
            assert udp(node.port, query(), "127.0.0.1").answer
            assert upstream.total() == 1


BALANCER = """setLocal('127.0.0.1:{{plain}}')
addTLSLocal('127.0.0.1:{{tls}}', '{{certificate}}', '{{key}}')
newServer({{{{address = '127.0.0.1:{port}', useProxyProtocol = true, source = '127.0.0.9'}}}})
setSecurityPollSuffix('')
addAction(AllRule(), LuaAction(function(dq)
    local name = dq:getServerNameIndication()
    if name ~= '' then
        dq:addProxyProtocolValue(2, name)
    end
    return DNSAction.None, ''
end))
"""


class TestTlsNames:
    """Views by what clients name in TLS, as a balancer says it in the PROXY header."""

    @pytest.fixture
    def node(self, upstream: Upstream, tmp_path: Path) -> Iterator[Node]:
        (tmp_path / "office.txt").write_text("games.test\n")
        office = f'{{name="office", tls_names=["office.dns.example"], block=["{tmp_path}/office.txt"]}}'
        plain = '{name="lab", clients=["10.0.0.0/8"], hosts=[]}'
        things = (
            f'{{name="things", clients=["10.0.0.0/8"], tls_names=["*.iot.example"], block=["{tmp_path}/office.txt"]}}'
        )
        views = [each for view in (office, plain, things) for each in ("--view", view)]
        args = ("--proxy-from", "127.0.0.9", "--allow", "loopback,10.0.0.0/8", *views)
        with Node([upstream.address], "none", 1, args) as started:
            yield started

    def test_over_udp_and_tcp(self, node: Node) -> None:
        """The name counts before networks; who names none, or another, is in the view of its network."""
        for client, name, rcode in (
            ("10.0.0.1", b"Office.DNS.example", dns.rcode.NXDOMAIN),
            ("10.0.0.1", b"other.example", dns.rcode.NOERROR),
            ("10.0.0.1", b"no name", dns.rcode.NOERROR),
            ("10.0.0.1", b"a.b.iot.example", dns.rcode.NXDOMAIN),
            ("127.0.0.5", b"a.b.iot.example", dns.rcode.NOERROR),
            ("127.0.0.5", b"office.dns.example", dns.rcode.NXDOMAIN),
            ("11.0.0.1", b"office.dns.example", dns.rcode.REFUSED),
        ):
            fields = b"\x04\0\1\0\x02" + len(name).to_bytes(2, "big") + name
            assert udp(node.port, header(client, fields=fields) + query("games.test"), "127.0.0.9").rcode() == rcode
            head = header(client, True, fields)
            replies = tcp(node.port, head[:40], head[40:] + framed(query("games.test")) + framed(query("games.test")))
            assert [reply.rcode() for reply in replies] == [rcode, rcode]
        assert udp(node.port, header("10.0.0.1") + query("games.test"), "127.0.0.9").rcode() == dns.rcode.NOERROR

    @pytest.mark.skipif(not shutil.which("dnsdist", path=WHERE), reason="no dnsdist")
    def test_behind_dnsdist(self, node: Node, tmp_path: Path) -> None:
        """Which says who asked over TLS, and what for, as in the docs."""
        text = BALANCER.format(port=node.port)
        with peer("dnsdist", tmp_path, "office.dns.example", "dns.example", configuration=text) as balancer:
            context = ssl.create_default_context(cafile=str(balancer.ca))
            for name, rcode in (("office.dns.example", dns.rcode.NXDOMAIN), ("dns.example", dns.rcode.NOERROR)):
                asked = dns.message.make_query("games.test", "A")
                reply = dns.query.tls(asked, "127.0.0.1", 5, balancer.tls, ssl_context=context, server_hostname=name)
                assert reply.rcode() == rcode
            assert ask(balancer.plain, "games.test").rcode() == dns.rcode.NOERROR


def flood(port: int, count: int, source: str, data: bytes) -> Counter[str]:
    """How many replies of which kind come back to so many queries at once."""
    found: Counter[str] = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((source, 0))
        sock.settimeout(0.5)
        for _ in range(count):
            sock.sendto(data, ("127.0.0.1", port))
        with contextlib.suppress(TimeoutError):
            while True:
                reply = dns.message.from_wire(sock.recv(4096))
                found["truncated" if reply.flags & dns.flags.TC else "answer" if reply.answer else "other"] += 1
    return found


class TestLimit:
    """Response rate limiting by client prefix."""

    def test_a_flood_is_cut_to_the_limit(self, upstream: Upstream) -> None:
        """Five seconds' worth at once, then every second reply truncated and the rest dropped; others are not hurt."""
        args = ("--rate-limit", "4", "--rate-limit-exempt", "127.9.0.0/16")
        with watched(upstream, "none", 1, *args) as (node, admin):
            assert udp(node.port, query(), "127.9.0.1").answer
            found = flood(node.port, 220, "127.5.0.1", query())
            assert 20 <= found["answer"] <= 26  # and what came back meanwhile
            assert found["answer"] + 2 * found["truncated"] in range(218, 222)
            assert found["other"] == 0
            assert udp(node.port, query(), "127.5.1.1").answer  # another prefix
            assert flood(node.port, 100, "127.9.0.1", query())["answer"] == 100
            told = numbers(admin)
            assert told["queries_limited_total.truncated"] == found["truncated"]
            assert told["queries_limited_total.dropped"] == 220 - found["answer"] - found["truncated"]
            assert told["queries_total.udp"] >= 322
            # a client that means it comes over TCP
            (reply,) = tcp(node.port, framed(query()), source="127.5.0.1")
            assert reply.answer

    def test_the_client_behind_the_proxy_is_limited(self, upstream: Upstream) -> None:
        """Not the proxy; and not who came to it over TCP."""
        args = ("--rate-limit", "1", "--rate-limit-slip", "0", "--proxy-from", "127.0.0.9")
        with Node([upstream.address], "none", 1, args) as node:
            assert udp(node.port, header("10.0.0.3") + query(), "127.0.0.9").answer
            found = flood(node.port, 50, "127.0.0.9", header("10.0.0.3") + query())
            assert 4 <= found["answer"] <= 6
            assert found["truncated"] == 0
            assert flood(node.port, 5, "127.0.0.9", header("10.0.1.3") + query())["answer"] == 5
            assert flood(node.port, 50, "127.0.0.9", header("10.0.0.3", stream=True) + query())["answer"] == 50

    @pytest.mark.once
    def test_the_log_names_who_is_limited(self, upstream: Upstream) -> None:
        """Every ten seconds, while somebody is."""
        with Node([upstream.address], "none", 1, ("--rate-limit", "1", "--rate-limit-exempt", "127.9.0.0/16")) as node:

            def told() -> bool:
                flood(node.port, 20, "127.5.0.1", query())
                return "over the limit now: 127.5.0.0/24\n" in node.log()

            wait_for(told, 20)
            assert re.search(r"rate limit: \d+ replies held back or truncated;", node.log())


@pytest.mark.parametrize("word", ["10.0.0.1/8", "10.0.0.0/33", "example.com", "public", "fe80::1%eth0"])
def test_what_is_no_network(word: str) -> None:
    """One sentence that names what is wrong."""
    done = command("serve", "--check", "--upstream", "192.0.2.1", "--redis", "none", "--allow", word)
    assert done.returncode == 2
    assert done.stderr.startswith("rdnscache: --allow: ")
    assert done.stderr.count("\n") == 1


def test_an_ipv6_listener_knows_its_clients(upstream: Upstream) -> None:
    """Both families by their own addresses."""
    port = free_port()
    listen = [f"127.0.0.1:{port}", f"[{V6}]:{port}"]
    with Node([upstream.address], "none", 1, ("--deny", V6), listen=listen) as node:
        assert ask(node.port, "a.test").rcode() == dns.rcode.NOERROR
        assert ask(node.port, "a.test", host=V6).rcode() == dns.rcode.REFUSED


def test_query_can_speak_for_a_client(upstream: Upstream) -> None:
    """`query --client`: what a balancer would send, to see what a node says to somebody; over UDP and TCP."""
    port = free_port()
    listen = [f"127.0.0.1:{port}", f"[{V6}]:{port}"]
    with Node([upstream.address], "none", 1, ("--proxy-from", V6), listen=listen):
        for client, rcode in (("10.1.2.3", "NOERROR"), ("203.0.113.9", "REFUSED"), ("2001:db8::9", "REFUSED")):
            for way in ((), ("--tcp",)):
                done = command("query", "a.test", "--server", f"[{V6}]:{port}", "--client", client, *way)
                assert done.stdout.startswith(f";; {rcode},"), done.stdout + done.stderr
