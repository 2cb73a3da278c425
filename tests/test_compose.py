"""What the client reads, as an independent library reads it: echo, flags, ageing, EDNS, truncation."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import extended_errors

from rdnscache.dns import compose as composing
from rdnscache.dns.compose import compose, compose_error
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import failure_wire
from rdnscache.dns.wire import BADVERS, FORMERR, NOTIMP, SERVFAIL, Query, parse_query, parse_reply

pytestmark = pytest.mark.pure

KEY = b"\3www\7example\3com\0\0\1\0\1\0"
NOW = 1000.0


def make_entry(ttl: int = 300, answers: int = 1, additional: int = 0, rcode: int = 0, ad: bool = True) -> Entry:
    """An entry with this many records of 16 octets (names compressed) and one of twice the TTL."""
    message = dns.message.make_response(dns.message.make_query("www.example.com.", "A"))
    message.set_rcode(dns.rcode.Rcode(rcode))
    if ad:
        message.flags |= dns.flags.AD
    for count, section, seconds in ((answers, message.answer, ttl), (additional, message.additional, 2 * ttl)):
        if count:
            texts = [f"192.0.{n >> 8}.{n & 255}" for n in range(count)]
            section.append(dns.rrset.from_text("www.example.com.", seconds, "IN", "A", *texts))
    reply = parse_reply(message.to_wire(max_size=65535))
    assert reply is not None
    return Entry(KEY, reply, NOW, ttl, 3600)


def make_query(flags: int = dns.flags.RD, stream: bool = False, name: str = "wWw.exAMPle.com.", **more: Any) -> Query:
    """A query by dnspython, with ID 4711."""
    message = dns.message.make_query(name, "A", id=4711, **more)
    message.flags = dns.flags.Flag(flags)
    query = parse_query(message.to_wire(), stream)
    assert query is not None
    return query


def read(data: bytes) -> dns.message.Message:
    """The reply as dnspython sees it."""
    return dns.message.from_wire(data)


@pytest.mark.parametrize("rd", [0, dns.flags.RD])
@pytest.mark.parametrize("cd", [0, dns.flags.CD])
@pytest.mark.parametrize("ad", [0, dns.flags.AD])
@pytest.mark.parametrize("edns", [False, 0])
@pytest.mark.parametrize("do", [False, True])
def test_client_gets_its_own_id_spelling_and_flags(rd: int, cd: int, ad: int, edns: bool | int, do: bool) -> None:
    """RD and CD echoed, RA set, AA clear; AD only for those who asked with AD or DO; OPT only to those with one."""
    do = do and edns is not False
    query = make_query(rd | cd | ad, use_edns=edns, want_dnssec=do)
    data = compose(query, make_entry(), NOW)
    message = read(data)
    assert message.id == 4711
    assert data[12:33] == query.data[12:33]
    assert data[13:16] == b"wWw"
    assert message.flags == dns.flags.QR | dns.flags.RA | rd | cd | (dns.flags.AD if ad or do else 0)
    assert message.answer[0].to_text() == "wWw.exAMPle.com. 300 IN A 192.0.0.0"
    assert message.edns == (-1 if edns is False else 0)
    if edns is not False:
        assert (message.payload, bool(message.ednsflags & dns.flags.DO), message.options) == (1232, do, ())


def test_ad_is_never_made_up() -> None:
    """A reply that was not authentic is not so for those who ask with AD and DO."""
    data = compose(make_query(dns.flags.AD, use_edns=0, want_dnssec=True), make_entry(ad=False), NOW)
    assert not read(data).flags & dns.flags.AD


@settings(max_examples=200)
@given(st.lists(st.floats(0, 299.99), min_size=1, max_size=8))
def test_ttls_age_by_the_second(ages: list[float]) -> None:
    """In whatever order of growing ages: the TTL is the original less the whole seconds, never more than before."""
    entry, query = make_entry(additional=1), make_query()
    seen = 300
    for age in sorted(ages):
        message = read(compose(query, entry, NOW + age))
        ttl = message.answer[0].ttl
        assert ttl == 300 - int(NOW + age - NOW) <= seen
        assert message.additional[0].ttl == ttl + 300
        seen = ttl


@settings(max_examples=100)
@given(st.lists(st.floats(-100, 10_000), min_size=1, max_size=8))
def test_ttls_never_exceed_the_original(moments: list[float]) -> None:
    """Not even when the moments come out of order, or from before the entry."""
    entry, query = make_entry(), make_query()
    for moment in moments:
        ttl = read(compose(query, entry, NOW + moment)).answer[0].ttl
        assert 0 < ttl <= 300


def test_entry_with_ttl_zero_is_told_as_zero() -> None:
    """Followers share a reply that may not be kept; it is not stale."""
    message = read(compose(make_query(use_edns=0), make_entry(ttl=0), NOW + 2))
    assert (message.answer[0].ttl, extended_errors(message)) == (0, [])


@pytest.mark.parametrize(("rcode", "code"), [(0, 3), (3, 19)])
def test_stale_replies_say_so(rcode: int, code: int) -> None:
    """TTL 30 (RFC 8767) and Stale Answer or Stale NXDOMAIN Answer (RFC 8914), from the second the TTL is over."""
    entry = make_entry(rcode=rcode, additional=1)
    fresh = read(compose(make_query(use_edns=0), entry, NOW + 299.9))
    assert (fresh.answer[0].ttl, extended_errors(fresh)) == (1, [])
    for _ in range(2):
        stale = read(compose(make_query(use_edns=0), entry, NOW + 300))
        assert (stale.answer[0].ttl, stale.additional[0].ttl, extended_errors(stale)) == (30, 30, [code])
        assert stale.rcode() == rcode
    assert read(compose(make_query(use_edns=False), entry, NOW + 300)).edns == -1


@pytest.mark.parametrize("rcode", [0, 2, 3])
def test_an_entry_tells_the_extended_error_that_came_with_it(rcode: int) -> None:
    """That of an upstream, of an answer as well; none is made up, and none goes to clients without EDNS."""
    for code in (-1, 0, 6, 22, 49152):
        entry = make_entry(rcode=rcode, answers=rcode == 0)
        entry.ede = code
        message = read(compose(make_query(use_edns=0), entry, NOW + 1))
        assert (message.rcode(), extended_errors(message)) == (rcode, [code] if code >= 0 else [])
        assert read(compose(make_query(use_edns=False), entry, NOW)).edns == -1


def test_a_failure_has_no_extended_error_of_its_own() -> None:
    """Who could not be reached, and why, is known to whoever asked."""
    reply = parse_reply(failure_wire(KEY))
    assert reply is not None
    message = read(compose(make_query(use_edns=0), Entry(KEY, reply, NOW, 5, 0), NOW + 1))
    assert (message.rcode(), extended_errors(message), message.answer) == (dns.rcode.SERVFAIL, [], [])


def test_additional_section_goes_first_and_without_tc() -> None:
    """What the client did not ask for is left out before the client is sent to TCP (RFC 2181 section 9)."""
    entry = make_entry(answers=20, additional=20)
    message = read(compose(make_query(use_edns=False), entry, NOW))
    assert not message.flags & dns.flags.TC
    assert (len(message.answer[0]), message.additional) == (20, [])
    message = read(compose(make_query(use_edns=0, payload=512), entry, NOW))
    assert not message.flags & dns.flags.TC
    assert (len(message.answer[0]), message.additional, message.edns) == (20, [], 0)
    message = read(compose(make_query(use_edns=0), entry, NOW))
    assert (len(message.answer[0]), len(message.additional[0])) == (20, 20)


@pytest.mark.parametrize("do", [False, True])
def test_the_authority_section_of_an_answer_goes_before_the_answer(do: bool) -> None:
    """One address and 13 servers to a client of 512 octets; only with DO may there be proofs it needs."""
    message = dns.message.make_response(dns.message.make_query("www.example.com.", "A"))
    message.answer.append(dns.rrset.from_text("www.example.com.", 300, "IN", "A", "192.0.2.1"))
    servers = [f"{letter * 40}.servers{letter}.example." for letter in "abcdefghijklm"]
    message.authority.append(dns.rrset.from_text("example.com.", 300, "IN", "NS", *servers))
    reply = parse_reply(message.to_wire())
    assert reply is not None
    entry = Entry(KEY[:-1] + bytes((do,)), reply, NOW, 300, 3600)
    small = read(compose(make_query(use_edns=0, payload=512, want_dnssec=do), entry, NOW))
    assert bool(small.flags & dns.flags.TC) is do
    assert ([rrset.to_text() for rrset in small.answer], small.authority) == (
        [] if do else ["wWw.exAMPle.com. 300 IN A 192.0.2.1"],
        [],
    )
    assert len(read(compose(make_query(use_edns=0, want_dnssec=do), entry, NOW)).authority[0]) == 13


def test_the_authority_section_of_a_negative_answer_is_the_answer() -> None:
    """Without its SOA it would say something else: it comes whole or not at all."""
    message = dns.message.make_response(dns.message.make_query("www.example.com.", "A"))
    message.answer.append(dns.rrset.from_text("www.example.com.", 300, "IN", "CNAME", f"{'x' * 63}.{'y' * 63}."))
    data = ".".join([*["n" * 60] * 4, ""]) + " " + ".".join([*["r" * 60] * 4, ""]) + " 1 2 3 4 5"
    message.authority.append(dns.rrset.from_text(".", 300, "IN", "SOA", data))
    reply = parse_reply(message.to_wire())
    assert reply is not None
    small = read(compose(make_query(), Entry(KEY, reply, NOW, 300, 3600), NOW))
    assert small.flags & dns.flags.TC
    assert (small.answer, small.authority) == ([], [])


ROTATED = {
    "A": ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
    "AAAA": ["2001:db8::1", "2001:db8::2", "2001:db8::3"],
    "MX": ["10 a.example.", "20 b.example."],
}


@pytest.mark.parametrize("rtype", ROTATED)
@pytest.mark.parametrize("alias", [False, True])
def test_addresses_are_moved_round_by_the_id_where_that_is_wanted(rtype: str, alias: bool) -> None:
    """Each is first as often as any other, the order stays, nothing else moves; off, all is as it was stored."""
    message = dns.message.make_response(dns.message.make_query("www.example.com.", rtype))
    owner = "web.example.net." if alias else "www.example.com."
    if alias:
        message.answer.append(dns.rrset.from_text("www.example.com.", 300, "IN", "CNAME", owner))
    message.answer.append(dns.rrset.from_text(owner, 300, "IN", rtype, *ROTATED[rtype]))
    reply = parse_reply(message.to_wire())
    assert reply is not None
    asked = dns.message.make_query("www.example.com.", rtype)
    entry = Entry(reply.question() + b"\0", reply, NOW, 300, 3600)
    stored = dns.message.from_wire(reply.wire, one_rr_per_rrset=True)
    told = [rrset[0].to_text() for rrset in stored.answer[alias:]]  # dnspython writes an RRset in any order
    for ident in range(7):
        asked.id = ident
        query = parse_query(asked.to_wire(), False)
        assert query is not None
        turn = ident % len(told) if rtype != "MX" else 0
        for rotate, expected in ((True, told[turn:] + told[:turn]), (False, told)):
            found = dns.message.from_wire(compose(query, entry, NOW, rotate), one_rr_per_rrset=True)
            assert [rrset[0].to_text() for rrset in found.answer[alias:]] == expected
            assert found.answer[alias].name.to_text() == owner


@pytest.mark.parametrize("edns", [False, 0])
def test_too_long_answers_are_empty_with_tc(edns: bool | int) -> None:
    """No half answers: TC and no records, but the OPT."""
    data = compose(make_query(use_edns=edns), make_entry(answers=100, additional=1), NOW)
    message = read(data)
    assert message.flags & dns.flags.TC
    assert (message.answer, message.authority, message.additional) == ([], [], [])
    assert message.edns == (-1 if edns is False else 0)


@settings(max_examples=200)
@given(st.integers(0, 90), st.integers(0, 90), st.none() | st.integers(0, 65535), st.booleans())
def test_no_reply_is_longer_than_the_client_can_take(
    answers: int, additional: int, payload: int | None, stale: bool
) -> None:
    """And none is cut that would have fitted."""
    query = make_query(use_edns=False) if payload is None else make_query(use_edns=0, payload=payload)
    entry = make_entry(answers=answers, additional=additional)
    data = compose(query, entry, NOW + (300 if stale else 0))
    limit = 512 if payload is None else min(max(512, payload), 1232)
    message = read(data)
    assert len(data) <= limit
    opt = 0 if payload is None else 17 if stale else 11
    full = query.end + 16 * answers + opt
    assert bool(message.flags & dns.flags.TC) == (full > limit)
    assert bool(message.additional) == (additional > 0 and full + 16 * additional <= limit)


def test_over_tcp_65535_octets_fit() -> None:
    """The largest answer goes whole; an OPT that does not fit beside it is left out, as TC over TCP is no answer."""
    answers = (65535 - 33) // 16
    entry = make_entry(answers=answers)
    data = compose(make_query(stream=True, use_edns=False), entry, NOW)
    assert len(data) == 33 + 16 * answers
    assert not read(data).flags & dns.flags.TC
    small = compose(make_query(stream=True, use_edns=0), entry, NOW + 300)
    assert len(small) == 33 + 16 * answers
    assert not read(small).flags & dns.flags.TC


@settings(max_examples=300)
@given(
    st.lists(st.binary(min_size=1, max_size=63), max_size=5),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.sampled_from(
        [b"", b"\0\0\x29\x04\xd0\0\0\x80\0\0\0", b"\0\0\x29\x10\0\0\1\0\0\0\0", b"\1x\0\0\1\0\1" + b"\0" * 6]
    ),
    st.integers(0, 0xFFFF),
)
def test_every_query_that_can_be_read_gets_a_reply_that_can_be_read(
    labels: list[bytes], rtype: int, flags: int, more: bytes, ident: int
) -> None:
    """For odd names, types, flags and additional records, dnspython parses what we send, and it answers."""
    name = b""
    for label in labels:
        if len(name) + len(label) + 2 <= 255:
            name += bytes((len(label),)) + label
    question = name + b"\0" + rtype.to_bytes(2, "big") + b"\0\1"
    head = (
        ident.to_bytes(2, "big") + (flags & 0x7FFF).to_bytes(2, "big") + b"\0\1\0\0\0\0\0" + (b"\1" if more else b"\0")
    )
    query = parse_query(head + question + more, False)
    assert query is not None
    if query.error:
        data = compose_error(query, query.error)
    else:
        record = b"\xc0\x0c\xff\x78\0\1\0\0\1\x2c\0\1\xff"
        reply = parse_reply(b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + query.key[:-1] + record)
        assert reply is not None
        data = compose(query, Entry(query.key, reply, NOW, 300, 0), NOW + 1)
        assert data[12 : query.end] == question
    assert data[:2] == head[:2]
    assert data[2] & 0x79 == head[2] & 0x79
    if rtype != 41 and flags & 0x7800 in (0, 0x2000):
        message = dns.message.from_wire(data, ignore_trailing=False)
        assert message.flags & dns.flags.QR


def test_badvers_is_told_in_opt() -> None:
    """RCODE 16 has its upper bits in OPT; version 0 is what we speak."""
    query = make_query(use_edns=1)
    assert query.error == BADVERS
    message = read(compose_error(query, query.error))
    assert (message.rcode(), message.edns, message.question[0].name.to_text()) == (16, 0, "wWw.exAMPle.com.")


@pytest.mark.parametrize("opcode", [0, 1, 2, 4, 5, 6, 15])
@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize("counts", [b"\0\1\0\0\0\0", b"\0\2\0\0\0\0", b"\0\1\0\1\0\1"])
def test_a_refusal_has_an_opt_where_the_query_has_one(opcode: int, edns: bool, counts: bytes) -> None:
    """RFC 6891 section 7, whatever is wrong with the rest; RA and CD are bits of the opcode QUERY."""
    record = b"\1r\0\0\1\0\1\0\0\0\0\0\0"
    opt = b"\0\0\x29\x10\0\0\0\x80\0\0\0" if edns else b""
    body = b"\1a\0\0\1\0\1" * counts[1] + record * (counts[3] + counts[5]) + opt
    query = parse_query(b"ab" + bytes((opcode << 3 | 1, 0x30)) + counts + bytes((0, edns)) + body, False)
    assert query is not None
    if opcode == 0 and counts[1] + counts[3] == 1:
        return
    message = read(compose_error(query, query.error))
    assert message.rcode() == (NOTIMP if opcode else FORMERR)
    assert (message.edns, message.ednsflags) == ((0, 0x8000) if edns else (-1, 0))
    assert message.flags & ~0x7800 == dns.flags.QR | dns.flags.RD | (0 if opcode else dns.flags.RA | dns.flags.CD) | (
        message.rcode()
    )


def test_error_echoes_the_question_only_where_it_could_be_read() -> None:
    """A FORMERR for two questions has none; a SERVFAIL for a good query has it, with an EDE if asked by EDNS."""
    broken = parse_query(b"\x12\x34\1\x10\0\2\0\0\0\0\0\0" + b"\1a\0\0\1\0\1" * 2, False)
    assert broken is not None
    message = read(compose_error(broken, FORMERR))
    assert (message.id, message.rcode(), message.question) == (0x1234, FORMERR, [])
    assert message.flags & dns.flags.CD
    failed = read(compose_error(make_query(use_edns=0), SERVFAIL, composing.EDE_NOT_READY))
    assert (failed.rcode(), len(failed.question), extended_errors(failed)) == (SERVFAIL, 1, [14])
    assert read(compose_error(make_query(use_edns=False), SERVFAIL, composing.EDE_NOT_READY)).edns == -1


@pytest.mark.parametrize(("age", "code"), [(1, 0), (301, 3)])
def test_a_note_is_the_text_of_an_extended_error(age: int, code: int) -> None:
    """Alone with the code Other, else beside the code there is; never to clients without EDNS."""
    query = make_query(use_edns=0)
    query.note = b"layer=l1 worker=n1.0"
    (option,) = read(compose(query, make_entry(), NOW + age)).options
    assert (option.code, option.text) == (code, "layer=l1 worker=n1.0")
    assert len(compose(query, make_entry(answers=200), NOW + age)) <= query.limit
    plain = make_query()
    plain.note = b"layer=l1"
    assert read(compose(plain, make_entry(), NOW + age)).options == ()
