"""Names and data of a reply: what is accepted an independent library can read, and it costs what its octets cost."""

from __future__ import annotations

import struct

import dns.exception
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.wire import record

from rdnscache.dns import rdata
from rdnscache.dns.distill import distill
from rdnscache.dns.message import answer_lines
from rdnscache.dns.policy import Limits, settle, usable
from rdnscache.dns.rdata import SHAPES
from rdnscache.dns.text import MOST_RECORDS, MOST_TEXT, answer_text
from rdnscache.dns.wire import Reply, build_query, parse_error, parse_reply
from rdnscache.store.decoding import decode

pytestmark = pytest.mark.pure

#: Asks for q.example A; its labels begin at 12 and 14, its root octet stands at 22.
HEAD = b"\0\0\x81\x80\0\1\0\1\0\0\0\0\1q\7example\0\0\1\0\1"


def with_records(*records: bytes) -> bytes:
    return HEAD[:6] + len(records).to_bytes(2, "big") + HEAD[8:] + b"".join(records)


def readable(wire: bytes) -> bool:
    try:
        dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return False
    return True


A = record(b"\xc0\x0c", 1, b"\1\2\3\4")
LONG = (b"\x3f" + b"x" * 63) * 3


@pytest.mark.parametrize(
    "owner",
    [
        b"\xc0\x00",  # the header
        b"\xc0\x0f",  # inside a label
        b"\xc0\x17",  # the type of the question
        b"\xc0\x1b",  # itself
        b"\xc0\x40",  # forward
        b"\xff\xff",
        b"\1a\xc0\x1b",  # its own beginning
        b"\x40a\0",  # label types nobody has
        b"\x80a\0",
        LONG + b"\x3f" + b"x" * 63 + b"\0",
        LONG + b"\x34" + b"x" * 52 + b"\xc0\x0c",  # 256 octets once expanded
        b"\1a",
    ],
)
def test_a_name_that_cannot_be_is_refused(owner: bytes) -> None:
    """As an owner, and as data of every type that has names (RFC 1035 sections 3.1 and 4.1.4)."""
    assert parse_reply(with_records(record(owner, 65400, b""))) is None
    for rtype, front in ((2, b""), (5, b""), (12, b""), (15, b"\0\1"), (33, b"\0" * 6), (6, b"\0"), (39, b"")):
        at = len(HEAD) + 12
        data = owner.replace(b"\xc0\x1b", bytes((0xC0, at + len(front))))
        tail = b"\0" * 20 if rtype == 6 else b""
        assert parse_reply(with_records(record(b"\xc0\x0c", rtype, front + data + tail))) is None


@pytest.mark.parametrize(
    "owner", [b"\xc0\x0c", b"\xc0\x0e", b"\xc0\x16", b"\0", LONG + b"\x33" + b"x" * 51 + b"\xc0\x0c"]
)
def test_a_name_that_can_be_is_read(owner: bytes) -> None:
    """Pointers to a name and to the rest of one, to the root, and 255 octets."""
    wire = with_records(record(owner, 1, b"\1\2\3\4"))
    assert parse_reply(wire) is not None
    assert readable(wire)


@pytest.mark.parametrize("pointers", [16, 17])
def test_only_so_many_pointers_make_a_name(pointers: int) -> None:
    """No server needs more than a few."""
    records, target = [], 12
    for _ in range(pointers):
        at = len(with_records(*records))
        records.append(record((0xC000 | target).to_bytes(2, "big"), 65400, b""))
        target = at
    wire = with_records(*records)
    assert (parse_reply(wire) is not None) is readable(wire) is (pointers <= 16)


