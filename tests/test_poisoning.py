"""What a reply over UDP has to repeat besides its ID, and what becomes of servers that do not."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.name
import pytest
from support import Node, RedisServer, Upstream, addresses, answer, ask, default_handler, key_of, wait_for

from rdnscache.address import Address
from rdnscache.endpoint import Endpoint
from rdnscache.errors import UpstreamFailed
from rdnscache.metrics import SERVER_NEAR_MISSES, Board
from rdnscache.upstream import ways
from rdnscache.upstream.defence import MOST_MISSED, SPARED, Defence, Measures
from rdnscache.upstream.server import Server
from rdnscache.upstream.servers import Upstreams

ALWAYS = ["--upstream-0x20", "yes"]


class Asking:
    """One worker's upstreams, always with random letter case."""

    def __init__(self, *upstreams: Upstream, board: Board | None = None, worker: int = 0, **how: Any) -> None:
        self.board = board or Board(1)
        endpoints = [Endpoint("udp", Address("127.0.0.1", each.port)) for each in upstreams]
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
        asking = Asking(upstream)
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
        asking = Asking(upstream)
        assert asking.ask("almost.test").endswith(bytes((192, 0, 2, 1)))
        assert upstream.transports == ["udp", "tcp"]
        assert asking.near_misses() == 1
        assert not asking.server.health.failures


def test_a_server_that_loses_the_case_is_spared_it(caplog: pytest.LogCaptureFixture) -> None:
    """After several questions in a row, for an hour; all workers of the node know, and it is said once."""
    with Upstream(_lowering) as upstream:
        board = Board(2)
        first, second = Asking(upstream, board=board), Asking(upstream, board=board, worker=1)
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
        asking = Asking(upstream)
        for number in range(4 * MOST_MISSED):
            guess[0] = number % MOST_MISSED != 0
            asking.ask(f"abcdefghijklm{number}.test")
        assert asking.server.defence.spells


def test_a_careless_server_without_tcp_is_found_out_as_well() -> None:
    """Questions fail until it is, and not after that."""
    with Upstream(_lowering, tcp=False) as upstream:
        asking = Asking(upstream, timeout=0.2, deadline=0.4)
        for number in range(MOST_MISSED - 1):
            with pytest.raises(UpstreamFailed):
                asking.ask(f"lost{number}.test")
        for number in range(MOST_MISSED - 1, 10):
            assert asking.ask(f"lost{number}.test").endswith(bytes((192, 0, 2, 1)))


@pytest.mark.pure
def test_a_server_is_tried_again_after_a_while() -> None:
    """It may have been replaced by a better one."""
    defence = Defence(Measures("yes"), Address("192.0.2.1", 53))
    keys = [key_of(f"n{number}.test") for number in range(2 * MOST_MISSED)]
    assert [defence.missed(key, 100.0) for key in keys[:MOST_MISSED]] == [False] * (MOST_MISSED - 1) + [True]
    assert defence.spelled(keys[0]) == b""
    defence.catch_up(100.0 + SPARED - 1)
    assert not defence.spells
    defence.catch_up(100.0 + SPARED)
    assert defence.spelled(keys[0]).lower() == keys[0][:-1]
    assert [defence.missed(key, 9000.0) for key in keys[MOST_MISSED:]] == [False] * (MOST_MISSED - 1) + [True]


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
    assert Defence(Measures(), address).spells is public
    assert Defence(Measures("yes"), address).spells
    assert not Defence(Measures("no"), address).spells


def test_an_upstream_on_loopback_sees_lower_case(upstream: Upstream) -> None:
    """The default, as a script that compares names may need it."""
    with Node([upstream.address]) as node:
        assert addresses(ask(node.port, "MiXed.TEST")) == ["192.0.2.1"]
        assert _names(upstream) == [b"\5mixed\4test"]
