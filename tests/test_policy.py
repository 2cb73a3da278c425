"""How long a reply may be kept, what is stored of it, and which queries never leave us."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.dns import policy
from rdnscache.dns.policy import Identity, Limits, answer_ourselves, negative, settle, usable
from rdnscache.dns.wire import Reply, parse_query, parse_reply

pytestmark = pytest.mark.pure

LIMITS = Limits(ttl_min=0, ttl_max=86400, negative_ttl_max=3600, failure_ttl=5)
IDENTITY = Identity(version="rdnscache test", node="n1")


def make_reply(
    answer: list[str], authority: list[str], rcode: int = 0, rtype: str = "A", edns: bool = False
) -> tuple[bytes, Reply]:
    """Key and reply to a question for www.example.com; a record is "owner ttl type data"."""
    query = dns.message.make_query("wWw.example.com.", rtype, use_edns=0 if edns else False)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    response.set_rcode(dns.rcode.Rcode(rcode))
    for section, lines in ((response.answer, answer), (response.authority, authority)):
        for line in lines:
            owner, ttl, kind, data = line.split(" ", 3)
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    asked = parse_query(query.to_wire(), False)
    reply = parse_reply(response.to_wire())
    assert asked is not None
    assert reply is not None
    return asked.key, reply


def soa(ttl: int, minimum: int) -> str:
    """An SOA record with these two times."""
    return f"example.com. {ttl} SOA ns.example.com. root.example.com. 1 7200 3600 86400 {minimum}"


A = "www.example.com. 300 A 192.0.2.1"
CNAME = "www.example.com. 60 CNAME web.example.com."


@pytest.mark.parametrize(
    ("soa_ttl", "minimum", "expected"),
    [(900, 60, 60), (60, 900, 60), (90000, 90000, 3600), (0, 60, 0), (0x7FFFFFFF, 30, 30), (30, 0x80000001, 0)],
)
@pytest.mark.parametrize("rcode", [0, 3])
def test_negative_replies_live_as_long_as_their_soa_says(soa_ttl: int, minimum: int, expected: int, rcode: int) -> None:
    """The lesser of SOA TTL and MINIMUM, capped (RFC 2308 section 5); the stored SOA carries that TTL."""
    key, reply = make_reply([], [soa(soa_ttl, minimum)], rcode)
    wire, ttl = settle(key, reply, LIMITS)
    stored = dns.message.from_wire(wire)
    assert ttl == expected
    assert stored.authority[0].ttl == expected
    assert stored.authority[0][0].minimum == minimum % 2**32
    assert stored.rcode() == rcode


@pytest.mark.parametrize(("rcode", "ttl"), [(0, 5), (3, 5)])
def test_negative_replies_without_soa_get_the_failure_ttl(rcode: int, ttl: int) -> None:
    """Nothing says how long they hold (RFC 2308 section 5), so not long."""
    key, reply = make_reply([], [], rcode)
    assert negative(reply, 1)
    assert settle(key, reply, LIMITS)[1] == ttl


def test_nodata_behind_a_cname_is_negative_only_with_soa() -> None:
    """CNAME and SOA: NODATA of the target. CNAME alone: an answer whose target is asked for, kept for its own TTL."""
    key, reply = make_reply([CNAME], [])
    assert not negative(reply, 1)
    assert settle(key, reply, LIMITS)[1] == 60
    key, reply = make_reply([CNAME], [soa(900, 30)])
    assert negative(reply, 1)
    assert settle(key, reply, LIMITS)[1] == 30
    key, reply = make_reply([CNAME, "web.example.com. 50 A 192.0.2.1"], [soa(900, 30)])
    assert not negative(reply, 1)
    assert settle(key, reply, LIMITS)[1] == 50


@pytest.mark.parametrize("low", [0, 7])
def test_the_answer_alone_decides_how_long_it_is_kept(low: int) -> None:
    """A TTL of 0, or a short one, beside the answer does not cut its life: the rest is kept as long as the answer."""
    message = dns.message.make_response(dns.message.make_query("www.example.com.", "A"))
    lines = [A, f"example.com. {low} NS ns.example.com.", f"ns.example.com. {low} A 192.0.2.53"]
    for line, section in zip(lines, (message.answer, message.authority, message.additional), strict=True):
        owner, ttl, kind, data = line.split(" ", 3)
        section.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    reply = parse_reply(message.to_wire())
    assert reply is not None
    wire, lives = settle(b"\3www\7example\3com\0\0\1\0\1\0", reply, LIMITS)
    stored = dns.message.from_wire(wire)
    assert (lives, stored.authority[0].ttl, stored.additional[0].ttl) == (300, 300, 300)


def test_soa_in_a_positive_reply_keeps_its_ttl() -> None:
    """Only a negative reply's SOA is rewritten."""
    key, reply = make_reply([A], [soa(900, 30)])
    wire, ttl = settle(key, reply, LIMITS)
    assert (ttl, dns.message.from_wire(wire).authority[0].ttl) == (300, 900)


