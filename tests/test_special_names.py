"""Names of special use: what is said of them, and that nobody else is asked."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import dns.message
import dns.rcode
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Node, Upstream, addresses, answer_of, ask, command, wait_for

from rdnscache.dns.names import parse_name, type_number
from rdnscache.dns.question import question_key
from rdnscache.dns.wire import parse_reply
from rdnscache.policy.special_names import DEFAULT_SETS, SETS, SpecialNames, read_sets

#: Networks whose reverse zones are answered here: RFC 6303 section 4, RFC 7793, RFC 9637.
NETWORKS = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24",
    "192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24", "255.255.255.255/32", "::/128", "::1/128", "fd00::/8",
    "fe80::/10", "2001:db8::/32", "3fff::/20",
]  # fmt: skip


def told(special: SpecialNames, name: str, kind: str = "A") -> dns.message.Message | None:
    """What is said of a question, as dnspython reads it; it is always well formed."""
    found = special.of(question_key(parse_name(name), type_number(kind), 1, 0))
    if found is None:
        return None
    assert parse_reply(found.wire) is not None
    return dns.message.from_wire(found.wire)


def outcome(special: SpecialNames, name: str, kind: str = "A") -> str:
    """`asked`, the RCODE of a denial, or the records."""
    message = told(special, name, kind)
    if message is None:
        return "asked"
    if message.answer:
        return " ".join(rdata.to_text() for rrset in message.answer for rdata in rrset)
    assert message.authority[0].rdtype == 6
    assert message.question[0].name.is_subdomain(message.authority[0].name)
    return "NODATA" if message.rcode() == dns.rcode.NOERROR else dns.rcode.to_text(message.rcode())


@pytest.mark.pure
class TestAnswers:
    @pytest.mark.parametrize(
        ("name", "kind", "wanted"),
        [
            ("localhost", "A", "127.0.0.1"), ("localhost", "AAAA", "::1"), ("LocalHost", "TXT", "NODATA"),
            ("www.localhost", "A", "127.0.0.1"), ("a.b.localhost", "AAAA", "::1"), ("localhost", "DS", "NODATA"),
            ("1.0.0.127.in-addr.arpa", "PTR", "localhost."), ("0.0.127.in-addr.arpa", "PTR", "NODATA"),
            ("2.0.0.127.in-addr.arpa", "PTR", "NXDOMAIN"), ("127.in-addr.arpa", "NS", "127.in-addr.arpa."),
            ("home.arpa", "A", "NODATA"), ("nas.home.arpa", "A", "NXDOMAIN"), ("home.arpa", "DS", "asked"),
            ("nas.home.arpa", "DS", "NXDOMAIN"), ("home.arpa", "NS", "home.arpa."), ("service.arpa", "A", "NODATA"),
            ("home.arpa", "SOA", "home.arpa. nobody.invalid. 1 3600 1200 604800 10800"),
            ("_dns.resolver.arpa", "SVCB", "NODATA"), ("resolver.arpa", "DS", "NODATA"),
            ("onion", "A", "NXDOMAIN"), ("x.onion", "AAAA", "NXDOMAIN"), ("onion", "NS", "NXDOMAIN"),
            ("a.invalid", "TXT", "NXDOMAIN"), ("a.alt", "A", "NXDOMAIN"), ("printer.local", "A", "NXDOMAIN"),
            ("local", "DS", "NXDOMAIN"), ("notlocal", "DS", "asked"), ("local.example", "A", "asked"),
            ("www.test", "A", "asked"), ("www.example", "A", "asked"), ("a.internal", "A", "asked"),
            ("use-application-dns.net", "A", "asked"), ("8.8.8.8.in-addr.arpa", "PTR", "asked"),
            ("172.in-addr.arpa", "NS", "asked"), ("1.0.15.172.in-addr.arpa", "PTR", "asked"),
            ("ipv4only.arpa", "A", "asked"), (".", "NS", "asked"), (".", "A", "asked"),
        ],
    )  # fmt: skip
    def test_by_default(self, name: str, kind: str, wanted: str) -> None:
        """Each as its RFC has it; what is not of special use, and what a zone's parent says of it, is asked."""
        assert outcome(SpecialNames(DEFAULT_SETS), name, kind) == wanted

    @pytest.mark.parametrize("name", ["test", "www.test", "www.example", "db.internal", "use-application-dns.net"])
    def test_sets_that_are_chosen(self, name: str) -> None:
        """People use these names in networks of their own, so they are denied only where that is wanted."""
        assert outcome(SpecialNames(SETS), name) == "NXDOMAIN"
        assert outcome(SpecialNames(()), name) == "asked"

    @pytest.mark.parametrize("network", NETWORKS)
    def test_reverse_zones(self, network: str) -> None:
        """Both ends of each network are answered here, and what is right beside it is not, unless it is another's."""
        special, net = SpecialNames(DEFAULT_SETS), ipaddress.ip_network(network)
        for address in (net[0], net[-1]):
            assert outcome(special, address.reverse_pointer, "PTR") != "asked"
        others = [ipaddress.ip_network(each) for each in NETWORKS]
        for number in (int(net[0]) - 1, int(net[-1]) + 1):
            if 0 <= number < 1 << net.max_prefixlen:
                beside = type(net[0])(number)
                inside = any(beside in each for each in others)
                assert (outcome(special, beside.reverse_pointer, "PTR") != "asked") == inside

    def test_zones_of_ones_own_win(self) -> None:
        """At the name, above it or below it, whoever is asked there; and what they prove to exist is not denied."""
        own = ("corp.local", "10.in-addr.arpa", "arpa.example", "lan")
        special = SpecialNames(DEFAULT_SETS, map(parse_name, own), single=False)
        assert outcome(special, "www.corp.local") == "asked"
        assert outcome(special, "other.local") == "NXDOMAIN"
        assert outcome(special, "local") == "NODATA"
        assert outcome(special, "corp.local", "DS") == "NODATA"
        assert outcome(special, "1.0.0.10.in-addr.arpa", "PTR") == "asked"
        assert outcome(special, "1.1.168.192.in-addr.arpa", "PTR") == "NXDOMAIN"
        assert outcome(special, "lan") == outcome(special, "nas.lan") == "asked"
        above = SpecialNames(DEFAULT_SETS, [parse_name("in-addr.arpa")])
        assert outcome(above, "1.0.0.10.in-addr.arpa", "PTR") == "asked"

    def test_local_records_prove_that_a_name_exists(self) -> None:
        """A name with local ones below it has no data, or who believes RFC 8020 would not ask for those."""
        there = parse_name("0.0.10.in-addr.arpa"), parse_name("lan")
        special = SpecialNames(DEFAULT_SETS, single=False, exists=lambda name: name in there)
        assert outcome(special, "0.0.10.in-addr.arpa", "PTR") == "NODATA"
        assert outcome(special, "1.0.10.in-addr.arpa", "PTR") == "NXDOMAIN"
        assert outcome(special, "lan") == "NODATA"

    @pytest.mark.parametrize("kind", ["A", "AAAA", "MX", "TXT", "HTTPS", "PTR", "SRV", "CNAME"])
    def test_names_of_one_label(self, kind: str) -> None:
        """Their hosts are nobody else's business, and whoever may know them later is not told for long."""
        special = SpecialNames((), single=False)
        assert outcome(special, "printer", kind) == "NXDOMAIN"
        message = told(special, "printer", kind)
        assert message is not None
        assert message.authority[0].ttl == 60
        assert outcome(special, ".", kind) == outcome(special, "printer.office", kind) == "asked"

    @pytest.mark.parametrize("kind", ["NS", "SOA", "DS", "DNSKEY", "NSEC", "CDS", "ZONEMD"])
    def test_top_level_domains(self, kind: str) -> None:
        """What is asked about a zone as such is asked on, for validation and for people with dig."""
        assert outcome(SpecialNames(DEFAULT_SETS, single=False), "com", kind) == "asked"

    def test_domains_of_sets_that_are_not_chosen(self) -> None:
        """Who has such names asked has them as domains, with a name of their own."""
        special = SpecialNames(["onion"], single=False)
        assert [outcome(special, name) for name in ("test", "local", "onion")] == ["asked", "asked", "NXDOMAIN"]

    @given(
        st.lists(
            st.sampled_from(["localhost", "onion", "arpa", "home", "10", "127", "0", "in-addr"]), min_size=1, max_size=6
        ),
        st.sampled_from(["A", "AAAA", "NS", "SOA", "DS", "PTR", "SVCB"]),
    )
    def test_a_denied_name_has_nothing_below_it(self, labels: list[str], kind: str) -> None:
        """Where a name is denied, none below it has data (RFC 8020)."""
        special = SpecialNames(DEFAULT_SETS, single=False)
        name = ".".join(labels)
        if outcome(special, name, kind) == "NXDOMAIN":
            assert outcome(special, f"x.{name}", kind) in ("NXDOMAIN", "asked" if "." not in name else "NXDOMAIN")


