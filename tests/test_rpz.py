"""Response policy zones: text, rules, which rule counts, and what it answers; read by dnspython. No network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.dns.names import name_text, parse_name, type_number
from rdnscache.dns.question import question_key
from rdnscache.dns.wire import parse_reply
from rdnscache.policy.address_table import AddressTable, build_addresses
from rdnscache.policy.blocking import BlockAnswer
from rdnscache.policy.list_text import Item, Remark
from rdnscache.policy.lists import Listed, Lists
from rdnscache.policy.name_table import NameTable, build
from rdnscache.policy.rpz import RpzZone
from rdnscache.policy.rpz_rules import Rule
from rdnscache.policy.rpz_table import RpzTable, build_rpz
from rdnscache.policy.rpz_text import is_zone, read_rpz
from rdnscache.policy.rules import Policy
from rdnscache.policy.verdict import ANSWERED, DROPPED, TRUNCATED, Verdict

pytestmark = pytest.mark.pure

KEY = b"k" * 16
HEAD = """$TTL 300
@ SOA ns.rpz.example. root.rpz.example. ( 7 3600 600
  86400 60 )
  NS localhost.
"""


class Notes:
    """What is found in a zone."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.remarks: list[Remark] = []

    def note(self, found: Rule | Remark) -> bool:
        if isinstance(found, Remark):
            self.remarks.append(found)
            return False
        self.rules.append(found)
        return True


def zone(text: str | bytes, name: str = "z.rpz", notes: Notes | None = None, head: str = HEAD) -> RpzZone:
    octets = head.encode() + (text if isinstance(text, bytes) else text.encode())
    return RpzZone(name, RpzTable(build_rpz(read_rpz([octets]), KEY, notes or Notes())))


def policy(*texts: str, lists: Iterable[tuple[int, list[Item]]] = ()) -> Policy:
    zones = [zone(text, f"z{number}.rpz")._replace(place=number) for number, text in enumerate(texts)]
    table = NameTable(build(lists, KEY))
    return Policy(None, (), Lists([Listed("list", table)], zones=zones), BlockAnswer())


def key_of(name: str, kind: str = "A") -> bytes:
    return question_key(parse_name(name), type_number(kind), 1, 0)


def reply_to(name: str, kind: str, *records: str) -> tuple[bytes, bytes, int]:
    """A question, and what an upstream answers as an entry has it; a record is "owner ttl type data"."""
    message = dns.message.make_response(dns.message.make_query(name, kind))
    for record in records:
        owner, ttl, rtype, data = record.split(" ", 3)
        message.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", rtype, data))
    reply = parse_reply(message.to_wire())
    assert reply is not None
    return key_of(name, kind), reply.wire[reply.end :], reply.ancount


def told(verdict: Verdict | None, name: str = "", kind: str = "A") -> tuple[str, list[str]]:
    """RCODE and answer of a verdict, which must be a reply that can be kept and says whose policy it is."""
    assert verdict is not None
    assert verdict.action == ANSWERED
    reply = parse_reply(verdict.wire)
    assert reply is not None
    message = dns.message.from_wire(verdict.wire)
    if name:
        assert reply.question() == key_of(name, kind)[:-1]
    assert [each.rdtype for each in message.additional] == [6]
    assert message.additional[0][0].serial == 7
    if not message.answer:
        assert [each.rdtype for each in message.authority] == [6]
        assert message.authority[0].name == message.question[0].name
        assert message.authority[0][0].minimum == message.authority[0].ttl == verdict.ttl
    answers = [line for rrset in message.answer for line in rrset.to_text().split("\n")]
    return dns.rcode.to_text(message.rcode()), answers


ACTIONS = """
nx.test CNAME .
nodata.test 60 CNAME *.
pass.test CNAME rpz-passthru.
old.test CNAME old.test.
drop.test CNAME RPZ-DROP.
tcp.test 10 CNAME rpz-tcp-only.
*.wild.test CNAME .
but.wild.test CNAME rpz-passthru.
*.deep.wild.test CNAME *.
local.test 30 A 192.0.2.1
  TXT "walled"
local.test AAAA 2001:db8::1
to.test CNAME garden.example.
*.to.test CNAME *.garden.example.
*.self.test CNAME garden.self.test.
"""


