"""Client subnets (RFC 7871): in keys, options and text; and told to upstreams, or not, by real nodes."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    Node,
    RedisServer,
    Reply,
    Upstream,
    answer,
    ask,
    attached,
    command,
    nodes_on,
    wait_for,
)

from rdnscache.dns.names import parse_name, question_text
from rdnscache.dns.question import qclass, qname, qtype, question_key, section, subnet, variant, wider_key, with_subnet
from rdnscache.dns.subnet import NOBODY, fits, of_address, option, option_data, parse_subnet, read_option, subnet_text
from rdnscache.dns.wire import build_query, parse_query, parse_reply
from rdnscache.store.contract import Names

PLAIN = question_key(parse_name("www.example"), 28, 1, 1)


def told(query: dns.message.Message) -> str:
    """The subnet in a message, with its scope: `192.0.2.0/24/0`; empty without one."""
    found = [each for each in query.options if isinstance(each, dns.edns.ECSOption)]
    return f"{found[0].address}/{found[0].srclen}/{found[0].scopelen}" if found else ""


def client(network: str, scope: int = 0) -> dict[str, Any]:
    """Arguments of `ask` for a query with a subnet."""
    address, _, length = network.partition("/")
    return {"use_edns": 0, "options": [dns.edns.ECSOption(address, int(length), scope)]}


NETWORKS = st.one_of(
    st.builds(
        lambda number, length: ipaddress.ip_network((number, length), strict=False),
        st.integers(0, 2**32 - 1), st.integers(1, 32),
    ),
    st.builds(
        lambda number, length: ipaddress.ip_network((number.to_bytes(16, "big"), length), strict=False),
        st.integers(2**32, 2**128 - 1), st.integers(1, 128),
    ),
)  # fmt: skip


@pytest.mark.pure
class TestKeys:
    def test_all_parts_are_where_they_were(self) -> None:
        """A network between name and type changes neither."""
        key = with_subnet(PLAIN, parse_subnet("192.0.2.0/24"))
        assert (qname(key), qtype(key), qclass(key), section(key)) == (parse_name("www.example"), 28, 1, section(PLAIN))
        assert subnet_text(subnet(key)) == "192.0.2.0/24"
        assert variant(key) & 3 == variant(PLAIN)
        assert subnet(PLAIN) == b""
        assert question_text(key) == "www.example. AAAA do ecs=192.0.2.0/24"

    def test_what_holds_for_all_is_kept_without_a_network(self) -> None:
        """Scope 0 is shared."""
        assert wider_key(with_subnet(PLAIN, parse_subnet("2001:db8::/56"))) == PLAIN

    @settings(deadline=None)
    @given(NETWORKS)
    def test_in_redis(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        """A person can read it, and it is read back; what holds for all has the key without it."""
        names, key = Names("rdns"), with_subnet(PLAIN, parse_subnet(str(network)))
        assert names.entry(key).decode() == f"rdns:1:{{www.example.}}:AAAA:do:ecs={network}"
        assert names.question(names.entry(key).decode()) == key
        assert names.wider_entry(names.entry(key)) == names.entry(PLAIN)

    @pytest.mark.parametrize(
        "text", ["192.0.2.1/24", "192.0.2.0/024", "2001:DB8::/32", "2001:db8:0::/32", "::/0x", "/24"]
    )
    def test_what_nodes_do_not_write(self, text: str) -> None:
        """Is no entry's key."""
        assert Names("rdns").question(f"rdns:1:{{www.example.}}:AAAA:do:ecs={text}") is None