@pytest.mark.parametrize(
    ("rtype", "data"),
    [
        (1, b"\1\2\3"),
        (1, b"\1\2\3\4\5"),
        (28, b"\0" * 15),
        (5, b"\1a"),
        (6, b"\0\0" + b"\0" * 19),
        (15, b"\0"),
        (16, b"\5abc"),
        (16, b""),
        (33, b"\0\0\0\0\0"),
        (43, b"\0\1\1\2" + b"x" * 31),
        (46, b"\0\1\1\1" + b"\0" * 14),
        (47, b"\0\0\1\0"),
        (65, b"\0\1\0\0\3\0\1\1"),
        (257, b"\0\5issu"),
    ],
)
def test_data_without_the_shape_of_its_type_are_refused(rtype: int, data: bytes) -> None:
    """Here, from Redis, and from a file; data of an unknown type may be anything."""
    wire = with_records(record(b"\xc0\x0c", rtype, data))
    assert parse_reply(wire) is None
    assert parse_reply(with_records(record(b"\xc0\x0c", 65400, data))) is not None
    key = b"\1q\7example\0\0\1\0\1\0"
    info = b"rcode=NOERROR ttl=60 stale=0 stored=2026-11-23T07:00:00Z from=192.0.2.53 node=n1"
    assert decode(key, info, wire, 60_000, 1000.0) is None
    assert decode(key, info, with_records(A), 60_000, 1000.0) is not None
    assert decode(key, info, with_records(A) + b"\0", 60_000, 1000.0) is None


NAME = st.sampled_from(
    [b"\xc0\x0c", b"\xc0\x0e", b"\xc0\x16", b"\1a\xc0\x0c", b"\0", b"\2ns\0", b"\xc0\x00", b"\xc0\x0d"]
)
STRING = st.binary(max_size=5).map(lambda data: bytes((len(data),)) + data)
BITMAP = st.tuples(st.integers(0, 2), STRING).map(lambda told: bytes((told[0],)) + told[1])
PARAMETER = st.tuples(
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 65535]),
    st.sampled_from([b"", b"\0\1", b"\0\4\0\5", b"\2h2", b"\0\4abcd", b"\0" * 16]) | st.binary(max_size=6),
)
ITEM = st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([0, 32, 33, 128, 129]), st.binary(max_size=17)).map(
    lambda told: struct.pack("!HBB", told[0], told[1], len(told[2])) + told[2]
)
LOCATION = st.tuples(
    st.sampled_from([0, 1]), st.sampled_from([0x12, 0x9A, 0x05, 0x99]), st.sampled_from([0, 324000000, 324000001])
).map(lambda told: struct.pack("!BBBBIII", told[0], told[1], 0, 0x12, 0x80000000 + told[2], 0x80000000 - told[2], 0))
DIGEST = st.sampled_from([0, 1, 11, 12, 20, 32, 48, 64]).map(bytes)
OF_LETTER = {
    **{letter: st.sampled_from([0, 1, 2, 3]).map(lambda n, size=size: n.to_bytes(size, "big"))
       for letter, size in zip("BHItT", (1, 2, 4, 2, 4), strict=True)},
    **{letter: st.binary(min_size=size, max_size=size) for letter, size in (("4", 4), ("6", 16), ("8", 8))},
    **dict.fromkeys("nu", NAME), **dict.fromkeys("show", STRING), **dict.fromkeys("dDkcz", DIGEST),
    "i": st.just(b"") | STRING, "S": st.lists(STRING, max_size=3).map(b"".join),
    "f": st.lists(st.sampled_from([b"\1\x31", b"\3-90", b"\4+1.5", b"\3181", b"\1.", b"\0"]), min_size=3, max_size=3)
    .map(b"".join),
    "m": st.lists(BITMAP, max_size=3).map(b"".join), "a": st.lists(ITEM, max_size=2).map(b"".join), "l": LOCATION,
    "p": st.lists(PARAMETER, max_size=4, unique_by=lambda told: told[0]).map(
        lambda told: b"".join(struct.pack("!HH", key, len(value)) + value for key, value in sorted(told))),
    "g": st.sampled_from([b"", b"1234", b"1" * 16]) | NAME, "G": st.sampled_from([b"", b"1234", b"1" * 16]) | NAME,
    "v": st.tuples(STRING, NAME).map(lambda told: struct.pack("!BBH", len(told[0]), 1, 2) + told[0] + b"kk" + told[1]),
    "K": st.lists(STRING.map(lambda data: b"\0" + data), max_size=3).map(b"".join),
}  # fmt: skip


@st.composite
def data_of(draw: st.DrawFn, rtype: int) -> bytes:
    """Data that are nearly of this type's shape, or just so."""
    out = b"".join(draw(OF_LETTER.get(chr(letter), st.binary(max_size=8))) for letter in SHAPES[rtype])
    cut = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
    return out[: len(out) - cut] + draw(st.sampled_from([b"", b"", b"", b"\0"]))


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("rtype", SHAPES)
def test_what_is_accepted_an_independent_library_reads(rtype: int, data: st.DataObject) -> None:
    """Data close to the shape of every known type, in all classes."""
    octets = data.draw(data_of(rtype))
    rclass = data.draw(st.sampled_from([1, 1, 1, 1, 3, 4, 254, 255]))
    wire = with_records(record(data.draw(NAME), rtype, octets, rclass))
    if parse_reply(wire) is not None:
        assert readable(wire)


