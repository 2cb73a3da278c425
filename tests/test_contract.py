"""What Redis holds is not trusted: an entry is used only when everything about it fits its question."""

from __future__ import annotations

import re

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.samples import INFO, KEY, WIRE, stored_wire

from rdnscache.dns import policy
from rdnscache.dns.question import wider_key
from rdnscache.store import contract, steering
from rdnscache.store.contract import Names
from rdnscache.store.decoding import Lifetime, decode, info_text, mistimed
from rdnscache.store.scope import Scope

pytestmark = pytest.mark.pure

NOW = 5000.0
LIFETIME = 3_900_000


@pytest.mark.parametrize(
    ("left_ms", "age"), [(LIFETIME, 0), (LIFETIME - 1, 0.001), (3_600_000, 300), (1, 3899.999), (Lifetime.WHOLE, 0)]
)
def test_age_comes_from_the_time_left(left_ms: int | Lifetime, age: float) -> None:
    """No clock of another node has a part in it; fresh while more than the stale time is left."""
    entry = decode(KEY, INFO, WIRE, left_ms, NOW)
    assert entry is not None
    assert entry.stored == pytest.approx(NOW - age)
    assert (entry.key, entry.ttl, entry.stale, entry.rcode) == (KEY, 300, 3600, 0)
    assert entry.fresh(NOW) is (isinstance(left_ms, Lifetime) or left_ms > 3_600_000)
    assert entry.usable(NOW)


@pytest.mark.parametrize("left_ms", [-1, -2, LIFETIME + 1, 10**15, None, b"100", "100", 1.5])
def test_time_left_must_be_set_and_possible(left_ms: object) -> None:
    """No expiry (-1), no key (-2), more than the entry's own lifetime, or not a number: not used."""
    assert decode(KEY, INFO, WIRE, left_ms, NOW) is None


@pytest.mark.parametrize(
    "key",
    [
        b"\3ww2\7example\3com\0\0\1\0\1\0",
        b"\3www\7example\3com\0\0\x1c\0\1\0",
        b"\3www\7example\3com\0\0\1\0\3\0",
        b"\7example\3com\0\0\1\0\1\0",
    ],
    ids=["name", "type", "class", "parent"],
)
def test_reply_to_another_question_is_refused(key: bytes) -> None:
    """Whoever wrote it there: only a reply to this very question answers it."""
    assert decode(key, INFO, WIRE, LIFETIME, NOW) is None


def test_cut_or_lengthened_wire_is_refused() -> None:
    """Every prefix, and one octet more."""
    assert decode(KEY, INFO, WIRE, LIFETIME, NOW) is not None
    for size in range(len(WIRE)):
        assert decode(KEY, INFO, WIRE[:size], LIFETIME, NOW) is None
    assert decode(KEY, INFO, WIRE + b"\0", LIFETIME, NOW) is None


def test_query_in_place_of_a_reply_is_refused() -> None:
    """A message without QR is not an answer."""
    assert decode(KEY, INFO, WIRE[:2] + b"\1" + WIRE[3:], LIFETIME, NOW) is None


def test_records_must_live_as_long_as_the_entry() -> None:
    """A TTL in the wire below the entry's would age past zero; above is fine."""
    assert decode(KEY, INFO, stored_wire(299), LIFETIME, NOW) is None
    assert decode(KEY, INFO, stored_wire(301), LIFETIME, NOW) is not None


@pytest.mark.parametrize(
    "info",
    [
        None,
        INFO.decode(),
        b"",
        b"rcode=NOERROR ttl=300",
        b"ttl=300 stale=3600 stored=x from=y node=z",
        INFO.replace(b"300", b"-300"),
        INFO.replace(b"300", b"99999999"),
        INFO.replace(b"3600", b"1e3"),
        INFO.replace(b"n1", b"n1\nx"),
        INFO.replace(b"n1", b"n" * 500),
        INFO + b"\n",
        b" " + INFO,
    ],
)
def test_info_of_another_form_is_refused(info: object) -> None:
    """Only what `info_text` writes is read."""
    assert decode(KEY, info, WIRE, LIFETIME, NOW) is None


ANY = st.none() | st.integers(-10, 10**7) | st.binary(max_size=120) | st.text(max_size=20)