def test_ttl_with_its_top_bit_set_is_zero() -> None:
    """RFC 2181 section 8; and a TTL of zero is not to be stored."""
    key, reply = make_reply([A], [])
    at = reply.ttls[0] << 8 | reply.ttls[1]
    odd = parse_reply(reply.wire[:at] + b"\x80\0\1\0" + reply.wire[at + 4 :])
    assert odd is not None
    wire, ttl = settle(key, odd, LIMITS)
    assert (ttl, dns.message.from_wire(wire).answer[0].ttl) == (0, 0)


@pytest.mark.parametrize(("given_ttl", "expected"), [(1, 30), (30, 30), (100, 100), (600, 600), (9999, 600)])
def test_ttls_are_brought_inside_the_limits(given_ttl: int, expected: int) -> None:
    """Both the entry's time and the records' TTLs."""
    key, reply = make_reply([f"www.example.com. {given_ttl} A 192.0.2.1"], [])
    wire, ttl = settle(key, reply, Limits(ttl_min=30, ttl_max=600))
    assert (ttl, dns.message.from_wire(wire).answer[0].ttl) == (expected, expected)


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 2**31 - 1), max_size=4),
    st.none() | st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
    st.sampled_from([0, 2, 3, 6]),
    st.tuples(st.integers(0, 500), st.integers(500, 10**6), st.integers(0, 10**4)),
)
def test_no_entry_outlives_one_of_its_records(
    ttls: list[int], times: tuple[int, int] | None, rcode: int, bounds: tuple[int, int, int]
) -> None:
    """Whatever the reply and the limits, the entry's time is at most each stored TTL, and all are within bounds."""
    lines = [f"www.example.com. {ttl} TYPE{65400 + n} \\# 1 00" for n, ttl in enumerate(ttls)]
    key, reply = make_reply(lines, [soa(*times)] if times else [], rcode)
    limits = Limits(bounds[0], bounds[1], bounds[2], 5)
    wire, ttl = settle(key, reply, limits)
    stored = dns.message.from_wire(wire)
    unfinished = rcode == 0 and bool(ttls) and not negative(reply, 1)  # none of them is of the type asked for
    for rrset in stored.answer + stored.authority:
        assert ttl <= rrset.ttl <= limits.ttl_max
        assert rrset.ttl >= (min(limits.ttl_min, 5) if unfinished else limits.ttl_min)
    assert 0 <= ttl <= limits.ttl_max
    if negative(reply, 1):
        assert ttl <= max(limits.negative_ttl_max, limits.failure_ttl)


def test_stored_bytes_are_the_same_whoever_asked() -> None:
    """ID 0, question in lower case, no AA, no OPT, RA set, all other records octet for octet."""
    key, reply = make_reply([A, r"www.example.com. 9 TYPE65400 \# 5 00ff41c00c"], [], edns=True)
    wire, _ = settle(key, reply, LIMITS)
    stored = dns.message.from_wire(wire)
    assert (stored.id, stored.edns) == (0, -1)
    assert stored.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    assert wire[12 : 12 + len(key) - 1] == key[:-1]
    assert wire[12 + len(key) - 1 :] == reply.wire[reply.end :]
    assert b"\0\xff\x41\xc0\x0c" in wire
    again = parse_reply(wire)
    assert again is not None
    assert settle(key, again, LIMITS)[0] == wire


def test_ad_comes_from_the_reply_and_cd_from_the_question() -> None:
    """The two flags a stored reply keeps."""
    key, reply = make_reply([A], [])
    authentic = parse_reply(reply.wire[:3] + bytes((reply.wire[3] | 0x20,)) + reply.wire[4:])
    assert authentic is not None
    assert dns.message.from_wire(settle(key, authentic, LIMITS)[0]).flags & dns.flags.AD
    checked = dns.message.from_wire(settle(key[:-1] + b"\2", reply, LIMITS)[0])
    assert checked.flags & (dns.flags.CD | dns.flags.AD) == dns.flags.CD


@pytest.mark.parametrize("rcode", range(24))
def test_only_answers_are_usable(rcode: int) -> None:
    """NOERROR, NXDOMAIN and YXDOMAIN; every other RCODE, extended ones too, sends us on."""
    _, reply = make_reply([], [], rcode, edns=True)
    assert usable(reply) is (rcode in (0, 3, 6))


