"""Which octets from an upstream are taken for a reply to the question."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import answer, failure

from rdnscache.dns.wire import FORMERR, NOTIMP, REFUSED, SERVFAIL
from rdnscache.upstream.reading import about, read_reply

pytestmark = [pytest.mark.once, pytest.mark.pure]

KEY = b"\x03www\x07example\x00\x00\x01\x00\x01\x00"


def _query() -> dns.message.Message:
    return dns.message.make_query("WWW.example.", "A", use_edns=0)


def _good() -> bytes:
    return answer(_query(), "300 A 192.0.2.1").to_wire()


def _bare(rcode: int, opt: bool = False, flags: int = 0) -> bytes:
    """A header without a question, and an OPT record if wanted."""
    header = bytes((0, 7, 0x80 | flags, 0x80 | rcode, 0, 0, 0, 0, 0, 0, 0, 1 if opt else 0))
    return header + (b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if opt else b"")


def test_octets_behind_the_message_are_left_out() -> None:
    """As peers do; whatever they are, and with the record after the question whole."""
    for rest in (b"\0", b"junk", bytes(300), _good()):
        reply = read_reply(KEY, _good() + rest)
        assert reply is not None
        assert reply.ancount == 1


@pytest.mark.parametrize("opt", [False, True])
@pytest.mark.parametrize("rcode", [FORMERR, SERVFAIL, NOTIMP, REFUSED])
def test_an_error_needs_no_question(rcode: int, opt: bool) -> None:
    """Some servers do not repeat what they refuse to read, with and without OPT."""
    reply = read_reply(KEY, _bare(rcode, opt))
    assert reply is not None
    assert reply.rcode == rcode
    assert reply.question() == KEY[:-1]


@pytest.mark.parametrize("rcode", [0, 3, 6])
def test_an_answer_needs_one(rcode: int) -> None:
    """NOERROR, NXDOMAIN and YXDOMAIN without a question say nothing about ours (RFC 5452 section 9.1)."""
    for opt in (False, True):
        assert read_reply(KEY, _bare(rcode, opt)) is None
        assert about(KEY, _bare(rcode, opt))


def test_a_cut_header_is_no_error_but_about_us() -> None:
    """TC without a question is neither an answer nor the whole error: the question is asked over TCP."""
    assert read_reply(KEY, _bare(0, flags=0x02)) is None
    assert about(KEY, _bare(0, flags=0x02))
    error = read_reply(KEY, _bare(SERVFAIL, flags=0x02))
    assert error is not None
    assert error.truncated


def test_what_is_cut_anywhere_is_about_us_and_no_reply() -> None:
    """In the header nothing can be seen; behind it the question is ours as far as it goes."""
    data = _good()
    for size in range(len(data)):
        assert read_reply(KEY, data[:size]) is None
        assert about(KEY, data[:size]) is (size >= 12)


@pytest.mark.parametrize("name", ["www.example.org.", "www.", "ww.example.", ".", "www.example.a.b.c."])
def test_another_question_is_not_about_us(name: str) -> None:
    """Longer or shorter, whole or with something behind it."""
    data = answer(dns.message.make_query(name, "A")).to_wire()
    for told in (data, data + b"x"):
        assert read_reply(KEY, told) is None
        assert not about(KEY, told)


def test_a_query_is_no_reply() -> None:
    """What we sent, sent back."""
    data = _query().to_wire()
    assert read_reply(KEY, data) is None
    assert not about(KEY, data)


def test_an_error_with_records_and_no_question_is_none() -> None:
    """A header that promises records without a question is taken for nothing."""
    data = bytearray(failure(_query(), dns.rcode.SERVFAIL).to_wire())
    data[4:8] = b"\0\0\0\1"
    assert read_reply(KEY, bytes(data)) is None


@given(st.binary(max_size=100), st.booleans())
def test_any_octets(data: bytes, ours: bool) -> None:
    """Nothing raises, and what is read answers our question."""
    if ours:
        data = b"\0\7\x80\0\0\1\0\0\0\0\0\0" + KEY[:-1] + data
    reply = read_reply(KEY, data)
    assert about(KEY, data) in (True, False)
    if reply is not None:
        assert reply.question() == KEY[:-1]
