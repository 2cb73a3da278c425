"""Answers from local records: names, wildcards, aliases, whole zones; read by dnspython."""

from __future__ import annotations

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.dns.names import name_text, parse_name, type_number
from rdnscache.dns.policy import stored_flags
from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, question_key, section, with_subnet
from rdnscache.dns.splice import splice_stored
from rdnscache.dns.wire import parse_reply
from rdnscache.policy.local_record import LocalRecord, ZoneTextError
from rdnscache.policy.local_zones import MOST_ALIASES, LocalAnswer, LocalZones
from rdnscache.policy.zone_text import read_zone_text

pytestmark = pytest.mark.pure

#: Names on their own, and below them what is in no local zone.
ALONE = """
printer.office.example. 60 A 192.0.2.1
                       30 A 192.0.2.2
                           AAAA 2001:db8::1
*.dev.example. 60 A 192.0.2.3
a.b.dev.example. 60 A 192.0.2.4
alias.example. 60 CNAME printer.office.example.
out.example. 60 CNAME www.elsewhere.example.
far.example. 60 CNAME out.example.
old.example. 60 DNAME office.example.
"""
#: A zone of its own.
ZONE = """
$ORIGIN home.example.
$TTL 600
@ 3600 SOA ns root 1 7200 3600 1209600 300
  NS ns
ns A 192.0.2.53
*.wild A 192.0.2.5
  TXT "wild"
below.empty A 192.0.2.6
in CNAME ns
gone CNAME nothing
away CNAME www.elsewhere.example.
*.star CNAME ns
child NS ns.child
ns.child A 192.0.2.7
sub SOA ns root 1 7200 3600 1209600 60
*.sub TXT "sub"
"""


def asked(zones: LocalZones, name: str, kind: str = "A", bits: int = 0) -> LocalAnswer | None:
    return zones.answer(question_key(parse_name(name), type_number(kind), 1, bits))


def message_of(zones: LocalZones, name: str, kind: str = "A") -> dns.message.Message:
    """The answer as dnspython reads it; what holds for all of them is checked here."""
    key = question_key(parse_name(name), type_number(kind), 1, 0)
    answer = zones.answer(key)
    assert answer is not None
    assert answer.line > 0
    reply = parse_reply(answer.wire)
    assert reply is not None
    assert (reply.wire, reply.question()) == (answer.wire, key[:-1])
    counts = reply.ancount, reply.nscount, reply.arcount
    kept = splice_stored(reply.wire, reply.end, stored_flags(key, reply), *counts, section(key))
    assert answer.wire[:12] == kept[:12]
    return dns.message.from_wire(answer.wire)


def told(zones: LocalZones, name: str, kind: str = "A") -> tuple[str, list[str], list[str]]:
    """RCODE, answer and authority section."""
    message = message_of(zones, name, kind)
    sections = [[line for rrset in part for line in rrset.to_text().split("\n")] for part in message.sections[1:3]]
    return dns.rcode.to_text(message.rcode()), sections[0], sections[1]


@pytest.fixture(scope="module")
def alone() -> LocalZones:
    return LocalZones(read_zone_text(ALONE))


@pytest.fixture(scope="module")
def zone() -> LocalZones:
    return LocalZones(read_zone_text(ZONE))


SOA_300 = "home.example. 300 IN SOA ns.home.example. root.home.example. 1 7200 3600 1209600 300"
SOA_60 = "sub.home.example. 60 IN SOA ns.home.example. root.home.example. 1 7200 3600 1209600 60"


def test_a_name_with_records_answers_its_types(alone: LocalZones) -> None:
    """In the order of the text, with the lowest TTL of the set (RFC 2181 section 5.2)."""
    records = ["printer.office.example. 30 IN A 192.0.2.1", "printer.office.example. 30 IN A 192.0.2.2"]
    assert told(alone, "printer.office.example.") == ("NOERROR", records, [])
    assert asked(alone, "printer.office.example.", "AAAA").line == 4  # type: ignore[union-attr]