def test_failure_is_a_servfail_to_the_question() -> None:
    """The stored failure parses, answers its key, and carries CD."""
    key = b"\3www\7example\3com\0\0\1\0\1\2"
    wire = policy.failure_wire(key)
    reply = parse_reply(wire)
    message = dns.message.from_wire(wire)
    assert reply is not None
    assert reply.question() == key[:-1]
    assert message.rcode() == dns.rcode.SERVFAIL
    assert message.flags & 0xFFF0 == dns.flags.QR | dns.flags.RD | dns.flags.RA | dns.flags.CD


def said_to(name: str, rtype: str, rclass: str = "IN", identity: Identity = IDENTITY) -> dns.message.Message | None:
    """What we say ourselves to a question, read by dnspython, with and without EDNS."""
    out: list[dns.message.Message | None] = []
    for edns in (False, 0):
        message = dns.message.make_query(name, rtype, rclass, use_edns=edns)
        query = parse_query(message.to_wire(), False)
        assert query is not None
        data = answer_ourselves(query, identity)
        if data is None:
            out.append(None)
            continue
        reply = dns.message.from_wire(data, one_rr_per_rrset=True)
        assert reply.id == message.id
        assert reply.question == message.question
        assert reply.flags & 0xFFF0 == dns.flags.QR | dns.flags.RD | dns.flags.RA
        assert reply.edns == message.edns
        out.append(reply)
    assert (out[0] is None) == (out[1] is None)
    return out[1]


@pytest.mark.parametrize("rtype", ["A", "AAAA", "HTTPS", "TYPE65400", "RRSIG", "NULL", "DS"])
def test_ordinary_questions_are_not_ours(rtype: str) -> None:
    """They go to the cache and the upstreams; so do classes we do not know."""
    assert said_to("example.com.", rtype) is None
    assert said_to("example.com.", rtype, "HS") is None
    assert said_to("version.bind.", "TXT") is None


def test_any_gets_the_hinfo_of_rfc_8482() -> None:
    """No amplification: one small record."""
    reply = said_to("example.com.", "ANY")
    assert reply is not None
    assert [rrset.to_text() for rrset in reply.answer] == ['example.com. 3600 IN HINFO "RFC8482" ""']


@pytest.mark.parametrize(
    ("name", "rtype", "rclass", "rcode"),
    [
        ("example.com.", "AXFR", "IN", dns.rcode.REFUSED),
        ("example.com.", "IXFR", "IN", dns.rcode.REFUSED),
        ("example.com.", "A", "ANY", dns.rcode.REFUSED),
        ("example.com.", "A", "NONE", dns.rcode.REFUSED),
        ("example.com.", "A", "CLASS0", dns.rcode.REFUSED),
        ("example.com.", "TXT", "CH", dns.rcode.REFUSED),
        ("version.bind.", "A", "CH", dns.rcode.REFUSED),
        ("example.com.", "OPT", "IN", dns.rcode.FORMERR),
        ("example.com.", "TYPE0", "IN", dns.rcode.FORMERR),
        ("example.com.", "TSIG", "IN", dns.rcode.FORMERR),
        ("example.com.", "TKEY", "IN", dns.rcode.FORMERR),
        ("example.com.", "MAILA", "IN", dns.rcode.FORMERR),
        ("example.com.", "MAILB", "IN", dns.rcode.FORMERR),
    ],
)
def test_what_nobody_should_ask_a_cache_is_turned_away(name: str, rtype: str, rclass: str, rcode: int) -> None:
    """Transfers, meta classes and foreign CH names are refused, meta types are malformed."""
    reply = said_to(name, rtype, rclass)
    assert reply is not None
    assert (reply.rcode(), reply.answer) == (rcode, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("VERSION.bind.", "rdnscache test"),
        ("version.server.", "rdnscache test"),
        ("id.server.", "n1"),
        ("hostname.bind.", "n1"),
    ],
)
def test_identity_is_told_unless_it_is_empty(name: str, text: str) -> None:
    """The CH names of RFC 4892 and BIND; an operator who empties the text has them refused."""
    reply = said_to(name, "TXT", "CH")
    assert reply is not None
    assert [rrset[0].to_text() for rrset in reply.answer] == [f'"{text}"']
    hidden = said_to(name, "TXT", "CH", Identity())
    assert hidden is not None
    assert (hidden.rcode(), hidden.answer) == (dns.rcode.REFUSED, [])


def test_long_identity_is_cut_to_one_string() -> None:
    """255 octets is what a TXT string holds."""
    reply = said_to("id.server.", "TXT", "CH", Identity(node="n" * 300))
    assert reply is not None
    assert reply.answer[0][0].strings == (b"n" * 255,)


def test_limits_look_the_same_in_every_version() -> None:
    """Nodes compare digests made of this text, and share a view's answers only while they are equal."""
    told = "Limits(ttl_min=1, ttl_max=2, negative_ttl_max=3, failure_ttl=4, stale=5, keep=False)"
    assert repr(Limits(1, 2, 3, 4, 5, keep=False)) == told
