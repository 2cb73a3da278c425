"""The cost of views with lists of their own: hits and misses of a client in a view, and without views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.blocking import hits, misses
from bench.lab import Figures, Lab
from bench.rows import Case, Row
from bench.servers import OURS, Kind

#: Number of views; the client is in the first one.
COUNTS = {"no views": 0, "five views": 5}


def _views(lab: Lab, count: int) -> tuple[str, ...]:
    """Options for a node with `count` views, each with a list of one name that no query is for."""
    words: list[str] = []
    for number in range(count):
        file = Path(lab.folder) / f"view-{number}.txt"
        file.write_text(f"ads{number}.example\n")
        words += ["--view", f'{{name="v{number}", clients=["127.0.{number}.0/24"], block=["{file}"]}}']
    return (*words, *(("--list-dir", str(lab.folder)) if words else ()))


def _cases(measure: Callable[[Lab, Sequence[str]], Figures]) -> Callable[[Sequence[Kind], bool], list[Case]]:
    def cases(kinds: Sequence[Kind], quick: bool) -> list[Case]:
        def way(count: int) -> Callable[[Lab, Kind], Figures]:
            return lambda lab, _: measure(lab, _views(lab, count))

        return [Case(label, OURS[0], way(count)) for label, count in COUNTS.items() if OURS[0] in kinds]

    return cases


VIEWS = [
    Row("views-hit", "hits, with and without five views", _cases(hits), grows=True),
    Row("views-miss", "misses, with and without five views", _cases(misses), grows=True),
]