class TestActions:
    def test_what_is_answered(self) -> None:
        """NXDOMAIN, NODATA, local data, and aliases of one's own, with the TTL of the rule."""
        rules = policy(ACTIONS)
        assert told(rules.of(key_of("nx.test")), "nx.test") == ("NXDOMAIN", [])
        nodata = rules.of(key_of("nodata.test"))
        assert told(nodata) == ("NOERROR", [])
        assert nodata is not None
        assert (nodata.ttl, nodata.ede, nodata.why) == (60, 15, "rpz=z0.rpz:7")
        assert told(rules.of(key_of("local.test"))) == ("NOERROR", ["local.test. 30 IN A 192.0.2.1"])
        assert told(rules.of(key_of("local.test", "AAAA"))) == ("NOERROR", ["local.test. 30 IN AAAA 2001:db8::1"])
        assert told(rules.of(key_of("local.test", "TXT"))) == ("NOERROR", ['local.test. 30 IN TXT "walled"'])
        assert told(rules.of(key_of("local.test", "MX"))) == ("NOERROR", [])

    def test_nothing_is_done(self) -> None:
        """PASSTHRU, also as it was written at first, and what no rule means."""
        rules = policy(ACTIONS)
        others = ("wild.test", "other.test", "garden.self.test", "x.nx.test")
        for name in ("pass.test", "old.test", "but.wild.test", *others):
            assert rules.of(key_of(name)) is None, name

    def test_dropping_and_tcp(self) -> None:
        """They are no answers."""
        rules = policy(ACTIONS)
        found = [rules.of(key_of(name)) for name in ("drop.test", "tcp.test")]
        assert [(each.action, each.ttl) for each in found if each is not None] == [(DROPPED, 300), (TRUNCATED, 10)]

    def test_wildcards(self) -> None:
        """What is below a name and not the name; the name itself before wildcards, and of these the longest."""
        rules = policy(ACTIONS)
        assert told(rules.of(key_of("a.wild.test"))) == ("NXDOMAIN", [])
        assert told(rules.of(key_of("a.b.wild.test"))) == ("NXDOMAIN", [])
        assert told(rules.of(key_of("a.deep.wild.test"))) == ("NOERROR", [])
        assert told(rules.of(key_of("deep.wild.test"))) == ("NXDOMAIN", [])
        everything = policy("* CNAME .\ngood.test CNAME rpz-passthru.\n")
        assert told(everything.of(key_of("a.test"))) == ("NXDOMAIN", [])
        assert told(everything.of(key_of("test"))) == ("NXDOMAIN", [])
        assert (everything.of(key_of("good.test")), everything.of(key_of("."))) == (None, None)

    def test_aliases(self) -> None:
        """To a garden, which is asked as usual; an asterisk is the name asked for."""
        rules = policy(ACTIONS)
        verdict = rules.of(key_of("to.test"))
        assert told(verdict) == ("NOERROR", ["to.test. 300 IN CNAME garden.example."])
        assert verdict is not None
        assert verdict.target == parse_name("garden.example")
        verdict = rules.of(key_of("a.to.test", "AAAA"))
        assert told(verdict) == ("NOERROR", ["a.to.test. 300 IN CNAME a.to.test.garden.example."])
        asked = rules.of(key_of("to.test", "CNAME"))
        assert asked is not None
        assert asked.target is None
        long = ".".join(["a" * 60] * 3) + f".{'b' * 55}.to.test"
        assert told(rules.of(key_of(long))) == ("NXDOMAIN", [])  # with the garden it would be no name

    @pytest.mark.parametrize("text", ["a.test CNAME b.test.\nb.test CNAME a.test.\n", "*.test CNAME *.x.test.\n"])
    def test_aliases_without_end(self, text: str) -> None:
        """They are not followed."""
        assert told(policy(text).of(key_of("a.test"))) == ("NXDOMAIN", [])

    def test_records_that_do_not_follow_each_other(self) -> None:
        """All records of a name count, wherever they stand; of two actions the first."""
        rules = policy("a.test A 192.0.2.1\nb.test CNAME .\na.test A 192.0.2.2\nb.test CNAME *.\na.test AAAA ::1\n")
        assert told(rules.of(key_of("a.test")))[1] == ["a.test. 300 IN A 192.0.2.1", "a.test. 300 IN A 192.0.2.2"]
        assert told(rules.of(key_of("a.test", "AAAA")))[1] == ["a.test. 300 IN AAAA ::1"]
        assert told(rules.of(key_of("b.test"))) == ("NXDOMAIN", [])


