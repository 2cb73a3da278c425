"""The cost of long lists of blocked names and of response policy zones: hits and misses, with and without them."""

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

#: Option and number of blocked names of each case; no query is for one of them.
NAMES = {"no lists": ("", 0), "2 million names": ("block", 2_000_000), "2 million rules": ("rpz", 2_000_000)}
QUICK = 100_000
#: The beginning of a list, and the text after each name.
HEADS = {"block": "", "rpz": "$TTL 300\n@ SOA ns root 1 3600 600 86400 60\n"}
ENDS = {"block": "\n", "rpz": " CNAME .\n"}


def _list(lab: Lab, kind: str, count: int) -> tuple[str, ...]:
    """Options for a node that blocks `count` names; the list is compiled here, so that the node need not do it."""
    if not count:
        return ()
    file = Path(lab.folder) / f"{kind}-{count}.txt"
    if not file.exists():
        names = (f"n{number:x}.ads{number % 9973}.example{ENDS[kind]}" for number in range(count))
        file.write_text(HEADS[kind] + "".join(names))
        shelf = Shelf(Path(lab.folder), "bench", "")
        Librarian(shelf, (ListSource(kind, str(file)),), 86400.0, None, go_on).round()
    return f"--{kind}", str(file), "--list-dir", str(lab.folder)


def hits(lab: Lab, args: Sequence[str]) -> Figures:
    names = load.hot_names()
    with lab.run(OURS[0], *args) as server:
        lab.warm(server, names)
        return lab.cost(server, lab.write(load.shuffled(names)), seconds=lab.scale.seconds)


def misses(lab: Lab, args: Sequence[str]) -> Figures:
    return measure_misses(lab, OURS[0], *args)


def _cases(measure: Callable[[Lab, Sequence[str]], Figures]) -> Callable[[Sequence[Kind], bool], list[Case]]:
    def cases(kinds: Sequence[Kind], quick: bool) -> list[Case]:
        def way(kind: str, count: int) -> Callable[[Lab, Kind], Figures]:
            return lambda lab, _: measure(lab, _list(lab, kind, min(count, QUICK) if quick else count))

        return [Case(label, OURS[0], way(*how)) for label, how in NAMES.items() if OURS[0] in kinds]

    return cases


BLOCKING = [
    Row("lists-hit", "hits, with and without two million blocked names", _cases(hits), grows=True),
    Row("lists-miss", "misses, with and without two million blocked names", _cases(misses), grows=True),
]
