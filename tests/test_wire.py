"""The scanners: any bytes are read or refused without an exception, and what is accepted is where they say."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.dns import message, text, wire
from rdnscache.dns.wire import build_query, parse_query, parse_reply

pytestmark = pytest.mark.pure

OPT = b"\0\0\x29\x10\x00\0\0\0\0\0\0"


def query_wire(name: str = "www.Example.com.", rdtype: str = "A", **options: Any) -> bytes:
    """A query made by dnspython; always the same, as it is the name of a test."""
    return dns.message.make_query(name, rdtype, id=4660, **options).to_wire()


def reply_wire(rcode: int = 0, edns: bool = True) -> bytes:
    """A reply with all sections, made (and compressed) by dnspython."""
    query = dns.message.make_query("www.example.com.", "A", use_edns=0 if edns else False, want_dnssec=edns, id=4660)
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    reply.answer += [
        dns.rrset.from_text("www.example.com.", 300, "IN", "CNAME", "web.example.com."),
        dns.rrset.from_text("web.example.com.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"),
    ]
    reply.authority.append(
        dns.rrset.from_text("example.com.", 900, "IN", "SOA", "ns.example.com. root.example.com. 7 3600 600 86400 77")
    )
    reply.additional.append(dns.rrset.from_text("ns.example.com.", 120, "IN", "AAAA", "2001:db8::1"))
    return reply.to_wire()


SEEDS = [
    query_wire(),
    query_wire(use_edns=0, want_dnssec=True),
    query_wire(use_edns=0, options=[dns.edns.ECSOption("192.0.2.0", 24)]),
    reply_wire(),
    reply_wire(edns=False),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message with octets changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 12))]
            case 2:
                data[at:at] = draw(st.binary(max_size=12))
            case _:
                data[at : at + 2] = bytes((0xC0 | draw(st.integers(0, 1)), draw(st.integers(0, 255))))
    return bytes(data)


def read_all(data: bytes) -> None:
    """Read bytes in every way; check what is said about those that are accepted."""
    for stream in (False, True):
        query = parse_query(data, stream)
        if query is not None:
            assert 12 <= query.end <= len(data)
            assert wire.PLAIN_SIZE <= query.limit <= wire.TCP_SIZE
            assert bool(query.key) or query.error
    reply = parse_reply(data)
    if reply is not None:
        told = message.read(data)
        assert told is not None and message.rcode(told) == reply.rcode
        sections = [message.lines(section) for section in (told.rr, told.auth, told.ar)]
        assert [len(lines) for lines in sections] == [reply.ancount, reply.nscount, reply.arcount]
        assert len(reply.ttls) == 2 * (reply.ancount + reply.nscount + reply.arcount)
        assert len(reply.types) == reply.ancount
        assert reply.end <= reply.additional <= len(reply.wire)
        assert all("\n" not in line for lines in sections for line in lines)
        text.answer_text(reply)
        message.extended_errors(told)


@settings(max_examples=400)
@given(st.binary(max_size=600))
def test_no_bytes_make_the_scanners_raise(data: bytes) -> None:
    """Whatever a packet holds, it is read or refused, and what is accepted can be rendered."""
    read_all(data)
    read_all(b"\0\0\1\0\0\1\0\0\0\0\0\1" + data)
    read_all(b"\0\0\x81\x80\0\1\0\1\0\0\0\0\1a\0\0\1\0\1" + data)


@settings(max_examples=1500)
@given(mutated())
def test_no_damaged_message_makes_the_scanners_raise(data: bytes) -> None:
    """Messages close to valid reach deeper code; they too are read or refused."""
    read_all(data)


@pytest.mark.parametrize("data", SEEDS)
def test_every_cut_message_is_refused(data: bytes) -> None:
    """No prefix of a message passes for a whole one."""
    for size in range(len(data)):
        query = parse_query(data[:size], True)
        assert query is None or query.error
        assert parse_reply(data[:size]) is None
    whole = parse_reply(data)
    if whole is not None:
        more = parse_reply(data + b"\0junk")
        assert more is not None
        assert (more.wire, more.ttls) == (whole.wire, whole.ttls), "octets behind the last record are left out"


def test_key_lower_cases_the_name_and_nothing_else() -> None:
    """0x20 spelling does not change the key; type 65, the letter A, and class 65 stay what they are."""
    query = parse_query(query_wire("wWw.EXAMPLE.com.", "TYPE65"), False)
    assert query is not None
    assert query.key == b"\3www\7example\3com\0\0\x41\0\1\0"
    assert query.qtype == 65
    odd = b"\0\0\1\0\0\1\0\0\0\0\0\0\1A\0\x41\x41\x41\x42"
    asked = parse_query(odd, False)
    assert asked is not None
    assert asked.key == b"\1a\0\x41\x41\x41\x42\0"
    answered = parse_reply(b"\0\0\x81\x80" + odd[4:])
    assert answered is not None
    assert answered.question() == asked.key[:-1]


def test_key_tells_do_and_cd_apart() -> None:
    """The four variants of one question have four keys; AD and RD do not count."""
    variants = set()
    for do in (False, True):
        for cd in (0, dns.flags.CD):
            for more in (0, dns.flags.AD):
                message = dns.message.make_query("a.", "A", use_edns=0, want_dnssec=do)
                message.flags = dns.flags.RD | cd | more
                query = parse_query(message.to_wire(), False)
                assert query is not None
                assert query.key[-1] == (1 if do else 0) + (2 if cd else 0)
                variants.add(query.key)
    assert len(variants) == 4


@pytest.mark.parametrize(
    ("data", "stream", "limit"),
    [
        (query_wire(use_edns=False), False, 512),
        (query_wire(use_edns=0, payload=100), False, 512),
        (query_wire(use_edns=0, payload=800), False, 800),
        (query_wire(use_edns=0, payload=4096), False, 1232),
        (query_wire(use_edns=False), True, 65535),
        (query_wire(use_edns=0, payload=512), True, 65535),
    ],
)
def test_limit_is_what_the_client_can_take(data: bytes, stream: bool, limit: int) -> None:
    """512 without EDNS, the client's size between 512 and 1232 with it, 65535 over TCP."""
    query = parse_query(data, stream)
    assert query is not None
    assert query.limit == limit