def test_a_name_on_its_own_denies_its_other_types(alone: LocalZones) -> None:
    """With a SOA of the name itself, or clients would not keep that (RFC 2308 section 5)."""
    soa = "printer.office.example. 30 IN SOA printer.office.example. nobody.invalid. 1 3600 1200 604800 30"
    assert told(alone, "printer.office.example.", "MX") == ("NOERROR", [], [soa])
    assert told(alone, "printer.office.example.", "SOA") == ("NOERROR", [], [soa])


@pytest.mark.parametrize(
    "name",
    ["office.example.", "example.", "x.printer.office.example.", "other.", ".", "dev.example.", "b.dev.example."],
)
def test_what_is_no_local_name_is_asked_as_usual(alone: LocalZones, name: str) -> None:
    """Also what has local names below it."""
    assert asked(alone, name) is None


def test_a_wildcard_stands_for_names_that_do_not_exist(alone: LocalZones) -> None:
    """Right below it or deeper, but not below a name that exists (RFC 4592 section 2.2.1)."""
    assert told(alone, "x.dev.example.")[1] == ["x.dev.example. 60 IN A 192.0.2.3"]
    assert told(alone, "y.x.dev.example.")[1] == ["y.x.dev.example. 60 IN A 192.0.2.3"]
    assert told(alone, "*.dev.example.")[1] == ["*.dev.example. 60 IN A 192.0.2.3"]
    assert told(alone, "a.b.dev.example.")[1] == ["a.b.dev.example. 60 IN A 192.0.2.4"]
    assert asked(alone, "c.b.dev.example.") is None
    soa = "x.dev.example. 60 IN SOA x.dev.example. nobody.invalid. 1 3600 1200 604800 60"
    assert told(alone, "x.dev.example.", "TXT") == ("NOERROR", [], [soa])


def test_an_alias_is_followed(alone: LocalZones) -> None:
    """To what it leads to here; a question for the alias itself is not."""
    alias = "alias.example. 60 IN CNAME printer.office.example."
    end = "printer.office.example. 30 IN AAAA 2001:db8::1"
    assert told(alone, "alias.example.", "AAAA") == ("NOERROR", [alias, end], [])
    assert told(alone, "alias.example.", "CNAME") == ("NOERROR", [alias], [])
    rcode, answer, authority = told(alone, "alias.example.", "MX")
    assert (rcode, answer) == ("NOERROR", [alias])
    assert authority[0].startswith("printer.office.example. 30 IN SOA ")


def test_an_alias_that_leads_out_says_where(alone: LocalZones) -> None:
    """Whoever asked for the answer asks for the rest of it."""
    answer = asked(alone, "far.example.")
    assert answer is not None
    assert answer.target == parse_name("www.elsewhere.example.")
    lines = ["far.example. 60 IN CNAME out.example.", "out.example. 60 IN CNAME www.elsewhere.example."]
    assert told(alone, "far.example.") == ("NOERROR", lines, [])
    assert answer.line == 9
    assert asked(alone, "far.example.", "CNAME").target is None  # type: ignore[union-attr]


def test_a_dname_leads_all_names_below_it(alone: LocalZones) -> None:
    """By an alias made for each (RFC 6672 section 3.1), here or out; not its own name."""
    dname = "old.example. 60 IN DNAME office.example."
    alias = "printer.old.example. 60 IN CNAME printer.office.example."
    end = "printer.office.example. 30 IN AAAA 2001:db8::1"
    assert told(alone, "printer.old.example.", "AAAA") == ("NOERROR", [dname, alias, end], [])
    assert told(alone, "printer.old.example.", "CNAME") == ("NOERROR", [dname, alias], [])
    answer = asked(alone, "a.b.old.example.")
    assert answer is not None
    assert answer.target == parse_name("a.b.office.example.")
    assert told(alone, "old.example.", "DNAME")[1] == [dname]
    assert told(alone, "old.example.")[1] == []
    long = ".".join(["x" * 60] * 3 + ["y" * 58]) + ".old.example."
    assert told(alone, long)[0] == "YXDOMAIN"


