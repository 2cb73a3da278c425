"""Counters shared by a node's workers: one row of 64-bit numbers for each, in memory mapped before the fork.

A worker writes only its own row, so no lock is needed, and the numbers of a dead worker stay. The supervisor adds to it
how often it has replaced the worker.

Next to its row, a worker stores its last report, for the process that serves the admin port.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from rdnscache.outcomes import (
    FLIGHT,
    FULL,
    GREEDY,
    LAYERS,
    LOCAL,
    REPEATED,
    SHED_CLIENT,
    SHED_FULL,
    SHED_REASONS,
    Ending,
)
from rdnscache.query_sample import QueryRing
from rdnscache.shared import Doubles, SharedText, doubles
from rdnscache.tally import count

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
#: Upper bounds of a histogram's buckets, in seconds. In a row they are followed by a bucket for all larger values, and
#: by the sum in nanoseconds.
BOUNDS = (25e-6, 1e-4, 25e-5, 5e-4, 1e-3, 25e-4, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BUCKETS, _SUM = len(BOUNDS), len(BOUNDS) + 1
_BOUNDS = array("d", BOUNDS)
#: Number of RCODEs counted separately in `replies`; the last one stands for all others.
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other")
OTHER_RCODE = _OTHER_RCODE = len(RCODES) - 1
#: Number of upstreams that are counted separately; any further ones share the last place.
SERVER_ROOM = 32
#: Numbers about each upstream that all workers of a node read and write: its state, as far as they know.
SERVER_NUMBERS = 32
OTHER_SERVERS = "other"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One exposed number or histogram: a metric name without prefix, what it means, its labels."""

    name: str
    help: str
    labels: Labels = ()
    kind: str = COUNTER

    @property
    def key(self) -> str:
        """A unique name for each number."""
        return ".".join((self.name, *(value for _, value in self.labels)))

    @property
    def width(self) -> int:
        """Columns of a row."""
        return _SUM + 1 if self.kind == HISTOGRAM else 1


def _each(name: str, text: str, label: str, values: Iterable[str], kind: str = COUNTER) -> list[Metric]:
    return [Metric(name, text, ((label, value),), kind) for value in values]