@pytest.mark.parametrize("data", [b"", b"\0" * 11, reply_wire(), b"\0\0\x80" + b"\0" * 9, b"\0\0\xa8" + b"\0" * 40])
def test_replies_and_fragments_get_silence(data: bytes) -> None:
    """Less than a header, or a message with QR set, is never answered."""
    assert parse_query(data, False) is None


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_opcodes_are_not_implemented(opcode: int) -> None:
    """Every opcode but QUERY is NOTIMP, whatever follows."""
    data = bytearray(query_wire())
    data[2] |= opcode << 3
    query = parse_query(bytes(data), False)
    assert query is not None
    assert query.error == wire.NOTIMP


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\1\0\0\0\0\0\0\0\0\0",
        b"\0\0\1\0\0\2\0\0\0\0\0\0" + b"\1a\0\0\1\0\1" * 2,
        b"\0\0\1\0\1\1\0\0\0\0\0\0\1a\0\0\1\0\1",
        b"\0\0\1\0\0\1\0\1\0\0\0\0\1a\0\0\1\0\1" + b"\1a\0\0\1\0\1\0\0\0\0\0\0",
        b"\0\0\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",
        b"\0\0\1\0\0\1\0\0\0\0\0\0\x401\0\0\1\0\1",
        b"\0\0\1\0\0\1\0\0\0\0\0\0" + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
        b"\0\0\1\0\0\1\0\0\0\0\0\2\1a\0\0\1\0\1" + OPT * 2,
        b"\0\0\1\0\0\1\0\0\0\0\0\1\1a\0\0\1\0\1\1a" + OPT,
        b"\0\0\1\0\0\1\0\0\0\0\0\1\1a\0\0\1\0\1" + OPT[:-1] + b"\4",
        b"\0\0\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1\0",
    ],
    ids=[
        "no-question",
        "two",
        "257",
        "answer",
        "pointer",
        "type-64-label",
        "long",
        "two-opt",
        "opt-owner",
        "rdlen",
        "junk",
    ],
)
def test_malformed_queries_get_formerr(data: bytes) -> None:
    """A readable header with an unreadable rest deserves FORMERR."""
    query = parse_query(data, False)
    assert query is not None
    assert query.error == wire.FORMERR


def test_name_of_255_octets_is_the_longest() -> None:
    """255 octets with the root are accepted, 256 are not."""
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"
    assert len(name) == 255
    for shift, error in ((0, 0), (1, wire.FORMERR)):
        owner = (b"\x3f" + b"a" * 63) * 3 + bytes((61 + shift,)) + b"b" * (61 + shift) + b"\0"
        query = parse_query(b"\0\0\1\0\0\1\0\0\0\0\0\0" + owner + b"\0\1\0\1", False)
        assert query is not None
        assert query.error == error


