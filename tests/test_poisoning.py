"""What a reply over UDP has to repeat besides its ID, and what becomes of servers that do not."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.rcode
import pytest
from support import (
    Node,
    RedisServer,
    Upstream,
    addresses,
    answer,
    ask,
    default_handler,
    failure,
    free_port,
    key_of,
    wait_for,
)
from support.peers import needs_unbound, peer

from rdnscache.address import Address
from rdnscache.endpoint import Endpoint
from rdnscache.errors import UpstreamFailed
from rdnscache.metrics import SERVER_NEAR_MISSES, Board
from rdnscache.upstream import ways
from rdnscache.upstream.defence import LIFETIME, MOST_LOST, MOST_MISSED, SPARED, Cookies, LetterCase, Measures
from rdnscache.upstream.server import Server
from rdnscache.upstream.servers import Upstreams

ALWAYS = ["--upstream-0x20", "yes"]


class Asking:
    """One worker's upstreams, always with random letter case."""

    def __init__(self, *ports: int, board: Board | None = None, worker: int = 0, **how: Any) -> None:
        self.board = board or Board(1)
        endpoints = [Endpoint("udp", Address("127.0.0.1", port)) for port in ports]
        self.board.make_room([each.label for each in endpoints])
        row = self.board.row(worker)
        self.servers = [
            Server(
                each, ways.find(each), self.board.block(each.label), row, self.board.numbers(each.label),
                measures=Measures("yes"),
            )
            for each in endpoints
        ]  # fmt: skip
        self.upstreams = Upstreams(self.servers, how.get("timeout", 1.0), how.get("deadline", 4.0), row)
        self.server = self.servers[0]

    def ask(self, name: str) -> bytes:
        """The reply's octets."""
        return self.upstreams.ask(key_of(name))[0].wire

    def near_misses(self) -> int:
        return self.board.count(self.board.block(self.server.label) + SERVER_NEAR_MISSES)


def _lowering(query: dns.message.Message, transport: str) -> Any:
    """A server that forgets the letter case."""
    name = dns.name.from_text(query.question[0].name.to_text().lower())
    query.question[0].name = name
    return default_handler(query, transport)


def _names(upstream: Upstream) -> list[bytes]:
    """The names asked for, as they were spelled."""
    return [raw[12 : raw.index(b"\0", 12)] for raw in upstream.raw]


# Letter case


def test_the_letter_case_is_random_over_udp_alone() -> None:
    """A question that turns to TCP is asked there in lower case."""

    def handler(query: dns.message.Message, transport: str) -> Any:
        if transport == "tcp":
            return default_handler(query, transport)
        return dns.message.make_response(query).to_wire()[:2] + b"\x83\x80" + query.to_wire()[4:]

    with Upstream(handler) as upstream:
        asking = Asking(upstream.port)
        for _ in range(8):
            asking.ask("a-longer-name.example.test")
        spelled = {name for name, how in zip(_names(upstream), upstream.transports, strict=True) if how == "udp"}
        assert len(spelled) == 8
        over_tcp = {name for name, how in zip(_names(upstream), upstream.transports, strict=True) if how == "tcp"}
        assert over_tcp == {next(iter(spelled)).lower()}


def test_what_clients_see_and_what_is_kept_has_no_random_case(redis_server: RedisServer) -> None:
    """The client's own spelling in the question, lower case in all that is in Redis."""

    def handler(query: dns.message.Message, transport: str) -> bytes:
        """An alias that repeats the question's name in its data, and nothing compressed."""
        wire = query.to_wire()
        asked = wire[12 : wire.index(b"\0", 12) + 1]
        data = b"\5alias" + asked
        head = wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        record = asked + b"\0\5\0\1\0\0\1\x2c" + len(data).to_bytes(2, "big") + data
        return head + asked + b"\0\5\0\1" + record

    client = redis_server.client()
    with Upstream(handler) as upstream, Node([upstream.address], redis=redis_server.url, args=ALWAYS) as node:
        for number in range(10):
            name = f"Name{number}.Kept.TEST."
            reply = ask(node.port, name, "CNAME")
            assert reply.question[0].name.to_text() == name
            assert reply.answer[0].name.to_text() == name.lower()  # in full, not a pointer to the question
            entry = f"rdns:1:{{{name.lower()}}}:CNAME"
            wait_for(lambda entry=entry: client.hget(entry, "wire"))
            for field in ("answer", "wire"):
                stored = client.hget(entry, field)
                assert b"kept" in stored and stored == stored.lower().replace(b" in cname ", b" IN CNAME ")
        assert len(set(_names(upstream))) == 10 and not any(name.islower() for name in _names(upstream)[:3])


