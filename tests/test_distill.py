"""What of a reply is believed: the chain from the question and the RRset at its end, nothing else."""

from __future__ import annotations

import itertools
import random

import dns.dnssectypes
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rdnscache.dns.distill import MAX_CHAIN, distill
from rdnscache.dns.policy import Limits, settle
from rdnscache.dns.wire import Reply, parse_query, parse_reply

pytestmark = pytest.mark.pure

SOA = "example.com. 900 SOA ns.example.com. root.example.com. 1 7200 3600 86400 60"
RRSIG = "8 2 300 20300101000000 20200101000000 1 {signer} AAAA"


def make(
    answer: list[str],
    authority: list[str] = [],  # noqa: B006
    additional: list[str] = [],  # noqa: B006
    name: str = "www.example.com.",
    rtype: str = "A",
    rcode: int = 0,
    do: bool = False,
) -> tuple[bytes, bytes]:
    """Key and wire of a reply; a record is "owner ttl [class] type data", and each stands where it is put."""
    query = dns.message.make_query(name, rtype, use_edns=0, want_dnssec=do)
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.Rcode(rcode))
    for section, lines in (
        (response.answer, answer),
        (response.authority, authority),
        (response.additional, additional),
    ):
        for line in lines:
            owner, ttl, kind, data = line.split(" ", 3)
            rclass = "IN"
            if kind in ("CH", "HS"):
                rclass, kind, data = kind, *data.split(" ", 1)
            section.append(dns.rrset.from_text(owner, int(ttl), rclass, kind, data))
    asked = parse_query(query.to_wire(), False)
    assert asked is not None
    return asked.key, response.to_wire(max_size=65535)


def read(wire: bytes) -> Reply:
    reply = parse_reply(wire)
    assert reply is not None
    return reply


def lines(section: list[dns.rrset.RRset]) -> list[str]:
    """The records of a section in order, without the class IN."""
    return [text.replace(" IN ", " ") for rrset in section for text in rrset.to_text().split("\n")]


def kept(key: bytes, wire: bytes) -> dns.message.Message | None:
    """What is left of a reply, read by an independent library; its facts are those of the octets."""
    reply = distill(key, read(wire))
    if reply is None:
        return None
    stored, _ = settle(key, reply, Limits())
    again = read(stored)
    for field in ("end", "ttls", "types", "authority", "additional", "soa_ttl_at"):
        assert getattr(again, field) == getattr(reply, field), field
    message = dns.message.from_wire(stored, one_rr_per_rrset=True)
    assert not message.additional
    return message


def answers(*arguments: object, **more: object) -> list[str] | None:
    """The answer section that is left; None where the reply is no answer."""
    message = kept(*make(*arguments, **more))  # type: ignore[arg-type]
    return None if message is None else lines(message.answer)


A = "www.example.com. 300 A 192.0.2.1"
CNAME = "www.example.com. 60 CNAME web.example.net."
TARGET = "web.example.net. 50 A 192.0.2.2"
FOREIGN = "other.example. 300 A 192.0.2.66"


def test_the_usual_reply_is_left_as_it_is() -> None:
    """The RRset alone, or a chain with it: no octet is copied."""
    for answer in ([A, "www.example.com. 300 A 192.0.2.2"], [CNAME, TARGET]):
        key, wire = make(answer)
        reply = read(wire)
        octets = reply.wire
        assert distill(key, reply) is reply
        assert reply.wire is octets


