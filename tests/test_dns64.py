"""DNS64: addresses made of others, byte for byte, and on nodes."""

from __future__ import annotations

import ipaddress
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import (
    Node,
    RedisServer,
    Reply,
    Upstream,
    addresses,
    answer,
    answer_of,
    ask,
    attached,
    command,
    default_handler,
    extended_errors,
    failure,
    negative,
    wait_for,
)

from rdnscache.config import load
from rdnscache.dns.entry import Entry
from rdnscache.dns.names import parse_name
from rdnscache.dns.policy import Limits, settle
from rdnscache.dns.question import question_key
from rdnscache.dns.wire import parse_reply
from rdnscache.errors import ConfigError
from rdnscache.policy.dns64 import LENGTHS, Dns64, read_prefix
from rdnscache.policy.special_names import SpecialNames

#: RFC 6052 section 2.4: a prefix, and what 192.0.2.33 becomes.
EXAMPLES = [
    ("2001:db8::/32", "2001:db8:c000:221::"), ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
    ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"), ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
]  # fmt: skip
WELL_KNOWN = Dns64.of("64:ff9b::/96")
OWN = Dns64.of("2001:db8:64::/96")
V4 = st.ip_addresses(v=4).map(lambda address: address.packed)


def v4(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def entry_of(
    records: list[str], kind: str = "AAAA", rcode: int = 0, soa: int = 0, bits: int = 0, said: str = ""
) -> Entry:
    """What is kept of a reply to www.example: records as `NAME TTL TYPE DATA`, a SOA with this TTL."""
    reply = dns.message.make_response(dns.message.make_query("www.example.", kind))
    reply.set_rcode(dns.rcode.Rcode(rcode))
    for text in records:
        name, ttl, rtype, data = text.split(" ", 3)
        reply.answer.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
    if soa:
        reply.authority.append(
            dns.rrset.from_text("example.", 2 * soa, "IN", "SOA", f"ns. host. 1 3600 600 86400 {soa}")
        )
    key = question_key(parse_name("www.example"), dns.rdatatype.from_text(kind), 1, bits)
    found = parse_reply(reply.to_wire())
    assert found is not None
    found.wire, kept = settle(key, found, Limits())
    return Entry(key, found, 1000.0, kept, 3600, f"from=192.0.2.53:53 node=n1{said}")


def made(dns64: Dns64, entry: Entry, records: list[str], age: int = 0) -> dns.message.Message | None:
    """What is made of the A records of an answer, as dnspython reads it."""
    source = dns.message.make_response(dns.message.make_query("www.example.", "A"))
    for text in records:
        name, ttl, rtype, data = text.split(" ", 3)
        source.answer.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
    reply = parse_reply(source.to_wire())
    assert reply is not None
    wire = dns64.made(entry, reply, age)
    if wire is None:
        return None
    assert parse_reply(wire) is not None
    return dns.message.from_wire(wire)


@pytest.mark.pure
class TestPrefixes:
    @pytest.mark.parametrize(("prefix", "wanted"), EXAMPLES)
    def test_the_table_of_rfc_6052(self, prefix: str, wanted: str) -> None:
        """Section 2.4, both ways."""
        dns64 = Dns64.of(prefix)
        assert ipaddress.IPv6Address(dns64.embed(v4("192.0.2.33"))) == ipaddress.IPv6Address(wanted)
        assert dns64.extract(ipaddress.IPv6Address(wanted).packed) == v4("192.0.2.33")

    @given(st.sampled_from(LENGTHS), V4, st.binary(min_size=16, max_size=16))
    def test_there_and_back(self, length: int, address: bytes, octets: bytes) -> None:
        """Whatever the prefix; bits 64 to 71 stay zero, and an address that is not made so stands for none."""
        base = bytes(0 if at == 8 or at >= length // 8 else octet for at, octet in enumerate(octets))
        dns64 = Dns64.of(f"{ipaddress.IPv6Address(base)}/{length}")
        found = dns64.embed(address)
        assert (dns64.extract(found), found[8]) == (address, 0)
        assert found[: length // 8] == base[: length // 8]
        assert dns64.extract(octets) is None or dns64.embed(dns64.extract(octets) or b"") == octets

    @pytest.mark.parametrize(
        "text", ["2001:db8::/95", "2001:db8::", "2001:db8::1/96", "2001:db8:0:0:100::/96", "192.0.2.0/24", "nat64", ""]
    )
    def test_what_is_none(self, text: str) -> None:
        """Six lengths, no host bits, and zeros where RFC 6052 has them."""
        with pytest.raises(ValueError, match=r"prefix|bits"):
            read_prefix(text)

    @pytest.mark.parametrize(
        ("address", "well_known", "own"),
        [
            ("192.0.2.1", True, True), ("192.0.0.170", True, True), ("10.0.0.1", False, True),
            ("192.168.1.1", False, True), ("100.64.0.1", False, True), ("127.0.0.1", False, False),
            ("0.0.0.0", False, False), ("169.254.169.254", False, False), ("224.0.0.1", False, False),
            ("255.255.255.255", False, False),
        ],
    )  # fmt: skip
    def test_what_is_translated(self, address: str, well_known: bool, own: bool) -> None:
        """The prefix for everybody leads to the internet only (RFC 6052 section 3.1), and none to the translator."""
        assert (WELL_KNOWN.serves(v4(address)), OWN.serves(v4(address))) == (well_known, own)


@pytest.mark.pure
class TestWhenAddressesAreMade:
    @pytest.mark.parametrize(
        ("entry", "lacks"),
        [
            (entry_of([], soa=60), True), (entry_of([]), True), (entry_of([], rcode=3, soa=60), False),
            (entry_of(["www.example. 60 CNAME a.example."]), True),
            (entry_of(["www.example. 60 AAAA 2001:db8::1"]), False),
            (entry_of(["www.example. 60 AAAA ::ffff:192.0.2.1"]), True), (entry_of([], "A"), False),
            (entry_of(["www.example. 60 AAAA ::ffff:192.0.2.1", "www.example. 60 AAAA 2001:db8::1"]), False),
            (entry_of([], rcode=2, said=" why=said"), True), (entry_of([], rcode=2, said=" why=silent"), True),
            (entry_of([], rcode=2, said=" why=local"), False), (entry_of([], rcode=2, said=" why=unreachable"), False),
            (entry_of([], soa=60, bits=1), True), (entry_of([], soa=60, bits=2), True),
            (entry_of([], soa=60, bits=3), False), (entry_of([], soa=60, said=" dns64=none"), False),
        ],
    )  # fmt: skip
    def test_where_there_are_no_others(self, entry: Entry, lacks: bool) -> None:
        """RFC 6147 sections 5.1.1 to 5.1.4: no data, excluded addresses, failures of the name; never with DO and CD."""
        assert WELL_KNOWN.lacks(entry) == lacks

    def test_excluded_addresses(self) -> None:
        """Where others are left, those are the answer (section 5.1.4); more may be excluded."""
        entry = entry_of(["www.example. 60 CNAME a.example.", "a.example. 60 AAAA ::ffff:192.0.2.1",
                          "a.example. 60 AAAA 2001:db8::1"])  # fmt: skip
        wire = WELL_KNOWN.trimmed(entry)
        assert wire is not None
        message = dns.message.from_wire(wire)
        assert [each.to_text() for each in message.answer] == [
            "www.example. 60 IN CNAME a.example.", "a.example. 60 IN AAAA 2001:db8::1",
        ]  # fmt: skip
        assert Dns64.of("64:ff9b::/96", ["2001:db8::/32", "::ffff:0:0/96"]).lacks(entry)
        assert Dns64.of("64:ff9b::/96", ["2001:db8:1::/48"]).trimmed(entry) is None


@pytest.mark.pure
class TestMadeAddresses:
    def test_the_example_of_rfc_6147(self) -> None:
        """Section 7.1: h2.example.com has 192.0.2.1 only."""
        message = made(Dns64.of("2001:db8:8000::/96"), entry_of([], soa=600), ["www.example. 300 A 192.0.2.1"])
        assert message is not None
        assert [each.to_text() for each in message.answer] == ["www.example. 300 IN AAAA 2001:db8:8000::c000:201"]

    @pytest.mark.parametrize(
        ("soa", "ttl", "age", "wanted"),
        [(60, 300, 0, 60), (600, 300, 0, 300), (0, 3600, 0, 600), (0, 30, 0, 30), (60, 300, 20, 40), (60, 300, 90, 0)],
    )
    def test_ttl(self, soa: int, ttl: int, age: int, wanted: int) -> None:
        """That of the A record or of the denial, whichever is less; without SOA 600 seconds (section 5.1.7)."""
        message = made(WELL_KNOWN, entry_of([], soa=soa), [f"www.example. {ttl} A 192.0.2.1"], age)
        assert message is not None
        assert message.answer[0].ttl == wanted

    def test_aliases(self) -> None:
        """The chain stays, with TTLs of its own (section 5.1.5); signatures of the other type go."""
        signature = "{} 8 2 60 20300101000000 20240101000000 1 example. AwEAAcEqyA=="
        records = ["www.example. 3600 CNAME a.example.", f"www.example. 3600 RRSIG {signature.format('CNAME')}",
                   "a.example. 60 A 192.0.2.1", "a.example. 60 A 192.0.2.2",
                   f"a.example. 60 RRSIG {signature.format('A')}"]  # fmt: skip
        message = made(WELL_KNOWN, entry_of(records[:1], bits=1), records)
        assert message is not None
        assert [(each.name.to_text(), each.rdtype, each.ttl, len(each)) for each in message.answer] == [
            ("www.example.", 5, 3600, 1), ("www.example.", 46, 3600, 1), ("a.example.", 28, 60, 2),
        ]  # fmt: skip

    @given(st.lists(V4, min_size=1, max_size=50, unique=True), st.sampled_from([prefix for prefix, _ in EXAMPLES]))
    def test_any_addresses(self, found: list[bytes], prefix: str) -> None:
        """All that may be translated, in their order, and no others; none where none may."""
        dns64 = Dns64.of(prefix)
        texts = [str(ipaddress.IPv4Address(each)) for each in found]
        message = made(dns64, entry_of([], soa=60), [f"www.example. 60 A {text}" for text in texts])
        wanted = [str(ipaddress.IPv6Address(dns64.embed(each))) for each in found if dns64.serves(each)]
        assert (message is None) == (not wanted)
        if message is not None:
            assert [str(ipaddress.IPv6Address(each)) for each in addresses(message)] == wanted

    def test_more_than_fit_into_a_message(self) -> None:
        """As many as fit: an address of IPv6 is four times as long."""
        records = [f"www.example. 60 A 192.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(3500)]
        message = made(WELL_KNOWN, entry_of([], soa=60), records)
        assert message is not None
        assert 2000 < len(addresses(message)) < 2500


@pytest.mark.pure
class TestNamesOfAddresses:
    special = SpecialNames(["private"], [parse_name("5.5.5.2.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa")], dns64=OWN)

    def told(self, name: str, kind: int = 12) -> str:
        found = self.special.of(question_key(parse_name(name), kind, 1, 0))
        if found is None:
            return "asked"
        message = dns.message.from_wire(found.wire)
        return " ".join(each.to_text() for each in message.answer) or dns.rcode.to_text(message.rcode())

    def test_pointers(self) -> None:
        """A name below the prefix is an alias of the other one's (section 5.3.1); all others are asked."""
        name = dns.reversename.from_address("2001:db8:64::192.0.2.10").to_text()
        assert self.told(name) == f"{name} 600 IN CNAME 10.2.0.192.in-addr.arpa."
        found = self.special.of(question_key(parse_name(name.upper()), 12, 1, 0))
        assert found is not None
        assert (found.why, found.target) == ("dns64=2001:db8:64::/96", parse_name("10.2.0.192.in-addr.arpa"))
        assert self.told(name, 16) == self.told(name[2:]) == self.told(f"0.{name}") == "asked"
        for address in ("2001:db8:65::192.0.2.10", "2001:db8:64::127.0.0.1", "2001:db8::1"):
            assert self.told(dns.reversename.from_address(address).to_text()) == "asked"
        assert self.told("z" + name[1:]) == "asked"

    def test_ipv4only_arpa(self) -> None:
        """RFC 7050 and RFC 8880: whoever looks for the prefix finds it, without anybody being asked."""
        assert self.told("ipv4only.arpa", 1).split()[4::5] == ["192.0.0.170", "192.0.0.171"]
        wanted = ["2001:db8:64::c000:aa", "2001:db8:64::c000:ab"]
        assert self.told("ipv4only.arpa", 28).replace("\n", " ").split()[4::5] == wanted
        assert self.told("ipv4only.arpa", 16) == "NOERROR"
        assert self.told("www.ipv4only.arpa", 1) == "NXDOMAIN"
        assert self.told("ipv4only.arpa", 43) == "asked"
        assert self.told("171.0.0.192.in-addr.arpa").split()[4] == "ipv4only.arpa."
        assert SpecialNames(["private"]).of(question_key(parse_name("ipv4only.arpa"), 28, 1, 0)) is None


@pytest.mark.pure
def test_options(tmp_path: Path) -> None:
    """A prefix, or a word for the one for everybody; what DNS64 is made of must not be filtered."""
    base = {"upstream": ("192.0.2.53",)}

    def found(**given: object) -> str:
        return load(None, base | given, {}).dns64

    assert found(dns64="yes") == found(dns64=True) == "64:ff9b::/96"
    assert found(dns64="no") == found(dns64=False) == found() == ""
    assert found(dns64="2001:DB8:0::/32") == "2001:db8::/32"
    for kind in ("A", "AAAA"):
        with pytest.raises(ConfigError, match=f"filter_types has {kind}"):
            found(dns64="yes", filter_types=(kind,))
    file = tmp_path / "node.toml"
    file.write_text(
        'upstream = "192.0.2.53"\nfilter_types = "AAAA"\n[[zone]]\nname = "a.test"\nupstream = "default"\ndns64 = true'
    )
    with pytest.raises(ConfigError, match=r"zone a\.test\.: filter_types"):
        load(str(file), {}, {})
    with pytest.raises(ConfigError, match="IPv6"):
        found(dns64_exclude=("192.0.2.0/24",))


def told(query: dns.message.Message, transport: str) -> Reply:
    """By the first label: what AAAA and A are answered with; all else has an A record only."""
    question = query.question[0]
    first, kind = question.name.labels[0], question.rdtype
    if kind == dns.rdatatype.PTR:
        return answer(query, "300 PTR host.test.")
    if first == b"six" and kind == dns.rdatatype.AAAA:
        return answer(query, "300 AAAA 2001:db8::1")
    if first == b"broken" and kind == dns.rdatatype.AAAA:
        return failure(query)
    if first == b"neither" or (first == b"half" and kind == dns.rdatatype.A):
        return negative(query, dns.rcode.NOERROR) if first == b"neither" else failure(query)
    if first == b"private" and kind == dns.rdatatype.A:
        return answer(query, "300 A 10.0.0.1")
    if first == b"alias":
        reply = answer(query, "300 CNAME www.other.test.")
        if kind == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text("www.other.test.", 60, "IN", "A", "192.0.2.7"))
        return reply
    return default_handler(query, transport)


class TestNodes:
    def test_a_network_with_nat64(self) -> None:
        """What has IPv4 only is reached through the translator; whatever else is asked is as it was."""
        with Upstream(told) as upstream, Node([upstream.address], args=("--dns64", "yes")) as node:
            for _ in range(2):
                assert addresses(ask(node.port, "www.test.", "AAAA")) == ["64:ff9b::c000:201"]
            assert upstream.count("www.test.", "AAAA") == upstream.count("www.test.", "A") == 1
            assert addresses(ask(node.port, "six.test.", "AAAA")) == ["2001:db8::1"]
            assert upstream.count("six.test.", "A") == 0
            assert answer_of(node.port, "www.test.") == "192.0.2.1"
            assert ask(node.port, "www.nx.", "AAAA").rcode() == dns.rcode.NXDOMAIN
            for _ in range(2):
                nodata = ask(node.port, "neither.test.", "AAAA")
                assert (nodata.rcode(), nodata.answer, nodata.authority[0].ttl > 290) == (dns.rcode.NOERROR, [], True)
            assert upstream.count("neither.test.", "AAAA") == upstream.count("neither.test.", "A") == 1
            assert addresses(ask(node.port, "broken.test.", "AAAA")) == ["64:ff9b::c000:201"]
            assert ask(node.port, "half.test.", "AAAA").rcode() == dns.rcode.SERVFAIL
            reply = ask(node.port, "alias.test.", "AAAA")
            assert [each.rdtype for each in reply.answer] == [5, 28]
            assert not ask(node.port, "private.test.", "AAAA").answer  # no translator of everybody's leads there
            name = dns.reversename.from_address("64:ff9b::198.18.0.10")
            assert [each.rdtype for each in ask(node.port, name, "PTR").answer] == [5, 12]
            found = addresses(ask(node.port, "ipv4only.arpa.", "AAAA"))
            assert found == ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]
            assert upstream.count("ipv4only.arpa.", "AAAA") == 0
            server = f"127.0.0.1:{node.port}"
            trace = command("query", "www.test", "AAAA", "--trace", "--server", server).stdout
            assert "dns64=64:ff9b::/96" in trace

    def test_who_validates_makes_them_itself(self) -> None:
        """With DO and CD nothing is made (section 5.5); with either alone it is."""
        with Upstream(told) as upstream, Node([upstream.address], args=("--dns64", "2001:db8:64::/96")) as node:
            for do in (False, True):
                for cd in (0, dns.flags.CD):
                    reply = ask(node.port, "www.test.", "AAAA", want_dnssec=do, flags=dns.flags.RD | cd)
                    assert bool(reply.answer) == (not (do and cd))

    def test_without_rd(self) -> None:
        """Who does not want recursion causes none, whatever half of the answer is known."""
        with Upstream(told) as upstream, Node([upstream.address], args=("--dns64", "yes")) as node:
            assert ask(node.port, "www.test.", "AAAA", flags=0).rcode() == dns.rcode.REFUSED
            assert ask(node.port, "ipv4only.arpa.", "AAAA", flags=0).rcode() == dns.rcode.NOERROR
            name = dns.reversename.from_address("64:ff9b::198.18.0.10")
            ask(node.port, name, "PTR", flags=0)
            assert upstream.total() == 0

    def test_few_greenlets(self) -> None:
        """A question that needs another one does not wait for a greenlet that waits for the same."""
        with Upstream(told, delay=0.02) as upstream:
            with Node([upstream.address], args=("--dns64", "yes", "--max-flights", "4")) as node:
                names = [f"n{number}.test." for number in range(24)]
                with ThreadPoolExecutor(len(names)) as pool:
                    replies = pool.map(lambda name: ask(node.port, name, "AAAA", timeout=10), names)
                    assert {tuple(addresses(reply)) for reply in replies} == {("64:ff9b::c000:201",)}

    def test_what_is_shared(self, redis_server: RedisServer) -> None:
        """Redis has what upstreams said, so a node without DNS64 and one with another prefix share it."""
        with Upstream(told) as upstream:
            with (
                Node([upstream.address], redis_server.url, 1, ("--dns64", "yes", "--node-id", "n1")) as one,
                Node(
                    [upstream.address], redis_server.url, 1, ("--dns64", "2001:db8:64::/96", "--node-id", "n2")
                ) as two,
                Node([upstream.address], redis_server.url, 1, ("--node-id", "n3")) as none,
            ):
                wait_for(lambda: all(attached(node) for node in (one, two, none)))
                assert addresses(ask(one.port, "www.test.", "AAAA")) == ["64:ff9b::c000:201"]
                wait_for(lambda: redis_server.client().exists("rdns:1:{www.test.}:AAAA", "rdns:1:{www.test.}:A") == 2)
                assert addresses(ask(two.port, "www.test.", "AAAA")) == ["2001:db8:64::c000:201"]
                assert not ask(none.port, "www.test.", "AAAA").answer
                assert upstream.count("www.test.", "AAAA") == upstream.count("www.test.") == 1
                ask(none.port, "known.test.", "AAAA")
                wait_for(lambda: redis_server.client().exists("rdns:1:{known.test.}:AAAA"))
                reply = ask(one.port, "known.test.", "AAAA", flags=0)  # no recursion, also not for the other half
                assert (reply.rcode(), upstream.count("known.test.")) == (dns.rcode.REFUSED, 0)

    def test_beside_other_rules(self, tmp_path: Path) -> None:
        """A refused address makes none, a zone may be without, and a reload changes it all."""
        file = tmp_path / "node.toml"
        file.write_text(
            'rebind_protection = true\ndns64 = "2001:db8:64::/96"\n'
            '[[zone]]\nname = "plain.test"\nupstream = "default"\ndns64 = false\n'
            '[[zone]]\nname = "fresh.test"\nupstream = "default"\ncache = false\n'
        )
        with Upstream(told) as upstream, Node([upstream.address], args=("--config", str(file))) as node:
            reply = ask(node.port, "private.test.", "AAAA", use_edns=0)
            assert (reply.rcode(), extended_errors(reply)) == (dns.rcode.REFUSED, [15])
            assert not ask(node.port, "www.plain.test.", "AAAA").answer
            for times in (1, 2):
                assert addresses(ask(node.port, "www.fresh.test.", "AAAA")) == ["2001:db8:64::c000:201"]
                assert upstream.count("www.fresh.test.", "AAAA") == upstream.count("www.fresh.test.") == times
            file.write_text("dns64 = true\n")
            node.reload()
            assert addresses(ask(node.port, "www.plain.test.", "AAAA")) == ["64:ff9b::c000:201"]
            file.write_text("")
            node.reload()
            assert not ask(node.port, "www.plain.test.", "AAAA").answer