def test_a_zone_denies_what_it_does_not_have(zone: LocalZones) -> None:
    """NXDOMAIN with its SOA, which holds as long as the denial (RFC 2308 section 3)."""
    assert told(zone, "x.home.example.") == ("NXDOMAIN", [], [SOA_300])
    assert told(zone, "x.y.home.example.", "SOA") == ("NXDOMAIN", [], [SOA_300])
    assert told(zone, "x.ns.home.example.") == ("NXDOMAIN", [], [SOA_300])
    assert told(zone, "ns.home.example.", "MX") == ("NOERROR", [], [SOA_300])
    assert told(zone, "home.example.", "A") == ("NOERROR", [], [SOA_300])
    assert told(zone, "home.example.", "DS") == ("NOERROR", [], [SOA_300])
    soa = SOA_300.replace(" 300 IN", " 3600 IN")
    assert told(zone, "home.example.", "SOA") == ("NOERROR", [soa], [])
    assert told(zone, "home.example.", "NS")[1] == ["home.example. 600 IN NS ns.home.example."]
    assert asked(zone, "example.") is None
    assert asked(zone, "xhome.example.") is None


def test_a_name_between_exists(zone: LocalZones) -> None:
    """Though it has no records (RFC 8020 section 2), so no wildcard stands for it."""
    assert told(zone, "empty.home.example.") == ("NOERROR", [], [SOA_300])
    assert told(zone, "wild.home.example.") == ("NOERROR", [], [SOA_300])
    assert told(zone, "a.wild.home.example.")[1] == ["a.wild.home.example. 600 IN A 192.0.2.5"]
    assert told(zone, "a.wild.home.example.", "MX") == ("NOERROR", [], [SOA_300])
    assert told(zone, "x.empty.home.example.") == ("NXDOMAIN", [], [SOA_300])


def test_an_alias_in_a_zone_ends_as_its_target_does(zone: LocalZones) -> None:
    """With its address, its denial (RFC 6604 section 3), or outside."""
    alias = "in.home.example. 600 IN CNAME ns.home.example."
    assert told(zone, "in.home.example.") == ("NOERROR", [alias, "ns.home.example. 600 IN A 192.0.2.53"], [])
    alias = "gone.home.example. 600 IN CNAME nothing.home.example."
    assert told(zone, "gone.home.example.") == ("NXDOMAIN", [alias], [SOA_300])
    assert asked(zone, "away.home.example.").target == parse_name("www.elsewhere.example.")  # type: ignore[union-attr]
    alias = "x.star.home.example. 600 IN CNAME ns.home.example."
    assert told(zone, "x.star.home.example.")[1][0] == alias


def test_a_delegation_is_data_like_any(zone: LocalZones) -> None:
    """There is nobody to be referred to."""
    assert told(zone, "child.home.example.", "NS")[1] == ["child.home.example. 600 IN NS ns.child.home.example."]
    assert told(zone, "x.child.home.example.") == ("NXDOMAIN", [], [SOA_300])


def test_the_innermost_zone_counts(zone: LocalZones) -> None:
    """It denies with its own SOA."""
    assert told(zone, "x.sub.home.example.") == ("NOERROR", [], [SOA_60])
    assert told(zone, "sub.home.example.") == ("NOERROR", [], [SOA_60])


