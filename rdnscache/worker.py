"""The only place where a worker is put together: whatever object you wonder about was created here."""

from __future__ import annotations

import gc
import json
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from rdnscache import __version__, clock, metrics
from rdnscache.aliases import Aliases
from rdnscache.assembly import Chores, make_deciders, make_guards, make_rulebook
from rdnscache.audience import Audience
from rdnscache.cache import Cache
from rdnscache.client_rules import ClientRules
from rdnscache.clients.guard import our_own_workers
from rdnscache.config import Config
from rdnscache.departure import Departure
from rdnscache.dns.policy import Identity
from rdnscache.dns.wire import SERVFAIL
from rdnscache.endpoint import Endpoint
from rdnscache.flights import Flights
from rdnscache.group_policies import GroupPolicies
from rdnscache.hour import HourKeeper
from rdnscache.limited import LimitReport
from rdnscache.logs import log_uncaught
from rdnscache.node.children import SUCCEEDED
from rdnscache.node.inherited import Inherited
from rdnscache.node.lifeline import AT_WORK, Lifeline
from rdnscache.notified import make_notified
from rdnscache.query_log import QueryLog
from rdnscache.rates import UNLIMITED
from rdnscache.resolution import Sources, Terms
from rdnscache.resolver import LEASE_MARGIN, Resolver
from rdnscache.routing import make_routes, make_subnets, make_terms, make_views
from rdnscache.server.answering import Answering
from rdnscache.server.pool import Pool
from rdnscache.server.tcp import TcpListener
from rdnscache.server.udp import UdpListener
from rdnscache.store.contract import BEAT
from rdnscache.store.heat import INTERVAL as HEAT_INTERVAL
from rdnscache.store.interface import NullStore, Store
from rdnscache.store.redis_store import RedisStore, StoreSettings
from rdnscache.store.scope import Scope
from rdnscache.store.seal import Seal
from rdnscache.store.steering import WorkerId
from rdnscache.sweeper import Late, Sweeper
from rdnscache.upstream.application import Terms as BudgetTerms
from rdnscache.upstream.budget import Budget
from rdnscache.upstream.siblings import Siblings
from rdnscache.worker_status import WorkerStatus, held_of

if TYPE_CHECKING:
    from rdnscache.admin.server import Admin

log = logging.getLogger(__name__)

#: Longest pause of answering while missed events are read, in seconds; if that takes longer, Redis has failed again.
LONGEST_HOLD = 0.05
#: Longest wait for Redis at the start, in seconds: without it, queries queued meanwhile would all go to upstreams.
FIRST_HOLD = 0.25
#: Seconds between updates of the gauges, and between checks of what is still in flight while draining.
GAUGE_INTERVAL, DRAIN_STEP = 1.0, 0.02
#: Seconds between two beats of the hub, and between checks for new lists.
BEAT_INTERVAL = 0.25
#: Seconds between checks for Redis at the start.
ATTACH_LOOK = 0.02
#: Thresholds of the garbage collector: entries and flights form no cycles, and with Python's defaults it takes a tenth
#: of each miss and delays hits in a flood. Collecting this many new objects takes 2 ms; older ones are rare.
GC_THRESHOLD = (10_000, 1000, 1000)