@pytest.mark.parametrize(
    "answer",
    [
        [FOREIGN],
        ["www.example.com. 300 TXT x"],
        ["web.example.net. 60 CNAME x.example.", TARGET],
        ["example.org. 300 DNAME example.net."],
        ["www.example.com. 300 CH TXT x"],
        ["example.com. 300 A 192.0.2.1"],
    ],
)
def test_a_reply_that_answers_another_question_is_none(answer: list[str]) -> None:
    """Other names, types and classes, aliases of other names: the next server is asked."""
    assert answers(answer) is None


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ([A, FOREIGN], [A]),
        ([FOREIGN, A], [A]),
        (["x.example. 60 CNAME p.example.", A], [A]),
        ([A, "www.example.com. 300 TXT x"], [A]),
        ([CNAME, TARGET, FOREIGN], [CNAME, TARGET]),
        ([CNAME, FOREIGN, TARGET], [CNAME, TARGET]),
        ([TARGET, CNAME], [CNAME, TARGET]),
        ([CNAME, "www.example.com. 60 CNAME else.example.net.", TARGET], [CNAME, TARGET]),
        ([CNAME, A], [A]),
        (["WWW.example.com. 60 CNAME Web.Example.NET.", TARGET], None),
    ],
)
def test_what_does_not_answer_is_dropped(answer: list[str], left: list[str] | None) -> None:
    """Wherever it stands; aliases come before what they lead to, and names are the same in any case."""
    found = answers(answer)
    assert found is not None
    if left is None:
        left, found = [line.lower() for line in answer], [line.lower() for line in found]
    assert found == left


def test_authority_and_additional_of_an_answer_are_dropped() -> None:
    """Nobody asked for them, and they are where poison has come from (RFC 2181 section 5.4.1)."""
    ns = ["example.com. 300 NS ns.example.com."]
    glue = ["ns.example.com. 300 A 192.0.2.53", FOREIGN]
    message = kept(*make([CNAME, TARGET], ns, glue))
    assert message is not None
    assert (lines(message.answer), message.authority) == ([CNAME, TARGET], [])


@pytest.mark.parametrize("rtype", ["MX", "SRV", "NS", "SOA", "NAPTR", "RP", "SVCB", "CAA", "PX", "AFSDB"])
def test_names_in_the_data_survive_what_they_pointed_to(rtype: str) -> None:
    """A record whose data were compressed against one that is dropped says the same as before."""
    data = {
        "MX": "10 mail.far.example.net.",
        "SRV": "1 2 3 mail.far.example.net.",
        "NS": "ns.far.example.net.",
        "SOA": "ns.far.example.net. root.far.example.net. 1 2 3 4 5",
        "NAPTR": '1 2 "u" "s" "!x!" far.example.net.',
        "RP": "a.far.example.net. b.far.example.net.",
        "SVCB": '1 far.example.net. port="53"',
        "CAA": '0 issue "far.example.net"',
        "PX": "1 a.far.example.net. b.far.example.net.",
        "AFSDB": "1 a.far.example.net.",
    }[rtype]
    record = f"www.example.com. 300 {rtype} {data}"
    assert answers(["a.far.example.net. 300 A 192.0.2.66", record, FOREIGN], rtype=rtype) == [record]


def test_a_name_compressed_against_its_rules_survives() -> None:
    """SRV targets must not be compressed; where one is, and what it points to goes, it is written out."""
    head = b"\0\0\x81\x80\0\1\0\2\0\0\0\0" + b"\1q\0\0\x21\0\1"
    far = b"\3far\7example\0\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
    srv = b"\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x0b\0\1\0\2\0\3\2ns\xc0\x13"
    message = kept(b"\1q\0\0\x21\0\1\0", head + far + srv)
    assert message is not None
    assert lines(message.answer) == ["q. 60 SRV 1 2 3 ns.far.example."]


def test_a_circle_of_aliases_is_no_answer() -> None:
    """Whether it comes back to the question or not; a CNAME asked for as such may point where it will."""
    back = "web.example.net. 60 CNAME www.example.com."
    itself = "web.example.net. 60 CNAME web.example.net."
    assert answers([CNAME, back]) is None
    assert answers([CNAME, itself]) is None
    assert answers([CNAME, back], rtype="CNAME") == [CNAME]


@pytest.mark.parametrize("length", [1, 8, MAX_CHAIN, MAX_CHAIN + 1])
def test_a_chain_has_a_longest_length(length: int) -> None:
    """Far longer ones than anybody has are no answer."""
    names = ["www.example.com."] + [f"c{number}.example.com." for number in range(length)]
    chain = [f"{one} 60 CNAME {other}" for one, other in itertools.pairwise(names)]
    chain.append(f"{names[-1]} 60 A 192.0.2.1")
    shuffled = random.Random(length).sample(chain, len(chain))
    assert answers(shuffled) == (chain if length <= MAX_CHAIN else None)


