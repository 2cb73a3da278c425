"""What clients see, from a node that really runs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import (
    Node,
    RedisServer,
    Upstream,
    addresses,
    alive,
    answer,
    ask,
    default_handler,
    failure,
    free_port,
    wait_for,
)

BIG = [f"300 A 192.0.2.{number}" for number in range(1, 61)]
ODD = r"300 TYPE65280 \# 8 c00cff0a00410001"


def _handler(query: dns.message.Message, transport: str) -> dns.message.Message | None:
    """Names under `big`, `signed`, `brief` and `odd` have answers of their own."""
    kind = query.question[0].name.labels[-2:-1]
    if kind == (b"big",):
        return answer(query, *BIG)
    if kind == (b"zero",):
        return answer(query, "0 A 192.0.2.1")
    if kind == (b"odd",):
        return answer(query, ODD)
    if kind == (b"signed",):
        reply = answer(query, "300 A 192.0.2.1")
        reply.flags |= dns.flags.AD | dns.flags.AA
        return reply
    usual = default_handler(query, transport)
    assert usual is None or isinstance(usual, dns.message.Message)
    return usual


class Served:
    """A node and its upstream, shared by the tests that leave no traces but their own names."""

    def __init__(self, upstream: Upstream, node: Node) -> None:
        self.upstream = upstream
        self.node = node
        self.port = node.port


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Upstream(_handler) as upstream, Node([upstream.address], args=["--upstream-timeout", "0.5"]) as node:
        yield Served(upstream, node)


def _raw(port: int, *datagrams: bytes, host: str = "127.0.0.1") -> bytes:
    """The first reply to some datagrams, as it came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.connect((host, port))
        for data in datagrams:
            sock.send(data)
        return sock.recv(65535)


def test_spelling_is_echoed(served: Served) -> None:
    """0x20: the question comes back as it was spelled; the spelling makes no difference to the cache."""
    for text in ("SpeLLing.Test.", "spelling.test.", "SPELLING.TEST."):
        reply = ask(served.port, text)
        assert reply.question[0].name.labels == dns.name.from_text(text).labels
        assert reply.answer[0].name.labels == dns.name.from_text(text).labels
    assert served.upstream.count("spelling.test.") == 1


def test_flags_of_a_reply(served: Served) -> None:
    """RA is set and AA clear; AD comes only to those who asked with AD or DO."""
    for extra, wanted in (({}, False), ({"flags": dns.flags.RD | dns.flags.AD}, True), ({"want_dnssec": True}, True)):
        for _ in range(2):
            flags = ask(served.port, "flags.signed", **extra).flags
            assert flags & dns.flags.QR and flags & dns.flags.RA and flags & dns.flags.RD
            assert not flags & dns.flags.AA
            assert bool(flags & dns.flags.AD) is wanted


def test_no_recursion_wanted(served: Served) -> None:
    """RD=0 gets what is cached, otherwise REFUSED, and is never forwarded."""
    assert ask(served.port, "norec.test", flags=0).rcode() == dns.rcode.REFUSED
    assert served.upstream.count("norec.test.") == 0
    ask(served.port, "norec.test")
    reply = ask(served.port, "norec.test", flags=0)
    assert reply.answer and not reply.flags & dns.flags.RD
    assert served.upstream.count("norec.test.") == 1


def test_edns_only_to_those_who_use_it(served: Served) -> None:
    """A reply has an OPT when its query had one."""
    assert ask(served.port, "edns.test").edns == -1
    reply = ask(served.port, "edns.test", use_edns=0)
    assert (reply.edns, reply.payload, list(reply.options)) == (0, 1232, [])


def test_edns_version_one(served: Served) -> None:
    """An unknown EDNS version gets BADVERS."""
    reply = ask(served.port, "version.test", use_edns=1)
    assert (reply.rcode(), reply.edns) == (dns.rcode.BADVERS, 0)
    assert served.upstream.count("version.test.") == 0


def test_two_opts(served: Served) -> None:
    """More than one OPT is FORMERR."""
    wire = dns.message.make_query("two.test", "A", use_edns=0).to_wire()
    double = wire[:11] + b"\x02" + wire[12:] + wire[-11:]
    assert _raw(served.port, double)[3] & 15 == dns.rcode.FORMERR


def test_unknown_options_are_ignored(served: Served) -> None:
    """Options we do not know, client subnet and cookies go nowhere and come back from nowhere."""
    options = [dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"x"), dns.edns.ECSOption("198.51.100.0", 24)]
    reply = ask(served.port, "options.test", use_edns=0, options=options)
    assert reply.answer and not reply.options
    seen = [dns.message.from_wire(raw) for raw in served.upstream.raw if b"\x07options" in raw]
    assert seen and not any(query.options for query in seen)


