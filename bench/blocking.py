"""What long lists of blocked names cost: hits and misses, with and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench import load
from bench.lab import Figures, Lab
from bench.rows import Case, Row, measure_misses
from bench.servers import OURS, Kind
from rdnscache.breath import go_on
from rdnscache.lists.process import Librarian
from rdnscache.lists.shelf import Shelf
from rdnscache.lists.sources import ListSource

#: Names that are blocked; no query is for one of them.
NAMES = {"no lists": 0, "2 million names": 2_000_000}
QUICK = 100_000


def _list(lab: Lab, count: int) -> tuple[str, ...]:
    """Options for a node that blocks as many names; the list is compiled, so that the node does not wait for that."""
    if not count:
        return ()
    file = Path(lab.folder) / f"blocked-{count}.txt"
    if not file.exists():
        file.write_text("".join(f"n{number:x}.ads{number % 9973}.example\n" for number in range(count)))
        shelf = Shelf(Path(lab.folder), "bench", "")
        Librarian(shelf, (ListSource("block", str(file)),), 86400.0, None, go_on).round()
    return "--block", str(file), "--list-dir", str(lab.folder)


def hits(lab: Lab, args: Sequence[str]) -> Figures:
    names = load.hot_names()
    with lab.run(OURS[0], *args) as server:
        lab.warm(server, names)
        return lab.cost(server, lab.write(load.shuffled(names)), seconds=lab.scale.seconds)


def misses(lab: Lab, args: Sequence[str]) -> Figures:
    return measure_misses(lab, OURS[0], *args)


def _cases(measure: Callable[[Lab, Sequence[str]], Figures]) -> Callable[[Sequence[Kind], bool], list[Case]]:
    def cases(kinds: Sequence[Kind], quick: bool) -> list[Case]:
        def way(count: int) -> Callable[[Lab, Kind], Figures]:
            return lambda lab, _: measure(lab, _list(lab, min(count, QUICK) if quick else count))

        return [Case(label, OURS[0], way(count)) for label, count in NAMES.items() if OURS[0] in kinds]

    return cases


BLOCKING = [
    Row("lists-hit", "hits, with and without two million blocked names", _cases(hits), grows=True),
    Row("lists-miss", "misses, with and without two million blocked names", _cases(misses), grows=True),
]