_REPLIES = "Replies sent, by transport and RCODE."
METRICS: tuple[Metric, ...] = (
    *_each("queries", "Queries received.", "transport", ("udp", "tcp")),
    *(Metric("replies", _REPLIES, (("transport", "udp"), ("rcode", rcode))) for rcode in RCODES),
    *(Metric("replies", _REPLIES, (("transport", "tcp"), ("rcode", rcode))) for rcode in RCODES),
    *_each("answers", "Replies sent, by the layer that had the answer.", "layer", LAYERS),
    *_each(
        "answer_seconds",
        "Time from reading a query to sending its reply, by layer; of several that share a flight, only the first.",
        "layer",
        (text for layer, text in enumerate(LAYERS) if layer not in (FLIGHT, LOCAL)),
        HISTOGRAM,
    ),
    *_each(
        "upstream_queries_saved",
        "Flights that ended with an answer that another worker of this node, or another node, had asked for.",
        "asked_by",
        ("own_node", "other_node"),
    ),
    Metric("queries_dropped", "Datagrams left unanswered: too short, replies, or from port 0."),
    Metric("queries_repeated", "Datagrams repeated while their query is waiting: it gets one reply."),
    Metric("queries_denied", "Queries refused because their client is not allowed."),
    *_each("queries_limited", "UDP queries over the rate limit of their client.", "action", ("dropped", "truncated")),
    *_each("queries_policed", "Queries without an answer by policy.", "action", ("dropped", "truncated")),
    Metric("proxy_errors", "Queries with a broken or missing PROXY header, or from who may not send one."),
    *_each(
        "queries_shed",
        "Queries shed: too many waiting, in all or of one client; given up after a long wait, or for others.",
        "reason",
        SHED_REASONS,
    ),
    Metric("redis_commands", "Commands sent to Redis."),
    Metric("redis_errors", "Commands that Redis refused or did not answer in time."),
    Metric("redis_late", "Reads and claims not answered in time: an upstream was asked in parallel."),
    Metric(
        "redis_breaker_open",
        "Workers that do not use Redis at the moment: it fails, or is slower than an upstream.",
        kind=GAUGE,
    ),
    Metric("redis_breaker_opened", "How often a worker stopped using Redis for a while."),
    Metric("redis_detachments", "How often a link to Redis was closed because of an error."),
    Metric("redis_attached", "Workers whose link to Redis is up.", kind=GAUGE),
    Metric("redis_seconds", "Time Redis took for the reads and claims of flights.", kind=HISTOGRAM),
    Metric("store_discards", "Values in Redis that could not be used and were deleted."),
    Metric("store_forged", "Values and wake-ups from Redis without a valid signature of ours, or replayed."),
    Metric("wakes_sent", "Workers woken by this node's fills."),
    Metric("wakes_received", "Followers woken by a message."),
    Metric("wakes_lost", "Followers that found the answer by polling: the message was lost or late."),
    Metric("rechecks", "Followers that polled Redis because no message came."),
    Metric("events_missed", "Control events read later, because the link was down when they were sent."),
    Metric(
        "flushes_unconfirmed",
        "Flushes and orders that not all workers confirmed in time; one worker of the cluster counts each.",
    ),
    Metric("prefetches", "Entries refreshed before they expired."),
    Metric("l1_entries", "Entries in L1.", kind=GAUGE),
    Metric("l1_bytes", "Bytes held by L1.", kind=GAUGE),
    Metric("l1_evictions", "Entries pushed out of L1."),
    Metric("flights", "Questions being resolved.", kind=GAUGE),
    Metric("clients_waiting", "Clients waiting on flights.", kind=GAUGE),
    Metric("warm", "Workers that have loaded the hottest names, or stopped trying.", kind=GAUGE),
    *_each(
        "workers_replaced",
        "Workers that died, or were ended because they hung, and were started again.",
        "reason",
        ("died", "hung"),
    ),
    Metric(
        "upstream_local_errors",
        "Upstream queries this host could not send: no descriptor, memory, port, route or permission, or too many.",
    ),
    Metric("callback_errors", "Unexpected errors caught at the edge of a callback; each is in the log."),
)
#: Metrics of each upstream, with a label for its address.
SERVER_METRICS: tuple[Metric, ...] = (
    Metric("upstream_queries", "Queries sent to upstreams."),
    Metric("upstream_failures", "Upstream queries without a usable reply."),
    Metric(
        "upstream_near_misses",
        "Upstream queries repeated over TCP because of datagrams that nearly matched, or of many that did not.",
    ),
    Metric("upstream_seconds", "Time upstreams took to reply.", kind=HISTOGRAM),
    Metric("upstream_connections", "Connections to upstreams that are open.", kind=GAUGE),
    Metric("upstream_connections_opened", "Connections to upstreams that were opened."),
    Metric("upstream_resting", "Workers that prefer other upstreams because this one fails.", kind=GAUGE),
    Metric("upstream_budget_granted", "Queries that the budget of an upstream allowed."),
    Metric("upstream_budget_waited", "Queries that waited for the budget of an upstream."),
    Metric("upstream_budget_refused", "Queries not sent because the budget was used up: too many waited, or too long."),
)
#: Metrics of an upstream with a budget; they are the same in all workers of the cluster, so they are not added up.
BUDGET_METRICS: tuple[Metric, ...] = (
    Metric("upstream_budget", "Queries a second that the cluster may send to an upstream.", kind=GAUGE),
    Metric("upstream_budget_used", "Queries that the budget allowed in the last second.", kind=GAUGE),
    Metric("upstream_budget_reserved", "Part of a budget reserved for workers that may be cut off.", kind=GAUGE),
)
#: Metrics of a node's own certificates.
CERTIFICATE_EXPIRY = Metric(
    "certificate_expiry_timestamp_seconds",
    "When a certificate expires that the node presents to upstreams or Redis, as read at the start.",
    kind=GAUGE,
)
#: Where the numbers of the budget begin among those of an upstream: these three, then others.
BUDGET_NUMBERS = 28


def _columns(metrics: Iterable[Metric], start: int) -> list[int]:
    found = []
    for metric in metrics:
        found.append(start)
        start += metric.width
    return [*found, start]


_STARTS = _columns(METRICS, 0)
_BLOCK = _columns(SERVER_METRICS, 0)
_WIDTH = _STARTS[-1] + SERVER_ROOM * _BLOCK[-1]
#: The column of each metric of METRICS.
COLUMN = {metric.key: start for metric, start in zip(METRICS, _STARTS[:-1], strict=True)}