def test_an_alias_without_its_end_is_kept_for_its_own_time() -> None:
    """What it leads to is asked for by itself."""
    key, wire = make([CNAME])
    reply = distill(key, read(wire))
    assert reply is not None
    wire, ttl = settle(key, reply, Limits(failure_ttl=5))
    assert ttl > 5
    assert lines(dns.message.from_wire(wire).answer) == [CNAME]


@pytest.mark.parametrize("rcode", [0, 3])
def test_a_negative_answer_keeps_its_soa_and_nothing_else(rcode: int) -> None:
    """The SOA of a zone that the end of the chain is in; NS, foreign SOAs and glue go."""
    far = "example. 900 SOA ns.example. root.example. 1 7200 3600 86400 60"
    ns = "example.com. 300 NS ns.example.com."
    glue = ["ns.example.com. 300 A 192.0.2.53"]
    message = kept(*make([], [ns, far, SOA, SOA.replace("ns.", "ns2.")], glue, rcode=rcode))
    assert message is not None
    assert (message.rcode(), message.answer) == (rcode, [])
    assert lines(message.authority) == [SOA.replace("900", "60")]


def test_an_soa_beside_records_of_other_names_makes_nodata() -> None:
    """What does not answer is dropped, and the zone says that there is nothing."""
    message = kept(*make([FOREIGN], [SOA]))
    assert message is not None
    assert (message.answer, len(message.authority)) == ([], 1)


def test_the_soa_is_that_of_the_end_of_the_chain() -> None:
    """One of the zone of the question says nothing about a name elsewhere."""
    key, wire = make([CNAME], [SOA])
    reply = distill(key, read(wire))
    assert reply is not None
    assert (reply.ancount, reply.nscount) == (1, 0)
    there = "example.net. 900 SOA ns.example.net. root.example.net. 1 7200 3600 86400 30"
    message = kept(*make([CNAME], [SOA, there]))
    assert message is not None
    assert lines(message.authority) == [there.replace("900", "30")]


def test_nothing_at_all_is_nodata_and_a_referral_is_not() -> None:
    """RFC 2308 section 2.2: NS without SOA says where to ask, which is not what we asked."""
    empty = kept(*make([]))
    assert empty is not None
    assert (empty.answer, empty.authority) == ([], [])
    assert kept(*make([], ["example.com. 300 NS ns.example.com."], ["ns.example.com. 300 A 192.0.2.53"])) is None


def test_an_rcode_the_records_contradict_is_no_answer() -> None:
    """NXDOMAIN together with the very records that were asked for."""
    assert kept(*make([A], [SOA], rcode=3)) is None
    assert kept(*make([A], rcode=6)) is None


DNAME = "example.com. 300 DNAME example.net."
SYNTHESISED = "www.example.com. 300 CNAME www.example.net."
THERE = "www.example.net. 50 A 192.0.2.2"


@pytest.mark.parametrize(
    "answer",
    [
        [DNAME, SYNTHESISED, THERE],
        [DNAME, SYNTHESISED.replace("300", "0"), THERE],
        [THERE, SYNTHESISED, DNAME],
        [DNAME, THERE],
        [DNAME, SYNTHESISED.replace("example.net", "evil.example"), THERE],
        [DNAME, "example.org. 300 DNAME evil.example.", SYNTHESISED, THERE],
    ],
)
def test_a_dname_is_followed(answer: list[str]) -> None:
    """The CNAME it stands for has its TTL (RFC 6672 section 3.1), and is made here where it is missing or another."""
    assert answers(answer) == [DNAME, SYNTHESISED, THERE]