@pytest.mark.pure
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["default"], set(DEFAULT_SETS)), (["all"], set(SETS)), (["none"], set()), (["onion", "alt"], {"onion", "alt"}),
        (["no-local"], {*DEFAULT_SETS} - {"local"}), (["default", "test"], {*DEFAULT_SETS, "test"}),
        (["all", "no-test", "no-private"], {*SETS} - {"test", "private"}), (["onion", "no-onion"], set()),
    ],
)  # fmt: skip
def test_sets_as_people_name_them(words: list[str], wanted: set[str]) -> None:
    """One after the other; where the first takes one away, it is taken from the default."""
    assert set(read_sets(words)) == wanted


@pytest.mark.pure
@pytest.mark.parametrize("word", ["localhosts", "no-all", "-local", "no-", "Local"])
def test_a_set_that_is_none(word: str) -> None:
    """One sentence that has them all."""
    with pytest.raises(ValueError, match=r"is none of default, all, none, localhost, "):
        read_sets([word])


class TestNodes:
    def test_nothing_leaks(self, tmp_path: Path) -> None:
        """Not to an upstream, whatever is asked; what the node is told of such names is answered."""
        hosts = tmp_path / "hosts"
        hosts.write_text("10.1.2.3 nas.home.arpa nas\n")
        args = ("--hosts", str(hosts))
        with Upstream() as upstream, Node([upstream.address], args=args) as node:
            for name in ("printer", "x.onion", "a.local", "1.2.3.10.in-addr.arpa", "other.home.arpa", "a.alt"):
                for kind in ("A", "AAAA", "PTR", "HTTPS"):
                    for _ in range(2):
                        assert ask(node.port, name, kind).rcode() == dns.rcode.NXDOMAIN
            assert answer_of(node.port, "localhost.") == "127.0.0.1"
            assert addresses(ask(node.port, "www.localhost.", "AAAA")) == ["::1"]
            assert ask(node.port, dns.reversename.from_address("::1"), "PTR").answer[0][0].to_text() == "localhost."
            assert (reply := ask(node.port, "_dns.resolver.arpa.", "SVCB")).rcode() == dns.rcode.NOERROR
            assert not reply.answer
            assert answer_of(node.port, "nas.home.arpa.") == answer_of(node.port, "nas.") == "10.1.2.3"
            back = ask(node.port, dns.reversename.from_address("10.1.2.3"), "PTR")
            assert back.answer[0][0].to_text() == "nas.home.arpa."
            assert ask(node.port, "2.1.10.in-addr.arpa.", "PTR").rcode() == dns.rcode.NOERROR
            assert upstream.total() == 0
            server = f"127.0.0.1:{node.port}"
            assert "from=special=home.arpa" in command("query", "a.home.arpa", "--trace", "--server", server).stdout
            ask(node.port, "com.", "NS")
            ask(node.port, "home.arpa.", "DS")
            answer_of(node.port, "www.test.")
            assert upstream.total() == 3

    def test_each_can_be_switched(self) -> None:
        """By the option, at a reload as well, and for a part of them by a zone."""
        with Upstream() as usual, Upstream() as own:
            env = {"RDNSCACHE_SPECIAL_NAMES": "default no-local test", "RDNSCACHE_SINGLE_LABEL": "yes"}
            zones = f"10.0.0.0/8={own.address} lan.home.arpa=default"
            with Node([usual.address], env=env | {"RDNSCACHE_ZONE": zones}) as node:
                for name in ("a.local.", "printer.", "nas.lan.home.arpa."):
                    assert answer_of(node.port, name)
                assert usual.total() == 3
                assert ask(node.port, "1.0.0.10.in-addr.arpa.", "PTR").rcode() == dns.rcode.NOERROR
                assert own.total() == 1
                for name in ("www.test.", "1.1.168.192.in-addr.arpa.", "other.home.arpa."):
                    assert ask(node.port, name).rcode() == dns.rcode.NXDOMAIN
                assert (usual.total(), own.total()) == (3, 1)

    def test_a_reload_changes_them(self, tmp_path: Path) -> None:
        """What had been answered here is asked then, and the other way round, whatever was kept."""
        file = tmp_path / "node.toml"
        file.write_text('special_names = ["none"]\n')
        with Upstream() as upstream, Node([upstream.address], args=("--config", str(file))) as node:
            assert answer_of(node.port, "a.local.")
            file.write_text('special_names = ["local"]\n')
            node.reload()
            assert ask(node.port, "a.local.").rcode() == dns.rcode.NXDOMAIN
            file.write_text('single_label = false\nspecial_names = "none"\n')
            node.reload()
            assert answer_of(node.port, "a.local.")
            wait_for(lambda: upstream.count("a.local.") == 2)

    def test_explained(self) -> None:
        """Which set it is, or that it is none."""
        base = ("policy", "explain", "--upstream", "192.0.2.53")
        assert "special=private" in command(*base, "1.0.0.10.in-addr.arpa").stdout
        assert "special=single-label" in command(*base, "printer").stdout
        assert "asked of" in command(*base, "1.0.0.10.in-addr.arpa", "--special-names", "no-private").stdout
        assert "asked of" in command(*base, "printer", "--single-label", "yes").stdout
        refused = command("serve", "--check", "--upstream", "192.0.2.53", "--special-names", "lokal")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
