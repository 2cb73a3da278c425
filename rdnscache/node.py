"""The only place where a worker is put together. If you wonder who made an object, it was made here."""

from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()  # redis-py and the socket module cooperate from here on; before they are imported

import gc  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from rdnscache import __version__, metrics  # noqa: E402
from rdnscache.cache import Cache  # noqa: E402
from rdnscache.config import Config  # noqa: E402
from rdnscache.dns.policy import Identity, Limits  # noqa: E402
from rdnscache.flights import Flights  # noqa: E402
from rdnscache.report import Report  # noqa: E402
from rdnscache.resolver import LEASE_MARGIN, Resolver  # noqa: E402
from rdnscache.server.admin import Admin  # noqa: E402
from rdnscache.server.desk import Desk  # noqa: E402
from rdnscache.server.tcp import TcpListener  # noqa: E402
from rdnscache.server.udp import UdpListener  # noqa: E402
from rdnscache.store.contract import BEAT  # noqa: E402
from rdnscache.store.scope import Scope  # noqa: E402
from rdnscache.store.store import NoStore, Store  # noqa: E402
from rdnscache.supervisor import Inherited  # noqa: E402
from rdnscache.upstream.servers import Upstreams  # noqa: E402
from rdnscache.upstream.siblings import Siblings  # noqa: E402

log = logging.getLogger(__name__)

#: Entries looked at before others get their turn, in a flush.
SWEEP_STEP = 1000
#: Seconds for which nobody is answered at most, while missed events are learnt; longer, and Redis is in trouble again.
LONGEST_HOLD = 0.05
#: Seconds between two looks at the gauges, and at what is still in flight while draining.
GAUGE_INTERVAL, DRAIN_STEP = 1.0, 0.02
#: Entries and flights make no cycles, so the collector finds next to nothing; left alone it takes a tenth of each miss,
#: and hits wait for it in a flood.
GC_THRESHOLD = (100_000, 100, 1000)


class Node:
    """One worker's objects and their life."""

    def __init__(self, config: Config, inherited: Inherited) -> None:
        worker, board, redis_url = inherited.worker, inherited.board, inherited.redis_url
        self.config = config
        self.worker = worker
        self._hold = gevent.get_hub().loop.timer(LONGEST_HOLD)
        self.counters = counters = board.row(worker)
        self.cache = Cache(config.l1_entries, config.l1_memory)
        lease = config.upstream_deadline + LEASE_MARGIN
        self.store: NoStore = NoStore()
        if redis_url is not None:
            self.store = Store(
                redis_url, config.prefix, config.node_id, worker, lease, config.redis_timeout, self, counters
            )
        limits = Limits(
            config.ttl_min, config.ttl_max, config.negative_ttl_max, config.failure_ttl, config.stale_window
        )
        self._report = Report(config, worker)
        times = config.upstream_timeout, config.upstream_deadline
        self.upstreams = upstreams = Upstreams(config.upstream, *times, counters)
        self.siblings = siblings = Siblings(worker, inherited.siblings, config.upstream_deadline)
        self.resolver = Resolver(self.cache, self.store, upstreams, siblings, limits, lease + 1.0, counters)
        self.flights = Flights(self.resolver.fly, self.resolver.give_up, config.max_flights, config.max_waiting)
        self.resolver.flights = self.flights
        identity = Identity(f"rdnscache {__version__}", config.node_id) if config.identity else Identity()
        desk = Desk(self.cache, self.flights, identity, counters)
        self.udp = [
            UdpListener(sock, address.wildcard, desk)
            for sock, address in zip(inherited.slot.udp, config.listen, strict=True)
        ]
        bounds = (config.tcp_idle, config.tcp_connections)
        self.tcp = [TcpListener(sock, desk, *bounds) for sock in inherited.slot.tcp]
        self.outer: list[UdpListener | TcpListener] = [*self.udp, *self.tcp]
        #: Where the node's other workers ask; these serve until we exit.
        self.inner: list[UdpListener | TcpListener] = [
            *(UdpListener(sock, False, desk, inner=True) for sock in inherited.inner.udp),
            *(TcpListener(sock, desk, *bounds) for sock in inherited.inner.tcp),
        ]
        self.flights.drains = [listener.drain for listener in self.udp]
        self.admin = Admin(inherited.admin, board) if inherited.admin is not None else None
        self._stopping = Event()

    def begin_flush(self) -> None:
        self.resolver.flushes += 1

    def sweep(self, scope: Scope, at_once: bool) -> int:
        if scope.everything:
            return self.cache.clear()
        count = 0
        for number, key in enumerate(self.cache.keys(scope.name or b""), 1):
            entry = self.cache.peek(key)
            if entry is not None and scope.holds(key, entry.rcode):
                self.cache.drop(key)
                count += 1
            if number % SWEEP_STEP == 0 and not at_once:
                gevent.sleep(0)
        return count

    def hold(self) -> None:
        self._hold.start(self.release)
        for listener in (*self.outer, *self.inner):
            listener.hold()

    def release(self) -> None:
        self._hold.stop()
        for listener in (*self.outer, *self.inner):
            listener.release()

    def introduce(self) -> None:
        self.store.beat(self._report.of(self.counters, self.store, self.upstreams))

    def reload(self) -> None:
        if self.worker == 0:
            os.kill(os.getppid(), signal.SIGHUP)

    def run(self, ready: int) -> int:
        """Serve until SIGTERM, then finish what is in flight. `ready` is written to when serving has begun."""
        gevent.signal_handler(signal.SIGTERM, self._stopping.set)
        gc.freeze()  # what lives as long as we do need not be looked at again
        gc.set_threshold(*GC_THRESHOLD)
        self.store.start()
        for listener in (*self.outer, *self.inner):
            listener.start()
        if self.admin is not None:
            self.admin.start()
        os.write(ready, b"1")
        os.close(ready)
        next_beat = 0.0
        while not self._stopping.wait(GAUGE_INTERVAL):
            self._measure()
            if time.monotonic() >= next_beat:
                self.introduce()
                next_beat = time.monotonic() + BEAT - GAUGE_INTERVAL / 2
        self._drain()
        return 0

    def _measure(self) -> None:
        counters = self.counters
        counters[metrics.REDIS_ATTACHED] = int(self.store.attached)
        counters[metrics.L1_ENTRIES] = len(self.cache)
        counters[metrics.L1_BYTES] = self.cache.size
        counters[metrics.L1_EVICTIONS] = self.cache.evictions

    def _drain(self) -> None:
        """Read no more; wait for flights and open connections, for so long; then close the link."""
        if self.admin is not None:
            self.admin.draining = True
        self.siblings.ending = True
        for listener in self.outer:
            listener.stop()
        deadline = time.monotonic() + self.config.drain
        while (len(self.flights) or any(map(len, self.tcp))) and time.monotonic() < deadline:
            gevent.sleep(DRAIN_STEP)
        self.store.leave()
        self.store.close()
        for gauge in (metrics.REDIS_ATTACHED, metrics.L1_ENTRIES, metrics.L1_BYTES):
            self.counters[gauge] = 0


def run_worker(config: Config, inherited: Inherited, ready: int) -> int:
    """A worker's whole life, in its own process; returns its exit code."""
    return Node(config, inherited).run(ready)