def test_a_dname_does_not_hold_for_its_owner() -> None:
    """RFC 6672 section 2.3; asked for as such it is an answer like any other."""
    assert answers([DNAME, "example.net. 50 A 192.0.2.2"], name="example.com.") is None
    assert answers([DNAME], name="example.com.", rtype="DNAME") == [DNAME]
    below = ["example.com. 300 DNAME example.net.", "www.example.net. 50 DNAME example.org."]
    assert answers([*below], rtype="DNAME") == [below[0], SYNTHESISED, below[1]]


def test_the_cname_of_a_dname_is_an_answer_with_its_dname() -> None:
    """Asked for by type, it ends the chain; it has to be there, and to be the one the DNAME stands for."""
    assert answers([DNAME, SYNTHESISED], rtype="CNAME") == [DNAME, SYNTHESISED]
    assert answers([DNAME], rtype="CNAME") is None
    assert answers([DNAME, SYNTHESISED.replace("example.net", "evil.example")], rtype="CNAME") is None


def test_a_name_too_long_behind_a_dname_is_yxdomain() -> None:
    """RFC 6672 section 2.2: the DNAME is all there is to say; with another RCODE it is nonsense."""
    long = ".".join(["x" * 63] * 3) + "."
    dname = f"example.com. 300 DNAME {long}{'y' * 40}."
    name = f"{'z' * 40}.example.com."
    message = kept(*make([dname], name=name, rcode=6))
    assert message is not None
    assert (message.rcode(), lines(message.answer)) == (6, [dname])
    assert kept(*make([dname], name=name)) is None


def signed(owner: str, rtype: str, ttl: int = 300, signer: str = "example.com.") -> str:
    return f"{owner} {ttl} RRSIG {rtype} {RRSIG.format(signer=signer)}"


def test_dnssec_records_go_only_to_those_who_want_them() -> None:
    """RFC 4035 section 3.2.1: without DO, RRSIG, NSEC and NSEC3 are left out unless asked for by type."""
    answer = [A, signed("www.example.com.", "A"), signed("www.example.com.", "TXT"), signed("other.example.", "A")]
    proof = ["example.com. 300 NSEC www.example.com. A", signed("example.com.", "NSEC")]
    without = kept(*make(answer, proof))
    assert without is not None
    assert (lines(without.answer), without.authority) == ([A], [])
    wanted = kept(*make(answer, proof, do=True))
    assert wanted is not None
    assert lines(wanted.answer) == answer[:2]
    assert lines(wanted.authority) == proof
    assert answers(answer[1:3], rtype="RRSIG") == answer[1:3]
    assert answers([proof[0]], name="example.com.", rtype="NSEC") == [proof[0]]


def test_proofs_are_kept_where_a_zone_of_the_chain_signed_them() -> None:
    """SOA, NSEC and NSEC3 with their signatures, of each zone on the way; unsigned and foreign ones are not."""
    there = "example.net. 900 SOA ns.example.net. root.example.net. 1 7200 3600 86400 300"
    good = [
        there.replace("900", "300"),
        signed("example.net.", "SOA", signer="example.net."),
        "a.example.net. 300 NSEC z.example.net. A",
        signed("a.example.net.", "NSEC", signer="example.net."),
        "b.example.com. 300 NSEC x.example.com. A",
        signed("b.example.com.", "NSEC"),
    ]
    bad = [
        "c.example.com. 300 NSEC x.example.com. A",
        "d.example. 300 NSEC x.example. A",
        signed("d.example.", "NSEC", signer="example."),
        signed("d.example.", "NSEC", signer="example.com."),
        "example.net. 300 NS ns.example.net.",
        signed("example.net.", "NS", signer="example.net."),
    ]
    chain = [CNAME, signed("www.example.com.", "CNAME")]
    key, wire = make(chain, good + bad, do=True)
    message = kept(key, wire)
    assert message is not None
    assert lines(message.answer) == chain
    assert lines(message.authority) == [line.replace("900", "300") for line in good]