def test_the_root_may_be_a_zone() -> None:
    """Then everything is local."""
    zones = LocalZones(read_zone_text(". 60 SOA ns. root. 1 2 3 4 5\nhost A 192.0.2.1\n*.x A 192.0.2.2\n"))
    assert told(zones, "host.")[1] == ["host. 60 IN A 192.0.2.1"]
    assert told(zones, "com.") == ("NXDOMAIN", [], [". 5 IN SOA ns. root. 1 2 3 4 5"])
    assert told(zones, ".", "SOA")[1] == [". 60 IN SOA ns. root. 1 2 3 4 5"]
    assert told(zones, ".")[2] == [". 5 IN SOA ns. root. 1 2 3 4 5"]
    assert told(LocalZones(read_zone_text("*. 60 A 192.0.2.1")), "a.b.")[1] == ["a.b. 60 IN A 192.0.2.1"]


def test_the_kind_of_client_changes_nothing(alone: LocalZones) -> None:
    """DO, CD and a subnet; other classes are none of ours."""
    plain = asked(alone, "printer.office.example.")
    key = question_key(parse_name("printer.office.example."), 1, 1, 0)
    assert plain is not None
    assert asked(alone, "printer.office.example.", bits=VARIANT_DO) == plain
    checking = asked(alone, "printer.office.example.", bits=VARIANT_CD)
    assert checking is not None
    assert checking.wire == plain.wire[:3] + bytes((plain.wire[3] | 0x10,)) + plain.wire[4:]
    assert alone.answer(with_subnet(key, bytes(18))) == plain
    assert alone.answer(question_key(parse_name("printer.office.example."), 1, 3, 0)) is None


def test_the_same_record_twice_is_one() -> None:
    """From two files, say (RFC 2181 section 5)."""
    assert told(LocalZones(read_zone_text("a. 60 A 192.0.2.1\n" * 2)), "a.")[1] == ["a. 60 IN A 192.0.2.1"]
    assert len(LocalZones(read_zone_text("a. 60 A 192.0.2.1\n" * 2))) == 1
    assert not LocalZones([])
    assert asked(LocalZones([]), "a.") is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a CNAME b\na A 192.0.2.1", 2, "CNAME"),
        ("a A 192.0.2.1\na CNAME b", 2, "CNAME"),
        ("a CNAME b\na CNAME c", 2, "only one"),
        ("a DNAME b\na DNAME c", 2, "only one"),
        ("a SOA b c 1 2 3 4 5\na SOA b c 2 2 3 4 5", 2, "only one"),
        ("a CNAME b\nb CNAME a", 1, "circle"),
        ("a CNAME a", 1, "circle"),
        ("*.a CNAME b.a", 1, "circle"),
        ("\n".join(f"a{number} CNAME a{number + 1}" for number in range(MOST_ALIASES + 1)), 1, "circle"),
        ("a DNAME b\n*.a A 192.0.2.1", 2, "below the DNAME of a."),
        ("b.c.a A 192.0.2.1\na DNAME b", 1, "below the DNAME of a."),
        ("*.a DNAME b", 1, "wildcard"),
        ("\n".join(f"a TXT {'x' * 250}{number:04}" for number in range(250)), 1, "65535"),
    ],
)
def test_records_that_cannot_be_together_are_refused(text: str, line: int, words: str) -> None:
    """With the line of one of them."""
    with pytest.raises(ZoneTextError) as caught:
        LocalZones(read_zone_text(text))
    assert caught.value.line == line
    assert words in caught.value.reason


def test_data_of_dnssec_may_stand_beside_an_alias() -> None:
    """RRSIG and NSEC (RFC 4034 section 2.5); they are not added to answers."""
    text = "a CNAME b.\na NSEC b. CNAME\na RRSIG CNAME 8 1 60 20300101000000 20240101000000 1 a. AA==\n"
    assert told(LocalZones(read_zone_text(text)), "a.") == ("NOERROR", ["a. 3600 IN CNAME b."], [])


def test_as_many_aliases_are_followed_as_allowed() -> None:
    """And what is at their end is told."""
    text = "".join(f"a{number} CNAME a{number + 1}\n" for number in range(MOST_ALIASES))
    zones = LocalZones(read_zone_text(text + f"a{MOST_ALIASES} A 192.0.2.1"))
    assert len(told(zones, "a0.")[1]) == MOST_ALIASES + 1