def test_a_reply_in_another_letter_case_is_asked_for_over_tcp() -> None:
    """Whether somebody guessed or the server is careless, the answer is that of TCP, and no server is blamed."""

    def handler(query: dns.message.Message, transport: str) -> Any:
        if transport == "tcp":
            return default_handler(query, transport)
        reply = answer(query, "300 A 203.0.113.66")
        wire = bytearray(reply.to_wire())
        wire[13] ^= 0x20
        return bytes(wire)

    with Upstream(handler) as upstream:
        asking = Asking(upstream.port)
        assert asking.ask("almost.test").endswith(bytes((192, 0, 2, 1)))
        assert upstream.transports == ["udp", "tcp"]
        assert asking.near_misses() == 1
        assert not asking.server.health.failures


def test_a_server_that_loses_the_case_is_spared_it(caplog: pytest.LogCaptureFixture) -> None:
    """After several questions in a row, for an hour; all workers of the node know, and it is said once."""
    with Upstream(_lowering) as upstream:
        board = Board(2)
        first, second = Asking(upstream.port, board=board), Asking(upstream.port, board=board, worker=1)
        for number in range(MOST_MISSED):
            for asking in (first, first):
                asking.ask(f"lost{number}.test")  # the same question again proves nothing more
                if number == MOST_MISSED - 1:
                    break
        assert upstream.transports == ["udp", "tcp"] * (2 * MOST_MISSED - 1)
        now = 1.0
        second.server.catch_up(now)
        for asking in (first, second):
            asking.ask("spared.test")
            assert _names(upstream)[-1] == b"\6spared\4test"
        assert upstream.transports[-2:] == ["udp", "udp"]
        assert [record.getMessage() for record in caplog.records if "letter case" in record.getMessage()] == [
            f"upstream {first.server.label} does not repeat the letter case of names:"
            " for an hour names are sent to it in lower case"
        ]


def test_one_reply_that_repeats_the_case_clears_a_server() -> None:
    """Near misses count only in a row: no forger gets us to do without."""
    guess = [False]

    def handler(query: dns.message.Message, transport: str) -> Any:
        return (_lowering if guess[0] else default_handler)(query, transport)

    with Upstream(handler) as upstream:
        asking = Asking(upstream.port)
        for number in range(4 * MOST_MISSED):
            guess[0] = number % MOST_MISSED != 0
            asking.ask(f"abcdefghijklm{number}.test")
        assert asking.server.letter_case.on


def test_a_careless_server_without_tcp_is_found_out_as_well() -> None:
    """Questions fail until it is, and not after that."""
    with Upstream(_lowering, tcp=False) as upstream:
        asking = Asking(upstream.port, timeout=0.2, deadline=0.4)
        for number in range(MOST_MISSED - 1):
            with pytest.raises(UpstreamFailed):
                asking.ask(f"lost{number}.test")
        for number in range(MOST_MISSED - 1, 10):
            assert asking.ask(f"lost{number}.test").endswith(bytes((192, 0, 2, 1)))


@pytest.mark.pure
def test_a_server_is_tried_again_after_a_while() -> None:
    """It may have been replaced by a better one."""
    case = LetterCase(Measures("yes"), Address("192.0.2.1", 53))
    keys = [key_of(f"n{number}.test") for number in range(2 * MOST_MISSED)]
    assert [case.missed(key, 100.0) for key in keys[:MOST_MISSED]] == [False] * (MOST_MISSED - 1) + [True]
    assert case.spelled(keys[0]) == b""
    case.catch_up(100.0 + SPARED - 1)
    assert not case.on
    assert not any(case.missed(key, 101.0) for key in keys)  # what was still on its way
    case.catch_up(100.0 + SPARED)
    assert case.spelled(keys[0]).lower() == keys[0][:-1]
    assert [case.missed(key, 9000.0) for key in keys[MOST_MISSED:]] == [False] * (MOST_MISSED - 1) + [True]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("9.9.9.9", True), ("2620:fe::fe", True), ("127.0.0.1", False), ("::1", False), ("10.0.0.1", False),
        ("172.16.3.4", False), ("192.168.1.1", False), ("100.64.0.1", False), ("169.254.1.1", False),
        ("fd00::1", False), ("fe80::1", False),
    ],
)  # fmt: skip
def test_towards_whom_by_default(host: str, public: bool) -> None:
    """Public addresses alone: what is one hop away is hard to forge, and often careless."""
    address = Address(host, 53)
    assert LetterCase(Measures(), address).on is public
    assert LetterCase(Measures("yes"), address).on
    assert not LetterCase(Measures("no"), address).on


