"""The siege in short: `make siege` is the long form, with times and with unbound beside."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import clean_env, wait_for

from bench.load import query
from rdnscache.dns.wire import parse_reply
from siege import honest, rows, upstream

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent


def besiege(tmp_path: Path, names: str) -> list[dict[str, Any]]:
    """The figures of some rows, looked at for a short time."""
    figures = tmp_path / "figures.json"
    words = ["--rows", names, "--seconds", "1.5", "--rest", "1", "--alone", "--untimed", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-m", "siege", *words],
        capture_output=True, text=True, timeout=200, cwd=ROOT, env=clean_env(), check=False,
    )  # fmt: skip
    assert figures.exists(), done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert [row["row"] for row in found] == names.split(","), done.stdout + done.stderr
    return list(found)


def test_honest_clients_are_answered_beside_one_that_takes_all_it_can(tmp_path: Path) -> None:
    """Silent names, a pulse, readers that do not read, connections that stay: hits, misses and memory."""
    found = {row["row"]: row for row in besiege(tmp_path, "silent-1000,pulse,slow-readers,slots")}
    for row in found.values():
        for kind in ("hits", "misses"):
            assert row["under"][kind]["answered"] >= 0.9 * row["under"][kind]["asked"], row
        before, peak, after = row["memory"]
        assert peak < before + 150 and after < before + 100, row
    assert found["pulse"]["seen"]["answered"] <= 2000
    assert found["slots"]["seen"]["answered over TCP"] >= 0.9 * found["slots"]["seen"]["asked over TCP"]


def test_none_of_the_forged_replies_is_believed_and_nobody_loses_an_answer(tmp_path: Path) -> None:
    """By a user of the node's host, who sees the port of each question."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        pytest.skip("sending under addresses of others is not allowed")
    (row,) = besiege(tmp_path, "forged-here")
    assert row["seen"]["accepted"] == 0 < row["seen"]["forged"], row
    for kind in ("hits", "misses"):
        assert row["under"][kind]["answered"] >= 0.9 * row["under"][kind]["asked"], row


def test_rows_that_are_none_are_refused() -> None:
    """One sentence, before anything is started."""
    done = subprocess.run(
        [sys.executable, "-m", "siege", "--rows", "pulse,pluse"],
        capture_output=True, text=True, timeout=60, cwd=ROOT, env=clean_env(), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: unknown row: pluse.\n"


def test_every_way_to_take_something_away_has_a_row() -> None:
    """The ways are numbered: by clients (A), by who may write to Redis (B), by a worker that hangs (C)."""
    numbers = [row.text.partition(":")[0] for row in rows.ROWS]
    assert list(dict.fromkeys(numbers)) == [f"A{n}" for n in range(1, 10)] + [f"B{n}" for n in range(1, 7)] + ["C1"]


def test_the_time_of_a_reply_is_that_of_its_arrival() -> None:
    """However late a client is to look."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with honest.sockets(server.getsockname()[1])[0] as sock:
            # the kernel may take a while until it notes when datagrams arrive: until then their time is the look's
            assert wait_for(lambda: -0.001 <= overtime(server, sock) <= 0.001)


def overtime(server: socket.socket, sock: socket.socket) -> float:
    """Seconds by which the time of a reply is longer than it took to arrive; the client looks later than that."""
    sock.send(query("a.test", 7))
    question, address = server.recvfrom(4096)
    sent = time.time()
    server.sendto(question[:6] + b"\0\1" + question[8:] + honest.TRUE, address)
    arrived = time.time()
    time.sleep(0.1)  # the client has something else to do
    waiting, taken = {(sock.fileno(), 7): (sent, "hits")}, {"hits": []}
    honest.read(sock, waiting, taken)
    (seconds,) = taken["hits"]
    return max(seconds - (arrived - sent), min(seconds, 0.0))


class TestWhatDoesNotHoldIsSeen:
    """Or the rest of this would prove nothing."""

    @staticmethod
    def found(**changes: Any) -> rows.Found:
        def clients() -> rows.Clients:
            told = {"asked": 100.0, "answered": 100.0, "p50": 10.0, "p99": 20.0, "worst": 19.0}
            return {"hits": dict(told), "misses": dict(told)}

        found = rows.Found("x", "y", "rdnscache", clients(), clients(), (50.0, 60.0, 55.0), {"number": 5.0, "of": 5.0})
        for name, value in changes.items():
            if name in ("memory", "seen"):
                setattr(found, name, value)
            else:
                kind, figure = name.split("_")
                found.under[kind][figure] = value
        return found

    @pytest.mark.parametrize(
        ("changes", "broken"),
        [
            ({}, []),
            ({"hits_answered": 98.0}, ["98 of 100 hits"]),
            ({"misses_answered": 0.0}, ["0 of 100 misses"]),
            ({"memory": (50.0, 400.0, 50.0)}, ["memory rose by 350 MiB"]),
            ({"memory": (50.0, 140.0, 130.0)}, ["80 MiB are not given back"]),
            ({"seen": {"number": 4.0, "of": 5.0}}, ["number: 4 of 5"]),
            ({"seen": {"number": 9.0, "of": 5.0}}, ["number: 9"]),
            ({"misses_p50": 21.0}, ["p50 of misses 21.0 ms, quiet 10.0"]),
            ({"hits_worst": 21.0}, ["a hit took 21 ms"]),
        ],
    )
    def test_each_bound(self, changes: dict[str, Any], broken: list[str]) -> None:
        """One that is broken is said, and nothing else."""
        judges = rows._quick_hits, rows._quick_misses, rows._at_least("number", "of"), rows._at_most("number", 8)
        row = rows.Row("x", "y", judge=rows._all(*judges))
        assert rows.judged(row, self.found(**changes), True) == broken

    def test_times_may_be_left_out(self) -> None:
        """On a machine that has other things to do."""
        row = rows.Row("x", "y", judge=rows._all(rows._quick_hits, rows._quick_misses))
        assert rows.judged(row, self.found(hits_worst=500.0, misses_p50=500.0), False) == []

    def test_a_line_of_the_table(self) -> None:
        """It holds what was seen."""
        found = self.found(hits_answered=98.0)
        found.broken = ["98 of 100 hits"]
        assert "| y | rdnscache | 98.0 % | 10.0 / 20.0 / 19 | 100.0 % |" in rows.table([found])
        assert "| 98 of 100 hits |" in rows.table([found])


@pytest.mark.parametrize("letter", ["g", "n", "b", "p", "s"])
def test_the_upstream_says_what_can_be_read(letter: str) -> None:
    """Whatever is thrown away by a node is not for a mistake of ours."""
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\2" + letter.encode() + b"1\4test\0\0\1\0\1"
    for stream in (True, False):
        told = upstream.reply(query, stream)
        assert told is not None and parse_reply(told) is not None
