"""The cost of metrics, access rules and UDP_SEGMENT: hits with and without them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bench import load
from bench.lab import Figures, Lab
from bench.rows import Case, Row
from bench.servers import OURS, Kind
from bench.system import free_port
from bench.tools import counters

PERIOD = 1.0  # seconds; Prometheus usually scrapes every 15 s
WATCHED = {"no admin port": (False, False), "admin port": (True, False), "/metrics every second": (True, True)}
CAREFUL = {
    "everybody may ask": ("--allow", "any"),
    "private clients only": (),
    "and a rate limit": ("--rate-limit", "1000000", "--rate-limit-exempt", "192.0.2.1"),
}
SEGMENTS = {"replies one by one": ("--udp-segments", "no"), "replies to a client together": ()}


@contextmanager
def _scraping(admin: int, scraped: bool) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        while scraped and not over.wait(PERIOD):
            counters(admin)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure(lab: Lab, kind: Kind, args: Sequence[str], scraped: bool = False) -> Figures:
    names, port = load.hot_names(), free_port()
    args = [arg.replace("ADMIN", str(port)) for arg in args]
    with lab.run(kind, *args) as server:
        lab.warm(server, names)
        with _scraping(port, scraped):
            return lab.cost(server, lab.write(load.shuffled(names)), seconds=lab.scale.seconds)


def _watched(kinds: Sequence[Kind], _: bool) -> list[Case]:
    def way(admin: bool, scraped: bool) -> Callable[[Lab, Kind], Figures]:
        return lambda lab, kind: measure(lab, kind, ("--admin", "127.0.0.1:ADMIN") if admin else (), scraped)

    return [Case(label, OURS[0], way(*how)) for label, how in WATCHED.items() if OURS[0] in kinds]


def _with_options(options: Mapping[str, Sequence[str]]) -> Callable[[Sequence[Kind], bool], list[Case]]:
    def way(args: Sequence[str]) -> Callable[[Lab, Kind], Figures]:
        return lambda lab, kind: measure(lab, kind, args)

    def cases(kinds: Sequence[Kind], _: bool) -> list[Case]:
        return [Case(label, OURS[0], way(args)) for label, args in options.items() if OURS[0] in kinds]

    return cases


EXTRAS = [
    Row("watched", "hits, with and without a scraper of /metrics", _watched, grows=True),
    Row("careful", "hits, with and without access rules and rate limit", _with_options(CAREFUL), grows=True),
    Row("segments", "hits, with and without UDP_SEGMENT", _with_options(SEGMENTS), grows=True),
]