REAL = [
    "q.example. 60 IN A 192.0.2.1",
    "q.example. 60 IN AAAA 2001:db8::1",
    "q.example. 60 IN NS ns1.q.example.",
    "q.example. 60 IN MX 10 mail.q.example.",
    "q.example. 60 IN SOA ns.q.example. root.q.example. 1 7200 3600 86400 60",
    'q.example. 60 IN TXT "v=spf1 -all" ""',
    'q.example. 60 IN HTTPS 1 . alpn="h2,h3" port="443" ipv4hint="192.0.2.1" ech="AAT+DQAA"',
    "q.example. 60 IN HTTPS 0 pool.q.example.",
    "q.example. 60 IN SRV 1 2 443 host.q.example.",
    'q.example. 60 IN NAPTR 100 50 "s" "SIP+D2U" "" _sip._udp.q.example.',
    'q.example. 60 IN CAA 0 issue "ca.example"',
    "q.example. 60 IN DS 1 13 2 " + "ab" * 32,
    "q.example. 60 IN CDS 0 0 0 00",
    "q.example. 60 IN DNSKEY 257 3 13 " + "QUJD" * 16,
    "q.example. 60 IN RRSIG A 13 2 60 20300101000000 20200101000000 1 example. QUJD",
    "q.example. 60 IN NSEC a.q.example. A NS SOA RRSIG NSEC TYPE65400",
    "q.example. 60 IN NSEC3 1 0 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr A RRSIG",
    "q.example. 60 IN NSEC3PARAM 1 0 5 aabb",
    "q.example. 60 IN TLSA 3 1 1 " + "cd" * 32,
    "q.example. 60 IN SSHFP 4 2 " + "ef" * 32,
    "q.example. 60 IN LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000.00m 10.00m",
    "q.example. 60 IN APL 1:192.0.2.0/24 !2:2001:db8::/32",
    'q.example. 60 IN URI 10 1 "https://q.example/"',
    "q.example. 60 IN IPSECKEY 10 3 2 gw.q.example. AQID",
    "q.example. 60 IN HIP 2 200100107B1A74DF365639CC39F1D578 AwEA rvs.q.example.",
    "q.example. 60 IN EUI48 00-00-5e-00-53-2a",
    "q.example. 60 IN NID 10 0014:4fff:ff20:ee64",
    "q.example. 60 IN LP 10 l64.q.example.",
    'q.example. 60 IN HINFO "RFC8482" ""',
    "q.example. 60 IN RP a.q.example. b.q.example.",
    "q.example. 60 IN CERT 1 2 3 QUJD",
    "q.example. 60 IN OPENPGPKEY QUJD",
    "q.example. 60 IN ZONEMD 1 1 1 " + "aa" * 48,
    "q.example. 60 IN CSYNC 1 3 A NS AAAA",
    'q.example. 60 IN SVCB 1 svc.q.example. mandatory="alpn" alpn="bar" port="8004"',
    "q.example. 60 IN DNAME example.org.",
    "q.example. 60 IN KX 10 kx.q.example.",
    "q.example. 60 IN AMTRELAY 10 0 3 relay.q.example.",
]


def real(line: str, do: bool = False) -> bytes:
    """A reply with this record, its signature, a chain before it and the usual beside it."""
    owner, ttl, rclass, rtype, data = line.split(" ", 4)
    query = dns.message.make_query(owner, rtype, use_edns=0, want_dnssec=do)
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text(owner, int(ttl), rclass, rtype, data))
    signature = f"{rtype} 13 2 60 20300101000000 20200101000000 1 example. QUJD"
    if do and rtype != "RRSIG":
        reply.answer.append(dns.rrset.from_text(owner, 60, "IN", "RRSIG", signature))
    reply.authority.append(dns.rrset.from_text("example.", 60, "IN", "NS", "ns1.example.", "ns2.example."))
    reply.additional.append(dns.rrset.from_text("ns1.example.", 60, "IN", "A", "192.0.2.53"))
    return reply.to_wire()


