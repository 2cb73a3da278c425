"""The chaos test in short: `make chaos` is the long form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import clean_env

from chaos import names, rows, soak

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


ROOT = Path(__file__).parent.parent


ROWS = ["worker", "redis", "rubbish", "late", "partition", "old-redis", "clone", "sick"]


def test_nothing_is_lost_while_things_break(tmp_path: Path) -> None:
    """At 200 queries/s every answer comes, and is right; and what a flush has proved stays so, whoever was hindered.

    A worker and Redis are killed, rubbish is written there; a node stops or is cut off over a flush and its lease,
    Redis comes back from an old file, a node has a twin, another an upstream that is silent.
    """
    figures = tmp_path / "figures.json"
    words = ["--rows", ",".join(ROWS), "--brief", "--rate", "200", "--rest", "0.2", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-m", "chaos", *words],
        capture_output=True, text=True, timeout=240, cwd=ROOT, env=clean_env(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["name"]: row for row in json.loads(figures.read_text())}
    assert list(found) == ROWS
    for row in found.values():
        assert row["queries"] > 50
        assert row["lost"] == row["wrong"] == 0
        assert 0 <= row["recovery"] < 15
        assert row["unconfirmed"] == row["flaws"] == []


def test_rows_that_are_none_are_refused() -> None:
    """One sentence, before anything is started."""
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--rows", "worker,wroker"],
        capture_output=True, text=True, timeout=60, cwd=ROOT, env=clean_env(), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: unknown row: wroker.\n"


class TestWrongAnswersAreSeen:
    """The client trusts nobody, or the rest of this would prove nothing."""

    @given(st.sampled_from(["h1.hot.chaos", "c1x2.cold.chaos", "s1.short.chaos", "n1.nx.chaos"]), st.integers(1, 9))
    def test_the_upstreams_own_answers_are_right(self, name: str, version: int) -> None:
        """Whatever the version."""
        assert names.problem(name, names.reply(names.query(7, name), version), 0) == ""

    @pytest.mark.parametrize("name", ["h1.hot.chaos", "n1.nx.chaos", "v1.ver.chaos"])
    def test_another_names_answer_is_wrong(self, name: str) -> None:
        """Even under the right question."""
        other = names.reply(names.query(7, f"x{name}"), 1)
        assert names.problem(name, other, 0)
        forged = names.query(7, name)[:2] + other[2:12] + names.query(7, name)[12:] + other[len(name) + 19 :]
        assert names.problem(name, forged, 0) or name.startswith("n")

    @pytest.mark.parametrize(("floor", "wrong"), [(2, False), (3, False), (4, True)])
    def test_a_flushed_version_is_wrong(self, floor: int, wrong: bool) -> None:
        """Names under `ver` have one."""
        reply = names.reply(names.query(7, "v1.ver.chaos"), 3)
        assert bool(names.problem("v1.ver.chaos", reply, floor)) is wrong

    def test_a_failure_and_a_ttl_too_long_are_wrong(self) -> None:
        """SERVFAIL is no answer."""
        reply = bytearray(names.reply(names.query(7, "s1.short.chaos"), 1))
        assert names.problem("s1.short.chaos", bytes(reply[:3] + b"\x82" + reply[4:]), 0) == "RCODE 2 with 1 records"
        reply[-8:-6] = b"\0\x1f"
        assert names.problem("s1.short.chaos", bytes(reply), 0) == "TTL 31"


def test_the_table_and_the_drawing_hold_what_was_seen() -> None:
    """One line a row; one curve a process."""
    row = rows.Row("worker", "a worker is killed", queries=10, recovery=0.25)
    assert "| a worker is killed | 10 | 0 | 0 |" in rows.table([row])
    assert rows.as_json([row])[0]["good"]
    assert "never" in rows.table([rows.Row("x", "y")])
    assert soak.drawing({"n0": [(0.0, 10.0), (5.0, 11.0)], "redis": [(0.0, 5.0)]}).count("<polyline") == 2