QUERIES_UDP, QUERIES_TCP = COLUMN["queries.udp"], COLUMN["queries.tcp"]
#: The first of seven: add the RCODE, or OTHER_RCODE.
REPLIES_UDP, REPLIES_TCP = COLUMN["replies.udp.NOERROR"], COLUMN["replies.tcp.NOERROR"]
#: The first of eight: add the layer.
ANSWERS = COLUMN["answers.l1"]
#: The histogram of each layer; -1 for a layer without one.
SECONDS_OF = tuple(COLUMN.get(f"answer_seconds.{layer}", -1) for layer in LAYERS)
L1_SECONDS = COLUMN["answer_seconds.l1"]
#: For each bucket, its columns in the histograms of all layers.
SECONDS_COLUMNS = tuple(tuple(first + place for first in SECONDS_OF if first >= 0) for place in range(_SUM))
SAVED_BY_OWN, SAVED_BY_OTHER = COLUMN["upstream_queries_saved.own_node"], COLUMN["upstream_queries_saved.other_node"]
DROPPED = COLUMN["queries_dropped"]
#: The first of four: add the reason.
SHED = COLUMN["queries_shed.full"]
#: Queries that could not join a flight, by the outcome of joining.
NOT_JOINED = {REPEATED: COLUMN["queries_repeated"], GREEDY: SHED + SHED_CLIENT, FULL: SHED + SHED_FULL}
DENIED, PROXY_ERRORS = COLUMN["queries_denied"], COLUMN["proxy_errors"]
LIMITED_DROPPED, LIMITED_TRUNCATED = COLUMN["queries_limited.dropped"], COLUMN["queries_limited.truncated"]
POLICY_DROPPED, POLICY_TRUNCATED = COLUMN["queries_policed.dropped"], COLUMN["queries_policed.truncated"]
REDIS_COMMANDS, REDIS_ERRORS = COLUMN["redis_commands"], COLUMN["redis_errors"]
REDIS_LATE, PREFETCHES = COLUMN["redis_late"], COLUMN["prefetches"]
BREAKER_OPEN, BREAKER_OPENED = COLUMN["redis_breaker_open"], COLUMN["redis_breaker_opened"]
REDIS_DETACHMENTS, REDIS_ATTACHED = COLUMN["redis_detachments"], COLUMN["redis_attached"]
REDIS_SECONDS, DISCARDS, FORGED = COLUMN["redis_seconds"], COLUMN["store_discards"], COLUMN["store_forged"]
WAKES_SENT, WAKES, WAKES_LOST = COLUMN["wakes_sent"], COLUMN["wakes_received"], COLUMN["wakes_lost"]
#: Followers, by how they got their answer.
FOLLOWED = {Ending.WOKEN: WAKES, Ending.SEEN: WAKES_LOST}
RECHECKS, EVENTS_MISSED = COLUMN["rechecks"], COLUMN["events_missed"]
FLUSHES_UNCONFIRMED = COLUMN["flushes_unconfirmed"]
L1_ENTRIES, L1_BYTES, L1_EVICTIONS = COLUMN["l1_entries"], COLUMN["l1_bytes"], COLUMN["l1_evictions"]
FLIGHTS_UP, WAITING, WARM = COLUMN["flights"], COLUMN["clients_waiting"], COLUMN["warm"]
REPLACED_DIED, REPLACED_HUNG = COLUMN["workers_replaced.died"], COLUMN["workers_replaced.hung"]
UPSTREAM_LOCAL_ERRORS, CALLBACK_ERRORS = COLUMN["upstream_local_errors"], COLUMN["callback_errors"]
#: Inside an upstream's block.
SERVER_QUERIES, SERVER_FAILURES, SERVER_NEAR_MISSES, SERVER_SECONDS = _BLOCK[:4]
SERVER_CONNECTIONS, SERVER_OPENINGS, SERVER_RESTING = _BLOCK[4:7]
SERVER_BUDGET_GRANTED, SERVER_BUDGET_WAITED, SERVER_BUDGET_REFUSED = _BLOCK[7:-1]

Counters = memoryview


def count_reply(counters: Counters, first: int, rcode: int) -> None:
    """A reply with an RCODE, over the transport whose `first` column is given."""
    count(counters, first + (rcode if rcode < _OTHER_RCODE else _OTHER_RCODE), 1)