class TestAnswers:
    def test_aliases_of_blocked_names(self) -> None:
        """The target of an alias is looked at like the name asked for; a rule for the first name comes first."""
        rules = policy("bad.test CNAME .\nok.test CNAME rpz-passthru.\nlocal.test A 192.0.2.9\n")
        chain = ("300 CNAME {}.test.", "{}.test. 300 A 192.0.2.1")

        def asked(name: str, target: str) -> Verdict | None:
            first, second = (each.format(target) for each in chain)
            return rules.of_answer(*reply_to(name, "A", f"{name}. {first}", second))

        assert told(asked("a.test", "bad"), "a.test") == ("NXDOMAIN", [])
        assert asked("ok.test", "bad") is None
        assert asked("a.test", "good") is None
        assert told(asked("a.test", "local"))[1] == ["a.test. 300 IN A 192.0.2.9"]

    def test_addresses(self) -> None:
        """The longest prefix, and what is left to pass; of both families."""
        rules = policy(
            "24.0.2.0.192.rpz-ip CNAME .\n32.5.2.0.192.rpz-ip CNAME rpz-passthru.\n"
            "25.128.2.0.192.rpz-ip A 192.0.2.200\n"
            "48.zz.1.db8.2001.rpz-ip CNAME *.\n128.1.zz.rpz-ip CNAME rpz-drop.\n"
        )

        def asked(kind: str, *data: str) -> Verdict | None:
            return rules.of_answer(*reply_to("a.test", kind, *(f"a.test. 300 {kind} {each}" for each in data)))

        assert told(asked("A", "198.51.100.1", "192.0.2.1"), "a.test") == ("NXDOMAIN", [])
        assert asked("A", "192.0.2.5") is None
        assert asked("A", "192.0.2.1", "192.0.2.5") is None  # the longer prefix counts
        assert told(asked("A", "192.0.2.130")) == ("NOERROR", ["a.test. 300 IN A 192.0.2.200"])
        assert told(asked("AAAA", "2001:db8:1::7"), kind="AAAA", name="a.test") == ("NOERROR", [])
        assert asked("AAAA", "2001:db8:2::7") is None
        dropped = asked("AAAA", "::1")
        assert dropped is not None
        assert dropped.action == DROPPED

    def test_an_earlier_zone_with_addresses_is_waited_for(self) -> None:
        """A later zone's rule for the name counts only when no address of the answer is in the earlier one's."""
        rules = policy("24.0.2.0.192.rpz-ip A 198.51.100.1\n", "a.test CNAME .\nb.test CNAME rpz-passthru.\n",
                       lists=[(0, [Item(parse_name("b.test"), False, 1, False)])])  # fmt: skip
        assert rules.of(key_of("a.test")) is None
        assert told(rules.of_answer(*reply_to("a.test", "A", "a.test. 9 A 192.0.2.1")))[1] == [
            "a.test. 300 IN A 198.51.100.1"
        ]
        assert told(rules.of_answer(*reply_to("a.test", "A", "a.test. 9 A 192.0.3.1"))) == ("NXDOMAIN", [])
        assert told(rules.of_answer(*reply_to("a.test", "A"))) == ("NXDOMAIN", [])  # nobody has answered
        assert rules.of(key_of("b.test")) is None
        assert rules.of_answer(*reply_to("b.test", "A", "b.test. 9 A 192.0.3.1")) is None