@settings(max_examples=500)
@given(ANY, ANY | st.binary(max_size=60).map(lambda data: WIRE[:33] + data), ANY)
def test_no_content_of_redis_makes_decode_raise(info: object, wire: object, left: object) -> None:
    """Any bytes, numbers or texts, alone and beside good fields."""
    for candidate in ((info, wire, left), (INFO, wire, LIFETIME), (info, WIRE, LIFETIME), (INFO, WIRE, left)):
        entry = decode(KEY, *candidate, NOW)
        assert entry is None or 0 <= NOW - entry.stored <= entry.ttl + entry.stale


@settings(max_examples=200)
@given(st.integers(0, 23), st.integers(0, 604800), st.integers(0, 604800), st.ip_addresses().map(str))
def test_info_that_is_written_is_read(rcode: int, ttl: int, stale: int, source: str) -> None:
    """Every value the policy can produce comes back."""
    info = info_text(rcode, ttl, stale, "2026-11-23T07:00:00Z", source, "node-1.example").encode()
    entry = decode(KEY, info, stored_wire(86400), Lifetime.WHOLE, NOW, policy.Limits(ttl_max=604800, stale=604800))
    assert (entry is not None) is (ttl <= 86400)
    if entry is not None:
        assert (entry.ttl, entry.stale, entry.stored) == (ttl, stale, NOW)


@pytest.mark.parametrize("ttl", [0, 5])
def test_failure_is_an_entry_too(ttl: int) -> None:
    """SERVFAIL without records comes back as SERVFAIL."""
    info = info_text(2, ttl, 0, "2026-11-23T07:00:00Z", "-", "n1").encode()
    entry = decode(KEY, info, policy.failure_wire(KEY), Lifetime.WHOLE, NOW)
    assert entry is not None
    assert (entry.rcode, entry.ancount) == (2, 0)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (KEY, "rdns:1:{www.example.com.}:A"),
        (KEY[:-1] + b"\1", "rdns:1:{www.example.com.}:A:do"),
        (KEY[:-1] + b"\3", "rdns:1:{www.example.com.}:A:do:cd"),
        (b"\0\0\2\0\1\2", "rdns:1:{.}:NS:cd"),
        (b"\1a\0\xff\x78\0\3\0", "rdns:1:{a.}:TYPE65400:CH"),
        (b"\3a}b\0\0\x41\0\4\0", r"rdns:1:{a\125b.}:HTTPS:HS"),
    ],
)
def test_redis_keys_are_what_the_contract_says(key: bytes, text: str) -> None:
    """People and other programs rely on the form."""
    names = Names("rdns")
    assert names.entry(key).decode() == text
    assert names.question(text) == key


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.sampled_from((1, 5, 28, 65, 1234)),
       st.sampled_from((1, 3, 4, 77)), st.integers(0, 3))  # fmt: skip
def test_a_names_key_is_made_of_a_questions(labels: list[bytes], rtype: int, rclass: int, variant: int) -> None:
    """Whatever octets are in the name: the same as from the key of the name."""
    name = b"".join(bytes((len(label),)) + label.lower() for label in labels) + b"\0"
    key = name + rtype.to_bytes(2, "big") + rclass.to_bytes(2, "big") + bytes((variant,))
    names = Names("rd}:ns")
    assert names.wider_entry(names.entry(key)) == names.entry(wider_key(key))


def test_other_keys_are_not_entries() -> None:
    """Control keys, claims, other prefixes and other versions stand for no question."""
    names = Names("rdns")
    for text in (
        "rdns:1:control",
        "rdns:1:{a.}",
        "rdns:2:{a.}:A",
        "rdnsx1:{a.}:A",
        "rdns:1:{a..}:A",
        "rdns:1:{a.}:NOPE",
    ):
        assert names.question(text) is None
    assert Names("other").question("rdns:1:{a.}:A") is None
    assert names.wake("n1.1a2b3c4d.2") == b"rdns:1:wake:n1.1a2b3c4d.2"
    assert names.control == b"rdns:1:control"


def test_pattern_matches_one_name_whatever_it_holds() -> None:
    """Globs in the prefix and escapes in the name are taken literally."""
    assert Scope().pattern(Names("rdns")) == "rdns:1:{*}:*"
    assert Scope(name=b"\2a*\0").pattern(Names("r[d]*")) == r"r\[d\]\*:1:{a\\042.}:*"
    assert Scope(zone=b"\2a*\0", qtype=28).pattern(Names("rdns")) == r"rdns:1:{*a\\042.}:*"