class Worker:
    """The objects of one worker, and its life."""

    def __init__(self, config: Config, inherited: Inherited, line: Lifeline, policies: GroupPolicies) -> None:
        self.config = config
        self._line = line
        self._departure = departure = Departure()
        self._beats = gevent.get_hub().loop.timer(0, BEAT_INTERVAL)
        self.worker = worker = inherited.worker
        self.board = board = inherited.board
        self.counters = counters = board.row(worker)
        self.cache = Cache(config.l1_entries, config.l1_memory)
        self._sweeper = Sweeper(self.cache)
        audience = Audience(config.admin_clients, time.monotonic())
        sample = board.rings[worker]
        self.query_log = query_log = QueryLog(config.log_queries, config.admin_sample, sample, audience)
        self._status = WorkerStatus(config, worker, counters, inherited.incarnation, departure)
        seal = Seal(config.secret) if config.secret else None
        self.rulebook = make_rulebook(config, inherited, policies, seal)
        self._changing = BoundedSemaphore()
        self.store: Store = NullStore()
        if inherited.redis_url is not None:
            settings = StoreSettings(
                inherited.redis_url,
                config.prefix,
                WorkerId(config.node_id, inherited.incarnation.name, worker),
                inherited.incarnation,
                config.longest_deadline + LEASE_MARGIN,
                config.redis_timeout,
                config.redis_budget,
                make_terms(config),
                seal,
            )
            self.store = RedisStore(settings, self, Chores(settings.url, settings.prefix), counters)
        self._hour = HourKeeper(board, worker, self.store)
        self._deciders = make_deciders(self.rulebook, policies, self.cache, config.node_id)
        self.views = make_views(config, self._deciders, policies.exempt, self.cache)
        self.routes = make_routes(config, board, counters, self._make_budget)
        self.siblings = Siblings(worker, inherited.siblings, config.longest_deadline, departure)
        self.resolver = self._make_resolver()
        self.flights = Flights(self.resolver, config.max_flights, config.max_waiting, config.max_client_waiting)
        self.resolver.flights = self.flights
        identity = Identity(f"rdnscache {__version__}", config.node_id) if config.identity else Identity()
        trace = f"{config.node_id}.{worker}" if config.trace else ""
        self.answering = Answering(
            self.cache, self.flights, identity, query_log, trace, config.prefetch, counters, departure
        )
        self.answering.rotates = config.rotate == "id"
        self.answering.subnets = make_subnets(config)
        self.answering.notified = make_notified(config, self.rulebook.shelf)
        self._client_rules = ClientRules(self._deciders, policies.exempt, self.flights, self.answering)
        if self.views is not None:
            self.answering.views, self.answering.marks = self.views, self.views.marks
            query_log.views = self.views.names if config.view else ()
        self.guards = make_guards(config)
        self.udp, self.tcp, self.inner = self._make_listeners(inherited)
        #: The servers that clients reach.
        self.outer: list[UdpListener | TcpListener] = [*self.udp, *self.tcp]
        self.flights.drains = [listener.drain for listener in self.udp]
        self.admin = self._make_admin(inherited, seal)
        self._hold = gevent.get_hub().loop.timer(LONGEST_HOLD)
        self._next_beat = 0.0
        self._stopping = Event()
        self._evictions = 0
        self._limited = LimitReport(self.guards[0].limiter, counters)
        #: The result of the supervisor's last order, as last reported.
        self._told_order = b""

    def _make_budget(self, endpoint: Endpoint) -> Budget | None:
        """The budget of a server; None when it has none."""
        rate = endpoint.budget or self.config.upstream_budget
        numbers = self.board.numbers(endpoint.label)
        shared = numbers[metrics.BUDGET_NUMBERS :] if numbers is not None else None
        if not 0.0 < rate < UNLIMITED:
            if shared is not None:
                shared[0] = 0.0
            return None
        alone = self.config.redis in ("none", "embedded")
        terms = BudgetTerms(endpoint.url, endpoint.label, rate, self.worker, self.config.workers, alone)
        return Budget(terms, self.store.ask_for_slots, self.board.block(endpoint.label), self.counters, shared)

    def _make_resolver(self) -> Resolver:
        terms = Terms(self.config.stale_after, self.config.node_id, self.views or self._deciders[0])
        parts = self.cache, self.store, self.siblings, self.routes, Aliases(self.cache, make_subnets(self.config))
        return Resolver(Sources(*parts), terms, self.query_log, self.counters)

    def _make_listeners(
        self, inherited: Inherited
    ) -> tuple[list[UdpListener], list[TcpListener], list[UdpListener | TcpListener]]:
        """The UDP and TCP servers for clients, and those for the node's other workers, which serve until we exit."""
        config, guards = self.config, self.guards
        bounds = (config.tcp_idle, config.tcp_connections)
        drains: list[Callable[[], None]] = []
        pool, inner_pool = Pool(*bounds, drains), Pool(*bounds, drains)
        udp = [
            UdpListener(sock, address.wildcard, self.answering, guard, config.udp_segments)
            for sock, address, guard in zip(inherited.slot.udp, config.listen, guards, strict=True)
        ]
        tcp = [
            TcpListener(sock, self.answering, guard, pool)
            for sock, guard in zip(inherited.slot.tcp, guards, strict=True)
        ]
        # the other workers count their clients' queries themselves
        uncounted = QueryLog(0), "", config.prefetch, self.board.scrap(), Departure()
        answering = Answering(self.cache, self.flights, Identity(), *uncounted)
        answering.subnets, answering.enforces = self.answering.subnets, False
        siblings = our_own_workers(self.routes.own)
        inner: list[UdpListener | TcpListener] = [
            *(UdpListener(sock, False, answering, siblings) for sock in inherited.inner.udp),
            *(TcpListener(sock, answering, siblings, inner_pool) for sock in inherited.inner.tcp),
        ]
        drains += [listener.drain for listener in udp]
        return udp, tcp, inner

    def _make_admin(self, inherited: Inherited, seal: Seal | None) -> Admin | None:
        if inherited.admin is None:
            return None
        # imported here: only nodes with an admin port need it; `loading` has done so before the fork
        from rdnscache.admin.page_orders import PageOrders
        from rdnscache.admin.page_status import PageStatus
        from rdnscache.admin.server import Admin

        config = self.config
        page = PageStatus(config, inherited.redis_url, self.board, seal)
        orders = PageOrders(config.node_id, page.tools, self.order)
        return Admin(inherited.admin, self.board, page, orders, config, self._departure)

    def begin_flush(self, scope: Scope) -> None:
        self.resolver.begin_flush(scope)

    def flushes(self) -> int:
        return self.resolver.flushes

    def flushed_at(self) -> float:
        return self.resolver.flushed_at

    def sweep(self, scopes: Sequence[Scope], done: Late = lambda counts: None) -> list[int]:
        def in_force(counts: list[int]) -> None:
            for scope in scopes:
                self.resolver.end_flush(scope)
            done(counts)

        in_force(counts := self._sweeper.sweep(scopes, in_force))
        return counts

    def order_policy(self, raw: bytes) -> int | None:
        with self._changing:
            complete = self.rulebook.take(raw)
            count = self._change_policy()
            return count if complete else None

    def _change_policy(self) -> int:
        """Apply the current lists and orders; returns how many entries were deleted from L1 because of that."""
        if not self.rulebook.look(time.time()):
            return 0
        self._client_rules.change()
        count = self._sweeper.sweep_meant(self.resolver.change_policy())
        log.info("the policy has changed (%s): %d entries removed from L1", self.rulebook.summary, count)
        return count

    def hold(self) -> None:
        self._hold.start(self.release)
        for listener in (*self.outer, *self.inner):
            listener.hold()

    def release(self) -> None:
        self._hold.stop()
        for listener in (*self.outer, *self.inner):
            listener.release()

    def upstream_seconds(self) -> float:
        return self.routes.latency()

    def look(self, name: bytes) -> list[dict[str, Any]]:
        return held_of(self.cache, self.views, name)

    def introduce(self) -> None:
        self._measure()
        told = self._status.of(time.monotonic(), time.time(), self.store, self.routes.servers, self.query_log)
        told["order"] = json.loads(self.board.order() or b"{}")
        told["policy"] = self.rulebook.told()
        text = json.dumps(told)
        self.board.tell(self.worker, text.encode())
        self.store.beat(text)
        self._hour.tell()

    def order(self, what: str, event: str) -> None:
        self._line.say(f"{what} {event}")

    def run(self) -> int:
        """Serve until SIGTERM, then finish the queries in flight."""
        gevent.signal_handler(signal.SIGTERM, self._stopping.set)
        gevent.signal_handler(SUCCEEDED, self._succeeded)
        gevent.get_hub().print_exception = log_uncaught
        gevent.config.track_greenlet_tree = False  # costs over 1 KB per flight, for debuggers only
        gc.freeze()  # objects that live as long as the worker need not be scanned again
        gc.set_threshold(*GC_THRESHOLD)
        self.store.start(FIRST_HOLD)
        self.routes.start()
        gevent.spawn(self._warm)
        gevent.spawn(self._follow_lists)
        for listener in (*self.outer, *self.inner):
            listener.start()
        if self.admin is not None:
            self.admin.start()
        self._beats.start(self._line.beat)
        self._line.say(AT_WORK)
        next_turn = time.monotonic() + HEAT_INTERVAL
        while not self._stopping.wait(GAUGE_INTERVAL):
            now = time.monotonic()
            self._beat()
            if now >= next_turn:
                self.query_log.turn(self._answered)
                self.store.heat(self.query_log.hottest)
                self._limited.tell(now)
                next_turn = now + HEAT_INTERVAL
            self.routes.catch_up(now)
            self._measure()
            self._tell_order()
        self._linger()
        self._drain()
        return 0

    def _follow_lists(self) -> None:
        while not self._stopping.wait(BEAT_INTERVAL):
            if self.rulebook.due(time.time()):
                with self._changing:
                    self._change_policy()

    def _tell_order(self) -> None:
        """Report how an order ended to whoever gave it: every worker does, since one of them may hang."""
        told = self.board.order()
        if told != self._told_order and self.store.attached:
            self._told_order = told
            self.store.answer_order(json.loads(told))

    def _succeeded(self) -> None:
        """Our successor reads from the same sockets: clients need not be told to go elsewhere."""
        self._departure.succeeded = True
        self._stopping.set()

    def _linger(self) -> None:
        """Continue to serve for a moment, but tell balancers that we are about to end."""
        self._departure.begun = True
        end = time.monotonic() + (0.0 if self._departure.succeeded else self.config.linger)
        while (left := end - time.monotonic()) > 0:
            self._beat()
            gevent.sleep(min(left, GAUGE_INTERVAL))

    def _beat(self) -> None:
        """Report our state, if it is time: flushes wait for our confirmation until we say goodbye."""
        now = time.monotonic()
        if now >= self._next_beat:
            self.introduce()
            self._next_beat = now + BEAT - GAUGE_INTERVAL / 2

    def _warm(self) -> None:
        """Load the names asked most in the cluster into L1, for at most `warm_time`; then report that we are warm."""
        if self.config.warm and self.store.state != "none":
            with gevent.Timeout(self.config.warm_time, False):
                while not self.store.attached:
                    gevent.sleep(ATTACH_LOOK)
                flushes = self.resolver.flushes
                for entries in self.store.hottest(self.config.warm):
                    now = clock.now()
                    for entry in entries:
                        if flushes == self.resolver.flushes and entry.fresh(now) and self.cache.peek(entry.key) is None:
                            self.resolver.warm(entry, now)
                    flushes = self.resolver.flushes
        self.counters[metrics.WARM] = 1

    def _answered(self, key: bytes) -> bool:
        """Whether we know an answer to a question: names that only fail need not be loaded in advance."""
        entry = self.cache.kept(key)
        return entry is None or entry.rcode != SERVFAIL

    def _measure(self) -> None:
        counters, cache = self.counters, self.cache
        self.store.measure()
        counters[metrics.L1_ENTRIES] = len(cache)
        counters[metrics.L1_BYTES] = cache.size
        counters[metrics.L1_EVICTIONS] += cache.evictions - self._evictions
        self._evictions = cache.evictions
        counters[metrics.FLIGHTS_UP] = len(self.flights)
        counters[metrics.WAITING] = self.flights.waiting

    def _drain(self) -> None:
        """Stop reading; wait for flights and open connections, for at most `drain`; then close the link."""
        self._departure.draining = True
        if self._departure.farewell:
            self.introduce()
        for listener in self.outer:
            listener.stop()
        if self.admin is not None and self._departure.succeeded:
            self.admin.stop()
        deadline = time.monotonic() + self.config.drain
        while self._busy() and time.monotonic() < deadline:
            if self._departure.farewell:
                self._beat()
            gevent.sleep(DRAIN_STEP)
        self._hour.tell(ends=True)
        if self._departure.farewell:
            self.store.leave()
        self.store.close()
        self.routes.close()
        held = metrics.L1_ENTRIES, metrics.L1_BYTES, metrics.FLIGHTS_UP, metrics.WAITING
        for gauge in (metrics.REDIS_ATTACHED, *held):
            self.counters[gauge] = 0

    def _busy(self) -> bool:
        """Whether any client still waits for an answer."""
        return bool(len(self.flights) or any(map(len, self.tcp)) or (self.admin is not None and self.admin.busy))


def run_worker(config: Config, inherited: Inherited, line: Lifeline, policies: GroupPolicies) -> int:
    """A worker's whole life, in its own process; returns its exit code."""
    return Worker(config, inherited, line, policies).run()