class TestPrecedence:
    def test_zones(self) -> None:
        """The first zone that has a rule counts, though a later one has a longer name or lets pass."""
        rules = policy("*.test CNAME *.\n", "a.test CNAME .\npass.example CNAME rpz-passthru.\n", "*.example CNAME .\n")
        assert told(rules.of(key_of("a.test"))) == ("NOERROR", [])
        assert rules.of(key_of("pass.example")) is None
        assert told(rules.of(key_of("other.example"))) == ("NXDOMAIN", [])

    def test_lists(self) -> None:
        """Names never to be blocked come before zones, and what zones let pass is not blocked by lists."""
        lists = [(0, [Item(parse_name(name), False, 1, passes)]) for name, passes in
                 (("never.test", True), ("pass.test", False), ("listed.test", False))]  # fmt: skip
        rules = policy("never.test CNAME .\npass.test CNAME rpz-passthru.\n", lists=lists)
        assert rules.of(key_of("never.test")) is None
        assert rules.of(key_of("pass.test")) is None
        found = rules.of(key_of("listed.test"))
        assert found is not None
        assert found.why == "block=list:1"

    def test_clients(self) -> None:
        """Who asks comes before the name in a zone, and behind the name in an earlier zone."""
        rules = policy(
            "first.test CNAME *.\n",
            "32.66.2.0.192.rpz-client-ip CNAME rpz-drop.\n24.0.2.0.192.rpz-client-ip CNAME .\nlater.test CNAME *.\n"
            "64.zz.db8.2001.rpz-client-ip A 192.0.2.9\n",
        )
        assert rules.lists.rpz.about_clients

        def asked(name: str, source: str) -> Verdict | None:
            return rules.of_client(key_of(name), ipaddress.ip_address(source).packed)[0]

        denied = asked("later.test", "192.0.2.1")
        assert told(denied) == ("NXDOMAIN", [])
        assert denied is not None
        assert denied.ede == 17
        assert asked("first.test", "192.0.2.1") is None
        assert asked("any.test", "198.51.100.1") is None
        dropped = asked("any.test", "192.0.2.66")
        assert dropped is not None
        assert dropped.action == DROPPED
        assert told(asked("any.test", "2001:db8::7"))[1] == ["any.test. 300 IN A 192.0.2.9"]
        assert not policy(ACTIONS).lists.rpz.about_clients

    def test_whom_a_zone_lets_pass(self) -> None:
        """The first rule that fits a client is said, and by which zone, whatever is decided about the name."""
        rules = policy(
            "first.test CNAME *.\n32.7.2.0.192.rpz-client-ip CNAME .\n",
            "32.1.2.0.192.rpz-client-ip CNAME rpz-passthru.\n24.0.2.0.192.rpz-client-ip CNAME *.\n",
            "16.0.0.0.192.rpz-client-ip CNAME rpz-passthru.\n",
        )

        def place(name: str, source: str) -> int:
            return rules.of_client(key_of(name), ipaddress.ip_address(source).packed)[1]

        assert [place("any.test", f"192.0.{each}") for each in ("2.1", "2.2", "2.7", "9.9")] == [1, -1, -1, 2]
        assert place("first.test", "192.0.2.1") == 1
        assert place("any.test", "198.51.100.1") == -1


PIECES = [b"a.test CNAME .\n", b"(", b")", b'"', b"\n", b"; ", b" A 192.0.2.1\n", b"32.1.0.0.10.rpz-ip "]