def test_an_upstream_on_loopback_sees_lower_case(upstream: Upstream) -> None:
    """The default, as a script that compares names may need it."""
    with Node([upstream.address]) as node:
        assert addresses(ask(node.port, "MiXed.TEST")) == ["192.0.2.1"]
        assert _names(upstream) == [b"\5mixed\4test"]


# Cookies


def _cookie(octets: bytes) -> dns.edns.Option:
    return dns.edns.GenericOption(dns.edns.OptionType.COOKIE, octets)


class Baker:
    """A server with cookies, whose replies can be made to lack something."""

    def __init__(self) -> None:
        self.secret = b"12345678"
        #: What queries had, and over what they came.
        self.got: list[tuple[str, bytes]] = []
        self.knows = True
        self.strict = False
        self.rcode_of_cookies = 0

    def __call__(self, query: dns.message.Message, transport: str) -> Any:
        got = b"".join(option.to_wire() for option in query.options if option.otype == 10)
        self.got.append((transport, got))
        if got and self.rcode_of_cookies:
            return failure(query, self.rcode_of_cookies)
        if not self.knows or not got:
            return default_handler(query, transport)
        reply = answer(query, "300 A 192.0.2.1")
        refused = self.strict and got[8:] != self.secret
        if refused:
            reply.answer.clear()
        reply.use_edns(0, options=[_cookie(got[:8] + self.secret)])
        reply.set_rcode(dns.rcode.BADCOOKIE if refused else dns.rcode.NOERROR)
        return reply

    def last(self) -> tuple[str, bytes]:
        return self.got[-1]


def _acquainted(upstream: Upstream, **how: Any) -> Asking:
    """Who has learnt the server's cookie."""
    asking = Asking(upstream.port, **how)
    asking.ask("first.test")
    asking.server.catch_up(1.0)
    asking.ask("second.test")
    return asking


def test_a_cookie_is_tried_learnt_and_sent_back() -> None:
    """Once the server has answered something; from then on with each query over UDP."""
    baker = Baker()
    with Upstream(baker) as upstream:
        asking = _acquainted(upstream)
        asking.ask("third.test")
        (_, none), (_, ours), (_, both) = baker.got
        assert (len(none), len(ours), both) == (0, 8, ours + baker.secret)
        baker.secret = b"another secret of 24 ...."[:24]
        asking.ask("fourth.test")
        asking.ask("fifth.test")
        assert baker.last() == ("udp", ours + baker.secret)
        assert asking.near_misses() == 0


def test_each_server_has_a_cookie_of_its_own() -> None:
    """Two of them cannot tell that they talk to the same."""
    first, second = Baker(), Baker()
    with Upstream(first) as one, Upstream(second) as other:
        assert _acquainted(one) and _acquainted(other)
        assert first.last()[1] != second.last()[1]


def test_a_server_without_cookies_is_tried_once_an_hour() -> None:
    """It sees an option that it passes over, and all goes on as before."""
    baker = Baker()
    baker.knows = False
    with Upstream(baker) as upstream:
        board = Board(2)
        asking, other = _acquainted(upstream, board=board), Asking(upstream.port, board=board, worker=1)
        other.ask("other.test")
        for moment in (2.0, SPARED / 2):
            for each in (asking, other):
                each.server.catch_up(moment)
                each.ask(f"n{moment}.test")
        assert [len(got) for _, got in baker.got] == [0, 8, 0, 0, 0, 0, 0]
        asking.server.catch_up(1e9)
        asking.ask("later.test")
        assert len(baker.last()[1]) == 8


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_a_server_that_chokes_on_cookies(rcode: dns.rcode.Rcode) -> None:
    """The same question is asked without, still with EDNS, and so are those after it."""
    baker = Baker()
    baker.rcode_of_cookies = rcode
    with Upstream(baker) as upstream:
        asking = _acquainted(upstream)
        asking.server.catch_up(2.0)
        asking.ask("third.test")
        assert [len(got) for _, got in baker.got] == [0, 8, 0, 0]
        assert all(dns.message.from_wire(raw).edns == 0 for raw in upstream.raw)