def test_edns_version_above_0_is_badvers() -> None:
    """RFC 6891 section 6.1.3."""
    query = parse_query(query_wire(use_edns=1), False)
    assert query is not None
    assert (query.edns, query.error) == (True, wire.BADVERS)


def test_reply_is_read_like_an_independent_library_reads_it() -> None:
    """Counts, types, TTL places, SOA and flags agree with dnspython; the OPT record is not part of it."""
    data = reply_wire(dns.rcode.NOERROR)
    reply = parse_reply(data)
    assert reply is not None
    assert (reply.ancount, reply.nscount, reply.arcount, reply.types) == (3, 1, 1, [5, 1, 1])
    places = [reply.ttls[i] << 8 | reply.ttls[i + 1] for i in range(0, len(reply.ttls), 2)]
    assert [wire.read_u32(data, at) for at in places] == [300, 60, 60, 900, 120]
    assert (wire.read_u32(data, reply.soa_ttl_at), reply.soa_minimum) == (900, 77)
    assert reply.wire + OPT[:3] == data[: len(reply.wire) + 3]
    assert len(data) - len(reply.wire) == 11


def test_extended_rcode_is_put_together() -> None:
    """The upper eight bits come from OPT."""
    reply = parse_reply(reply_wire(dns.rcode.BADCOOKIE))
    assert reply is not None
    assert reply.rcode == 23


@pytest.mark.parametrize("target", [0x1D, 0x1E, 0x3FFF])
def test_forward_pointers_are_refused(target: int) -> None:
    """An owner must point before itself: itself or further on would be a loop."""
    start = 12 + 7
    record = (0xC000 | target).to_bytes(2, "big") + b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
    head = b"\0\0\x81\x80\0\1\0\1\0\0\0\0\1a\0\0\1\0\1"
    assert parse_reply(head + (0xC000 | start).to_bytes(2, "big") + record[2:]) is None
    assert parse_reply(head + record) is None
    assert parse_reply(head + b"\xc0\x0c" + record[2:]) is not None


@settings(max_examples=100)
@given(st.booleans(), st.booleans(), st.integers(0, 65535), st.booleans())
def test_our_queries_are_read_by_an_independent_library(do: bool, cd: bool, ident: int, edns: bool) -> None:
    """ID, RD, AD, CD, DO and the question arrive as meant."""
    key = b"\3www\7example\3com\0\0\x1c\0\1" + bytes((do + 2 * cd,))
    message = dns.message.from_wire(build_query(ident.to_bytes(2, "big"), key, edns))
    assert message.id == ident
    assert message.opcode() == dns.opcode.QUERY
    assert message.flags == dns.flags.RD | dns.flags.AD | (dns.flags.CD if cd else 0)
    assert message.question[0].to_text() == "www.example.com. IN AAAA"
    assert message.edns == (0 if edns else -1)
    if edns:
        assert (message.payload, bool(message.ednsflags & dns.flags.DO)) == (1232, do)


@given(st.integers(1, 63), st.sampled_from([b"", b"\0\x0b\0\0", b"\0\x0a\0\x08abcdefgh"]), st.integers(0, 3))
def test_padding_hides_how_long_a_query_is(size: int, options: bytes, bits: int) -> None:
    """The message is a multiple of the block, the padding its last option and all zeros, and other options are kept."""
    key = bytes((size,)) + b"x" * size + b"\0\0\1\0\1" + bytes((bits,))
    padded = build_query(b"ab", key, True, options, 128)
    message = dns.message.from_wire(padded)
    assert len(padded) == 128
    assert [int(option.otype) for option in message.options] == [*([options[1]] if options else []), 12]
    assert not any(message.options[-1].to_wire() or b"")
    assert build_query(b"ab", key, False, options, 128) == build_query(b"ab", key, False)
    assert len(build_query(b"ab", key, True, options)) == len(build_query(b"ab", key, True)) + len(options)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([3, 10, 12, 65299, 65300, 65301]), st.binary(max_size=12)), max_size=5))
def test_who_asks_for_a_trace(told: list[tuple[int, bytes]]) -> None:
    """The option is found among others, wherever it stands and whatever they hold."""
    options = [dns.edns.GenericOption(dns.edns.OptionType.make(code), data) for code, data in told]
    query = parse_query(query_wire(use_edns=0, options=options), False)
    assert query is not None
    assert query.error == 0
    assert query.trace == any(code == 65300 for code, _ in told)
