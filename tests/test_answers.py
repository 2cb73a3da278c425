"""What becomes of answers: private addresses refused, types left out, nothing kept; byte for byte and on nodes."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
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
    wait_for,
)

from rdnscache.answer_rules import answer_terms
from rdnscache.config import load
from rdnscache.dns.entry import Entry
from rdnscache.dns.names import parse_name
from rdnscache.dns.question import question_key
from rdnscache.dns.wire import parse_reply
from rdnscache.policy.addresses import is_private
from rdnscache.policy.answers import AnswerTerms, Refinement, refine

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.168.1.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:0:192.168.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:a00:1::1", "fc00::1", "fd12::1", "fe80::1",
    "febf::1", "fec0::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "169.253.0.1", "172.15.0.1", "172.32.0.1", "192.167.255.255", "192.169.0.0", "192.0.2.1", "::ffff:192.0.2.1",
    "64:ff9b::192.0.2.1", "2002:c000:201::1", "2001:db8::1", "2606:4700::1111", "fbff::1", "::1:0:0:1", "64:ff9b:2::1",
]  # fmt: skip
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def entry_of(kind: str, records: list[str], rcode: int = 0, do: bool = False) -> Entry:
    """What is kept of a reply to www.example with these records, `NAME TTL TYPE DATA` each."""
    reply = dns.message.make_response(dns.message.make_query("www.example.", kind))
    reply.set_rcode(dns.rcode.Rcode(rcode))
    reply.flags |= dns.flags.AD
    for text in records:
        name, ttl, rtype, data = text.split(" ", 3)
        reply.answer.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
    found = parse_reply(reply.to_wire())
    assert found is not None
    key = question_key(parse_name("www.example"), dns.rdatatype.from_text(kind), 1, int(do))
    return Entry(key, found, 1000.0, 60, 3600, "from=192.0.2.53:53 node=n1")


def without(entry: Entry, *types: str) -> dns.message.Message | None:
    """What is left without some types, as dnspython reads it."""
    found = refine(entry, AnswerTerms(without=frozenset(map(dns.rdatatype.from_text, types))))
    if found is None:
        return None
    assert not found.refused
    assert parse_reply(found.wire) is not None
    return dns.message.from_wire(found.wire)


def rebinding(entry: Entry) -> Refinement | None:
    return refine(entry, AnswerTerms(rebind=True))


@pytest.mark.pure
class TestPrivateAddresses:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_what_leads_into_a_network(self, address: str) -> None:
        """Of this host, a private network or a link, in whatever form an IPv4 address takes in IPv6."""
        assert is_private(ipaddress.ip_address(address).packed)

    @pytest.mark.parametrize("address", PUBLIC)
    def test_what_does_not(self, address: str) -> None:
        """What is right beside, and addresses of documentation, which are nobody's."""
        assert not is_private(ipaddress.ip_address(address).packed)

    @given(st.ip_addresses(v=4))
    def test_ipv4_against_the_standard_library(self, address: ipaddress.IPv4Address) -> None:
        """What Python has for private, link-local and loopback is; what it has for global is not, but for shared."""
        if is_private(address.packed):
            assert not address.is_global
        elif address.is_private:
            assert not any((address.is_loopback, address.is_link_local, address in ipaddress.ip_network("10.0.0.0/8")))

    @pytest.mark.parametrize("address", PRIVATE)
    def test_answers_with_one_are_refused(self, address: str) -> None:
        """Alone, behind others and behind aliases; as a hint of HTTPS as well."""
        kind, hint = ("AAAA", "ipv6hint") if ":" in address else ("A", "ipv4hint")
        other = "2001:db8::1" if ":" in address else "192.0.2.1"
        bad = entry_of(kind, ["www.example. 60 CNAME a.example.", f"a.example. 60 {kind} {other}",
                              f"a.example. 60 {kind} {address}"])  # fmt: skip
        hinted = entry_of("HTTPS", [f"www.example. 60 HTTPS 1 . alpn=h2 {hint}={other},{address}"])
        for entry in (bad, hinted):
            found = rebinding(entry)
            assert found is not None
            assert (found.refused, found.why) == (True, f"rebind={ipaddress.ip_address(address)}")
            assert dns.message.from_wire(found.wire).rcode() == dns.rcode.REFUSED

    @pytest.mark.parametrize(
        ("kind", "records"),
        [
            ("A", ["www.example. 60 A 192.0.2.1"]), ("A", []), ("TXT", ["www.example. 60 TXT 10.0.0.1"]),
            ("HTTPS", ["www.example. 60 HTTPS 1 . alpn=h2"]), ("HTTPS", ["www.example. 60 HTTPS 0 svc.example."]),
            ("CNAME", ["www.example. 60 CNAME a.example."]),
        ],
    )  # fmt: skip
    def test_other_answers_stay(self, kind: str, records: list[str]) -> None:
        """Whatever is not an address leads nowhere."""
        assert rebinding(entry_of(kind, records)) is None


