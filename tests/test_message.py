"""Messages for people: dnslib's, and what it gets wrong put right. An independent library reads what they say."""

from __future__ import annotations

import struct
from decimal import Decimal

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import RDATA

from rdnscache.dns import message, wire
from rdnscache.dns.message import RIGHT, Name, answer_lines
from rdnscache.dns.names import CLASSES, TYPES, name_text, parse_name
from rdnscache.dns.text import answer_text
from rdnscache.dns.wire import Reply, parse_reply

#: Asks for q.example A.
HEAD = b"\0\0\x81\x80\0\1\0\1\0\0\0\0\1q\7example\0\0\1\0\1"
LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=3)


def wire_of(rtype: str, text: str) -> tuple[int, bytes]:
    number = int(dns.rdatatype.from_text(rtype))
    data = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.RdataType.make(number), text).to_wire()
    assert data is not None
    return number, data


def read_back(number: int, line: str) -> bytes:
    """The octets dnspython makes of a line; but it cuts floats, which may cost an altitude a centimetre."""
    data = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.RdataType.make(number), line).to_wire()
    assert data is not None
    if number == dns.rdatatype.LOC:
        metres = next(word for word in line.split() if word.endswith("m"))
        data = data[:12] + (int(Decimal(metres[:-1]) * 100) + 10_000_000).to_bytes(4, "big")
    return data


def reply_with(number: int, data: bytes, rclass: int = 1, owner: bytes = b"\xc0\x0c") -> Reply | None:
    return parse_reply(HEAD + owner + struct.pack("!HHIH", number, rclass, 60, len(data)) + data)


def shown(number: int, data: bytes, rclass: int = 1) -> str | None:
    """What people are shown of record data; None for what the scanner refuses."""
    reply = reply_with(number, data, rclass)
    if reply is None:
        return None
    (line,) = answer_lines(reply, whole=True)
    return line.split(" ", 4)[4] if " " in line else line


@pytest.mark.parametrize(("rtype", "text"), RDATA, ids=lambda value: str(value)[:24])
def test_a_record_is_read_back_to_the_same_octets(rtype: str, text: str) -> None:
    """dnspython, given our line of a record of any type, makes the record we had."""
    number, data = wire_of(rtype, text)
    line = shown(number, data)

    assert line is not None
    assert dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.RdataType.make(number), line).to_wire() == data


@settings(max_examples=600)
@given(st.sampled_from(RDATA), st.data())
def test_a_damaged_record_is_refused_or_read_back(known: tuple[str, str], data: st.DataObject) -> None:
    """Whatever octets the scanner lets through, their line stands for them and for no others."""
    number, rdata = wire_of(*known)
    cut = data.draw(st.integers(0, len(rdata)))
    damaged = rdata[:cut] + data.draw(st.binary(max_size=4)) + rdata[cut + data.draw(st.integers(0, 4)) :]
    line = shown(number, damaged)
    if line is None:
        return
    assert line.isprintable()
    try:
        back = read_back(number, line)
    except (dns.exception.DNSException, ValueError):
        return  # the oracle also judges values: reserved numbers of types, a mandatory parameter without a form
    assert back.lower() == damaged.lower()


@settings(max_examples=300)
@given(st.sampled_from(RDATA), LABELS, st.sampled_from([1, 3, 4, 254]))
def test_people_are_shown_what_a_fill_stores(known: tuple[str, str], labels: list[bytes], rclass: int) -> None:
    """Both ways to a line agree on every type, owner and class; only the place of a LOC is in Redis as octets."""
    number, data = wire_of(*known)
    owner = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    reply = reply_with(number, data, rclass, owner)
    if reply is None:  # the A of Chaosnet has other data
        return
    same = answer_lines(reply, whole=False) == answer_lines(reply, whole=True) == answer_text(reply).split("\n")
    assert same or known[0] == "LOC"


@pytest.mark.parametrize("octets", [b"\x00" * 12, b"\x80\0\0\x05\x80\0\0\x05", b"\x80\0\xff\xff\x7f\xff\x12\x34"])
def test_a_place_keeps_its_thousandths(octets: bytes) -> None:
    """Below a second as well, on both sides of both lines."""
    data = b"\0\x12\x16\x13" + (octets + b"\x00\x98\x96\x80")[:12]
    line = shown(29, data)
    if line is not None:
        assert dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.LOC, line).to_wire() == data


@settings(max_examples=300)
@given(LABELS)
def test_names_of_any_octets(labels: list[bytes]) -> None:
    """A name is written as everywhere else; equal names are those of the same labels, whatever their case."""
    wire_name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    name = Name(labels)

    assert str(name) == name_text(wire_name)
    assert dns.name.from_text(str(name)) == dns.name.from_wire(wire_name, 0)[0]
    assert name == Name([label.upper() for label in labels]) and hash(name) == hash(Name([*labels]))
    assert Name([b"a.b"]) != Name([b"a", b"b"])


