"""The rows of a siege: the attacks, and the bounds that have to hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import nan

from siege import forger, meddlers
from siege.meddlers import Meddler, Seen

Clients = dict[str, dict[str, float]]


@dataclass
class Found:
    """The results of one row for one server. Memory in MiB: before, at the peak, and some time after."""

    row: str
    text: str
    server: str
    quiet: Clients
    under: Clients
    memory: tuple[float, float, float]
    seen: Seen
    broken: list[str] = field(default_factory=list)


#: Returns what is wrong, if anything; the second argument says whether times count as well.
Judge = Callable[[Found, bool], Sequence[str]]


@dataclass(frozen=True)
class Row:
    name: str
    text: str
    #: An attack by a client and its number, or an attack by other means.
    attack: str = ""
    number: float = 0
    meddler: Meddler | None = None
    #: Whether unbound can be attacked in the same way.
    beside: bool = False
    #: Whether honest clients are measured only once the meddler is done.
    afterwards: bool = False
    judge: Judge = lambda found, timed: ()
    #: The shares of honest misses and hits that must be answered; MiB by which memory may grow, at the peak and after.
    misses: float = 0.99
    hits: float = 0.99
    peak: float = 96
    after: float = 64
    #: The reply of a hostile Redis to everything.
    redis: bytes = b""
    #: Further options of the node.
    options: Sequence[str] = ()


def _quick_misses(found: Found, timed: bool) -> Sequence[str]:
    """The median of misses is at most twice the quiet one."""
    quiet, now = found.quiet["misses"]["p50"], found.under["misses"]["p50"]
    return [f"p50 of misses {now:.1f} ms, quiet {quiet:.1f}"] if timed and now > 2 * quiet else ()


def _quick_hits(found: Found, timed: bool) -> Sequence[str]:
    worst = found.under["hits"]["worst"]
    return [f"a hit took {worst:.0f} ms"] if timed and worst > 20 else ()


def _steady_hits(found: Found, timed: bool) -> Sequence[str]:
    """L1 is not flushed all the time: then hits would be misses."""
    late = found.under["hits"]["p99"]
    return [f"p99 of hits {late:.0f} ms"] if timed and late > 10 else ()


def _at_least(what: str, of: str | float, share: float = 1.0) -> Judge:
    def judge(found: Found, timed: bool) -> Sequence[str]:
        wanted = (found.seen.get(of, nan) if isinstance(of, str) else of) * share
        number = found.seen.get(what, nan)
        return [f"{what}: {number:g} of {wanted:g}"] if not number >= wanted else ()

    return judge


def _at_most(what: str, most: float) -> Judge:
    def judge(found: Found, timed: bool) -> Sequence[str]:
        number = found.seen.get(what, nan)
        return [f"{what}: {number:g}"] if not number <= most else ()

    return judge


def _all(*judges: Judge) -> Judge:
    return lambda found, timed: [text for judge in judges for text in judge(found, timed)]


ROWS = (
    Row("slow-readers", "A1: 640 TCP connections ask 128 times for 60 KB and read nothing", "slow_readers", 640,
        beside=True, peak=96, after=32),
    Row("bursts-20", "A2: 20 TCP connections, 1,500 cached queries pipelined on each, again and again", "bursts", 20,
        beside=True, judge=_quick_hits, misses=0.95),
    Row("bursts-200", "A2: 200 of them", "bursts", 200, beside=True, judge=_quick_hits, misses=0.95),
    Row("slots", "A3: 2,100 TCP connections wait for silent names; 275 honest ones come", "slots", 2100, beside=True,
        meddler=meddlers.connect_honestly, judge=_at_least("answered over TCP", "asked over TCP", 0.99)),
    Row("silent-1000", "A4: 1,000 never-answered names/s from one client", "silent", 1000, beside=True,
        judge=_quick_misses),
    Row("silent-2000", "A4: 2,000/s", "silent", 2000, beside=True, judge=_quick_misses),
    Row("random-20000", "A4: 20,000/s of random names that do not exist, from one client", "nxdomain", 20_000,
        beside=True, misses=0.95),
    Row("pulse", "A5: 4,500 queries of one client for one slow name", "pulse", 4500, beside=True,
        judge=_all(_at_least("answered", 1), _at_most("answered", 2000))),
    Row("text", "A6: eight answers of 65 KB that are pointers to one long name", meddler=meddlers.long_texts,
        judge=_all(_at_least("answered", "asked"), _at_most("longest text", 5000), _at_most("evicted", 0))),
    Row("admin", "A7: the admin port: 128 half requests, look-ups of 7 KB and from other sites",
        meddler=meddlers.admin_port,
        judge=_all(_at_least("healthy", "asked"), _at_most("longest lookup", 0.5), _at_most("foreign", 0))),
    Row("noise", "A8: 20 MB of messages that are none, and odd datagrams", meddler=meddlers.noise,
        judge=_all(_at_most("log KB", 256), _steady_hits)),
    Row("forged-elsewhere", "A9: forged replies to slow questions, from who guesses port and ID", beside=True,
        meddler=forger.from_elsewhere, judge=_all(_at_most("accepted", 0), _at_least("forged", 10_000))),
    Row("forged-here", "A9: the same from the node's host, by who sees the ports and tries each ID", beside=True,
        meddler=forger.from_this_host, judge=_all(_at_most("accepted", 0), _at_least("forged", 1000))),
    Row("long-names", "B1: names of 24 KB in control events and among the hot ones", meddler=meddlers.long_names),
    Row("events", "B2: 100,000 control events, one of 40 MB, and a lost connection", meddler=meddlers.many_events,
        judge=_at_least("stored", 1)),
    Row("claims", "B3: claims held by nobody, renewed for ever", meddler=meddlers.held_claims,
        judge=_at_least("answered", "asked")),
    Row("array", "B4: a Redis that announces an array of 2,000,000,000", redis=b"*2000000000\r\n"),
    Row("push", "B4: the same of a push message", redis=b">2000000000\r\n"),
    Row("values", "B5: times, escapes and figures from Redis", meddler=meddlers.odd_values,
        judge=_all(_at_most("ttl", 86400), _at_least("ttl", 0), _at_most("status", 0), _at_most("escapes", 0))),
    Row("orders", "B6: 1,000 orders to reload, from who may write to Redis; the supervisor is killed, and 20 more come",
        meddler=meddlers.orders, options=("--linger", "4"),
        judge=_all(_at_least("obeyed", 1), _at_most("obeyed", 10), _at_least("orphans", 1), _at_most("signals", 0))),
    Row("hang", "C1: a worker hangs", meddler=meddlers.hang_worker, afterwards=True,
        judge=_all(_at_most("replaced after s", 12), _at_least("replaced after s", 0))),
)  # fmt: skip


def judged(row: Row, found: Found, timed: bool) -> list[str]:
    """Every bound that does not hold."""
    broken = []
    for kind, share in (("hits", row.hits), ("misses", row.misses)):
        told = found.under[kind]
        if told["answered"] < share * told["asked"]:
            broken.append(f"{told['answered']:g} of {told['asked']:g} {kind}")
    before, peak, after = found.memory
    if peak > before + row.peak:
        broken.append(f"memory rose by {peak - before:.0f} MiB")
    if after > before + row.after:
        broken.append(f"{after - before:.0f} MiB are not given back")
    return [*broken, *row.judge(found, timed)]


def nothing(row: Row, server: str) -> Found:
    """The results if it failed before anything was measured."""
    told = {"asked": 0.0, "answered": 0.0, "p50": 0.0, "p99": 0.0, "worst": 0.0}
    clients = {"hits": told, "misses": told}
    return Found(row.name, row.text, server, clients, clients, (0.0, 0.0, 0.0), {})


HEADS = ("what is done", "server", "hits", "p50 / p99 / worst ms", "misses", "the same", "quiet: hits, misses p50 ms",
         "MiB before / peak / after", "also", "holds")  # fmt: skip


def table(found: Sequence[Found]) -> str:
    """The results as a table in Markdown."""
    lines = [HEADS, tuple("---" for _ in HEADS)]
    for each in found:
        cells = [each.text, each.server]
        for kind in ("hits", "misses"):
            told = each.under[kind]
            cells.append(f"{100 * told['answered'] / max(told['asked'], 1):.1f} %")
            cells.append(f"{told['p50']:.1f} / {told['p99']:.1f} / {told['worst']:.0f}")
        cells.append(f"{each.quiet['hits']['p50']:.1f}, {each.quiet['misses']['p50']:.1f}")
        cells.append(" / ".join(f"{size:.0f}" for size in each.memory))
        cells.append(", ".join(f"{what} {number:g}" for what, number in each.seen.items()))
        cells.append("; ".join(each.broken) or "yes")
        lines.append(tuple(cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