@pytest.mark.pure
class TestOptions:
    @settings(deadline=None)
    @given(NETWORKS)
    def test_as_dnspython_reads_and_writes_them(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        """The same octets."""
        ours = parse_subnet(str(network))
        theirs = dns.edns.ECSOption(str(network.network_address), network.prefixlen, 0)
        assert option_data(ours) == theirs.to_wire()
        assert read_option(theirs.to_wire() or b"", 32, 128) == ours
        message = dns.message.from_wire(build_query(b"\1\2", with_subnet(PLAIN, ours), True))
        assert told(message) == f"{network.network_address}/{network.prefixlen}/0"

    @given(st.binary(max_size=24), st.integers(1, 32), st.integers(1, 128))
    def test_any_octets(self, data: bytes, prefix4: int, prefix6: int) -> None:
        """Refused, or a network with no more bits than allowed."""
        found = read_option(data, prefix4, prefix6)
        if found is not None:
            assert len(found) == 18
            assert found[1] <= (prefix4 if found[0] == 1 else prefix6)
            assert parse_subnet(subnet_text(found)) == found

    @pytest.mark.parametrize(
        "data",
        [
            "",
            "0001",
            "000118",
            "00011800c00002ff",
            "00011800c000",
            "00011808c00002",
            "00012100c0000201ff",
            "00011700c00003",
        ],
    )
    def test_malformed(self, data: str) -> None:
        """Too short, too long, a scope in a query, more bits than the family has, bits behind the prefix."""
        assert read_option(bytes.fromhex(data), 24, 56) is None

    def test_nobody(self) -> None:
        """Prefix 0, or a family nobody knows."""
        assert read_option(bytes.fromhex("00010000"), 24, 56) == NOBODY
        assert read_option(bytes.fromhex("00020000"), 24, 56) == NOBODY
        assert read_option(bytes.fromhex("000318000102"), 24, 56) == NOBODY

    def test_a_reply_has_to_be_about_the_subnet_that_was_sent(self) -> None:
        """RFC 7871 section 7.3: all but the scope."""
        network = parse_subnet("192.0.2.0/24")
        assert fits(network, bytes.fromhex("00011810c00002"))
        for data in ("00011810c00003", "00011710c00002", "00021810c00002", "00011810c0000200", "0001"):
            assert not fits(network, bytes.fromhex(data))

    def test_an_address_is_cut(self) -> None:
        """To as many bits as may be told."""
        assert subnet_text(of_address(bytes([192, 0, 2, 77]), 24, 56)) == "192.0.2.0/24"
        assert subnet_text(of_address(bytes([192, 0, 3, 77]), 23, 56)) == "192.0.2.0/23"
        six = ipaddress.ip_address("2001:db8:1:2:3::4").packed
        assert subnet_text(of_address(six, 24, 56)) == "2001:db8:1::/56"

    def test_messages_are_read_with_it(self) -> None:
        """In a query the octets as they came, in a reply beside an Extended DNS Error."""
        query = dns.message.make_query("www.example", "A", use_edns=0, options=client("192.0.2.0/24")["options"])
        parsed = parse_query(query.to_wire(), False)
        assert parsed is not None
        assert parsed.subnet == option(parse_subnet("192.0.2.0/24"))[4:]
        reply = dns.message.make_response(query)
        reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode(22)), dns.edns.ECSOption("192.0.2.0", 24, 16)])
        found = parse_reply(reply.to_wire())
        assert found is not None
        assert (found.ede, found.subnet.hex()) == (22, "00011810c00002")


def by_network(scope: int = 24) -> Callable[[dns.message.Message, str], Reply]:
    """A handler that answers with an address made from the subnet it is told, and that scope."""

    def handler(query: dns.message.Message, transport: str) -> Reply:
        found = [each for each in query.options if isinstance(each, dns.edns.ECSOption)]
        address = found[0].address if found else "203.0.113.1"
        reply = answer(query, f"300 A {'203.0.113.6' if ':' in address else address}")
        if found:
            option = dns.edns.ECSOption(found[0].address, found[0].srclen, min(scope, found[0].srclen))
            reply.use_edns(0, payload=1232, options=[option])
        return reply

    return handler


def asked(upstream: Upstream) -> list[str]:
    return [told(dns.message.from_wire(data)) for data in upstream.raw]