def test_scripts_are_known_by_their_digest() -> None:
    """SHA-1 in hexadecimal, as EVALSHA wants it; each script its own."""
    scripts = (contract.CLAIM, contract.FILL, steering.ANNOUNCE)
    assert len({script.sha for script in scripts}) == 3
    assert all(re.fullmatch(rb"[0-9a-f]{40}", script.sha) for script in scripts)


def test_times_from_redis_are_brought_into_the_limits() -> None:
    """Whoever wrote them: the entry, its stale time and each TTL."""
    info = info_text(0, 9_999_999, 9_999_999, "2026-11-23T07:00:00Z", "192.0.2.53", "n1").encode()
    wire = WIRE.replace((300).to_bytes(4, "big"), (9_999_999).to_bytes(4, "big"))
    entry = decode(KEY, info, wire, Lifetime.WHOLE, NOW, policy.Limits(ttl_max=86400, stale=3600))
    assert entry is not None
    assert (entry.ttl, entry.stale) == (86400, 3600)
    assert entry.tail[6:10] == (86400).to_bytes(4, "big")


NXDOMAIN_KEY = KEY[:-5] + b"\0\0" + KEY[-3:]


@pytest.mark.parametrize("rtype", ["A", "AAAA", "HTTPS"])
def test_a_names_nxdomain_may_come_from_any_type(rtype: str) -> None:
    """The question in it is the one that was asked first."""
    message = dns.message.make_response(dns.message.make_query("www.example.com.", rtype))
    message.set_rcode(dns.rcode.Rcode(3))
    info = info_text(3, 5, 0, "2026-11-23T07:00:00Z", "192.0.2.53", "n1").encode()
    entry = decode(NXDOMAIN_KEY, info, message.to_wire(), Lifetime.WHOLE, NOW)
    assert entry is not None and entry.rcode == 3
    assert Names("rdns").entry(NXDOMAIN_KEY) == b"rdns:1:{www.example.com.}:NXDOMAIN"
    assert Names("rdns").question("rdns:1:{www.example.com.}:NXDOMAIN") == NXDOMAIN_KEY


def test_nothing_else_is_a_names_nxdomain() -> None:
    """An answer, NODATA, an NXDOMAIN behind a CNAME, or of another name."""
    assert decode(NXDOMAIN_KEY, INFO, WIRE, LIFETIME, NOW) is None
    message = dns.message.make_response(dns.message.make_query("www.example.com.", "A"))
    assert decode(NXDOMAIN_KEY, INFO, message.to_wire(), LIFETIME, NOW) is None
    message.set_rcode(dns.rcode.Rcode(3))
    message.answer.append(dns.rrset.from_text("www.example.com.", 300, "IN", "CNAME", "gone.example.com."))
    assert decode(NXDOMAIN_KEY, INFO, message.to_wire(), LIFETIME, NOW) is None
    other = dns.message.make_response(dns.message.make_query("ww2.example.com.", "A"))
    other.set_rcode(dns.rcode.Rcode(3))
    assert decode(NXDOMAIN_KEY, INFO, other.to_wire(), LIFETIME, NOW) is None


@pytest.mark.parametrize(("left", "expected"), [(-2, True), (LIFETIME + 1, True), (-1, False), (LIFETIME, False)])
def test_a_time_that_does_not_fit_is_no_reason_to_delete(left: int, expected: bool) -> None:
    """An entry may have been replaced, or have expired, between two reads; one that never expires is nobody's."""
    assert mistimed(INFO, left) is expected
    assert not mistimed(b"nonsense", left)


def test_why_and_ede_come_back() -> None:
    """Where a failure comes from decides who believes it; the upstream's own EDE is passed on."""
    info = info_text(2, 5, 0, "2026-11-23T07:00:00Z", "192.0.2.53:5353", "n1", "said", 6).encode()
    entry = decode(KEY, info, policy.failure_wire(KEY), Lifetime.WHOLE, NOW)
    assert entry is not None
    assert (entry.origin, entry.ede) == ("from=192.0.2.53:5353 node=n1 why=said", 6)
