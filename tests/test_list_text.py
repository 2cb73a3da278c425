"""Block and pass lists: which names their lines mean, and what happens to the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rdnscache.dns.names import name_text, parse_name
from rdnscache.policy import list_text
from rdnscache.policy.list_forms import LONGEST_LINE
from rdnscache.policy.list_text import MOST_REMARKS, Item, Remark

pytestmark = pytest.mark.pure


def read_list(chunks: Iterable[bytes], passes: bool = False) -> list[Item | Remark]:
    """Names and remarks in the order of their lines."""
    found: list[Item | Remark] = []
    for each in list_text.read_list(chunks, passes):
        found += [each] if isinstance(each, Remark) else each
    return sorted(found, key=lambda each: (each.line, isinstance(each, Remark)))


def items(text: str | bytes, passes: bool = False) -> list[tuple[str, str]]:
    """Names as `name` or `*.name` for those with what is below; exceptions with `@@` before."""
    data = text if isinstance(text, bytes) else text.encode()
    return [
        ("@@" * each.passes + "*." * each.below + name_text(each.name)[:-1], str(each.line))
        for each in read_list([data], passes)
        if isinstance(each, Item)
    ]


def names(text: str | bytes) -> list[str]:
    return [name for name, _ in items(text)]


def remarks(text: str | bytes) -> list[Remark]:
    data = text if isinstance(text, bytes) else text.encode()
    return [each for each in read_list([data]) if isinstance(each, Remark)]


class TestForms:
    @pytest.mark.parametrize(
        ("line", "meant"),
        [
            ("example.com", ["example.com"]),
            ("  Example.COM.  ", ["example.com"]),
            ("_dmarc.a-b.example", ["_dmarc.a-b.example"]),
            ("bücher.example", ["xn--bcher-kva.example"]),
            ("a.example # why", ["a.example"]),
            ("a.example#why", ["a.example"]),
            ("a.example ; why", ["a.example"]),
            ("a.example // why", ["a.example"]),
            ("*.example.com", ["*.example.com"]),
            (".example.com", ["*.example.com"]),
            ("*.Example.com.", ["*.example.com"]),
            ("0.0.0.0 a.example", ["a.example"]),
            ("0.0.0.0\ta.example\tB.example # c.example", ["a.example", "b.example"]),
            ("127.0.0.1   a.example", ["a.example"]),
            (":: a.example", ["a.example"]),
            ("::1 a.example", ["a.example"]),
            ("0 a.example", ["a.example"]),
            ("0:0:0:0:0:0:0:0 a.example", ["a.example"]),
            ("address=/example.com/", ["*.example.com"]),
            ("address=/example.com/#", ["*.example.com"]),
            ("address=/a.example/b.example/0.0.0.0", ["*.a.example", "*.b.example"]),
            ("address=/.example.com/::", ["*.example.com"]),
            ("server=/example.com/", ["*.example.com"]),
            ("local=/example.com/ # why", ["*.example.com"]),
            ('local-zone: "example.com" always_nxdomain', ["*.example.com"]),
            ("  local-zone: example.com. static # why", ["*.example.com"]),
            ("local-zone: 'example.com' redirect", ["*.example.com"]),
            ('local-data: "example.com A 0.0.0.0"', ["example.com"]),
            ("local-data: 'example.com. 3600 IN AAAA ::'", ["example.com"]),
            ("||example.com^", ["*.example.com"]),
            ("||Example.com^ # why", ["*.example.com"]),
            ("||example.com", ["*.example.com"]),
            ("||example.com^|", ["*.example.com"]),
            ("||example.com^*", ["*.example.com"]),
            ("||*.example.com^", ["*.example.com"]),
            ("|example.com^", ["example.com"]),
            ("|example.com|", ["example.com"]),
            ("||example.com^$important", ["*.example.com"]),
            ("||example.com^$all,document", ["*.example.com"]),
            ("||example.com^$dnsrewrite=NXDOMAIN;;", ["*.example.com"]),
            ("||bücher.example^", ["*.xn--bcher-kva.example"]),
            ("@@||example.com^", ["@@*.example.com"]),
            ("@@||example.com^$important", ["@@*.example.com"]),
            ("@@|example.com^", ["@@example.com"]),
            ("@@example.com", ["@@example.com"]),
        ],
    )
    def test_every_form_gives_its_names(self, line: str, meant: list[str]) -> None:
        """Hosts, plain names, wildcards, dnsmasq, unbound and adblock; none of them with a remark."""
        assert (names(line), remarks(line)) == (meant, [])

    @pytest.mark.parametrize(
        "line",
        [
            "", "   ", "# a.example", "! a.example", "; a.example", "// a.example", "#a.example", "[Adblock Plus 2.0]",
            "##.banner", "example.com##.banner", "a.example,b.example#@#.banner", "example.com#?#div:has(> a)",
            "example.com#$#body { a: b }", "example.com#%#//scriptlet('a')", "example.com$$script[a]",
            "127.0.0.1 localhost localhost.localdomain", "::1 ip6-localhost ip6-loopback", "0.0.0.0 0.0.0.0",
            "255.255.255.255 broadcasthost", "fe80::1%lo0 localhost", "ff02::1 ip6-allnodes", "localhost.localdomain",
            "server:", b"# a comment in Latin-1: b\xfccher", b"! nul \0",
        ],
    )  # fmt: skip
    def test_what_says_nothing_is_passed_over_in_silence(self, line: str | bytes) -> None:
        """Comments, headers, cosmetic rules and what hosts files name beside their lists."""
        assert (names(line), remarks(line)) == ([], [])

    @pytest.mark.parametrize(
        "line",
        [
            "||example.com^$third-party", "||example.com^$script", "||example.com^$domain=other.example",
            "||example.com^$important,~third-party", "||example.com^$badfilter", "||example.com^$dnstype=AAAA",
            "||example.com^$client=10.0.0.1", "||example.com^$denyallow=a.example.com",
            "||example.com^$dnsrewrite=192.0.2.1", "@@||example.com^$script",
            "@@||example.com^$dnsrewrite=NXDOMAIN", "/ads[0-9]+/", "@@/ads/", "||example.com/ads^",
            "||example.com:8080^", "||exam*ple.com^", "example.com^", "|||example.com^", "|https://example.com^",
            "ads*.example.com", "example.*", "http://example.com/", "example.com/ads", "user@example.com",
            "192.0.2.1", "||192.0.2.1^", "2001:db8::1", "192.0.2.1 printer.example", "0.0.0.0 a_b@example.com",
            "address=/example.com/192.0.2.1", "server=/example.com/192.0.2.1#53", "server=192.0.2.1", "address=/#/::",
            "server=/example.com/#", 'local-zone: "example.com" transparent', "local-zone: example.com",
            'local-data: "example.com A 192.0.2.1"', 'local-data: "example.com TXT a"', "a.example b.example",
            "a..example", "a.example..", '"a.example",', "example.com CNAME .", "$TTL 60", "forward-zone:",
            b"b\xfccher.example", b"nul\0.example", b"a\x1b[2Jb.example", "a" * 64 + ".example",
            ".".join(["a" * 49] * 6), "||" + ".".join(["a" * 49] * 6) + "^", "\u2028", "ü" * 300 + ".example",
        ],
    )  # fmt: skip
    def test_what_cannot_be_followed_is_remarked_upon(self, line: str | bytes) -> None:
        """It is not done by halves, and the next line is read as ever."""
        data = (line if isinstance(line, bytes) else line.encode()) + b"\nnext.example\n"

        assert items(data) == [("next.example", "2")]
        (remark,) = remarks(data)
        assert (remark.line, remark.lines, remark.reason.isprintable(), len(remark.reason) < 300) == (1, 1, True, True)

    @pytest.mark.parametrize(
        "line",
        [
            "com", "com.", "||com^", "*.com", ".com", "0.0.0.0 com", "address=/com/", 'local-zone: "com" refuse',
            "@@||com^", "рф", "||*^", "||^", "*", "*.", ".", "||.^", 'local-zone: "." refuse', "*.*", "address=//::",
        ],
    )  # fmt: skip
    def test_a_top_level_domain_is_too_wide(self, line: str) -> None:
        """So are the root and every name: such a line is a slip, and is refused with a remark."""
        assert names(line) == []
        assert len(remarks(line)) == 1

    def test_one_bad_name_does_not_cost_the_others_of_its_line(self) -> None:
        """A hosts line with a name that is none gives its other names, and a remark."""
        text = "0.0.0.0 a.example b!.example c.example"
        assert (names(text), len(remarks(text))) == (["a.example", "c.example"], 1)

    def test_a_pass_list_only_has_exceptions(self) -> None:
        """With `passes`, blocking rules and exceptions are both names never to block."""
        assert items("a.example\n||b.example^\n@@c.example", passes=True) == [
            ("@@a.example", "1"), ("@@*.b.example", "2"), ("@@c.example", "3"),
        ]  # fmt: skip


class TestFiles:
    def test_lines_end_in_any_way(self) -> None:
        """LF, CR LF, none at the end; a byte order mark at the beginning, or where lists were joined."""
        text = b"\xef\xbb\xbfa.example\r\nb.example\n\r\n\xef\xbb\xbfc.example\r\r\nd.example"
        assert items(text) == [("a.example", "1"), ("b.example", "2"), ("c.example", "4"), ("d.example", "5")]

    @pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_utf_16_is_told_once(self, form: str) -> None:
        """One remark, and nothing is read: each line would be another one."""
        (remark,) = read_list([("# list\n" + "a.example\n" * 500).encode(form)])
        assert isinstance(remark, Remark) and "UTF-16" in remark.reason

    @pytest.mark.parametrize("data", [b"<!DOCTYPE html>\n<p>a", b"\n <html>\nx!", b"\x1f\x8b\x08\0\nx!", b"PK\3\4\nx!"])
    def test_what_is_no_list_is_told_once(self, data: bytes) -> None:
        """A web page in place of a download, or an archive: one remark."""
        (remark,) = read_list([data])
        assert isinstance(remark, Remark)

    def test_a_long_line_is_passed_over_wherever_portions_end(self) -> None:
        """One remark for it, with its number, and the next line is read."""
        for size in (LONGEST_LINE + 1, LONGEST_LINE * 2, 300_000):
            data = b"a.example\n" + b"x" * size + b"\nb.example\n" + b"y." * size
            for step in (1000, 65536, len(data)):
                found = read_list([data[at : at + step] for at in range(0, len(data), step)])
                assert [each.line for each in found] == [1, 2, 3, 4]
                assert [type(each) for each in found] == [Item, Remark, Item, Remark]

    def test_a_file_without_newline_is_not_kept(self) -> None:
        """A hundred megabytes without an end of line: each portion can go before the next one is taken."""

        def portions() -> Iterator[bytes]:
            yield from (b"x" * 65536 for _ in range(1600))
            yield b"\na.example"

        remark, item = read_list(portions())
        assert isinstance(remark, Remark) and remark.line == 1
        assert isinstance(item, Item) and item.line == 2

    def test_remarks_are_bounded(self) -> None:
        """The first ones one by one, the others as their number, with the line of the first of them."""
        found = remarks("ok.example\n" + "not!\n" * (MOST_REMARKS + 50))
        assert [each.line for each in found] == [*range(2, MOST_REMARKS + 3)]
        assert [each.lines for each in found] == [1] * MOST_REMARKS + [50]
        assert "50 more" in found[-1].reason

    def test_exactly_as_many_remarks_as_are_kept(self) -> None:
        """Nothing is said about others where there are none."""
        assert [each.lines for each in remarks("not!\n" * MOST_REMARKS)] == [1] * MOST_REMARKS

    def test_names_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A list of exactly as many is read to its end; one more ends it with a remark."""
        monkeypatch.setattr(list_text, "MOST_ITEMS", 3)
        lines = "a.example\n0.0.0.0 b.example c.example\n"
        assert (len(items(lines)), remarks(lines)) == (3, [])

        assert len(items(lines + "d.example\ne.example")) == 3
        (remark,) = remarks(lines + "d.example\ne.example")
        assert remark.line == 3

    def test_octets_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is beyond the limit is not read, and told."""
        monkeypatch.setattr(list_text, "MOST_OCTETS", 1000)
        found = read_list([b"a.example\n"] * 101)
        assert [type(each) for each in found] == [Item] * 100 + [Remark]
        assert found[-1].line == 100

    def test_an_empty_list_is_empty(self) -> None:
        """No octets, no portions, only comments: no names and no remarks."""
        assert [read_list(each) for each in ([], [b""], [b"\n\n"], [b"# none\n"])] == [[], [], [], []]


LABEL = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,20}[A-Za-z0-9_])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=5).map(".".join).filter(lambda name: not name.rpartition(".")[2].isdigit())
#: Lines that come close to what is understood.
LINE = st.lists(
    st.sampled_from(
        [b"||", b"|", b"@@", b"^", b"$", b"*.", b".", b"/", b"#", b"##", b"!", b" ", b"\t", b"\r", b"0.0.0.0", b"::",
         b"address=/", b"local-zone:", b"local-data:", b" static", b'"', b"a.example", b"com", b"\0", b"\xff", b"\\",
         b"important", b"\xef\xbb\xbf", b"1", b",", b"A 0.0.0.0", "ü".encode(), "。".encode(), b"localhost", b"\\046"]
    ),
    max_size=7,
).map(b"".join)  # fmt: skip


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


class TestAnyContent:
    @given(st.lists(LINE | st.binary(max_size=40), max_size=12).map(b"\n".join), st.lists(st.integers(0, 500)))
    @example(b"\xff\xfe", [1])
    def test_anything_is_read_and_portions_make_no_difference(self, data: bytes, cuts: list[int]) -> None:
        """No content raises; names are names of two labels or more in wire form, in the order of their lines."""
        found = read_list([data])
        assert read_list(split(data, cuts)) == found
        lines = [each.line for each in found]
        assert lines == sorted(lines) and all(1 <= line <= data.count(b"\n") + 1 for line in lines)
        for each in found:
            if isinstance(each, Item):
                assert parse_name(name_text(each.name)) == each.name
                assert name_text(each.name).count(".") >= 2
            else:
                assert each.reason.isprintable()

    @given(st.lists(NAME, min_size=1), st.sampled_from(["{}", "||{}^", "0.0.0.0 {}", "{} ", "*.{}", "{}."]))
    def test_names_are_read_as_people_write_them(self, wanted: list[str], form: str) -> None:
        """The quick way for usual lines says what parse_name says."""
        found = read_list([("\n".join(form.format(name) for name in wanted)).encode()])
        wide = form.startswith(("||", "*."))
        assert found == [Item(parse_name(name), wide, line, False) for line, name in enumerate(wanted, 1)]


def read_json(text: bytes, size: int = 1 << 16) -> tuple[list[tuple[str, bool]], list[str]]:
    """The names of a list in JSON, given in portions of `size`, each with whether it passes; and the remarks."""
    found = read_list(text[start : start + size] for start in range(0, len(text), size))
    names = [(name_text(each.name), each.passes) for each in found if isinstance(each, Item)]
    return names, [each.reason for each in found if isinstance(each, Remark)]


class TestJson:
    def test_an_array(self) -> None:
        """On one line or on many, each name stands for itself alone."""
        items = [each for each in read_list([b'[\n "Ads.test",\n "x.y.test" ]\n']) if isinstance(each, Item)]
        assert [(name_text(each.name), each.below, each.line) for each in items] == [
            ("ads.test.", False, 2), ("x.y.test.", False, 3),
        ]  # fmt: skip
        many = json.dumps([f"n{number}.test" for number in range(20_000)]).encode()
        assert len(read_json(many)[0]) == 20_000

    def test_an_object(self) -> None:
        """Arrays that are called as such lists are; what is in others is not taken for names."""
        text = b'{"version": 2, "blacklist": ["a.test"], "whitelist": ["b.test"], "fuzzylist": ["c.test"]}'
        names, remarks = read_json(text)
        assert names == [("a.test.", False), ("b.test.", True)]
        assert remarks == ["the meaning of 'fuzzylist' is not known, so it is ignored"]

    def test_objects_in_an_array(self) -> None:
        """A name has a key of its own; other texts are none."""
        text = b'[{"domain": "a.test", "by": "some.body"}, {"by": "x.test", "host": "b.test"}]'
        assert read_json(text) == ([("a.test.", False), ("b.test.", False)], [])

    def test_what_is_no_json_in_the_end(self) -> None:
        """What came before it counts; the reason is told; nothing is kept of a string without end."""
        for text, reason in (
            (b'["a.test", "b', "it ends inside a string"),
            (b'["a.test", "' + b"x" * 100_000, "a string of more than 4096 octets"),
            (b'["a.test", ' + b"[" * 1000, "more than 64 arrays and objects"),
        ):
            names, remarks = read_json(text, 1000)
            assert names == [("a.test.", False)]
            assert reason in remarks[-1]

    def test_an_adblock_header_is_none(self) -> None:
        """Though it begins with a bracket."""
        assert read_json(b"[Adblock Plus 2.0]\n||a.test^\n")[0] == [("a.test.", False)]

    @given(
        st.lists(st.from_regex(r"[a-z0-9]{1,9}(-[a-z]{1,3})?\.test", fullmatch=True), min_size=1),
        st.sampled_from([None, 0, 2]), st.integers(1, 50),
    )  # fmt: skip
    def test_any_array(self, names: list[str], indent: int | None, size: int) -> None:
        """However it is laid out, and wherever portions end."""
        text = json.dumps(names, indent=indent).encode()
        assert read_json(text, size) == ([(f"{name}.", False) for name in names], [])

    @given(st.binary(max_size=200), st.integers(1, 30))
    def test_any_octets_behind_a_bracket(self, rest: bytes, size: int) -> None:
        """Nothing raises."""
        for head in (b'["', b'{"', b'[{"domain":"', b'{"blacklist":["'):
            read_json(head + rest, size)