class TestNodes:
    def test_nothing_is_told_unless_it_is_asked_for(self) -> None:
        """Stripped, shared, and not repeated to the client."""
        with Upstream(by_network()) as upstream, Node([upstream.address]) as node:
            for network in ("192.0.2.0/24", "198.51.100.0/24"):
                reply = ask(node.port, "www.test.", **client(network))
                assert (reply.answer[0][0].to_text(), told(reply)) == ("203.0.113.1", "")
            assert asked(upstream) == [""]

    def test_what_clients_say_is_passed_on(self, redis_server: RedisServer) -> None:
        """An entry for each network, across the cluster; those who say nothing, or /0, are nobody's."""
        with Upstream(by_network()) as upstream:
            with nodes_on(redis_server.url, upstream, 2, 1, ("--ecs", "forward")) as nodes:
                for node in nodes:
                    for network in ("192.0.2.0/24", "198.51.100.0/24", "2001:db8:1::/56"):
                        reply = ask(node.port, "www.test.", **client(network))
                        expected = "203.0.113.6" if ":" in network else network.partition("/")[0]
                        assert reply.answer[0][0].to_text() == expected
                        assert told(reply) == f"{network}/24"
                    for arguments in ({}, client("0.0.0.0/0")):
                        assert ask(node.port, "www.test.", **arguments).answer[0][0].to_text() == "0.0.0.0"
                assert asked(upstream) == [
                    "192.0.2.0/24/0", "198.51.100.0/24/0", "2001:db8:1::/56/0", "0.0.0.0/0/0",
                ]  # fmt: skip
                key = "rdns:1:{www.test.}:A:ecs=192.0.2.0/24"
                info = redis_server.client().hget(key, "info").decode()
                assert info.endswith(" scope=24")
                shown = command("cache", "ls", "www.test", "--redis", redis_server.url).stdout
                assert "A:ecs=192.0.2.0/24" in shown
                assert command("cache", "flush", "www.test", "--redis", redis_server.url).returncode == 0
                assert not list(redis_server.client().scan_iter("rdns:1:{www.test.}*"))

    def test_clients_addresses_are_told(self, redis_server: RedisServer) -> None:
        """Cut to the prefix; what a client says itself counts more, and it is cut as well."""
        args = ("--ecs", "add", "--ecs-prefix4", "20")
        with Upstream(by_network()) as upstream, Node([upstream.address], redis_server.url, 2, args) as node:
            wait_for(lambda: attached(node, 2))
            assert ask(node.port, "www.test.").answer[0][0].to_text() == "127.0.0.0"
            reply = ask(node.port, "www.test.", **client("192.0.31.0/24"))
            assert (reply.answer[0][0].to_text(), told(reply)) == ("192.0.16.0", "192.0.31.0/24/20")
            assert ask(node.port, "other.test.", **client("0.0.0.0/0")).answer[0][0].to_text() == "0.0.0.0"
            assert sorted(asked(upstream)) == ["0.0.0.0/0/0", "127.0.0.0/20/0", "192.0.16.0/20/0"]

    def test_scope_0_is_shared_by_all(self, redis_server: RedisServer) -> None:
        """One query for all networks of the cluster, once it is known; but not because of one that told of nobody."""
        with Upstream(by_network(0)) as upstream:
            with nodes_on(redis_server.url, upstream, 2, 1, ("--ecs", "forward")) as (one, two):
                assert ask(one.port, "www.test.").answer[0][0].to_text() == "0.0.0.0"
                first = ask(one.port, "www.test.", **client("192.0.2.0/24"))
                assert told(first) == "192.0.2.0/24/0"
                wait_for(lambda: redis_server.client().exists("rdns:1:{www.test.}:A"))
                for node in (one, two):
                    reply = ask(node.port, "www.test.", **client("198.51.100.0/24"))
                    assert reply.answer[0][0].to_text() == "192.0.2.0"
                    assert told(reply) == "198.51.100.0/24/0"
                assert asked(upstream) == ["0.0.0.0/0/0", "192.0.2.0/24/0"]

    def test_followers_of_other_nodes(self, redis_server: RedisServer) -> None:
        """Those of one network have one flight across the cluster, whatever the scope that comes back."""
        for scope in (0, 24):
            with Upstream(by_network(scope), delay=0.5) as upstream:
                with nodes_on(redis_server.url, upstream, 2, 1, ("--ecs", "forward")) as nodes:
                    name = f"scope{scope}.test."
                    asking = [
                        __import__("threading").Thread(
                            target=ask, args=(node.port, name), kwargs=client("192.0.2.0/24")
                        )
                        for node in nodes
                    ]
                    for thread in asking:
                        thread.start()
                    for thread in asking:
                        thread.join()
                    assert upstream.count(name) == 1

    def test_by_zone(self, tmp_path: Path) -> None:
        """Told in one zone, stripped elsewhere; and the other way round."""
        file = tmp_path / "node.toml"
        with Upstream(by_network()) as usual, Upstream(by_network()) as near:
            file.write_text(
                f'[[zone]]\nname = "near.test"\nupstream = "{near.address}"\necs = "add"\necs_prefix4 = 16\n'
            )
            with Node([usual.address], args=("--config", str(file))) as node:
                assert ask(node.port, "www.near.test.").answer[0][0].to_text() == "127.0.0.0"
                assert ask(node.port, "www.far.test.").answer[0][0].to_text() == "203.0.113.1"
                assert (asked(near), asked(usual)) == (["127.0.0.0/16/0"], [""])

    def test_malformed_options_are_refused_where_they_matter(self) -> None:
        """FORMERR (RFC 7871 section 7.1.2); where they are stripped anyway they are passed over."""
        odd: dict[str, Any] = {
            "use_edns": 0,
            "options": [dns.edns.GenericOption(dns.edns.OptionType.ECS, bytes.fromhex("00011800c00002ff"))],
        }
        for mode, rcode in (("forward", dns.rcode.FORMERR), ("strip", dns.rcode.NOERROR)):
            with Upstream() as upstream, Node([upstream.address], args=("--ecs", mode)) as node:
                assert ask(node.port, "www.test.", **odd).rcode() == rcode

    def test_a_reply_about_another_subnet_is_not_believed(self) -> None:
        """RFC 7871 section 7.3."""

        def wrong(query: dns.message.Message, transport: str) -> Reply:
            reply = answer(query, "300 A 192.0.2.66")
            reply.use_edns(0, options=[dns.edns.ECSOption("198.51.100.0", 24, 24)])
            return reply

        with Upstream(wrong) as upstream, Upstream(by_network()) as right:
            args = ("--ecs", "forward", "--upstream-policy", "ordered")
            with Node([upstream.address, right.address], args=args) as node:
                reply = ask(node.port, "www.test.", timeout=5, **client("192.0.2.0/24"))
                assert reply.answer[0][0].to_text() == "192.0.2.0"

    def test_an_upstream_without_it(self) -> None:
        """No option in the reply, or no EDNS at all: it holds for all."""

        def plain(query: dns.message.Message, transport: str) -> Reply:
            if query.edns >= 0:
                reply = dns.message.make_response(query)
                reply.set_rcode(dns.rcode.FORMERR)
                reply.use_edns(False)
                return reply
            return answer(query, "300 A 192.0.2.9")

        with Upstream(plain) as upstream, Node([upstream.address], args=("--ecs", "add")) as node:
            assert ask(node.port, "www.test.").answer[0][0].to_text() == "192.0.2.9"
            assert ask(node.port, "www.test.", **client("192.0.2.0/24")).answer[0][0].to_text() == "192.0.2.9"
            assert upstream.total() == 2

    def test_one_client_cannot_have_a_name_asked_for_any_number_of_networks(self) -> None:
        """Each query on its way is one more that a forged reply may hit."""
        with Upstream(by_network(), delay=1.0) as upstream, Node([upstream.address], args=("--ecs", "forward")) as node:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for number in range(100):
                    query = dns.message.make_query("www.test.", "A", **client(f"10.{number}.0.0/24"))
                    sock.sendto(query.to_wire(), ("127.0.0.1", node.port))
                sock.settimeout(5)
                rcodes = [dns.message.from_wire(sock.recv(4096)).rcode() for _ in range(100)]
            assert upstream.total() == rcodes.count(dns.rcode.NOERROR) == 16
            assert rcodes.count(dns.rcode.SERVFAIL) == 84