class TestText:
    def test_names_of_zones(self) -> None:
        """Rules are below the name of the SOA, however they are written; what is elsewhere is passed over."""
        notes = Notes()
        text = "$ORIGIN rpz.example.\n@ 60 SOA ns root 1 2 3 4 5\n"
        text += "a.test CNAME .\nb.test.rpz.example. CNAME .\nc.test. CNAME .\n"
        found = zone(text, notes=notes, head="")
        assert [name_text(rule.name) for rule in notes.rules] == ["a.test.", "b.test."]
        assert [remark.line for remark in notes.remarks] == [5]
        assert found.table.of_name(parse_name("a.test")) is not None

    @pytest.mark.parametrize(
        "line",
        [
            "32.1.2.0.192.rpz-nsip CNAME .", "ns.test.rpz-nsdname CNAME .", "a.test CNAME rpz-sometime.",
            "a.test A 192.0.2.300",
            "a.rpz-other CNAME .", "24.1.2.0.192.rpz-ip CNAME .", "33.1.2.0.192.rpz-ip CNAME .", "x.rpz-ip CNAME .",
            "a.test NS ns.test.", "a.test DNAME b.test.", "a.test A 192.0.2.1\na.test CNAME .", "a" * 64 + " CNAME .",
            ("a." * 130) + "test CNAME .", "a.test CNAME", "a.test CNAME ( .\n b", "\0 CNAME .", "$INCLUDE /etc/passwd",
            "x" * 5000, "0.zz.zz.rpz-ip CNAME .", "129.zz.rpz-client-ip CNAME .", ".rpz-ip CNAME .",
        ],
    )  # fmt: skip
    def test_what_is_passed_over(self, line: str) -> None:
        """One remark, and the rest counts."""
        notes = Notes()
        zone(f"before.test CNAME .\n{line}\n", notes=notes)
        assert [name_text(rule.name) for rule in notes.rules] == ["before.test."]
        assert len(notes.remarks) == 1
        assert notes.remarks[0].line >= 6

    def test_signed_zones(self) -> None:
        """What only DNSSEC needs is no rule and no mistake."""
        notes = Notes()
        zone("a.test CNAME .\n  NSEC b.test. CNAME\nb.test CNAME .\n", notes=notes)
        assert (len(notes.rules), notes.remarks) == (2, [])

    def test_many_mistakes_are_counted(self) -> None:
        """A hundred are told one by one."""
        notes = Notes()
        zone("a.rpz-nsip CNAME .\n" * 1000, notes=notes)
        assert len(notes.remarks) <= 101
        notes = Notes()
        zone("".join(f"{number}.rpz-nsip CNAME .\n" for number in range(1000)), notes=notes)
        assert (len(notes.remarks), sum(remark.lines for remark in notes.remarks)) == (101, 1000)

    @settings(max_examples=300)
    @given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(PIECES)), max_size=12))
    def test_anything_can_be_read(self, parts: list[bytes]) -> None:
        """No content raises, and portions make no difference."""
        text = HEAD.encode() + b"".join(parts)
        whole = list(read_rpz([text]))
        assert list(read_rpz(text[at : at + 7] for at in range(0, len(text), 7))) == whole
        RpzTable(build_rpz(whole, KEY, Notes()))

    def test_zones_and_lists_are_told_apart(self) -> None:
        """By what only zone-file text has."""
        assert is_zone(HEAD.encode())
        assert is_zone(b"; a comment\nrpz.example. 60 IN SOA ns. root. 1 2 3 4 5\n")
        assert not is_zone(b"# comment with SOA in it\n0.0.0.0 ads.test\n||ads.test^\n")


class TestTables:
    def test_damage_is_noticed(self) -> None:
        """A table cut short, or something else, is refused."""
        octets = build_rpz(read_rpz([HEAD.encode() + b"a.test CNAME .\n"]), KEY, Notes())
        for damaged in (b"", octets[:-1], b"x" + octets[1:], octets + b"x"):
            with pytest.raises(ValueError, match="rules"):
                RpzTable(damaged)

    @settings(max_examples=200)
    @given(
        st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=12),
        st.lists(st.integers(0, 2**32 - 1), max_size=8),
    )
    def test_the_longest_network_counts(self, networks: list[tuple[int, int]], asked: list[int]) -> None:
        """As a look at each of them says; of equal ones the first."""
        given_networks = [
            ((number >> (32 - prefix) << (32 - prefix)).to_bytes(4, "big"), prefix, value)
            for value, (number, prefix) in enumerate(networks)
        ]
        table = AddressTable(memoryview(build_addresses(given_networks, 4)), 4)
        near = [int.from_bytes(each[0], "big") + step for each in given_networks for step in (-1, 0, 1)]
        for number in [*asked, *near]:
            address = ipaddress.IPv4Address(number % 2**32)
            holding = [(-prefix, value) for octets, prefix, value in given_networks
                       if address in ipaddress.ip_network((octets, prefix))]  # fmt: skip
            found = table.find(address.packed)
            assert (found and (-found.prefix, found.value)) == (min(holding) if holding else None)