def relayed(wire: bytes) -> bytes | None:
    """What would be stored and served of a reply, as the way of a miss has it; None where it is refused."""
    reply = parse_reply(wire)
    if reply is None or not usable(reply):
        return None
    key = reply.question() + b"\1"
    kept = distill(key, reply)
    return None if kept is None else settle(key, kept, Limits())[0]


@pytest.mark.parametrize("line", REAL)
@pytest.mark.parametrize("do", [False, True])
def test_what_real_servers_send_is_accepted(line: str, do: bool) -> None:
    """Records of all kinds, as an independent library writes them, come out as they went in."""
    wire = real(line, do)
    stored = relayed(wire)
    assert stored is not None
    assert dns.message.from_wire(stored).answer == dns.message.from_wire(wire).answer


@settings(max_examples=2000)
@given(
    st.sampled_from([real(line, do) for line in REAL for do in (False, True)]),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.binary(min_size=1, max_size=3)), max_size=3),
)
def test_no_reply_is_relayed_that_cannot_be_read(wire: bytes, damage: list[tuple[int, int, bytes]]) -> None:
    """The corpus of real replies with octets changed, cut out and put in: an independent library reads what is left."""
    data = bytearray(wire)
    for kind, at, octets in damage:
        at %= len(data)
        match kind:
            case 0:
                data[at : at + len(octets)] = octets
            case 1:
                del data[at : at + len(octets)]
            case 2:
                data[at:at] = octets
            case _:
                data[at : at + 2] = bytes((0xC0, octets[0]))
    stored = relayed(bytes(data))
    if stored is not None:
        dns.message.from_wire(stored)


