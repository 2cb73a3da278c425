"""Faults around a flush, a function each, as in `chaos.faults`: does the proof hold?"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from bench.system import free_port
from chaos.cluster import NODES, WORKERS, Cluster, Outcome, Process, wait_for
from chaos.flushes import POOL, SOCKETS, Prober, flush, fresh_names

#: Delay of the upstream, so that a leader is interrupted meanwhile; seconds longer than a lease; number of rounds.
SLOW, PAST_LEASE, ROUNDS = 0.3, 1.8, 4
#: Names that are checked in each round.
SOME = 8
#: Seconds for which a node's upstream is broken.
SICK, BRIEFLY_SICK = 8.0, 1.0
#: Seconds after that until cached failures have expired (`BRIEF` in `chaos.cluster`) and the server is probed.
RESTED, BRIEFLY_RESTED = 8.0, 3.0
VICTIM = NODES - 1
HEALTHY = tuple(range(NODES - 1))


def paused_worker(cluster: Cluster) -> Outcome:
    """The workers of one node stop while they ask, and go on when the flush is over and their leases are."""

    @contextmanager
    def paused() -> Iterator[None]:
        pids = cluster.workers(VICTIM)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    return _leaders_late(cluster, paused)


def partition(cluster: Cluster) -> Outcome:
    """One node is cut off while it asks; what it sent arrives when the flush and its lease are over."""

    @contextmanager
    def cut() -> Iterator[None]:
        cluster.line(VICTIM, "hole")
        try:
            yield
        finally:
            cluster.line(VICTIM, "heal")

    return _leaders_late(cluster, cut)


def _leaders_late(cluster: Cluster, hindered: Callable[[], AbstractContextManager[None]]) -> Outcome:
    """A node leads, is hindered over a flush, and fills late: no other node may answer with that."""
    prober, flaws = Prober(cluster.ports), list[str]()
    log = cluster.nodes[VICTIM]
    rounds = 1 if cluster.brief else ROUNDS
    for number in range(rounds):
        asked = fresh_names(SOME, f"l{number}x")
        cluster.upstream.delay += SLOW
        for name in asked:
            prober.send(VICTIM, name)
        time.sleep(SLOW / 2)
        with hindered():
            time.sleep(SLOW)
            cluster.upstream.delay -= SLOW
            flushed = flush(cluster)
            if flushed.complete:
                flaws.append("a flush was complete without a node that could not hear of it")
            time.sleep(PAST_LEASE)
        wait_for(lambda: log.attached() == WORKERS, 15, "the node does not attach again")
        time.sleep(0.1)
        nodes = sorted(flushed.confirmed)
        flaws += prober.old(nodes, asked, cluster.upstream.version)
    prober.close()
    return Outcome(f"{rounds} flushes, {rounds * SOME} late fills; {len(flaws)} faults", flaws)


class Backward:
    """Checks the answers while Redis goes back in time to before a flush, and afterwards."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._prober = Prober(cluster.ports)
        self._left = fresh_names(POOL, "r")
        self._flaws: list[str] = []
        self._prober.old(range(NODES), self._left, 0)  # now everybody has them, and Redis
        self._looks = 0

    def flush(self) -> None:
        if not flush(self._cluster).complete:
            self._flaws.append("the flush was not confirmed")

    def watch(self, back: Callable[[], bool], seconds: float) -> None:
        """Ask until Redis is back, and for a while after that, for names that were not asked since the flush."""
        wait_until = time.monotonic() + seconds
        while not back() and time.monotonic() < wait_until:
            time.sleep(0.05)
        while self._left:
            some, self._left = self._left[:2], self._left[2:]
            self._flaws += self._prober.old(range(NODES), some, self._cluster.upstream.version)
            self._looks += 2 * NODES * SOCKETS
            seldom = 0.15 if self._cluster.brief else 0.3
            time.sleep(0.05 if len(self._left) > POOL // 2 else seldom)

    def outcome(self) -> Outcome:
        self._prober.close()
        return Outcome(f"{self._looks} answers, {len(self._flaws)} of them old", self._flaws)


def old_redis(cluster: Cluster) -> Outcome:
    """Redis is killed, and comes back as it was before a flush that all nodes have confirmed."""
    backward = Backward(cluster)
    dump = cluster.folder / "dump.rdb"
    with cluster.redis_client() as admin:
        admin.save()
    try:
        backward.flush()
        cluster.redis.kill()
        time.sleep(1.0)
        cluster.redis.start()
        backward.watch(cluster.redis_answers, 10.0)
    finally:
        dump.unlink(missing_ok=True)
    return backward.outcome()


def cloned_node(cluster: Cluster) -> Outcome:
    """A second node with the name of the first: a flush is complete only when both have confirmed."""
    flaws, asked = [], fresh_names(SOME, "k")
    port = free_port()
    command = [word.replace(f"127.0.0.1:{cluster.ports[0]}", f"127.0.0.1:{port}") for word in cluster.nodes[0].command]
    clone = Process(command, cluster.folder / "clone.log")
    prober = Prober([port])
    clone.start()
    try:
        wait_for(lambda: clone.attached() == WORKERS, 20, "the clone does not start")
        prober.old([0], asked, 0)
        if not flush(cluster, 5.0).complete:
            flaws.append("a flush that both could confirm was not complete")
        flaws += prober.old([0], asked, cluster.upstream.version)
        pids = cluster.workers_of(clone)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            if flush(cluster).complete:
                flaws.append("a flush was complete without the clone")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        clone.process.send_signal(signal.SIGTERM)
        clone.process.wait(15)
    finally:
        clone.kill()
        prober.close()
    return Outcome(f"{len(flaws)} faults", flaws)


def sick_node(cluster: Cluster) -> None:
    """One node's upstream is silent, then answers SERVFAIL: only that node's clients may see failures."""
    with cluster.sick(VICTIM):
        for how in ("silent", "failing"):
            setattr(cluster.upstream, how, True)
            try:
                time.sleep(BRIEFLY_SICK if cluster.brief else SICK)
            finally:
                setattr(cluster.upstream, how, False)
        time.sleep(BRIEFLY_RESTED if cluster.brief else RESTED)