@pytest.mark.pure
class TestTypesLeftOut:
    def test_no_data(self) -> None:
        """The name has none of the type, for as long as the records would have held; nothing else changes."""
        message = without(entry_of("AAAA", ["www.example. 60 AAAA 2001:db8::1"]), "AAAA")
        assert message is not None
        assert (message.rcode(), message.answer) == (dns.rcode.NOERROR, [])
        (soa,) = message.authority
        assert (soa.name.to_text(), soa.rdtype, soa.ttl, soa[0].minimum) == ("www.example.", 6, 60, 60)
        assert not message.flags & dns.flags.AD

    def test_aliases_stay(self) -> None:
        """With their signatures; the SOA is that of the name without data, the signature of what is gone goes too."""
        signature = "{} 8 2 60 20300101000000 20240101000000 1 example. AwEAAcEqyA=="
        records = ["www.example. 300 CNAME a.b.example.", f"www.example. 300 RRSIG {signature.format('CNAME')}",
                   "a.b.example. 60 AAAA 2001:db8::1", f"a.b.example. 60 RRSIG {signature.format('AAAA')}"]  # fmt: skip
        message = without(entry_of("AAAA", records, do=True), "AAAA")
        assert message is not None
        assert [(each.name.to_text(), each.rdtype, each.covers) for each in message.answer] == [
            ("www.example.", 5, 0), ("www.example.", 46, 5),
        ]  # fmt: skip
        assert message.authority[0].name.to_text() == "a.b.example."

    def test_hints(self) -> None:
        """HTTPS loses those of the family, and what says that they are mandatory."""
        text = "1 svc.example. mandatory=alpn,ipv6hint alpn=h2 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"
        entry = entry_of("HTTPS", [f"www.example. 60 HTTPS {text}"])
        message = without(entry, "AAAA")
        assert message is not None
        wanted = '1 svc.example. mandatory="alpn" alpn="h2" ipv4hint="192.0.2.1"'
        assert message.answer[0][0].to_text() == wanted
        message = without(entry, "A", "AAAA")
        assert message is not None
        assert message.answer[0][0].to_text() == '1 svc.example. mandatory="alpn" alpn="h2"'
        only = entry_of("HTTPS", ["www.example. 60 HTTPS 1 . mandatory=ipv6hint ipv6hint=2001:db8::1"])
        message = without(only, "AAAA")
        assert message is not None
        assert message.answer[0][0].to_text() == "1 ."

    @pytest.mark.parametrize(
        ("entry", "types"),
        [
            (entry_of("A", ["www.example. 60 A 192.0.2.1"]), ["AAAA"]),
            (entry_of("AAAA", ["www.example. 60 CNAME a.example."]), ["AAAA"]),
            (entry_of("AAAA", [], rcode=3), ["AAAA"]), (entry_of("AAAA", []), ["AAAA"]),
            (entry_of("HTTPS", ["www.example. 60 HTTPS 1 . ipv4hint=192.0.2.1"]), ["AAAA"]),
            (entry_of("HTTPS", ["www.example. 60 HTTPS 1 . ipv4hint=192.0.2.1"]), ["TXT"]),
        ],
    )  # fmt: skip
    def test_what_has_none_stays(self, entry: Entry, types: list[str]) -> None:
        """Byte for byte: a denial keeps its proofs."""
        assert without(entry, *types) is None

    @given(st.lists(ADDRESSES, min_size=1, max_size=20, unique=True), st.sampled_from(["A", "AAAA"]))
    def test_one_family(self, found: list[ipaddress.IPv4Address | ipaddress.IPv6Address], kind: str) -> None:
        """HTTPS with any hints: those of the other family are all there, in their order."""
        hints = {
            4: [str(each) for each in found if each.version == 4],
            6: [str(each) for each in found if each.version == 6],
        }
        words = [f"ipv{version}hint={','.join(told)}" for version, told in hints.items() if told]
        entry = entry_of("HTTPS", [f"www.example. 60 HTTPS 1 . {' '.join(words)}"])
        message, gone = without(entry, kind), 4 if kind == "A" else 6
        assert (message is not None) == bool(hints[gone])
        if message is not None:
            params = message.answer[0][0].params
            assert {int(key) for key in params} == ({10 - gone} if hints[10 - gone] else set())
            if hints[10 - gone]:
                kept = list(map(ipaddress.ip_address, params[10 - gone].addresses))
                assert kept == list(map(ipaddress.ip_address, hints[10 - gone]))