def test_aliases_made_of_a_question_may_come_to_no_end() -> None:
    """That is a failure then, and costs no more than any other chain."""
    zones = LocalZones(read_zone_text("a DNAME b.a\nc DNAME c2\nc2 DNAME c\n"))
    assert told(zones, "x.a.") == ("SERVFAIL", [], [])
    assert told(zones, "x.c.") == ("SERVFAIL", [], [])


def test_an_answer_that_does_not_fit_after_its_aliases_is_a_failure() -> None:
    """The records alone do fit."""
    text = "\n".join(f"a TXT {'x' * 255} {'y' * 255} {'z' * (number % 10)}{number}" for number in range(123))
    zones = LocalZones(read_zone_text(f"{text}\n*.b CNAME a\n"))
    while len(asked(zones, "a.", "TXT").wire) < 65535 - 255:  # type: ignore[union-attr]
        text += f"\na TXT {len(text)}"
        zones = LocalZones(read_zone_text(f"{text}\n*.b CNAME a\n"))
    assert told(zones, ".".join(["x" * 60] * 4) + ".b.", "TXT") == ("SERVFAIL", [], [])
    assert len(told(zones, "c.b.", "TXT")[1]) > 100


LABELS = st.lists(st.sampled_from(["a", "b", "c", "*"]), min_size=1, max_size=4).map(
    lambda labels: ".".join(labels) + "."
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(LABELS, st.sampled_from(["A 192.0.2.1", "TXT x", "SOA a. b. 1 2 3 4 5"])), max_size=8), LABELS
)
def test_names_exist_and_wildcards_match_by_the_rules(written: list[tuple[str, str]], name: str) -> None:
    """Said once more, slowly, with names as lists of labels (RFC 4592 section 3.3)."""
    zones = LocalZones(read_zone_text("\n".join(f"{owner} {data}" for owner, data in written)))
    owners = {dns.name.from_text(owner) for owner, _ in written}
    existing = {owner.split(depth)[1] for owner in owners for depth in range(1, len(owner) + 1)}
    apexes = {dns.name.from_text(owner) for owner, data in written if data.startswith("SOA")}
    wanted = dns.name.from_text(name)
    above = [wanted.split(depth)[1] for depth in range(len(wanted), 0, -1)]
    encloser = next((each for each in above if each in existing), None)
    source = wanted
    if encloser is not None and encloser != wanted:
        source = dns.name.Name((b"*", *encloser.labels))
    apex = next((each for each in above if each in apexes), None)
    has = {data for owner, data in written if dns.name.from_text(owner) == source}

    answer = asked(zones, name)

    if not has and apex is None:
        assert answer is None
        return
    rcode, found, authority = told(zones, name)
    assert rcode == ("NOERROR" if has or encloser == wanted else "NXDOMAIN")
    assert found == ([f"{name} 3600 IN A 192.0.2.1"] if "A 192.0.2.1" in has else [])
    if not found:
        assert authority[0].split()[0] == (apex.to_text() if apex is not None else name)


def test_foreign_octets_in_names_are_no_matter() -> None:
    """Lengths that look like letters, dots in labels, letters of any case in data."""
    names = [
        b"\1" + bytes((octet,)) + tail for octet in range(256) if octet != 42 for tail in (b"\0", b"\1a\0", b"\3b\1a\0")
    ]
    lower = sorted({name.lower() for name in names})
    zones = LocalZones(LocalRecord(name, 1, 60, bytes(4), 1) for name in lower)
    for name in lower:
        assert zones.answer(question_key(name, 1, 1, 0)) is not None, name_text(name)
    assert zones.answer(question_key(b"\2aa\0", 1, 1, 0)) is None
    records = [LocalRecord(b"\1a\0", 5, 60, b"\1B\0", 1), LocalRecord(b"\1b\0", 1, 60, bytes(4), 2)]
    assert len(told(LocalZones(records), "a.")[1]) == 2
