"""The table of names that workers share: what it finds, held against a plain dictionary."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.dns.names import parse_name
from rdnscache.policy import name_table
from rdnscache.policy.list_text import Item
from rdnscache.policy.name_table import KEY_OCTETS, MOST_LISTS, Match, NameTable, build

#: About modules that are not compiled.
pytestmark = pytest.mark.pure

KEY = bytes(range(KEY_OCTETS))
Listed = list[tuple[int, Item]]


def item(name: str, line: int = 1, passes: bool = False) -> Item:
    """`*.name` is the name and what is below it."""
    return Item(parse_name(name.removeprefix("*.")), name.startswith("*."), line, passes)


def table(*names: str) -> NameTable:
    """One list, a name in each line; `@@` before an exception."""
    lines = enumerate(names, 1)
    return NameTable(build([(0, [item(n.removeprefix("@@"), line, n.startswith("@@")) for line, n in lines])], KEY))


def by_list(listed: Listed) -> list[tuple[int, list[Item]]]:
    """Each with its number, in the order given."""
    return [(source, [each]) for source, each in listed]


def found(names: NameTable, name: str) -> tuple[int, bool] | None:
    match = names.find(parse_name(name))
    return match and (match.line, match.passes)


def naive(listed: Listed, name: bytes) -> Match | None:
    """What the docstring of `find` says, in the plainest way."""
    blocked, start = None, 0
    while True:
        parent = name[start:]
        for source, each in sorted(listed, key=lambda pair: (pair[0], pair[1].line, pair[1].below, pair[1].passes)):
            if each.name == parent and (each.below or start == 0):
                match = Match(source, each.line, each.passes, parent)
                if each.passes:
                    return match
                blocked = blocked or match
        if not name[start]:
            return blocked
        start += 1 + name[start]


class TestFind:
    def test_a_name_alone(self) -> None:
        """Neither what is above it nor what is below it."""
        names = table("a.example", "b.c.example")
        assert [found(names, each) for each in ("a.example", "b.c.example")] == [(1, False), (2, False)]
        assert [found(names, each) for each in ("x.a.example", "c.example", "example", ".", "b.example")] == [None] * 5

    def test_a_name_and_what_is_below(self) -> None:
        """At any depth, but not beside it, and not a name that merely ends in the same letters."""
        names = table("*.a.example")
        deep = "x." * 100 + "a.example"
        assert [found(names, each) for each in ("a.example", "x.a.example", deep)] == [(1, False)] * 3
        assert [found(names, each) for each in ("ba.example", "example", "b.example")] == [None] * 3

    def test_the_name_itself_comes_before_its_parents(self) -> None:
        """And the longest parent before shorter ones, in whichever order they stand."""
        names = table("*.example.com", "*.b.example.com", "a.b.example.com")
        asked = ("a.b.example.com", "x.b.example.com", "x.example.com", "x.a.b.example.com")
        assert [found(names, each) for each in asked] == [(3, False), (2, False), (1, False), (2, False)]

    def test_an_exception_comes_before_any_block(self) -> None:
        """For a parent as well as for the name itself: what is never to be blocked is not."""
        names = table("*.example.com", "@@*.b.example.com", "a.b.example.com", "@@c.example.com", "*.c.example.com")
        assert found(names, "a.b.example.com") == (2, True)
        assert found(names, "c.example.com") == (4, True)
        assert found(names, "x.c.example.com") == (5, False)
        assert found(names, "x.example.com") == (1, False)

    def test_an_exception_without_a_block_is_told(self) -> None:
        """Who asks why a name is not blocked learns which line says so."""
        assert found(table("@@a.example"), "a.example") == (1, True)

    def test_the_first_line_of_a_repeated_name_counts(self) -> None:
        """The first list before the second, and the first line of a list."""
        listed = [(0, item("a.example", 9)), (0, item("a.example", 10)), (1, item("a.example", 1))]
        names = NameTable(build(by_list(listed), KEY))
        assert names.find(parse_name("a.example")) == Match(0, 9, False, parse_name("a.example"))
        assert len(names) == 1

    def test_each_kind_of_line_has_its_first(self) -> None:
        """A name that stands alone first, and with what is below later, has a line for each."""
        for listed in (("a.example", "*.a.example"), ("*.a.example", "b.example", "a.example")):
            names = table(*listed, *listed)
            assert (found(names, "a.example"), len(names)) == ((1, False), len(listed))
            assert found(names, "x.a.example") == (listed.index("*.a.example") + 1, False)

    def test_short_names_are_found_as_well(self) -> None:
        """A top-level domain, and the root with all below it: a list has none, who makes a table may."""
        assert found(table("*.test"), "a.b.test") == (1, False)
        assert found(table("test", "a.example"), "test") == (1, False)
        assert found(table("*..", "a.example"), "x.y.z") == (1, False)
        assert found(table("*..", "a.example"), ".") == (1, False)

    def test_an_empty_table_finds_nothing(self) -> None:
        """No names are a table as well."""
        names = table()
        names.check()
        assert (found(names, "a.example"), found(names, "."), len(names)) == (None, None, 0)

    def test_many_names(self) -> None:
        """Thirty thousand of them and no other, in less than thirty octets each."""
        wanted = [f"n{number}.d{number % 700}.example" for number in range(30_000)]
        data = build([(0, [item(name, line) for line, name in enumerate(wanted, 1)])], KEY)
        names = NameTable(data)
        names.check()
        assert len(data) < 30 * len(wanted)
        assert [found(names, name) for name in wanted] == [(line, False) for line in range(1, len(wanted) + 1)]
        others = [f"m{number}.d{number % 900}.example" for number in range(30_000)]
        assert [name for name in others if found(names, name)] == []


LABELS = st.sampled_from(["a", "b", "c", "ab", "xn--a", "_d"])
NAMES = st.lists(LABELS, max_size=5).map(lambda labels: parse_name(".".join(labels) or "."))
ITEMS = st.builds(Item, NAMES, st.booleans(), st.integers(1, 9), st.booleans())


class TestModel:
    @given(st.lists(st.tuples(st.integers(0, 3), ITEMS), max_size=25), st.lists(NAMES, max_size=25))
    def test_it_says_what_a_dictionary_would_say(self, listed: Listed, asked: list[bytes]) -> None:
        """For names that are listed, their children, and any others."""
        listed.sort(key=lambda pair: (pair[0], pair[1].line))
        names = NameTable(build(by_list(listed), KEY))
        names.check()
        for name in asked + [each.name for _, each in listed] + [b"\1a" + each.name for _, each in listed]:
            assert names.find(name) == naive(listed, name)

    @given(st.lists(st.integers(0, 3000), max_size=300), st.binary(min_size=KEY_OCTETS, max_size=KEY_OCTETS))
    @settings(max_examples=25)
    def test_any_key_and_any_size(self, numbers: list[int], key: bytes) -> None:
        """Sizes around the steps of the directory and the filter."""
        listed = [(0, item(f"n{number}.example", line)) for line, number in enumerate(numbers, 1)]
        names = NameTable(build(by_list(listed), key))
        for number in {*numbers, *range(20)}:
            match = names.find(parse_name(f"n{number}.example"))
            assert (match.line if match else 0) == (numbers.index(number) + 1 if number in numbers else 0)


def cut(data: bytearray) -> bytes:
    return bytes(data[:-1])


def longer(data: bytearray) -> bytes:
    return bytes(data) + bytes(8)


def other_order(data: bytearray) -> bytes:
    return bytes(data[7::-1] + data[8:])


class TestMemory:
    def test_a_mapped_file_serves_as_well_as_octets(self, tmp_path: Path) -> None:
        """Nothing of it is copied or written."""
        file = tmp_path / "table"
        file.write_bytes(build([(7, [item("*.a.example", 1234567)])], KEY))
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            names = NameTable(memoryview(mapped))
            names.check()
            assert names.find(parse_name("b.a.example")) == Match(7, 1234567, False, parse_name("a.example"))
            del names

    @pytest.mark.parametrize("damage", [cut, longer, other_order, lambda data: b"", lambda data: b"x" * len(data)])
    def test_what_is_no_table_is_refused(self, damage: Callable[[bytearray], bytes]) -> None:
        """Cut short, too long, from a machine of the other byte order, or something else."""
        with pytest.raises(ValueError, match="table of names"):
            NameTable(damage(bytearray(build([(0, [item("a.example")])], KEY))))

    def test_a_changed_octet_is_noticed(self) -> None:
        """Wherever a table was changed, it is refused, or `check` says so."""
        data = build([(0, [item(f"{label}.example") for label in "abcdefgh"])], KEY)
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 0x40
            with pytest.raises(ValueError, match="table of names"):
                NameTable(bytes(changed)).check()

    @given(st.data())
    def test_no_change_leads_out_of_it(self, data: st.DataObject) -> None:
        """Whoever changes a table and knows how to seal it: it is refused, or `find` works."""
        whole = bytearray(build([(0, [item(f"{label}.example") for label in "abcdefgh"])], KEY))
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(8, len(whole) - 17))] = data.draw(st.integers(0, 255))
        whole[-16:] = blake2b(whole[:-16], digest_size=16).digest()
        try:
            names = NameTable(bytes(whole))
            names.check()
        except ValueError:
            return
        for name in ("a.example", "x.example", "com", "."):
            names.find(parse_name(name))

    def test_bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Too many lists or names, or a key of another size, are refused."""
        with pytest.raises(ValueError, match="lists"):
            build([(MOST_LISTS, [item("a.example")])], KEY)
        with pytest.raises(ValueError, match="key"):
            build([], b"short")
        monkeypatch.setattr(name_table, "MOST_NAMES", 1)
        with pytest.raises(ValueError, match="names"):
            build([(0, [item("a.example"), item("b.example")])], KEY)
