"""Long lists that are read in portions by several processes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdnscache.breath import go_on
from rdnscache.lists import compiling
from rdnscache.lists.compiling import compile_text, portions_of
from rdnscache.policy.compiled_list import ListFacts, compile_list, gather_portion, join_portions, read_compiled
from rdnscache.policy.list_forms import LONGEST_LINE
from rdnscache.policy.name_table import KEY_OCTETS, NameTable

KEY = bytes(KEY_OCTETS)
LINES = [
    b"# a comment", b"0.0.0.0 a.test b.test", b"||c.test^", b"@@||d.c.test^", b"a.test", b"no name here", b"",
    b"e.test\r", b"*.f.test", b"<html>", b"x" * (LONGEST_LINE + 1), b"\xff.test",
]  # fmt: skip


def in_portions(text: bytes, portion: int) -> tuple[ListFacts, NameTable]:
    """As `compile_text` does it, in this process."""
    facts, found, line = ListFacts("block", "x"), [], 1
    for part in portions_of([text], portion, facts):
        found.append(gather_portion(part, "block", line, KEY))
        line += part.count(b"\n")
    return read(join_portions(found, facts, KEY))


def read(data: bytes) -> tuple[ListFacts, NameTable]:
    facts, table = read_compiled(data)
    assert isinstance(table, NameTable)
    return facts, table


@pytest.mark.pure
@given(st.lists(st.sampled_from(LINES), max_size=40), st.integers(6000, 20_000))
def test_portions_come_to_the_same(lines: list[bytes], portion: int) -> None:
    """The table, its lines and what was not understood are those of the list read as a whole."""
    text = b"list.test\n" + b"\n".join(lines)
    facts = ListFacts("block", "x")
    whole = read(compile_list([text], facts, KEY))
    assert in_portions(text, portion)[0] == whole[0]
    for name in (b"\1a\4test\0", b"\1z\1c\4test\0", b"\1d\1c\4test\0", b"\1y\1f\4test\0", b"\1e\4test\0"):
        assert in_portions(text, portion)[1].find(name) == whole[1].find(name)


@pytest.mark.pure
@pytest.mark.parametrize("end", [b"", b"\n", b"\nb.test\n"])
def test_a_line_without_end(end: bytes) -> None:
    """It is passed over with a remark, wherever it ends, and nothing of it is kept or taken for a name."""
    facts = ListFacts("block", "x")
    chunks = [b"a.test\n", *[b"y" * 1000] * 50, end]
    portions = list(portions_of(chunks, 10_000, facts))
    assert max(map(len, portions)) <= 11_000
    found, line = [], 1
    for part in portions:
        found.append(gather_portion(part, "block", line, KEY).facts)
        line += part.count(b"\n")
    assert sum(each.names for each in found) == 1 + end.count(b"b.test")
    assert [remark.line for each in found for remark in each.remarks] == [2]


def test_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is read once, in its order, by whichever process; JSON is not divided."""
    monkeypatch.setattr(compiling, "cpus", lambda: 2)
    text = b"".join(b"n%d.test\n" % number for number in range(5000)) + b"n7.test\n"
    facts, table = read(compile_text([text], ListFacts("block", "x"), KEY, go_on, portion=8000))
    assert (facts.names, len(table)) == (5001, 5000)
    for number in (0, 7, 4999):
        match = table.find(b"\5n%04d\4test\0" % number if number > 999 else b"\2n%d\4test\0" % number)
        assert match is not None
        assert match.line == number + 1
    names = json.dumps([f"n{number}.test" for number in range(2000)]).encode()
    assert read(compile_text([names], ListFacts("block", "x"), KEY, go_on, portion=8000))[0].names == 2000
