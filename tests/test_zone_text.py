"""Local records as people write them: zone-file text of every type and hosts files, with dnspython as the oracle."""

from __future__ import annotations

from collections.abc import Callable

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import RDATA

from rdnscache.dns.names import TYPES, name_text, parse_name
from rdnscache.dns.rdata import SHAPES
from rdnscache.dns.text import rdata_text
from rdnscache.policy import hosts_text, zone_text
from rdnscache.policy.hosts_text import read_hosts
from rdnscache.policy.local_record import LocalRecord, ZoneTextError, stands_for_data
from rdnscache.policy.zone_text import read_zone_text

#: About modules that are not compiled.
pytestmark = [pytest.mark.once, pytest.mark.pure]

#: Types whose text is read field by field, but that `support.records` has none of.
MORE = [
    ("WKS", "192.0.2.1 6 0 1 25 80"), ("X25", '"311061700956"'),
    ("ISDN", '"150862028003217" "004"'), ("ISDN", '"150862028003217"'), ("RT", "2 relay.example."),
    ("NSAP", "0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00"), ("NSAP-PTR", "a.example."),
    ("PX", "10 a.example. b.example."), ("GPOS", '"-32.6882" "116.8652" "10.0"'),
    ("IPSECKEY", "10 0 2 . AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("IPSECKEY", "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("IPSECKEY", "10 2 2 2001:db8::8002 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("IPSECKEY", "10 3 2 gw.example. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("HIP", "2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p rvs.example. rvs2.example."),
    ("AVC", '"app-name:x" "more"'), ("NID", "10 0014:4fff:ff20:ee64"), ("L32", "10 10.1.2.0"),
    ("L64", "10 2001:0db8:1140:1000"), ("LP", "10 l64.example."), ("AMTRELAY", "10 0 1 203.0.113.15"),
    ("AMTRELAY", "128 1 3 relay.example."), ("AMTRELAY", "0 0 0 ."), ("AMTRELAY", "0 1 2 2001:db8::15"),
    ("APL", "!1:192.168.38.0/28 2:ff00::/8 1:0.0.0.0/0"), ("APL", ""), ("CERT", "PGP 0 RSASHA256 AwEAAcEqyA=="),
    ("LOC", "42 21 54 N 71 6 18 W -24m 30m"), ("LOC", "42 N 71 W 0"), ("LOC", "32 7 19.5 S 116 2 25 E 10m 1.5m 2m 3m"),
    ("DS", "12345 ECDSAP256SHA256 2 abababab abababab abababab abababab abababab abababab abababab abababab"),
    ("RRSIG", "TYPE65400 13 2 300 1893456000 1704067200 12345 example. AwEA AcEq yA=="), ("NSEC", "b.example."),
    ("HTTPS", '1 . port="443" ech=AAj+DQAEAAEAAA=='),
    ("SVCB", '1 dns.example. dohpath=/dns-query{?dns} ohttp'), ("SVCB", r'16 foo.example. alpn="f\\\\oo\\,bar,h2"'),
    ("SVCB", r"16 foo.example. alpn=f\\\092oo\092,bar,h2"),
    ("SVCB", "1 . mandatory=ipv4hint,alpn ipv4hint=192.0.2.1 alpn=h2"),
    ("SVCB", r'1 . key667="hello\210qoo"'), ("SVCB", "1 . key667"), ("CAA", "0 issue ca.example"),
    ("TXT", r"bare words\; and\032escapes"), ("TXT", '"a" (b) "c"'), ("TXT", '"ü"'),
    ("NAPTR", "100 50 a z3950+n2l+n2c \"\" cid.urn.arpa."),
    ("SOA", "@ . 1 1h 2h30m 4w 1D"), ("MX", "10 mail"), ("SRV", "0 0 0 ."), ("PTR", r"dot\.in\032label"),
]  # fmt: skip


def records_of(text: str, **given: int) -> list[LocalRecord]:
    return read_zone_text(text, "example.", **given)


def rdata_of(kind: str, text: str) -> bytes:
    (record,) = records_of(f"q {kind} {text}\n")
    return record.rdata


def outcome(read: Callable[[str], list[LocalRecord]], text: str) -> tuple[list[LocalRecord], ZoneTextError | None]:
    """The records, or the mistake."""
    try:
        return read(text), None
    except ZoneTextError as error:
        return [], error


def wire_of(part: dns.name.Name | dns.rdata.Rdata) -> bytes:
    wire = part.to_wire()
    assert wire is not None
    return wire.lower()


def reason_of(text: str, line: int = 1) -> str:
    with pytest.raises(ZoneTextError) as caught:
        records_of(text)
    assert caught.value.line == line
    return caught.value.reason


@pytest.mark.parametrize(("kind", "text"), RDATA + MORE)
def test_data_of_every_type_are_read(kind: str, text: str) -> None:
    """They come to the octets that dnspython makes of the same text."""
    origin = dns.name.from_text("example.")
    expected = dns.rdata.from_text("IN", kind, text, origin=origin, relativize=False)

    assert rdata_of(kind, text) == expected.to_wire(origin=origin)


def test_no_type_is_left_out() -> None:
    """Each type we know the text of is among those that are compared."""
    compared = {dns.rdatatype.from_text(kind) for kind, _ in RDATA + MORE}
    # SIG like RRSIG, KEY like DNSKEY, MINFO like RP, MD and its kind like NS: dnspython has no text for most of them
    same = {24: 46, 25: 48, 14: 17, 3: 2, 4: 2, 7: 2, 8: 2, 9: 2}

    assert {each for each in TYPES if each in SHAPES and stands_for_data(each)} - compared - same.keys() == set()
    for older, newer in same.items():
        text = next(text for kind, text in RDATA if kind == TYPES[newer])
        assert rdata_of(TYPES[older], text) == rdata_of(TYPES[newer], text)


@pytest.mark.parametrize(("kind", "text"), RDATA + MORE)
def test_our_own_text_is_read_back(kind: str, text: str) -> None:
    """What `dns.text` writes, and the generic form, come to the same octets."""
    data = rdata_of(kind, text)
    number = dns.rdatatype.from_text(kind)

    assert rdata_of(kind, rdata_text(data, number, 0, len(data))) == data
    assert rdata_of(f"TYPE{int(number)}", rf"\# {len(data)} {data.hex()}") == data


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_strings_of_any_octets_are_read(strings: list[bytes]) -> None:
    """However they are escaped."""
    data = b"".join(bytes((len(each),)) + each for each in strings)

    assert rdata_of("TXT", rdata_text(data, 16, 0, len(data))) == data
    assert rdata_of("TXT", " ".join('"' + "".join(f"\\{c:03d}" for c in each) + '"' for each in strings)) == data


ZONE = r"""
; a comment
$TTL 1h
$ORIGIN sub.example.
@ IN SOA ns hostmaster ( 2024010101 ; serial
        2h 30m
        1w ) ( 300 )
    NS ns
ns 60 IN A 192.0.2.1
   IN 60 AAAA 2001:db8::1
WWW  A 192.0.2.2 ; a comment (of one line
    TXT "semi;colon" two "(brackets)"
*.wild 5 CNAME www
a\.b A 192.0.2.3
\065bc A 192.0.2.4
abs.sub.example. IN A 192.0.2.5
$ORIGIN deeper
x TYPE65400 \# 4 ( dead
 beef )
$TTL 5
y A 192.0.2.6"""


def test_a_zone_file_is_read_as_dnspython_reads_it() -> None:
    """Origins, TTLs, owners left out, brackets, comments and escapes."""
    origin = dns.name.from_text("sub.example.")
    oracle = dns.zone.from_text(ZONE, origin=origin, relativize=False, check_origin=False)
    expected = sorted(
        (wire_of(name), int(rdata.rdtype), ttl, wire_of(rdata)) for name, ttl, rdata in oracle.iterate_rdatas()
    )

    found = records_of(ZONE)

    assert sorted((each.name, each.rtype, each.ttl, each.rdata.lower()) for each in found) == expected
    assert len(found) == 12


def test_where_a_record_stands_is_told() -> None:
    """By the line that it begins in."""
    assert [each.line for each in records_of(ZONE)] == [5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 21]


def test_groups_of_a_locator_may_be_short() -> None:
    """Zeros in front may be left out (RFC 6742 section 2.3.2)."""
    assert rdata_of("L64", "10 2001:db8:1140:1") == rdata_of("L64", "10 2001:0DB8:1140:0001")


def test_a_ttl_left_out_is_the_last_one_said() -> None:
    """By the record before, then by `$TTL` (RFC 2308 section 4); where nothing is said, by who asks."""
    text = "a A 192.0.2.1\nb 60 A 192.0.2.1\nc A 192.0.2.1\n$TTL 2m\nd 7 A 192.0.2.1\ne A 192.0.2.1\n"

    assert [each.ttl for each in records_of(text, ttl=9)] == [9, 60, 60, 7, 120]
    assert records_of(text)[0].ttl == 3600


@pytest.mark.parametrize(
    ("text", "ttl"), [("1w2d3h4m5s", 788645), ("0", 0), ("2147483647", 2147483647), ("1H30M", 5400)]
)
def test_a_ttl_may_have_units(text: str, ttl: int) -> None:
    """Alone or several together, in letters of any case."""
    assert records_of(f"a {text} A 192.0.2.1")[0].ttl == ttl


def test_names_are_kept_in_lower_case() -> None:
    """As keys are; those in other letters by IDNA, and the origin alone as `@`."""
    text = "WWW.Example.NET. CNAME Target\nb\u00fccher A 192.0.2.1\n@ A 192.0.2.1\n\\@ A 192.0.2.1\n"
    found = records_of(text)

    assert [name_text(each.name) for each in found] == [
        "www.example.net.", "xn--bcher-kva.example.", "example.", "\\064.example.",
    ]  # fmt: skip
    assert found[0].rdata == parse_name("target.example.")
    assert read_zone_text("a A 192.0.2.1")[0].name == b"\1a\0"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("\n\nq A", 3, "data end"),
        ("q A 192.0.2.256", 1, "IPv4 address"),
        ("q A 192.0.2.1 192.0.2.2", 1, "behind the end"),
        ("q AAAA fe80::1%eth0", 1, "zone"),
        ("q A \\# 3 010203", 1, "form of A"),
        ("q A \\# 3 01020304", 1, "4 octets"),
        ("q CNAME \\# 2 c000", 1, "form of CNAME"),
        ("q SOA \\# 24 0161 00 c000 " + "00" * 19, 1, "form of SOA"),
        ("q TYPE65400 text", 1, "\\\\# LENGTH HEX"),
        ("q NULL text", 1, "\\\\# LENGTH HEX"),
        ("q NOTYPE x", 1, "NOTYPE"),
        ("q", 1, "without a type"),
        ("q 60 IN", 1, "without a type"),
        ("q 60 70 A 192.0.2.1", 1, "'70'"),
        ("q CH A 192.0.2.1", 1, "class IN"),
        ("q OPT \\# 0", 1, "no records of type OPT"),
        ("q TYPE250 \\# 0", 1, "no records of type TSIG"),
        ("q TYPE0 \\# 0", 1, "no records of type TYPE0"),
        ("q 2147483648 A 192.0.2.1", 1, "longer than"),
        ("q 99999999999 A 192.0.2.1", 1, "99999999999"),
        (" A 192.0.2.1", 1, "first record has no name"),
        ("$INCLUDE other", 1, "not supported"),
        ("$GENERATE 1-2 a A 192.0.2.$", 1, "not supported"),
        ("$ORIGIN", 1, "one name"),
        ("$TTL 1h 2h", 1, "one time"),
        ("$TTL x", 1, "not a time"),
        ("$UNKNOWN x", 1, "neither"),
        ("a A (192.0.2.1\n\n", 1, "not closed"),
        ("a A ((192.0.2.1))", 1, "inside brackets"),
        ("a A 192.0.2.1)", 1, "without an opening one"),
        ('\na TXT "open\n"', 2, "does not end"),
        ('a TXT a"b"', 1, "quote inside"),
        ("a TXT x\\\n", 1, "backslash"),
        ("a TXT \\256", 1, "backslash"),
        ("a TXT \\25", 1, "backslash"),
        ("a TXT " + "x" * 256, 1, "256 octets"),
        ("a..b A 192.0.2.1", 1, "domain name"),
        ("x" * 64 + " A 192.0.2.1", 1, "63 octets"),
        (".".join(["x" * 61] * 4) + " A 192.0.2.1", 1, "255 octets"),
        ('"a" A 192.0.2.1', 1, "quotes"),
        ('a CNAME "b"', 1, "quotes"),
        ("a MX 65536 b", 1, "65535"),
        ("a MX \u0663 b", 1, "number"),
        ("a DS 1 8 2 abab", 1, "form of DS"),
        ("a DS 1 8 2 xyz", 1, "hexadecimal"),
        ("a DNSKEY 257 3 8 A", 1, "base64"),
        ("a SSHFP 4 2 ab", 1, "form of SSHFP"),
        ("a TLSA 3 1 1 ab", 1, "form of TLSA"),
        ("a HTTPS 1 . alpn", 1, "without its value"),
        ("a HTTPS 1 . port=1 port=2", 1, "twice"),
        ("a HTTPS 1 . colour=red", 1, "'colour'"),
        ("a HTTPS 0 . port=1", 1, "form of HTTPS"),
        ("a HTTPS 1 . mandatory=alpn", 1, "form of HTTPS"),
        ("a HTTPS 1 . no-default-alpn=x alpn=h2", 1, "no value"),
        ('a HTTPS 1 . alpn="h2,,h3"', 1, "not a list"),
        ('a HTTPS 1 . port="1"2', 1, "port"),
        ("a LOC 91 N 0 E 0", 1, "0 to 90"),
        ("a LOC 90 0 1 N 0 E 0", 1, "form of LOC"),
        ("a LOC 1 N", 1, "degrees"),
        ("a LOC 1 E 1 N 0", 1, "NS"),
        ("a LOC 1 N 1 E 0 1 2 3 4", 1, "behind the end"),
        ("a APL 1:192.0.2.0/33", 1, "0 to 32"),
        ("a APL 3:x/1", 1, "prefix"),
        ("a IPSECKEY 1 4 2 . AA==", 1, "gateway"),
        ("a IPSECKEY 1 0 2 x AA==", 1, "gateway"),
        ("a EUI48 001122334455", 1, "EUI"),
        ("a NID 1 1:2:3", 1, "2001:db8"),
        ("a NSEC3 1 1 0 - ! A", 1, "base32"),
        ("a RRSIG A 8 2 1 20241301000000 20240101000000 1 . AA==", 1, "1970"),
        ("a CAA 0 is-sue x", 1, "form of CAA"),
        ('a URI 1 1 ""', 1, "form of URI"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, words: str) -> None:
    """And with a reason; what comes before it is not used either."""
    assert words.replace("\\\\", "\\") in reason_of(text, line)


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from('a1.@$ \t\n\r"\\();#*=,\u00fc\u3002\ufffd') | st.characters(), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """With a ZoneTextError, and no other."""
    for read in (read_zone_text, read_hosts):
        for words in (text, f"a TXT {text}", f"a HTTPS 1 . {text}", f"a LOC {text}", f"192.0.2.1 {text}"):
            found, mistake = outcome(read, words)
            assert all(len(each.name) <= 255 and each.name.endswith(b"\0") for each in found)
            assert mistake is None or 1 <= mistake.line <= words.count("\n") + 1


WORDS = [
    "0", "1", "3", "65535", ".", "a", "@", "192.0.2.1", "::1", '"x"', "ab", "AA==", "-", "N", "E", "A", "10m",
    "1:0.0.0.0/0", "alpn=h2", "00-11-22-33-44-55", "1:2:3:4", "20240101000000", r"\#",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.lists(st.sampled_from(WORDS), max_size=9))
def test_what_is_read_is_what_its_type_has(rtype: int, words: list[str]) -> None:
    """dnspython can read the octets, whatever the words were."""
    try:
        (record,) = records_of(f"q TYPE{rtype} {' '.join(words)}")
    except ZoneTextError:
        return
    dns.rdata.from_wire(
        dns.rdataclass.IN, dns.rdatatype.RdataType.make(record.rtype), record.rdata, 0, len(record.rdata)
    )


@pytest.mark.parametrize("part", ["x", "\\\\", "( ", '"" ', " ", ";", "\n", "a TXT ", '"', 'x"" ', "\\;", "a,"])
def test_a_long_text_is_read_in_one_pass(part: str) -> None:
    """It would not come to an end if any part of it were looked at again for each that follows; nor is it repeated."""
    text = part * ((1 << 18) // len(part))
    for words in (text, f"a TXT {text}", f'a TXT "{text}', f"a HTTPS 1 . key1={text}", f"a HTTPS 1 . alpn={text}"):
        mistake = outcome(read_zone_text, words)[1]
        assert mistake is None or len(mistake.reason) < 300


def test_a_text_has_only_so_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one above the limit is refused with its line."""
    monkeypatch.setattr(zone_text, "MOST_RECORDS", 3)
    assert len(records_of("a A 192.0.2.1\n" * 3)) == 3
    assert reason_of("a A 192.0.2.1\n" * 4, 4) == "there are more than 3 records"


HOSTS = """\
# a comment
127.0.0.1\tlocalhost  localhost.localdomain # another

192.0.2.7 Printer.Office.Example printer
192.0.2.7 scanner
2001:db8::7\t\tprinter.office.example
"""


def test_a_hosts_file_gives_addresses_and_their_names() -> None:
    """A and AAAA for each name, and for each address a PTR to its first one."""
    found = [(name_text(each.name), each.rtype, each.line) for each in read_hosts(HOSTS)]
    reverse = "7." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa."

    assert found == [
        ("localhost.", 1, 2), ("localhost.localdomain.", 1, 2), ("1.0.0.127.in-addr.arpa.", 12, 2),
        ("printer.office.example.", 1, 4), ("printer.", 1, 4), ("7.2.0.192.in-addr.arpa.", 12, 4), ("scanner.", 1, 5),
        ("printer.office.example.", 28, 6), (reverse, 12, 6),
    ]  # fmt: skip
    assert [each.rdata for each in read_hosts(HOSTS) if each.rtype == 12][1] == parse_name("printer.office.example.")
    assert {each.ttl for each in read_hosts(HOSTS)} == {3600}
    assert {each.ttl for each in read_hosts(HOSTS, ttl=5)} == {5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fe80::1%lo0 localhost", "zone"), ("192.0.2.1", "without a name"), ("localhost 127.0.0.1", "IPv4"),
        ("127.1 localhost", "IPv4"), ("192.0.2.01 a", "IPv4"), ("::g a", "IPv6"), ("192.0.2.1 a..b", "domain name"),
        ("192.0.2.1 *.a", "wildcard"), ("192.0.2.1 .", "root"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_hosts_file_is_told_with_its_line(text: str, words: str) -> None:
    """And with a reason."""
    with pytest.raises(ZoneTextError, match="line 3: ") as caught:
        read_hosts(f"\n# x\n{text}\n")
    assert words in caught.value.reason


def test_a_hosts_file_has_only_so_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name and each reverse name counts."""
    monkeypatch.setattr(hosts_text, "MOST_RECORDS", 4)
    assert len(read_hosts("192.0.2.1 a b c\n")) == 4
    with pytest.raises(ZoneTextError, match="line 2: there are more than 4 records"):
        read_hosts("192.0.2.1 a b c\n192.0.2.1 d\n")