def costly() -> dict[str, bytes]:
    """Messages of 64 KB that would keep a careless reader busy."""
    name = b"\1a" * 120 + b"\xc0\x0c"
    chains, at = [], len(HEAD)
    while at < 0x3F00:
        chains.append(record(b"\1b" + (0xC000 | (at - 13 if chains else 12)).to_bytes(2, "big"), 65400, b""))
        at += 14
        if len(chains) % 14 == 0:
            chains.append(record(b"\xc0\x0c", 65400, b""))
            at += 12
    far = (0xC000 | (len(HEAD) + 12)).to_bytes(2, "big")
    first = record(b"\xc0\x0c", 2, name)
    room = 65535 - len(HEAD) - len(first)
    return {
        "pointers to one long name": with_records(first, *[record(far, 2, far)] * (room // 14)),
        "three names a record": with_records(first, *[record(far, 26, b"\0\1" + far + far)] * (room // 18)),
        "a rendezvous list": with_records(record(b"\xc0\x0c", 55, b"\0\0\0\0" + b"\1a\0" * 20000)),
        "labels": with_records(*[record(b"\1a" * 126 + b"\0", 65400, b"")] * (room // 263)),
        "strings": with_records(record(b"\xc0\x0c", 16, b"\0" * 65000)),
        "windows": with_records(*[record(b"\xc0\x0c", 47, b"\0" + bytes((0, 1, 1)))] * (room // 16)),
        "signatures": with_records(first, *[record(far, 46, b"\0\5" + b"\0" * 16 + b"\0")] * (room // 31)),
        "aliases": with_records(*[record(b"\xc0\x0c", 5, b"\1a\xc0\x0c")] * (room // 16)),
    }


@pytest.mark.parametrize("kind", costly())
def test_the_text_of_an_answer_is_bounded(kind: str) -> None:
    """64 KB can stand for 12 MB of text: nodes make at most 4 KB and 50 records, and say what is left out."""
    reply = parse_reply(costly()[kind])
    assert reply is not None
    lines = answer_text(reply).split("\n")
    assert len("\n".join(lines)) <= MOST_TEXT + 80
    assert len(lines) <= MOST_RECORDS + 1
    assert lines[-1] == f"; {reply.ancount - len(lines) + 1} more: rdnscache cache get shows all"
    assert answer_lines(reply, whole=False) == lines
    assert len(answer_lines(reply, whole=True)) == reply.ancount


def test_the_text_of_an_ordinary_answer_is_whole() -> None:
    """No line about more where there is none."""
    reply = parse_reply(with_records(*[A] * MOST_RECORDS))
    assert reply is not None
    assert answer_text(reply) == "\n".join(["q.example. 60 IN A 1.2.3.4"] * MOST_RECORDS)


def steps(run: object) -> int:
    """How many lines of our own code a call takes."""
    import sys

    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        run()  # type: ignore[operator]
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", costly())
def test_what_a_page_is_shown_costs_a_worker_little(kind: str) -> None:
    """A look-up reads a bounded part of an answer, whatever the rest of it holds."""
    reply = parse_reply(costly()[kind])
    assert reply is not None
    assert steps(lambda: answer_lines(reply, whole=False)) < 8 * MOST_TEXT


@pytest.mark.skipif(not rdata.__file__.endswith(".py"), reason="steps of compiled code are not counted")
@pytest.mark.parametrize("kind", costly())
def test_the_work_on_a_reply_is_linear_in_its_size(kind: str) -> None:
    """At most so many steps an octet, whatever it holds: pointers are looked at, not followed."""
    wire = costly()[kind]
    key = b"\1q\7example\0\0\1\0\1\1"
    assert steps(lambda: parse_reply(wire)) < 16 * len(wire)

    def whole() -> None:
        reply = parse_reply(wire)
        assert reply is not None
        distill(key, reply)

    assert steps(whole) < 32 * len(wire)


def error(key: bytes, data: bytes) -> Reply:
    reply = parse_error(key, data)
    assert reply is not None
    return reply


def test_an_error_without_a_question_is_that_error() -> None:
    """With OPT or without (RFC 6891 section 7); its RCODE and its Extended DNS Error are read."""
    key = b"\1q\7example\0\0\1\0\1\0"
    opt = b"\0\0\x29\x10\0\0\0\0\0\0\x06\0\x0f\0\2\0\6"
    for rcode in (1, 2, 4, 5):
        bare = bytes((0, 0, 0x81, 0x80 | rcode)) + bytes(8)
        assert (error(key, bare).rcode, error(key, bare).ede) == (rcode, -1)
        told = error(key, bare[:11] + b"\1" + opt)
        assert (told.rcode, told.ede, told.question()) == (rcode, 6, key[:-1])
    badvers = error(key, b"\0\0\x81\x80" + bytes(7) + b"\1" + opt[:5] + b"\1" + opt[6:])
    assert badvers.rcode == 16


@pytest.mark.parametrize("rcode", [0, 3, 6])
def test_without_a_question_only_an_error_counts(rcode: int) -> None:
    """NOERROR, NXDOMAIN and YXDOMAIN say something about a name: there has to be one (RFC 5452 section 9.1)."""
    key = b"\1q\7example\0\0\1\0\1\0"
    assert parse_error(key, bytes((0, 0, 0x81, 0x80 | rcode)) + bytes(8)) is None
    assert parse_error(key, build_query(b"ab", key, True)) is None
    assert parse_error(key, with_records(A)) is None
    assert parse_error(key, b"\0\0\x81\x82\0\0\0\1\0\0\0\0" + A) is None


@pytest.mark.parametrize(
    ("options", "ede"),
    [
        (b"", -1),
        (b"\0\x0f\0\2\0\6", 6),
        (b"\0\x0a\0\1x\0\x0f\0\5\0\3abc\0\x0f\0\2\0\x16", 3),
        (b"\0\x0f\0\1x", -1),
        (b"\0\x0f\0\xff\0\6", -1),
        (b"\0\x0f\0\2\xff\xff", 65535),
    ],
)
def test_the_first_extended_error_is_kept(options: bytes, ede: int) -> None:
    """Wherever it stands among the options; a broken one is none."""
    opt = b"\0\0\x29\x10\0\0\0\0\0" + len(options).to_bytes(2, "big") + options
    wire = with_records(A)
    reply = parse_reply(wire[:11] + b"\1" + wire[12:] + opt)
    assert reply is not None
    assert (reply.ede, reply.wire) == (ede, wire[:11] + b"\1" + wire[12:])


def test_a_message_of_labels_is_no_answer() -> None:
    """30,000 labels would keep the hub for longer than any reply may; the largest answers have a few thousand."""
    key = b"\1q\7example\0\0\1\0\1\0"
    many = parse_reply(costly()["labels"])
    assert many is not None
    assert distill(key, many) is None
    plain = parse_reply(with_records(*[record(b"\1q\7example\0", 1, b"\1\2\3\4")] * 2600))
    assert plain is not None
    assert distill(key, plain) is plain
