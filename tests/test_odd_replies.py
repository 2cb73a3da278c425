"""Replies that a forger, a broken server or a box in between may send: none is believed further than it should be.

The same replies were given to unbound and PowerDNS Recursor; what they make of them is in docs/reliability.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import dns.message
import dns.rcode
import pytest
from support import Node, Upstream, addresses, ask
from support.wire import record

pytestmark = pytest.mark.once

GOOD, BAD, TRUE = (bytes(map(int, text.split("."))) for text in ("192.0.2.1", "203.0.113.66", "192.0.2.7"))
A, NS, CNAME, SOA, TXT, AAAA, DNAME, OPT, TSIG = 1, 2, 5, 6, 16, 28, 39, 41, 250
#: A pointer to the name in the question; a name that others may ask for as well.
ASKED, VICTIM = b"\xc0\x0c", b"\3www\6victim\4test\0"


GOOD_A, BAD_A = record(ASKED, A, GOOD), record(ASKED, A, BAD)
EDNS = record(b"\0", OPT, b"", 1232, 0)
BAD_VICTIM = record(VICTIM, A, BAD)
SIGNED = record(b"\3key\0", TSIG, b"\4hmac\0" + bytes(16), 255, 0)


def reply(
    *answer: bytes, authority: tuple[bytes, ...] = (), additional: tuple[bytes, ...] = (EDNS,), flags: int = 0x8180,
    question: Callable[[bytes], bytes] = lambda asked: asked, count: int = 1, claimed: int | None = None,
    cut: int = 0,
) -> Callable[[bytes], bytes]:  # fmt: skip
    """Makes a reply to a question section, without its ID; `cut` octets are missing at the end."""

    def make(asked: bytes) -> bytes:
        counts = (count, len(answer) if claimed is None else claimed, len(authority), len(additional))
        whole = struct.pack("!5H", flags, *counts) + question(asked) + b"".join((*answer, *authority, *additional))
        return whole[: len(whole) - cut]

    return make


def with_rcode(rcode: int) -> Callable[[bytes], bytes]:
    return reply(BAD_A, flags=0x8180 | rcode)


#: The truth is asked for over TCP, at once.
OVER_TCP = {
    "another name": reply(BAD_A, question=lambda asked: VICTIM + asked[-4:]),
    "another type": reply(BAD_A, question=lambda asked: asked[:-4] + b"\0\x1c\0\1"),
    "another class": reply(BAD_A, question=lambda asked: asked[:-4] + b"\0\1\0\3"),
    "the name above": reply(BAD_A, question=lambda asked: asked[1 + asked[0] :]),
    "no question": reply(question=lambda asked: b"", count=0),
    "no question, NXDOMAIN": reply(question=lambda asked: b"", count=0, flags=0x8183),
    "two questions": reply(BAD_A, question=lambda asked: asked + VICTIM + b"\0\1\0\1", count=2),
    "the same question twice": reply(BAD_A, question=lambda asked: 2 * asked, count=2),
    "another question first": reply(BAD_A, question=lambda asked: VICTIM + b"\0\1\0\1" + asked, count=2),
    "a question that points to itself": reply(BAD_A, question=lambda asked: ASKED + asked[-4:]),
    "a query": reply(BAD_A, flags=0x0100),
    "an update": reply(BAD_A, flags=0xA980),
    "cut, with answers": reply(BAD_A, flags=0x8380),
    "cut in a record": reply(BAD_A, additional=(), cut=2),
    "cut in the question": reply(cut=20),
    "more records announced": reply(BAD_A, additional=(), claimed=2),
    "65,535 records announced": reply(BAD_A, additional=(), claimed=65535),
    "an address of 3 octets": reply(record(ASKED, A, BAD[:3])),
    "an address of 5 octets": reply(record(ASKED, A, BAD + b"x")),
    "an address of none": reply(record(ASKED, A, b"")),
    "an owner that points forward": reply(record(b"\xc0\xff", A, BAD)),
    "an owner in the header": reply(record(b"\xc0\0", A, BAD)),
    "an owner with a label of no known kind": reply(record(b"\x41xx\0", A, BAD)),
    "an owner that is too long": reply(record((b"\x3f" + b"a" * 63) * 5 + b"\0", A, BAD)),
    "two OPT": reply(BAD_A, additional=(EDNS, EDNS)),
    "OPT in the answer": reply(EDNS, BAD_A, additional=()),
    "OPT in the authority": reply(BAD_A, authority=(EDNS,), additional=()),
    "OPT with a name": reply(BAD_A, additional=(b"\1x" + EDNS,)),
    "TSIG in the answer": reply(SIGNED, BAD_A),
    "a SOA that is too short": reply(authority=(record(b"\4test\0", SOA, bytes(12)),), flags=0x8183),
}
#: There is no answer, whoever says so.
NO_ANSWER = {
    "the address of another name": reply(BAD_VICTIM),
    "a wildcard's name": reply(record(b"\1*\4test\0", A, BAD)),
    "any class": reply(record(ASKED, A, BAD, rclass=255)),
    "another type only": reply(record(ASKED, TXT, b"\3abc")),
    "an alias to itself": reply(record(ASKED, CNAME, ASKED)),
    "a referral with an address": reply(
        authority=(record(b"\4test\0", NS, b"\2ns" + VICTIM),), additional=(record(b"\2ns" + VICTIM, A, BAD),),
        flags=0x8100,
    ),
    "a referral upwards": reply(authority=(record(b"\0", NS, VICTIM),)),
    **{f"an address with RCODE {rcode}": with_rcode(rcode) for rcode in (1, 2, 3, 4, 5, 6, 9, 11, 15)},
}  # fmt: skip
#: The answer alone is taken.
TAKEN = {
    "another answer beside": reply(GOOD_A, BAD_VICTIM),
    "another answer before": reply(BAD_VICTIM, GOOD_A),
    "another address in addition": reply(GOOD_A, additional=(BAD_VICTIM, EDNS)),
    "name servers for all": reply(
        GOOD_A, authority=(record(b"\4test\0", NS, b"\2ns" + VICTIM),), additional=(BAD_VICTIM, EDNS)
    ),
    "another type beside": reply(record(ASKED, TXT, b"\3abc"), GOOD_A),
    "the reserved bit": reply(GOOD_A, flags=0x81C0),
    "without RA and RD": reply(GOOD_A, flags=0x8000),
    "EDNS of version 1": reply(GOOD_A, additional=(record(b"\0", OPT, b"", 1232, 1 << 16),)),
    "signed by nobody we know": reply(GOOD_A, additional=(SIGNED,)),
    "a client subnet nobody told": reply(
        GOOD_A, additional=(record(b"\0", OPT, b"\0\x08\0\7\0\1\x18\x18\xcb\0\x71", 1232, 0),)
    ),
    "BADVERS to who knows EDNS": reply(BAD_A, additional=(record(b"\0", OPT, b"", 1232, 1 << 24),)),
}
CASES = {**OVER_TCP, **NO_ANSWER, **TAKEN}
NUMBERS = {case: number for number, case in enumerate(CASES)}


def _asked(query: dns.message.Message) -> bytes:
    question = query.question[0]
    return (question.name.to_wire() or b"") + struct.pack("!HH", question.rdtype, question.rdclass)


def _handler(query: dns.message.Message, transport: str) -> bytes:
    asked = _asked(query)
    label = asked[1 : 1 + asked[0]].decode().lower()
    make = reply(GOOD_A) if label.startswith("c") else reply(record(ASKED, A, TRUE))
    if label.startswith("c") and (transport == "udp" or label.startswith("cc")):
        case = list(CASES)[int(label.lstrip("c"))]
        if not (case.startswith("BADVERS") and query.edns < 0):
            make = CASES[case]
    return query.id.to_bytes(2, "big") + make(asked)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(_handler) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def node(upstream: Upstream) -> Iterator[Node]:
    with Node([upstream.address], args=["--upstream-timeout", "20", "--upstream-deadline", "20"]) as node:
        yield node


def _checked(node: Node, name: str) -> list[str]:
    """What a client gets, twice; and that nothing is known of another name but the truth."""
    found = ask(node.port, name, timeout=10)
    assert addresses(ask(node.port, name, timeout=10)) == addresses(found)
    assert addresses(ask(node.port, "www.victim.test")) == ["192.0.2.7"]
    assert found.rcode() == dns.rcode.NOERROR or not found.answer
    return addresses(found)


@pytest.mark.parametrize("case", OVER_TCP)
def test_the_truth_is_asked_for_over_tcp(node: Node, case: str) -> None:
    """At once, and not after the time for a reply; what is as odd there is no answer."""
    assert _checked(node, f"c{NUMBERS[case]}.test") == ["192.0.2.1"]
    assert _checked(node, f"cc{NUMBERS[case]}.test") == []


@pytest.mark.parametrize("case", NO_ANSWER)
def test_what_answers_nothing_is_no_answer(node: Node, case: str) -> None:
    """Whatever else is in it."""
    assert _checked(node, f"c{NUMBERS[case]}.test") == []


@pytest.mark.parametrize("case", TAKEN)
def test_the_answer_alone_is_taken(node: Node, case: str) -> None:
    """What is beside it is not kept."""
    assert _checked(node, f"c{NUMBERS[case]}.test") == ["192.0.2.1"]