def test_a_server_that_drops_what_has_a_cookie() -> None:
    """What is sent again goes without, from the same port and with the same ID; after some trials there are no more."""
    seen: list[int] = []

    def handler(query: dns.message.Message, transport: str) -> Any:
        seen.append(len(query.options))
        return None if query.options else default_handler(query, transport)

    with Upstream(handler) as upstream:
        asking = Asking(upstream.port, timeout=0.3, deadline=5.0)
        asking.ask("first.test")
        for number in range(MOST_LOST + 3):
            asking.server.catch_up(1.0 + number)
            asking.ask(f"n{number}.test")
        assert seen == [0] + [1, 0] * MOST_LOST + [0] * 3
        assert upstream.total() == MOST_LOST + 4


def test_a_reply_without_the_cookie_is_not_believed() -> None:
    """Nor is one with somebody else's; the question is asked over TCP, and no server is blamed."""
    baker = Baker()
    forged: list[bytes] = []

    def handler(query: dns.message.Message, transport: str) -> Any:
        if transport == "tcp" or not forged:
            return baker(query, transport)
        reply = answer(query, "300 A 203.0.113.66")
        reply.use_edns(0, options=[_cookie(forged[0])] if forged[0] else [])
        return reply

    with Upstream(handler) as upstream:
        asking = _acquainted(upstream)
        ours = baker.got[1][1]
        for number, cookie in enumerate((b"", b"x" * 16, ours, ours + b"short", ours + b"x" * 33)):
            forged[:] = [cookie]
            assert asking.ask(f"n{number}.test").endswith(bytes((192, 0, 2, 1)))
            assert upstream.transports[-2:] == ["udp", "tcp"]
            forged.clear()
            asking.ask(f"between{number}.test")
        assert asking.near_misses() == 5
        assert not asking.server.health.failures


def test_a_server_that_stops_sending_cookies_is_spared_them(caplog: pytest.LogCaptureFixture) -> None:
    """After several questions in a row that had to go over TCP, for all workers of the node."""
    baker = Baker()
    with Upstream(baker) as upstream:
        board = Board(2)
        asking, other = (_acquainted(upstream, board=board, worker=each) for each in (0, 1))
        baker.knows = False
        before = len(upstream.transports)
        for number in range(MOST_MISSED + 1):
            asking.ask(f"n{number}.test")
        assert upstream.transports[before:] == ["udp", "tcp"] * MOST_MISSED + ["udp"]
        other.server.catch_up(2.0)
        other.ask("other.test")
        assert baker.last() == ("udp", b"")
        said = [record.getMessage() for record in caplog.records if "cookie" in record.getMessage()]
        assert said == [
            f"upstream {asking.server.label} does not send its cookie any more: for an hour it is asked without cookies"
        ]


def test_badcookie_is_asked_again_with_the_new_one() -> None:
    """Over UDP once, with the cookie that came with it; then over TCP (RFC 7873 section 5.3)."""
    baker = Baker()
    with Upstream(baker) as upstream:
        asking = _acquainted(upstream)
        ours = baker.got[1][1]
        baker.secret, baker.strict = b"87654321", True
        before = len(baker.got)
        assert asking.ask("renewed.test").endswith(bytes((192, 0, 2, 1)))
        assert baker.got[before:] == [("udp", ours + b"12345678"), ("udp", ours + b"87654321")]
        ports = [port for _, port in upstream.sources[before:]]
        assert ports[0] != ports[1]

        def never_content(query: dns.message.Message, transport: str) -> Any:
            baker.secret = bytes((baker.secret[0] ^ 1,)) + baker.secret[1:]
            return baker(query, transport)

        upstream.handler = never_content
        before = len(baker.got)
        assert asking.ask("hopeless.test").endswith(bytes((192, 0, 2, 1)))
        assert [how for how, _ in baker.got[before:]] == ["udp", "udp", "tcp"]


def test_a_server_that_was_replaced_by_one_that_drops_cookies() -> None:
    """When it begins to rest it is asked without, and so it comes back."""
    baker = Baker()
    with Upstream(baker) as upstream:
        asking = _acquainted(upstream, timeout=0.05, deadline=0.2)
        upstream.handler = lambda query, transport: None if query.options else default_handler(query, transport)
        for number in range(20):
            try:
                asking.ask(f"n{number}.test")
            except UpstreamFailed:
                continue
            break
        assert number < 6


def test_a_cookie_that_looks_odd_is_not_learnt() -> None:
    """Some servers send back what they do not understand."""

    def echo(query: dns.message.Message, transport: str) -> Any:
        reply = answer(query, "300 A 192.0.2.1")
        reply.use_edns(0, options=list(query.options))
        return reply

    with Upstream(echo) as upstream:
        asking = _acquainted(upstream)
        assert not asking.server.cookies.known
        asking.ask("third.test")
        assert set(upstream.transports) == {"udp"}


