"""This worker's membership in the register of the cluster, and what it knows of the other members.

The register is one key that every worker writes to every BEAT. Where it has lost us, it has lost others as well, who
may be cut off and so cannot enter themselves again: we do it for all that we know. So a flush counts them.
The more workers there are, the more seldom each of them reads all: or Redis would spend on it what grows with their
square, and with 500 of them have no time for anything else.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import gevent
import hiredis

from rdnscache.breath import Breath
from rdnscache.kernel import Incarnation
from rdnscache.store.contract import MEMBER_TTL, SILENCE, Names
from rdnscache.store.foreign_json import LONGEST_REPORT
from rdnscache.store.membership import read_roll, replaced
from rdnscache.store.servers import Servers
from rdnscache.store.steering import MOST_WORKERS, RESTORE, ROLL, WorkerId

log = logging.getLogger(__name__)

#: Seconds between two warnings about another node with our name.
WARN_AGAIN = 60.0
#: Maximum other incarnations with our name that are remembered, and dead workers of them.
MOST_TWINS, MOST_DEAD = 8, 1000
#: Maximum replies to heartbeats that wait to be read; workers with our name that are checked after a heartbeat.
MOST_REPLIES, MOST_ASKED = 4, 32
#: Up to this number of workers all are read with each beat; up to twice as many with every second one, and so on.
READ_EACH_BEAT = 64


class Register:
    """`done` is called with the result of each heartbeat: a list of one reply, or a StoreDown."""

    def __init__(
        self, names: Names, worker_id: WorkerId, life: Incarnation, servers: Servers, done: Callable[[Any], None]
    ) -> None:
        #: The incarnations of other nodes with our name that have sent heartbeats since we began.
        self.twins: set[str] = set()
        self._names = names
        self._servers = servers
        self._worker_id = worker_id
        self._life = life
        self._done = done
        #: All registered workers, and the times of their last heartbeats (monotonic).
        self._known: dict[str, float] = {}
        #: Workers with our name that are known to be dead. Other nodes, which do not know that, enter them again when
        #: Redis has lost the register, and with it the reports that prove it.
        self._dead: set[str] = set()
        self._warned = -WARN_AGAIN
        #: Beats until all workers are read again.
        self._pause = 0
        #: What Redis said to beats and is still to be read, with the moments of these beats, and whether all workers
        #: were asked for; and who reads it.
        self._replies: deque[tuple[Any, float, bool]] = deque(maxlen=MOST_REPLIES)
        self._reader: gevent.Greenlet | None = None

    def beat(self, report: str) -> None:
        """Send a heartbeat with a report."""
        sent = time.monotonic()
        worker_id = str(self._worker_id)
        reads = self._pause <= 0
        self._pause = (len(self._known) - 1) // READ_EACH_BEAT if reads else self._pause - 1
        self._servers.send((b"SET", self._names.node(worker_id), report, b"EX", MEMBER_TTL), self._done)
        told = (MEMBER_TTL, MOST_WORKERS if reads else 0, worker_id)
        self._servers.send(
            (b"EVAL", ROLL.source, b"1", self._names.nodes, *told), lambda result: self._heard(result, sent, reads)
        )

    def leave(self) -> None:
        """Remove this worker from the register. Raises StoreDown."""
        worker_id = str(self._worker_id)
        self._servers.request((b"ZREM", self._names.nodes, worker_id), (b"DEL", self._names.node(worker_id)))

    def _heard(self, result: Any, sent: float, reads: bool) -> None:
        self._replies.append((result[0] if isinstance(result, list) else result, sent, reads))
        if self._reader is None:
            self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        """Read replies; other greenlets run meanwhile, since anybody may have entered thousands of workers."""
        try:
            while self._replies:
                self._take(*self._replies.popleft())
        finally:
            self._reader = None

    def _take(self, reply: Any, sent: float, reads: bool) -> None:
        breath = Breath()
        roll = read_roll(reply, breath.take)
        if roll is None:
            self._pause = 0
            return self._refused(reply, sent)
        workers = roll.workers
        if roll.new and self._known:
            gone = self._dead.union(workers)
            lost = {
                worker_id: at
                for worker_id, at in self._known.items()
                if sent - at < MEMBER_TTL and worker_id not in gone
            }
            self._restore(lost, sent)
        if reads:
            self._known = {worker_id: sent - age for worker_id, age in workers.items()}
            breath.take()
            self._look_for_kin(workers, sent)

    def _refused(self, reply: Any, now: float) -> None:
        if isinstance(reply, hiredis.ReplyError) and now - self._warned >= WARN_AGAIN:
            self._warned = now
            log.warning("this worker is not in the cluster's register, so flushes do not wait for it: %s", reply)

    def _restore(self, lost: Mapping[str, float], now: float) -> None:
        if lost:
            log.info("Redis has lost the register of workers: the %d known here are entered again", len(lost))
            told = [part for worker_id, at in lost.items() for part in (worker_id, f"{now - at:.3f}")]
            self._servers.send((b"EVAL", RESTORE.source, b"1", self._names.nodes, *told))

    def _look_for_kin(self, workers: Mapping[str, float], now: float) -> None:
        """Handle other nodes with our name: a dead predecessor, or one that runs at the same time by mistake."""
        kin: dict[str, float] = {}
        own = self._worker_id.node + "."
        theirs: dict[str, list[str]] = {}
        for text, age in workers.items():
            worker_id = WorkerId.parse(text) if text.startswith(own) else None
            if worker_id is None or worker_id.node != self._worker_id.node:
                continue
            if worker_id.incarnation != self._life.name:
                theirs.setdefault(worker_id.incarnation, []).append(text)
                kin[worker_id.incarnation] = min(age, kin.get(worker_id.incarnation, age))
        silent: list[str] = []
        for name, age in kin.items():
            if now - age > self._life.begun:
                if len(self.twins) < MOST_TWINS:
                    self.twins.add(name)
                if age < SILENCE:
                    self._warn(name, now)
            else:
                silent += theirs[name]
        for text in silent if len(silent) <= MOST_ASKED else random.sample(silent, MOST_ASKED):
            if text in self._dead:
                self._strike_out(text)
            else:
                self._ask_after(text, workers[text])

    def _warn(self, name: str, now: float) -> None:
        if now - self._warned >= WARN_AGAIN:
            self._warned = now
            log.error(
                "another node is called %s too (its incarnation is %s, ours %s): give each its own --node-id; "
                "flushes wait for both", self._worker_id.node, name, self._life.name,
            )  # fmt: skip

    def _ask_after(self, worker_id: str, age: float) -> None:
        """Remove a worker that has been silent since we began, if its last report proves it dead."""

        def told(result: Any) -> None:
            reply = result[0] if isinstance(result, list) else None
            if replaced(reply, self._life, age, time.monotonic() - self._life.begun):
                log.info("%s is gone: this node has replaced it", worker_id)
                if len(self._dead) < MOST_DEAD:
                    self._dead.add(worker_id)
                self._strike_out(worker_id)

        self._servers.send((b"GETRANGE", self._names.node(worker_id), 0, LONGEST_REPORT), told)

    def _strike_out(self, worker_id: str) -> None:
        self._servers.send((b"ZREM", self._names.nodes, worker_id))
        self._servers.send((b"DEL", self._names.node(worker_id)))
