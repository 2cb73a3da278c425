"""Flushes at random moments while workers, links, nodes and Redis fail: is what was confirmed ever broken?"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from chaos import names
from chaos.cluster import NODES, WORKERS, Cluster, Outcome, wait_for
from rdnscache.dns.names import parse_name
from rdnscache.errors import StoreDown
from rdnscache.operator.entries import Browser
from rdnscache.operator.flush import Flush
from rdnscache.operator.members import Members as Register
from rdnscache.store.contract import Names
from rdnscache.store.scope import Scope

PREFIX = "rdns"
ZONE = Scope(zone=parse_name("ver.chaos"))
#: Names that only these flushes use, so that nothing else puts them into a cache.
POOL, FIRST = 40, 1000
#: Sockets for a node: the kernel chooses a worker by the source port of a query.
SOCKETS = 4
#: Seconds for workers to confirm; for a probe's answer; the additional delay of the upstream.
CONFIRM, PROBE, SLOWER = 0.5, 1.0, 0.02
REDIS_DOWN = 0.3


class Prober:
    """Asks for names whose answers have versions, besides the clients, and looks for old ones."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._socks = [[self._connected(port) for _ in range(SOCKETS)] for port in ports]

    @staticmethod
    def _connected(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        for sock in (each for socks in self._socks for each in socks):
            sock.close()

    def send(self, node: int, name: str) -> None:
        """Ask from one socket without waiting."""
        self._send(random.choice(self._socks[node]), 0, name)

    @staticmethod
    def _send(sock: socket.socket, number: int, name: str) -> None:
        try:
            sock.send(names.query(number, name))
        except OSError:
            return

    def old(self, nodes: Sequence[int], asked: Sequence[str], floor: int) -> list[str]:
        """Ask all nodes from every socket; returns the answers older than `floor`. Missing answers do not count."""
        self._drain(nodes)
        waiting = {sock: node for node in nodes for sock in self._socks[node]}
        left = len(waiting) * len(asked)
        for sock in waiting:
            for number, name in enumerate(asked, 1):
                self._send(sock, number, name)
        found, deadline = [], time.monotonic() + PROBE
        while left and (seconds := deadline - time.monotonic()) > 0:
            for sock in select.select(list(waiting), [], [], seconds)[0]:
                try:
                    data = sock.recv(4096)
                except OSError:
                    left -= len(asked)
                    del waiting[sock]
                    continue
                number = int.from_bytes(data[:2], "big")
                if number:  # 0 was sent before the flush
                    left -= 1
                    name = asked[number - 1]
                    problem = names.problem(name, data, floor)
                    if problem.startswith("version"):
                        found.append(f"{name} at n{waiting[sock]}: {problem}")
        return found

    def _drain(self, nodes: Sequence[int]) -> None:
        for sock in (each for node in nodes for each in self._socks[node]):
            while True:
                try:
                    sock.recv(4096)
                except BlockingIOError:
                    break
                except OSError:
                    continue


@dataclass
class Flushed:
    """The result of a flush."""

    complete: bool = False
    confirmed: frozenset[int] = frozenset()
    #: Why it was not complete.
    problems: Sequence[str] = ("there is no Redis",)


def flush(cluster: Cluster, patience: float = CONFIRM) -> Flushed:
    """Raise the version and flush the old answers; nodes that have confirmed may answer with the new ones only."""
    cluster.upstream.version += 1
    try:
        browser = Browser(cluster.url, PREFIX)
        proof = Flush(browser, Register(browser.redis, Names(PREFIX)), ZONE, patience).run()
    except (StoreDown, redis.RedisError, OSError):
        return Flushed()
    confirmed = frozenset(node for node in range(NODES) if f"n{node}" in proof.confirmed)
    for node in confirmed:
        cluster.raise_floor(node)
    return Flushed(proof.complete, confirmed, proof.problems)


def fresh_names(count: int, label: str = "v") -> list[str]:
    """Some of the names that only these flushes use."""
    return [f"{label}{FIRST + number}.ver.chaos" for number in random.sample(range(POOL), count)]


class Storm:
    """One flush after the other, with faults before, during and after some of them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._prober = Prober(cluster.ports)
        self._done: Counter[str] = Counter()
        self._flaws: list[str] = []
        #: The faults around a flush and their percentages; each yields the nodes that cannot confirm.
        self._faults: dict[Callable[[], Iterator[set[int]]], int] = {
            self._nothing: 76, self._worker_stopped: 8, self._worker_killed: 4, self._cut: 5, self._links_killed: 5,
            self._redis_killed: 1, self._node_killed: 1,
        }  # fmt: skip

    def run(self, count: int) -> Outcome:
        self._cluster.upstream.delay += SLOWER
        try:
            for _ in range(count):
                self._one()
        finally:
            self._cluster.upstream.delay -= SLOWER
            self._prober.close()
        told = self._done
        note = f"{count} flushes, {told['complete']} complete; {told['undisturbed']} undisturbed, "
        note += f"{told['not complete']} of them not complete; {told['hindered']} with a node that could not confirm, "
        note += f"{told['false']} of them complete; {len(self._flaws)} faults"
        return Outcome(note, self._flaws)

    def _one(self) -> None:
        asked = fresh_names(6)
        (fault,) = random.choices(list(self._faults), list(self._faults.values()))
        for name in asked[:4]:
            self._prober.send(random.randrange(NODES), name)
        time.sleep(random.uniform(0, 2 * SLOWER))
        whole = all(node.attached() == WORKERS for node in self._cluster.nodes)
        with contextmanager(fault)() as unable:
            flushed = flush(self._cluster)
            self._done["complete"] += flushed.complete
            if whole and fault == self._nothing:
                self._done["undisturbed"] += 1
                self._done["not complete"] += not flushed.complete
                if not flushed.complete:
                    print(f"    undisturbed, but {'; '.join(flushed.problems)}", file=sys.stderr, flush=True)
            self._done["hindered"] += bool(unable)
            if flushed.complete and unable:
                self._done["false"] += 1
                self._flaws.append(f"{fault.__name__}: complete without {unable}")
            nodes = sorted(flushed.confirmed)
            floor = self._cluster.upstream.version
            self._flaws += [f"{fault.__name__}: {each}" for each in self._prober.old(nodes, asked, floor)]
        if nodes and random.random() < 0.5:  # check again after the recovery
            self._flaws += [f"after {fault.__name__}: {each}" for each in self._prober.old(nodes, asked, floor)]

    def _nothing(self) -> Iterator[set[int]]:
        yield set()

    def _worker_stopped(self) -> Iterator[set[int]]:
        node = random.randrange(NODES)
        workers = self._cluster.workers(node)
        if not workers:
            yield set()
            return
        pid = random.choice(workers)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield {node}
        finally:
            os.kill(pid, signal.SIGCONT)

    def _worker_killed(self) -> Iterator[set[int]]:
        workers = self._cluster.workers(random.randrange(NODES))
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)
        yield set()

    def _cut(self) -> Iterator[set[int]]:
        node = random.randrange(NODES)
        self._cluster.line(node, "hole")
        time.sleep(0.01)
        try:
            yield {node}
            if random.random() < 0.2:  # longer than a lease
                time.sleep(2.0)
        finally:
            self._cluster.line(node, "heal")

    def _links_killed(self) -> Iterator[set[int]]:
        with self._cluster.redis_client() as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", random.choice(("normal", "pubsub")), "SKIPME", "yes")
        yield set()

    def _redis_killed(self) -> Iterator[set[int]]:
        self._cluster.redis.kill()
        time.sleep(REDIS_DOWN)
        self._cluster.redis.start()
        wait_for(self._cluster.redis_answers, 10, "Redis does not answer")
        yield set()

    def _node_killed(self) -> Iterator[set[int]]:
        node = random.randrange(1, NODES)
        process = self._cluster.nodes[node]
        process.kill()
        yield {node}
        process.start()
        wait_for(lambda: process.attached() == WORKERS, 15, "the node does not come back")