def test_nobody_is_known_by_a_cookie_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is another one after a day, and when our own address is another one (RFC 9018 section 3)."""
    baker = Baker()
    with Upstream(baker) as upstream:
        asking = _acquainted(upstream)
        seen = [baker.last()[1][:8]]
        for moment, source in ((2.0, "127.0.0.1"), (3.0, "127.0.0.2"), (3.0 + LIFETIME, "127.0.0.2")):
            monkeypatch.setattr(Address, "source", lambda self, source=source: source)
            asking.server.catch_up(moment)
            asking.ask(f"n{moment}.test")
            seen.append(baker.last()[1][:8])
        assert seen[0] == seen[1]
        assert len(set(seen)) == 3
        assert asking.near_misses() == 0


def test_no_cookies_where_they_are_not_wanted() -> None:
    """Nor over TCP, where they would add nothing."""
    baker = Baker()
    with Upstream(baker) as upstream, Node([upstream.address], args=["--upstream-cookies", "no"]) as node:
        for number in range(3):
            ask(node.port, f"n{number}.test")
        assert {got for _, got in baker.got} == {b""}
    cookies = Cookies(Measures(cookies=False), Address("127.0.0.1", free_port()))
    cookies.catch_up(1.0)
    assert cookies.option() == b""


def test_a_node_uses_cookies_by_itself() -> None:
    """Soon after its first answer."""
    baker = Baker()
    numbers = iter(range(10_000))

    def used() -> bool:
        ask(node.port, f"n{next(numbers)}.test")
        return len(baker.last()[1]) == 16

    with Upstream(baker) as upstream, Node([upstream.address]) as node:
        wait_for(used)


# Real servers

NSD = """server:
 ip-address: 127.0.0.1@{port}
 database: ""
 zonesdir: "{folder}"
 zonelistfile: "{folder}/zone.list"
 xfrdfile: ""
 xfrdir: "{folder}"
 pidfile: ""
 username: ""
 chroot: ""
 logfile: "{folder}/nsd.log"
 answer-cookie: yes
 cookie-secret: "000102030405060708090a0b0c0d0e0f"
remote-control:
 control-enable: no
zone:
 name: "test"
 zonefile: "test.zone"
"""
ZONE = """$ORIGIN test.
@ 300 IN SOA ns.test. host.test. 1 3600 600 86400 300
@ 300 IN NS ns.test.
ns 300 IN A 192.0.2.53
*.www 300 IN A 192.0.2.1
there 300 IN DNAME here
*.here 300 IN A 192.0.2.2
"""


@pytest.mark.once
@pytest.mark.skipif(not shutil.which("nsd", path="/usr/sbin"), reason="no nsd")
def test_nsd_keeps_the_case_and_sends_cookies(tmp_path: Path) -> None:
    """The cookies of RFC 9018, and names made from a DNAME, without a near miss."""
    port = free_port()
    file = tmp_path / "nsd.conf"
    file.write_text(NSD.format(port=port, folder=tmp_path))
    (tmp_path / "test.zone").write_text(ZONE)
    server = subprocess.Popen(["/usr/sbin/nsd", "-d", "-c", file])
    try:
        wait_for(lambda: _is_up(port))
        asking = Asking(port)
        for number in range(20):
            asking.server.catch_up(1.0)
            assert asking.ask(f"name{number}.www.test").endswith(bytes((192, 0, 2, 1)))
            alias = asking.ask(f"name{number}.there.test")
            assert alias.endswith(bytes((192, 0, 2, 2)))
            assert alias.count(b"name%d" % number) == 2  # in the question, and in what is made of it
        assert asking.server.cookies.known
        assert asking.near_misses() == 0
        assert asking.server.tcp_health.alive_at == 0.0
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


@pytest.mark.once
@needs_unbound
def test_unbound_keeps_the_case(tmp_path: Path) -> None:
    """Debian's does not know cookies, and passes them over."""
    with peer("unbound", tmp_path) as found:
        asking = Asking(found.plain)
        for number in range(20):
            asking.server.catch_up(1.0)
            assert asking.ask(f"name{number}.www.test").endswith(bytes((192, 0, 2, 1)))
        assert not asking.server.cookies.known
        assert asking.near_misses() == 0


def _is_up(port: int) -> bool:
    try:
        return ask(port, "up.www.test", timeout=0.2).rcode() == dns.rcode.NOERROR
    except (OSError, dns.exception.DNSException):
        return False