def observe(counters: Counters, histogram: int, seconds: float, events: int) -> None:
    """Add `events` that took `seconds` each."""
    place = 0
    while place < _BUCKETS and seconds > _BOUNDS[place]:
        place += 1
    count(counters, histogram + place, events)
    count(counters, histogram + _SUM, int(seconds * 1e9) * events)


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of a metric for the whole node; of a histogram the sum in seconds, and counts up to each bound."""

    metric: Metric
    labels: Labels
    value: float
    buckets: tuple[int, ...] = ()


class Board:
    """All rows of a node; created by the supervisor, inherited by the workers."""

    def __init__(self, workers: int) -> None:
        self._rows = memoryview(mmap.mmap(-1, workers * _WIDTH * 8)).cast("B").cast("Q")
        self._reports = [SharedText() for _ in range(workers)]
        self._hours = [SharedText() for _ in range(workers)]
        self._order = SharedText()
        #: The latest sampled queries of each worker.
        self.rings = [QueryRing() for _ in range(workers)]
        #: The place of each upstream, including ones no longer used; and those in use.
        self._servers: list[str] = []
        self._numbers = memoryview(mmap.mmap(-1, SERVER_ROOM * SERVER_NUMBERS * 8)).cast("B").cast("d")
        self._in_use: list[str] = []
        self.workers = workers

    def row(self, worker: int) -> Counters:
        return self._rows[worker * _WIDTH : (worker + 1) * _WIDTH]

    @staticmethod
    def scrap() -> Counters:
        """A row that is never read."""
        return memoryview(bytearray(_WIDTH * 8)).cast("Q")

    def make_room(self, servers: Iterable[str]) -> None:
        """Assign a place to each upstream, and hide all others. Called before the workers that count there are forked.

        Workers with the previous configuration may still count: only upstreams that were already gone in it are
        replaced.
        """
        wanted = list(dict.fromkeys(servers))
        free = [place for place, server in enumerate(self._servers) if server not in (*self._in_use, *wanted)]
        for server in wanted:
            if server in self._servers:
                continue
            if free:
                place = free.pop(0)
                self._servers[place] = server
                self._clear(server)
            elif len(self._servers) < SERVER_ROOM - 1:
                self._servers.append(server)
        self._in_use = wanted

    def _clear(self, server: str) -> None:
        """An upstream's numbers begin at 0."""
        block = self.block(server)
        for worker in range(self.workers):
            for column in range(block, block + _BLOCK[-1]):
                self._rows[worker * _WIDTH + column] = 0
        numbers = self.numbers(server)
        if numbers is not None:
            numbers[:] = doubles(SERVER_NUMBERS)

    def block(self, server: str) -> int:
        """The column where an upstream's numbers begin."""
        place = self._servers.index(server) if server in self._servers else SERVER_ROOM - 1
        return _STARTS[-1] + place * _BLOCK[-1]

    def numbers(self, server: str) -> Doubles | None:
        """The numbers of an upstream that all workers write; None when there are more upstreams than places."""
        if server not in self._servers:
            return None
        place = self._servers.index(server)
        return self._numbers[place * SERVER_NUMBERS : (place + 1) * SERVER_NUMBERS]

    def count(self, column: int) -> int:
        """The sum over all workers."""
        return sum(self._rows[column::_WIDTH].tolist())

    def samples(self) -> list[Sample]:
        """All metrics, over all workers."""
        totals = [
            sum(column) for column in zip(*(self.row(each).tolist() for each in range(self.workers)), strict=True)
        ]
        found = [_sample(metric, metric.labels, totals, COLUMN[metric.key]) for metric in METRICS]
        servers = [server for server in self._in_use if server in self._servers]
        if any(totals[self.block(OTHER_SERVERS) :]):
            servers = [*servers, OTHER_SERVERS]
        for metric, offset in zip(SERVER_METRICS, _BLOCK[:-1], strict=True):
            for server in servers:
                found.append(_sample(metric, (("upstream", server),), totals, self.block(server) + offset))
        return found + self._budgets()

    def _budgets(self) -> list[Sample]:
        numbers = {server: told for server in self._in_use if (told := self.numbers(server)) and told[BUDGET_NUMBERS]}
        return [
            Sample(metric, (("upstream", server),), round(told[BUDGET_NUMBERS + place], 3))
            for place, metric in enumerate(BUDGET_METRICS)
            for server, told in numbers.items()
        ]

    def tell(self, worker: int, report: bytes) -> None:
        """Store a worker's report, in place of its previous one."""
        self._reports[worker].write(report)

    def tell_hour(self, worker: int, told: bytes) -> None:
        """Store a worker's counts of each minute of the last hour."""
        self._hours[worker].write(told)

    def hours(self) -> list[bytes]:
        """Those counts of every worker; empty for one without any."""
        return [each.read() for each in self._hours]

    def tell_order(self, told: bytes) -> None:
        """Store the result of the supervisor's last order."""
        self._order.write(told)

    def order(self) -> bytes:
        """The result of the supervisor's last order; empty when there has been none."""
        return self._order.read()

    def told(self) -> list[bytes]:
        """The last report of every worker; empty for one without any."""
        return [report.read() for report in self._reports]


def _sample(metric: Metric, labels: Labels, totals: list[int], at: int) -> Sample:
    if metric.kind == HISTOGRAM:
        return Sample(metric, labels, totals[at + _SUM] / 1e9, tuple(totals[at : at + _SUM]))
    return Sample(metric, labels, totals[at])
