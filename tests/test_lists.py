"""Lists of names for `cache warm`: what people have, and that nothing else gets to an upstream."""

from __future__ import annotations

import gzip
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.cli import lists
from rdnscache.cli.lists import FORMS, read_keys
from rdnscache.dns.names import question_text

#: Plain Python only: nothing here is compiled.
pytestmark = [pytest.mark.once, pytest.mark.pure]


def read(text: str | bytes, form: str = "names", limit: int | None = None) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [question_text(key) for key in read_keys(io.BytesIO(data), form, limit)]


NAMES = """\ufeff# popular\r
example.com\r
\r
  www.Example.COM.   AAAA  # both cases
example.com A
straße.example MX
_dmarc.example.com\tTXT
4.3.2.1.in-addr.arpa PTR
0\\0472.2.0.192.in-addr.arpa PTR
xn--bcher-kva.example TYPE65
. NS
localhost"""
FOUND = ["example.com. A", "www.example.com. AAAA", "xn--strae-oqa.example. MX", "_dmarc.example.com. TXT",
         "4.3.2.1.in-addr.arpa. PTR", "0\\0472.2.0.192.in-addr.arpa. PTR", "xn--bcher-kva.example. HTTPS", ". NS",
         "localhost. A"]  # fmt: skip
RANKED = '\ufeffrank,domain\r\n1,google.com\r\n2,"www.google.com"\r\n\r\n"3","a.example."\n1000000,google.com'
HOSTS = """# own
127.0.0.1\tlocalhost loopback
::1 ip6-localhost
fe80::1%lo0 localhost
0.0.0.0 0.0.0.0
192.0.2.1 www.example.com example.com  # ours
192.0.2.2
2001:db8::1 www.example.com.
"""


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("form", "text", "found"),
    [
        ("names", NAMES, FOUND),
        ("csv", RANKED, ["google.com. A", "www.google.com. A", "a.example. A"]),
        ("hosts", HOSTS, ["www.example.com. A", "example.com. A"]),
        *((form, text, []) for form in FORMS for text in ("", "\n", "\ufeff", "\r\n\r\n")),
    ],
)
def test_lists_as_people_have_them(pack: type[bytes], form: str, text: str, found: list[str]) -> None:
    """Each name once, in its order; packed or not, with any line ends, a byte order mark, blanks and comments."""
    assert read(pack(text.encode()), form) == found


@pytest.mark.parametrize(
    ("form", "line", "part"),
    [
        ("names", "1,google.com", "--format csv"), ("names", "google.com,1", "is not a name"),
        ("names", "https://example.com/", "a URL"), ("names", "example.com/path", "is not a name"),
        ("names", "example.com:53", "is not a name"), ("names", '{"name": "example.com"}', "more than a name|not a"),
        ("names", '{"name":"example.com"}', "is not a name"), ("names", '"example.com"', "is not a name"),
        ("names", "192.0.2.1", "an address"), ("names", "2001:db8::1", "an address"), ("names", "[::1]", "an address"),
        ("names", "192.0.2.1 www.example.com", "--format hosts"), ("names", "1.2.3", "a number"),
        ("names", "42", "a number"),
        ("names", "me@example.com", "is not a name"), ("names", "*.example.com", "is not a name"),
        ("names", "example com", "DNS type"), ("names", "a b c", "more than a name and a type"),
        ("names", "example.com ANY", "no records"), ("names", "example.com AXFR", "no records"),
        ("names", "example.com#x", "is not a name"), ("names", "a\\", "is not a name"), ("names", "a..b", "is not a"),
        ("names", "||ads.example^", "is not a name"), ("names", "local=/example/", "is not a name"),
        ("names", "x" * 64 + ".example", "63 octets"), ("names", "a." * 200, "octets"),
        ("names", "é" * 64, "63 octets"),
        ("names", "a" * 9000, "more than 8192"), ("names", "ex\x1b[2Jample.com", "is not a name"),
        ("names", "\0", "is not a name"), ("names", "<html>", "is not a name"), ("names", "\U0001f600.example", "IDNA"),
        ("csv", "google.com", "RANK,NAME"), ("csv", "google.com,1", "RANK,NAME"), ("csv", "1,a.test,x", "RANK,NAME"),
        ("csv", "1,https://a.test", "a URL"), ("csv", "1,", "is not a"), ("csv", "²,a.test", "RANK,NAME"),
        ("hosts", "www.example.com 192.0.2.1", "not an address"), ("hosts", "192.0.2.1 a..b", "is not a"),
        ("hosts", "192.0.2.1 http://a.b", "a URL"),
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_its_line_and_reason(form: str, line: str, part: str) -> None:
    """And briefly: the whole line is not repeated."""
    good = {"names": "a.test", "csv": "1,a.test", "hosts": "192.0.2.1 a.test"}[form]
    with pytest.raises(ValueError, match=rf"line 3: .*(?:{part})") as refusal:
        read(f"{good}\n\n{line}\n{good}", form)
    assert len(str(refusal.value)) < 300 and str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"PK\x03\x04\x14\0", "zip archive"), ("a.test\n".encode("utf-16"), "UTF-8"), (b"\xff\xd8\xff\xe0", "UTF-8"),
        (gzip.compress(random.Random(1).randbytes(9_000).hex().encode(), mtime=0)[:-4_000], "damaged|more than"),
        (gzip.compress(b"a.test\n" * 1000, mtime=0)[:-8] + b"x" * 8, "damaged"), (b"\x1f\x8b\x08\0zz", "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(data: bytes, part: str) -> None:
    """Archives, other encodings, pictures, damaged gzip: a ValueError that says what it is."""
    with pytest.raises(ValueError, match=part):
        read(data)


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from(sorted(FORMS)), st.booleans())
def test_whatever_a_file_holds(data: bytes, form: str, packed: bool) -> None:
    """A list of names comes out, or one sentence with a line's number."""
    try:
        found = read(gzip.compress(data) if packed else data, form)
    except ValueError as error:
        found = [str(error)]
        if not str(error).startswith("line "):
            raise
    assert len(set(found)) == len(found)


def test_a_list_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many names or lines are refused while they are read; with a limit, the first of them are taken."""
    monkeypatch.setattr(lists, "MOST_NAMES", 100)
    monkeypatch.setattr(lists, "MOST_LINES", 1000)
    many = "".join(f"n{number}.test\n" for number in range(150))
    with pytest.raises(ValueError, match="line 101: 100 names are the limit; --limit"):
        read(many)
    assert read(many, limit=3) == ["n0.test. A", "n1.test. A", "n2.test. A"]
    assert read(many + "no name at all\n", limit=100)[-1] == "n99.test. A"
    assert read("a.test\n" * 1000) == ["a.test. A"]
    with pytest.raises(ValueError, match="line 1001: 1000 lines are the limit"):
        read("#\n" * 1001)