@pytest.mark.pure
def test_what_holds_where(tmp_path: Path) -> None:
    """Zones with servers of their own may have private addresses; exceptions hold for all below."""
    file = tmp_path / "node.toml"
    file.write_text(
        """
        upstream = "192.0.2.53"
        rebind_protection = true
        rebind_allow = ["corp.example", "list.example"]
        filter_types = "AAAA"
        [[zone]]
        name = "own.example"
        upstream = "192.0.2.54"
        filter_types = ["A", "HTTPS"]
        [[zone]]
        name = "strict.example"
        upstream = "192.0.2.54"
        rebind_protection = true
        [[zone]]
        name = "deep.corp.example"
        upstream = "default"
        ttl_max = 60
        [[zone]]
        name = "lenient.example"
        upstream = "default"
        rebind_protection = false
        """
    )
    terms = answer_terms(load(str(file), {}, {}))
    assert terms is not None
    found = {name: terms.find(parse_name(f"www.{name}")) for name in (
        "example", "own.example", "strict.example", "corp.example", "deep.corp.example", "lenient.example",
    )}  # fmt: skip
    assert [name for name, each in found.items() if each.rebind] == ["example", "strict.example"]
    assert {name for name, each in found.items() if each.without == {28}} == found.keys() - {"own.example"}
    assert found["own.example"].without == {1, 65}
    assert answer_terms(load(None, {"upstream": ("192.0.2.53",)}, {})) is None


@pytest.mark.pure
@pytest.mark.parametrize("types", ["CNAME", "ANY", "OPT", "SOA", "DS", "nonsense", "AXFR", "RRSIG"])
def test_types_that_cannot_be_left_out(types: str) -> None:
    """What zones, aliases and DNSSEC are made of."""
    with pytest.raises(Exception, match=r"--filter-types: "):
        load(None, {"upstream": ("192.0.2.53",), "filter_types": (types,)}, {})


def told(query: dns.message.Message, transport: str) -> Reply:
    """Names with addresses of many kinds; all else as usual."""
    question = query.question[0]
    first = question.name.labels[0]
    if question.rdtype == dns.rdatatype.A:
        return answer(query, f"300 A {'10.0.0.1' if first == b'private' else '192.0.2.1'}")
    if question.rdtype == dns.rdatatype.AAAA and first == b"both":
        return answer(query, "300 AAAA 2001:db8::1")
    if question.rdtype == dns.rdatatype.HTTPS and first == b"both":
        return answer(query, "300 HTTPS 1 . ipv4hint=192.0.2.1 ipv6hint=2001:db8::1")
    return default_handler(query, transport)