def test_upstream_options_are_not_passed_on() -> None:
    """EDNS is between two hosts: the upstream's options and size stay there."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = answer(query, "300 A 192.0.2.1")
        option = dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"from upstream")
        reply.use_edns(0, payload=4000, options=[option])
        return reply

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        for _ in range(2):
            reply = ask(node.port, "hop.test", use_edns=0)
            assert reply.answer
            assert (reply.payload, list(reply.options)) == (1232, [])
        assert ask(node.port, "hop.test").edns == -1


def test_cut_to_512_and_whole_over_tcp(served: Served) -> None:
    """Without EDNS, 512 octets and TC; whole with EDNS, and over TCP."""
    cut = ask(served.port, "cut.big")
    assert cut.flags & dns.flags.TC and not cut.answer and len(cut.to_wire()) <= 512
    assert len(addresses(ask(served.port, "cut.big", use_edns=0, payload=1232))) == 60
    whole = ask(served.port, "cut.big", tcp=True)
    assert len(addresses(whole)) == 60 and not whole.flags & dns.flags.TC


def test_ttls_age(served: Served) -> None:
    """What is cached comes with the time that is left."""
    assert ask(served.port, "age.test").answer[0].ttl == 300
    wait_for(lambda: ask(served.port, "age.test").answer[0].ttl < 300)
    assert served.upstream.count("age.test.") == 1


def test_negative_answers_are_cached(served: Served) -> None:
    """NXDOMAIN and NODATA are kept, with their SOA."""
    for _ in range(2):
        missing = ask(served.port, "gone.nx")
        assert missing.rcode() == dns.rcode.NXDOMAIN
        empty = ask(served.port, "gone.test", "MX")
        assert empty.rcode() == dns.rcode.NOERROR and not empty.answer
        assert all(reply.authority[0].rdtype == dns.rdatatype.SOA for reply in (missing, empty))
    assert served.upstream.count("gone.nx.") == served.upstream.count("gone.test.", "MX") == 1


def test_failures_are_cached_briefly() -> None:
    """SERVFAIL is kept for --failure-ttl (RFC 9520), then asked again."""
    with Upstream(lambda query, transport: failure(query)) as upstream:
        with Node([upstream.address], args=["--failure-ttl", "1"]) as node:
            for _ in range(3):
                assert ask(node.port, "fail.test").rcode() == dns.rcode.SERVFAIL
            assert upstream.count("fail.test.") == 1

            def asked_again() -> bool:
                assert ask(node.port, "fail.test").rcode() == dns.rcode.SERVFAIL
                return upstream.count("fail.test.") > 1

            wait_for(asked_again)


def test_a_failure_never_replaces_what_is_usable() -> None:
    """Past its TTL, an answer is served on while upstreams fail, and says so (RFC 8767, RFC 8914)."""
    with Upstream(lambda query, transport: answer(query, "1 A 192.0.2.7")) as upstream:
        with Node([upstream.address], args=["--failure-ttl", "1"]) as node:
            assert addresses(ask(node.port, "stale.test")) == ["192.0.2.7"]
            upstream.handler = lambda query, transport: failure(query)

            def stale() -> bool:
                reply = ask(node.port, "stale.test", use_edns=0)
                assert reply.rcode() == dns.rcode.NOERROR and addresses(reply) == ["192.0.2.7"]
                return bool(reply.options) and reply.options[0].code == dns.edns.EDECode.STALE_ANSWER

            wait_for(stale)
            asked = upstream.count("stale.test.")
            wait_for(lambda: stale() and upstream.count("stale.test.") > asked)
            upstream.handler = lambda query, transport: answer(query, "300 A 192.0.2.8")
            wait_for(lambda: addresses(ask(node.port, "stale.test")) == ["192.0.2.8"])


def test_ttl_zero_is_not_cached(served: Served) -> None:
    """TTL 0 is for the one who asked."""
    for number in (1, 2):
        assert ask(served.port, "now.zero").answer[0].ttl == 0
        assert served.upstream.count("now.zero.") == number


def test_unknown_types_byte_for_byte(served: Served) -> None:
    """RDATA of unknown types is not touched, even where it looks like a compression pointer (RFC 3597)."""
    for _ in range(2):
        reply = ask(served.port, "any.odd", "TYPE65280")
        assert [record.data.hex() for record in reply.answer[0]] == ["c00cff0a00410001"]
    assert served.upstream.count("any.odd.", "TYPE65280") == 1


def test_do_and_cd_are_kept_apart(served: Served) -> None:
    """Each of the four variants is asked for and kept on its own, with its flags."""
    variants = [(do, cd) for do in (False, True) for cd in (False, True)]
    for _ in range(2):
        for do, cd in variants:
            flags = dns.flags.RD | (dns.flags.CD if cd else 0)
            reply = ask(served.port, "docd.test", flags=flags, want_dnssec=do)
            assert bool(reply.flags & dns.flags.CD) is cd
            assert bool(reply.ednsflags & dns.flags.DO) is do
    seen = [dns.message.from_wire(raw) for raw in served.upstream.raw if b"\x04docd" in raw]
    assert [(bool(q.ednsflags & dns.flags.DO), bool(q.flags & dns.flags.CD)) for q in seen] == variants


def test_chaos_names(served: Served) -> None:
    """The server tells its version and name in class CH, and nothing else there."""
    for name in ("version.bind", "version.server"):
        assert "rdnscache" in ask(served.port, name, "TXT", rdclass="CH").answer[0].to_text()
    for name in ("id.server", "Hostname.Bind"):
        assert str(served.port) in ask(served.port, name, "TXT", rdclass="CH").answer[0].to_text()
    assert ask(served.port, "other.bind", "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED
    assert ask(served.port, "id.server", "A", rdclass="CH").rcode() == dns.rcode.REFUSED


def test_identity_off(upstream: Upstream) -> None:
    """--identity no: class CH is refused."""
    with Node([upstream.address], args=["--identity", "no"]) as node:
        for name in ("version.bind", "id.server"):
            assert ask(node.port, name, "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED


def test_any_axfr_notify(served: Served) -> None:
    """ANY gets the HINFO of RFC 8482, transfers REFUSED, other opcodes NOTIMP; none is forwarded."""
    before = served.upstream.total()
    for tcp in (False, True):
        reply = ask(served.port, "local.test", "ANY", tcp=tcp)
        assert reply.answer[0].rdtype == dns.rdatatype.HINFO
    with socket.create_connection(("127.0.0.1", served.port), 3) as sock:
        wire = dns.message.make_query("local.test", "AXFR").to_wire()
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        assert sock.makefile("rb").read(6)[5] & 15 == dns.rcode.REFUSED
    for rtype in ("AXFR", "IXFR"):
        assert _raw(served.port, dns.message.make_query("local.test", rtype).to_wire())[3] & 15 == dns.rcode.REFUSED
    notify = dns.message.make_query("local.test", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    reply_wire = _raw(served.port, notify.to_wire())
    assert reply_wire[3] & 15 == dns.rcode.NOTIMP and reply_wire[2] & 0x78 == dns.opcode.NOTIFY << 3
    assert served.upstream.total() == before


@pytest.mark.parametrize("kind", ["reply", "short", "empty"])
def test_silence(served: Served, kind: str) -> None:
    """A reply, or less than a header, gets no answer; the next query does."""
    query = dns.message.make_query("silence.test", "A")
    wire = query.to_wire()
    bad = {"reply": wire[:2] + bytes((wire[2] | 0x80,)) + wire[3:], "short": wire[:11], "empty": b""}[kind]
    bad = bytes((bad[0] ^ 1,)) + bad[1:] if bad else bad
    assert query.is_response(dns.message.from_wire(_raw(served.port, bad, wire)))


def test_garbage_gets_formerr(served: Served) -> None:
    """A header with nonsense behind it is FORMERR with the ID it came with."""
    reply = _raw(served.port, b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff\xff\xff")
    assert reply[:2] == b"\x12\x34" and reply[3] & 15 == dns.rcode.FORMERR


_GOOD = dns.message.make_query("fuzz.test", "A", use_edns=0, id=1).to_wire()
_MUTATED = st.builds(
    lambda at, octets: _GOOD[:at] + octets + _GOOD[at + len(octets) :],
    st.integers(0, len(_GOOD)),
    st.binary(min_size=1, max_size=4),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=600) | _MUTATED, framed=st.booleans())
def test_any_bytes(served: Served, data: bytes, framed: bool) -> None:
    """Whatever arrives by UDP or TCP, the node goes on answering."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, ("127.0.0.1", served.port))
    with socket.create_connection(("127.0.0.1", served.port), 3) as sock:
        sock.sendall(len(data).to_bytes(2, "big") + data if framed else data)
    assert ask(served.port, "fuzz.test", tries=2).answer
    assert ask(served.port, "fuzz.test", tcp=True).answer