def test_every_mnemonic_has_one_number() -> None:
    """dnslib's tables say what ours say, in both directions; 53 is not HIP."""
    for table, ours in ((dnslib.QTYPE, TYPES), (dnslib.CLASS, CLASSES)):
        for number, name in ours.items():
            assert table[number] == name and getattr(table, name) == number
    others = {number: name for number, name in dnslib.QTYPE.forward.items() if number not in TYPES}
    assert others == {38: "A6", 32768: "TA"}
    assert len(set(dnslib.QTYPE.forward.values())) == len(dnslib.QTYPE.forward)


@settings(max_examples=200)
@given(LABELS, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 3), st.integers(0, 65535))
def test_a_query_is_the_one_that_nodes_send(
    labels: list[bytes], rtype: int, rclass: int, bits: int, ident: int
) -> None:
    """The same octets, for every key; with an option, dnspython finds it."""
    name = b"".join(bytes((len(label),)) + label for label in labels).lower() + b"\0"
    key = name + struct.pack("!HHB", rtype, rclass, bits)

    assert message.build_query(ident, key) == wire.build_query(ident.to_bytes(2, "big"), key, True)
    asked = dns.message.from_wire(message.build_query(ident, key, [wire.TRACE_OPTION]))
    assert [int(option.otype) for option in asked.options] == [wire.TRACE_OPTION]
    assert bool(asked.ednsflags & dns.flags.DO) is bool(bits & 1)


@pytest.mark.parametrize(
    "error", [RecursionError, UnicodeDecodeError("utf-8", b"x", 0, 1, "y"), IndexError, dnslib.DNSError]
)
@pytest.mark.parametrize("method", ["parse", "toZone"])
def test_whatever_dnslib_raises_the_record_is_shown(
    monkeypatch: pytest.MonkeyPatch, error: Exception, method: str
) -> None:
    """In the generic form; and the records behind it are not lost."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(dnslib.RDMAP["MX"], method, fail)
    bad = b"\xc0\x0c\0\x0f\0\1\0\0\0\x3c\0\4\0\1\xc0\x0c"
    reply = parse_reply(HEAD[:6] + b"\0\2" + HEAD[8:] + bad + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4")
    assert reply is not None
    assert answer_lines(reply, whole=True) == ["q.example. 60 IN MX \\# 4 0001c00c", "q.example. 60 IN A 1.2.3.4"]


def test_types_that_are_right_are_dnslibs_own() -> None:
    """What is listed as right needs no class of ours; what is not has one, so nothing new slips in with a release."""
    for number, name in TYPES.items():
        ours = dnslib.RDMAP[name].__module__ == message.__name__
        assert ours is (name not in RIGHT), number


def test_extended_errors_are_told() -> None:
    """Each with its words; an option cut short, or no option, says nothing."""
    reply = dns.message.make_response(dns.message.make_query("a.example.", "A"))
    reply.use_edns(
        0,
        options=[
            dns.edns.EDEOption(dns.edns.EDECode.BLOCKED, "why \x1b[2J"),
            dns.edns.GenericOption(dns.edns.OptionType.EDE, b"\x0f\xa0"),
            dns.edns.NSIDOption(b"x"),
        ],
    )
    told = message.read(reply.to_wire())
    assert told is not None
    assert message.extended_errors(told) == ["EDE 15 (Blocked): why \x1b[2J", "EDE 4000 (?)"]
    assert message.lines(told.ar) == []

    for options in (b"", b"\0\x0f\0\1x", b"\0\x0f\0\x09\0\1", b"\0\x0f"):
        opt = b"\0\0\x29\x04\xd0\0\0\0\0" + len(options).to_bytes(2, "big") + options
        told = message.read(HEAD[:7] + b"\0\0\0\0\1" + HEAD[12:] + opt)
        assert told is not None
        assert message.extended_errors(told) == []


def test_the_rcode_has_its_upper_bits() -> None:
    """BADVERS is 16, of which the header has four bits (RFC 6891 section 6.1.3)."""
    told = message.read(HEAD[:7] + b"\0\0\0\0\1" + HEAD[12:] + b"\0\0\x29\x04\xd0\1\0\0\0\0\0")
    assert told is not None
    assert message.rcode(told) == wire.BADVERS
    assert str(told.questions[0].qname) == name_text(parse_name("q.example"))


@pytest.mark.parametrize(
    "junk", [b"\xc0\x1b", b"\1a\xc0\x1b", b"\0\0\x29\x04\xd0\0\0\0\0\0\6\0\x0f\0\2\0\1", b"\xff" * 40]
)
@pytest.mark.parametrize("additional", [0, 1])
def test_what_is_behind_a_reply_is_not_read(junk: bytes, additional: int) -> None:
    """A name that points to itself, or an OPT that the header does not count, is no part of the message."""
    tsig = b"\0\0\xfa\0\xff\0\0\0\0\0\0" * additional
    told = message.read(HEAD[:7] + bytes((0, 0, 0, 0, additional)) + HEAD[12:] + tsig + junk)
    assert told is not None
    assert message.extended_errors(told) == []
    assert told.ar == []