def test_what_is_between_two_hosts_is_dropped() -> None:
    """OPT, TSIG and SIG(0) are no records of a name (RFC 6891, RFC 8945, RFC 2931)."""
    key, wire = make([A])
    plain = read(wire).wire
    tsig = b"\1k\0\0\xfa\0\xff\0\0\0\0\0\x10\0" + b"\0" * 15
    sig0 = b"\0\0\x18\0\xff\0\0\0\0\0\x14" + b"\0" * 18 + b"\0x"
    opt = b"\0\0\x29\x10\0\0\0\0\0\0\0"
    for more in (tsig, sig0, opt, opt + tsig, sig0 + opt, tsig + opt):
        count = more.count(tsig) + more.count(sig0) + more.count(opt)
        message = kept(key, plain[:10] + bytes((0, count)) + plain[12:] + more)
        assert message is not None
        assert (lines(message.answer), message.edns) == ([A], -1)
    for at in (6, 8):  # in the answer or authority section
        assert parse_reply(plain[:at] + bytes((0, plain[at + 1] + 1)) + plain[at + 2 :] + tsig) is None


NAMES = ["www.example.com.", "WWW.example.com.", "a.example.com.", "b.example.net.", "example.com.", "net.", "."]
RECORDS = st.tuples(
    st.sampled_from(NAMES),
    st.integers(0, 400),
    st.sampled_from(["A 192.0.2.1", "CNAME {}", "DNAME {}", "NS {}", "MX 1 {}", "SRV 1 2 3 {}", "TXT x"])
    | st.sampled_from(["SOA {0} {0} 1 2 3 4 5", "NSEC {} A", "RRSIG A " + RRSIG, "RRSIG NSEC " + RRSIG]),
    st.sampled_from(NAMES),
).map(lambda told: f"{told[0]} {told[1]} {told[2].format(told[3], signer=told[3])}")


@settings(max_examples=500)
@example(["www.example.com. 0 A 192.0.2.1", "example.com. 0 DNAME b.example.net."], [], [], "CNAME", 0, False)
@example(["www.example.com. 0 DNAME example.com.", "www.example.com. 0 DNAME net."], [], [], "DNAME", 0, False)
@given(
    st.lists(RECORDS, max_size=7),
    st.lists(RECORDS, max_size=5),
    st.lists(RECORDS, max_size=2),
    st.sampled_from(["A", "CNAME", "NS", "RRSIG", "DNAME", "MX"]),
    st.sampled_from([0, 0, 3, 6]),
    st.booleans(),
)
def test_what_is_kept_was_said_and_answers(
    answer: list[str], authority: list[str], additional: list[str], rtype: str, rcode: int, do: bool
) -> None:
    """Of any records: what is left leads from the question to its end, can be read, and settles to itself again."""
    key, wire = make(answer, authority, additional, rtype=rtype, rcode=rcode, do=do)
    message = kept(key, wire)
    if message is None:
        return
    whole = dns.message.from_wire(wire, one_rr_per_rrset=True)  # else dnspython keeps the last of two DNAMEs
    said = {
        (line.lower().split(" ", 2)[0], line.lower().split(" ", 2)[2]) for line in lines(whole.answer + whole.authority)
    }
    name = dns.name.from_text("www.example.com.")
    for rrset in message.answer:
        if rrset.rdtype == dns.rdatatype.RRSIG and rtype != "RRSIG":
            assert do
            continue
        if rrset.rdtype == dns.rdatatype.DNAME and rtype != "DNAME":
            assert name.is_subdomain(rrset.name)
            continue
        if rrset.rdtype == dns.rdatatype.DNAME and rrset.name != name:
            assert name.is_subdomain(rrset.name)
            continue
        assert rrset.name == name
        if rrset.rdtype == dns.rdatatype.CNAME and rtype != "CNAME":
            name = rrset[0].target
        else:
            assert dns.rdatatype.to_text(rrset.rdtype) == rtype
            owner, _, rest = rrset.to_text().lower().replace(" in ", " ").split(" ", 2)
            assert (owner, rest) in said
    stored = settle(key, distill(key, read(wire)), Limits())[0]  # type: ignore[arg-type]
    again = distill(key, read(stored))
    assert again is not None
    assert settle(key, again, Limits())[0] == stored