def test_nothing_unexpected_was_logged(served: Served) -> None:
    """All of the above, and no traceback in the log. Keep this after the tests that share the node."""
    assert "Traceback" not in served.node.log()


def test_labels_with_any_octets(redis_server: RedisServer) -> None:
    """Labels with '.', '}', NUL and the like are names of their own, in L1 and in Redis."""
    names = [
        dns.name.Name((*labels, b"test", b""))
        for labels in (
            (b"a.b",), (b"a", b"b"), (b"a}b",), (b"a}:A",), (b"a{b",), (b"a\0b",), (b"a\\000b",), (b"a b",), (b"a*",),
            (b"a\\", b"b"), (b"\xff\xfe",), (b"\xc3\xbc",), (b"?",), (b"[a]",),
        )
    ]  # fmt: skip

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        if query.question[0].name not in names:
            return answer(query, "300 A 192.0.2.250")
        return answer(query, f"300 A 192.0.2.{names.index(query.question[0].name)}")

    with Upstream(handler) as upstream, Node([upstream.address], redis_server.url) as node:
        numbers = iter(range(10_000))

        def attached() -> bool:
            ask(node.port, f"probe{next(numbers)}.test")
            return bool(redis_server.client().dbsize())

        wait_for(attached)
        wanted = [[f"192.0.2.{index}"] for index in range(len(names))]
        for _ in range(2):
            assert [addresses(ask(node.port, name)) for name in names] == wanted
        assert all(upstream.count(name.to_text()) == 1 for name in names)
        upstream.handler = lambda query, transport: answer(query, "300 A 192.0.2.251")
        with Node([upstream.address], redis_server.url) as other:
            # the second node may not be attached for its first questions: those go to names of their own
            probes = iter(range(10_000))

            def shares() -> bool:
                name = f"shared{next(probes)}.test"
                ask(node.port, name)
                ask(other.port, name)
                return upstream.count(f"{name}.") == 1

            wait_for(shares)
            assert [addresses(ask(other.port, name)) for name in names] == wanted


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize("host", ["[::1]", "[::]"])
def test_ipv6(upstream: Upstream, host: str) -> None:
    """An IPv6 listener answers over UDP and TCP, also on the wildcard."""
    with Node([upstream.address], listen=f"{host}:{free_port()}") as node:
        for tcp in (False, True):
            assert ask(node.port, "six.test", tcp=tcp, host="::1").answer


