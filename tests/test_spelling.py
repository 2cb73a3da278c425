"""The random letter case of questions, and how it is taken out of replies again."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import key_of

from rdnscache.dns.question import section
from rdnscache.dns.spelling import respelled, restored
from rdnscache.dns.wire import parse_reply

pytestmark = pytest.mark.pure

KEY = key_of("www.example.test", dns.rdatatype.CNAME)
ASKED = respelled(KEY, b"\xff" * len(KEY))
LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=3)


@given(LABELS, st.integers(0, 65535), st.binary(min_size=255, max_size=255))
def test_only_letters_of_the_name_are_changed(labels: list[bytes], rtype: int, chance: bytes) -> None:
    """Whatever octets are in a label, and whatever the type is: 65 is the letter A."""
    name = dns.name.Name([*labels, b""])
    key = name.to_digestable() + rtype.to_bytes(2, "big") + b"\0\1\0"
    asked = respelled(key, chance)
    size = len(key) - 5
    assert asked[:size].lower() == key[:size]
    assert asked[size:] == section(key)[size:]


@given(st.binary(min_size=len(KEY), max_size=len(KEY)))
def test_each_letter_by_an_octet_of_its_own(chance: bytes) -> None:
    """All spellings are as likely."""
    asked = respelled(KEY, chance)
    for octet, plain, drawn in zip(asked, KEY[:-5], chance, strict=False):
        assert octet == (plain ^ (drawn & 0x20) if chr(plain).isalpha() else plain)


def _reply(owner: bytes, rtype: int, rdata: bytes, asked: bytes = ASKED) -> bytes:
    """A reply with one answer."""
    head = b"ab\x81\x80\0\1\0\1\0\0\0\0" + asked + owner + rtype.to_bytes(2, "big")
    return head + b"\0\1\0\0\1\x2c" + len(rdata).to_bytes(2, "big") + rdata


UPPER = ASKED[:-4]
LOWER = KEY[:-5]


@pytest.mark.parametrize(
    ("owner", "rtype", "rdata", "left"),
    [
        pytest.param(b"\xc0\x0c", 5, b"\3cdn\xc0\x10", b"\3cdn\xc0\x10", id="pointers"),
        pytest.param(UPPER, 5, b"\3cdn\xc0\x10", b"\3cdn\xc0\x10", id="owner in full"),
        pytest.param(b"\xc0\x0c", 5, b"\3WWW\3net\0", b"\3www\3net\0", id="made from a DNAME"),
        pytest.param(b"\xc0\x0c", 5, b"\3cDn\3Net\0", b"\3cDn\3Net\0", id="spelled by the server"),
        pytest.param(b"\xc0\x0c", 15, b"\0\1" + UPPER, b"\0\1" + LOWER, id="in an MX"),
        pytest.param(b"\xc0\x0c", 33, b"\0\1\0\2\0\3" + UPPER, b"\0\1\0\2\0\3" + LOWER, id="in an SRV"),
        pytest.param(b"\xc0\x0c", 6, UPPER + UPPER + bytes(20), LOWER + LOWER + bytes(20), id="in an SOA"),
        pytest.param(b"\xc0\x0c", 16, b"\x04\3WWW", b"\x04\3WWW", id="text"),
        pytest.param(b"\xc0\x0c", 47, b"\1\0" + UPPER + b"\0\1\x40", b"\1\0" + UPPER + b"\0\1\x40", id="signed NSEC"),
        pytest.param(b"\xc0\x0c", 65400, UPPER, UPPER, id="an unknown type"),
    ],
)  # fmt: skip
def test_names_that_repeat_the_question(owner: bytes, rtype: int, rdata: bytes, left: bytes) -> None:
    """In lower case wherever DNSSEC signs them so; what is no such name stays as it is."""
    if rtype == dns.rdatatype.NSEC:  # its name is not compressed, and signed as it is
        rdata, left = rdata[2:], left[2:]
    plain = _reply(owner.lower(), rtype, left, section(KEY))
    assert parse_reply(plain) is not None
    assert restored(_reply(owner, rtype, rdata), ASKED, KEY) == plain


@given(LABELS, st.binary(min_size=255, max_size=255), st.booleans(), st.integers(0, 4))
def test_a_reply_is_the_same_in_whatever_case_it_was_asked(
    labels: list[bytes], chance: bytes, compressed: bool, count: int
) -> None:
    """All that a server makes of the question's name, compressed or not."""
    name = dns.name.Name([*labels, b"example", b"test", b""])
    key = name.to_digestable() + b"\0\1\0\1\0"
    asked = respelled(key, chance)

    def reply(spelled: bytes) -> bytes:
        owner = dns.name.from_wire(spelled, 0)[0]
        made = dns.message.from_wire(b"ab\x01\0\0\1\0\0\0\0\0\0" + spelled)
        made.flags |= dns.flags.QR
        for depth in range(count):
            above = dns.name.Name(owner.labels[depth % 2 :])
            made.answer.append(dns.rrset.from_text(above, 300, "IN", "A", "65.66.67.68"))
        zone = dns.name.Name(owner.labels[-3:])
        made.authority.append(dns.rrset.from_text(zone, 300, "IN", "SOA", "ns. h. 1 2 3 4 5"))
        if compressed:
            return made.to_wire()
        return _uncompressed(made)

    assert restored(reply(asked), asked, key) == reply(section(key))


def _octets(name: dns.name.Name) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in name.labels)


def _uncompressed(message: dns.message.Message) -> bytes:
    counts = (1, sum(map(len, message.answer)), sum(map(len, message.authority)), 0)
    wire = message.to_wire()[:4] + b"".join(count.to_bytes(2, "big") for count in counts)
    question = message.question[0]
    wire += _octets(question.name) + question.rdtype.to_bytes(2, "big") + question.rdclass.to_bytes(2, "big")
    for rrset in (*message.answer, *message.authority):
        for rdata in rrset:
            data = bytes(rdata.to_wire() or b"")
            wire += _octets(rrset.name) + rrset.rdtype.to_bytes(2, "big") + b"\0\1\0\0\1\x2c"
            wire += len(data).to_bytes(2, "big") + data
    return wire


def test_a_reply_with_more_labels_than_any_has_is_left_at_some_point() -> None:
    """The rest of it keeps its case, so that nobody can keep a worker busy."""
    key = key_of("a." * 100)
    asked = respelled(key, b"\xff" * len(key))
    record = asked[:-4] + b"\0\1\0\1\0\0\1\x2c\0\4\x7f\0\0\1"
    head = b"ab\x81\x80\0\1\1\0\0\0\0\0"
    data = restored(head + asked + record * 256, asked, key)
    assert data.startswith(head + section(key) + key[:-5])
    assert data.endswith(record)