class TestNodes:
    def test_rebinding(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """Refused from an upstream, Redis and L1 alike, and the address told; not for exceptions."""
        args = ("--rebind-protection", "yes", "--rebind-allow", "corp.test")
        with Upstream(told) as upstream, Upstream(told) as own:
            zone = ("--zone", f"own.test={own.address}")
            with (
                Node([upstream.address], redis_server.url, 1, (*args, *zone, "--node-id", "n1")) as node,
                Node([upstream.address], redis_server.url, 1, ("--node-id", "n2")) as lax,
                Node([upstream.address], redis_server.url, 1, (*args, "--node-id", "n3")) as late,
            ):
                wait_for(lambda: all(attached(each) for each in (node, lax, late)))
                for _ in range(2):
                    reply = ask(node.port, "private.test.", use_edns=0)
                    assert (reply.rcode(), extended_errors(reply)) == (dns.rcode.REFUSED, [15])
                assert answer_of(lax.port, "private.test.") == "10.0.0.1"
                assert ask(late.port, "private.test.").rcode() == dns.rcode.REFUSED
                assert upstream.count("private.test.") == 1
                assert (
                    answer_of(node.port, "private.corp.test.")
                    == answer_of(node.port, "private.own.test.")
                    == "10.0.0.1"
                )
                assert answer_of(node.port, "www.test.") == "192.0.2.1"
                server = f"127.0.0.1:{node.port}"
                assert "from=rebind=10.0.0.1" in command("query", "private.test", "--trace", "--server", server).stdout
                assert "leads into a network" in node.log()

    def test_a_network_without_ipv6(self) -> None:
        """No AAAA and no hints; what does not exist still does not. A reload brings them back."""
        env = {"RDNSCACHE_FILTER_TYPES": "AAAA"}
        with Upstream(told) as upstream, Node([upstream.address], env=env) as node:
            for _ in range(2):
                reply = ask(node.port, "both.test.", "AAAA", use_edns=0)
                assert (reply.rcode(), reply.answer, reply.authority[0].ttl) == (dns.rcode.NOERROR, [], 300)
                assert extended_errors(reply) == [17]
                assert "ipv6hint" not in str(ask(node.port, "both.test.", "HTTPS").answer[0][0])
            assert answer_of(node.port, "both.test.") == "192.0.2.1"
            assert ask(node.port, "www.nx.", "AAAA").rcode() == dns.rcode.NXDOMAIN
            trace = command("query", "both.test", "AAAA", "--trace", "--server", f"127.0.0.1:{node.port}").stdout
            assert "without=AAAA" in trace

    def test_reload(self, tmp_path: Path) -> None:
        """What was refused is answered, and what was answered is refused, whatever was kept."""
        file = tmp_path / "node.toml"
        file.write_text("rebind_protection = true\n")
        with Upstream(told) as upstream, Node([upstream.address], args=("--config", str(file))) as node:
            assert ask(node.port, "private.test.").rcode() == dns.rcode.REFUSED
            file.write_text('filter_types = ["AAAA"]\n')
            node.reload()
            assert answer_of(node.port, "private.test.") == "10.0.0.1"
            assert not ask(node.port, "both.test.", "AAAA").answer
            file.write_text("rebind_protection = true\n")
            node.reload()
            assert ask(node.port, "private.test.").rcode() == dns.rcode.REFUSED
            assert addresses(ask(node.port, "both.test.", "AAAA")) == ["2001:db8::1"]

    def test_zones_that_are_not_kept(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """Each question is asked anew, though another node keeps its answer; clients have the upstream's TTL."""
        file = tmp_path / "node.toml"
        file.write_text('[[zone]]\nname = "fresh.test"\nupstream = "default"\ncache = false\n')
        with Upstream(told) as upstream:
            with (
                Node([upstream.address], redis_server.url, 1, ("--config", str(file), "--node-id", "n1")) as node,
                Node([upstream.address], redis_server.url, 1, ("--node-id", "n2")) as other,
            ):
                wait_for(lambda: attached(node) and attached(other))
                for times in range(1, 4):
                    assert ask(node.port, "www.fresh.test.").answer[0].ttl == 300
                    assert ask(node.port, "www.fresh.test.", "AAAA").rcode() == dns.rcode.NOERROR
                    assert upstream.count("www.fresh.test.") == upstream.count("www.fresh.test.", "AAAA") == times
                assert not redis_server.client().exists("rdns:1:{www.fresh.test.}:A")
                assert answer_of(other.port, "www.fresh.test.")
                wait_for(lambda: redis_server.client().exists("rdns:1:{www.fresh.test.}:A"))
                assert answer_of(node.port, "www.fresh.test.")
                assert upstream.count("www.fresh.test.") == 5
                answer_of(node.port, "kept.test.")
                answer_of(node.port, "kept.test.")
                assert upstream.count("kept.test.") == 1


def test_explained() -> None:
    """What would become of an answer, where something would."""
    base = ("policy", "explain", "--upstream", "192.0.2.53", "www.example", "--rebind-protection", "yes")
    assert "refused, if it has a private address" in command(*base).stdout
    told = command(*base, "--dns64", "yes", "--json").stdout
    assert "made from A if there are none (64:ff9b::/96)" in told
    assert "HTTPS removed (without)" in command(*base, "--filter-types", "HTTPS").stdout
    assert "of the answer" not in command(*base, "--rebind-allow", "example").stdout