def test_several_listeners(upstream: Upstream) -> None:
    """Every --listen serves, from one cache."""
    ports = [free_port() for _ in range(3)]
    with Node([upstream.address], listen=[f"127.0.0.1:{port}" for port in ports]):
        for port in ports:
            for tcp in (False, True):
                assert ask(port, "several.test", tcp=tcp).answer
        assert upstream.count("several.test.") == 1


def test_wildcard_answers_from_the_address_asked(upstream: Upstream) -> None:
    """On 0.0.0.0 a reply leaves from the address the query came to: a connected socket takes no other."""
    with Node([upstream.address], listen=f"0.0.0.0:{free_port()}") as node:
        query = dns.message.make_query("wild.test", "A")
        for host in ("127.0.0.2", "127.0.0.1", "127.3.2.1"):  # a miss first, then hits
            assert query.is_response(dns.message.from_wire(_raw(node.port, query.to_wire(), host=host)))


def test_a_killed_worker_is_replaced(upstream: Upstream) -> None:
    """A worker that dies is started again, and every client is answered."""
    with Node([upstream.address], workers=2) as node:
        before = wait_for(lambda: len(node.children()) == 2 and node.children())
        assert before
        os.kill(before[0], signal.SIGKILL)
        after = wait_for(lambda: len(found := node.children()) == 2 and before[0] not in found and found)
        assert after and before[1] in after
        for number in range(30):  # from 30 ports: both slots
            assert ask(node.port, f"killed{number}.test", tries=3).answer
        assert node.stop() == 0


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_sigterm_finishes_what_is_in_flight(tcp: bool) -> None:
    """A query taken before SIGTERM is answered; the node then ends with exit code 0."""
    query = dns.message.make_query("flight.test", "A")
    wire = query.to_wire()
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with Upstream(delay=0.5) as upstream, Node([upstream.address]) as node, socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(3)
        sock.connect(("127.0.0.1", node.port))
        sock.sendall(len(wire).to_bytes(2, "big") + wire if tcp else wire)
        wait_for(lambda: upstream.count("flight.test.") == 1)
        node.process.send_signal(signal.SIGTERM)
        data = sock.recv(65535)
        assert query.is_response(dns.message.from_wire(data[2:] if tcp else data))
        assert node.stop() == 0


def test_nothing_outlives_the_supervisor(upstream: Upstream) -> None:
    """When the supervisor is killed, its workers and its embedded server end by themselves."""
    with Node([upstream.address], "embedded", workers=2) as node:
        children = wait_for(lambda: len(node.children()) == 3 and node.children())
        assert children
        node.process.kill()
        node.process.wait()
        wait_for(lambda: not any(map(alive, children)))


def test_stopping_removes_the_embedded_server(upstream: Upstream) -> None:
    """After SIGTERM no process and no socket of an embedded server is left."""
    with Node([upstream.address], "embedded") as node:
        sockets = wait_for(lambda: list(node.folder.glob("rdnscache/*/redis.sock")))
        children = node.children()
        assert node.stop() == 0
        assert not sockets[0].exists() and not any(map(alive, children))
