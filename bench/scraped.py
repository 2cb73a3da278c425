"""What it costs to be watched: hits without the admin port, with it, and with /metrics read every second."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bench import load
from bench.lab import Figures, Lab
from bench.rows import Case, Row
from bench.servers import OURS, Kind
from bench.system import free_port
from bench.tools import counters

PERIOD = 1.0  # seconds; Prometheus asks every 15 s or so


@contextmanager
def _scraping(admin: int) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(PERIOD):
            counters(admin)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _alone(admin: int) -> Iterator[None]:
    yield


def measure(lab: Lab, kind: Kind, admin: bool, scraped: bool) -> Figures:
    names, port = load.hot_names(), free_port()
    args = ("--admin", f"127.0.0.1:{port}") if admin else ()
    with lab.run(kind, *args) as server:
        lab.warm(server, names)
        with (_scraping if scraped else _alone)(port):
            return lab.cost(server, lab.write(load.shuffled(names)), seconds=lab.scale.seconds)


def _cases(kinds: Sequence[Kind], _: bool) -> list[Case]:
    ways = (("no admin port", False, False), ("admin port", True, False), ("/metrics every second", True, True))
    return [
        Case(
            label if kind is OURS[0] else f"{label} ({kind.name})", kind, partial(measure, admin=admin, scraped=scraped)
        )
        for kind in kinds
        if kind in OURS
        for label, admin, scraped in ways
    ]


SCRAPED = Row("scraped", "hits, with and without somebody who reads /metrics", _cases, grows=True)
