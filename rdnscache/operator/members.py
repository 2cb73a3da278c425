"""The members of the cluster for operators: who is registered, and sending events to all of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rdnscache.breath import Breathe, go_on
from rdnscache.dns.names import name_text
from rdnscache.endpoint import LONGEST
from rdnscache.errors import StoreDown
from rdnscache.operator.ear import Ear
from rdnscache.operator.redis_clients import has_slots, line, redis_errors
from rdnscache.printable import natural
from rdnscache.store.contract import EVENTS_KEPT, LOOK, MEMBER_TTL, SILENCE, Names
from rdnscache.store.foreign_json import LONGEST_REPORT
from rdnscache.store.heat import SECONDS, rate
from rdnscache.store.membership import Member, member, read_message, read_report, read_roll
from rdnscache.store.scope import Scope
from rdnscache.store.script import Script
from rdnscache.store.steering import ANNOUNCE, BEGIN, END, MOST_UNDER_WAY, MOST_WORKERS, ROLL, WorkerId

#: Most octets of all reports read at once; most workers in one command.
MAX_TOLD, PORTION = 8 << 20, 16
#: Most entries of a name that workers may report in all; longest report of one in characters.
MOST_HELD = 1000
_HELD = {"key": 1100, "rcode": 32, "state": 32, "origin": 1500}
#: Most upstreams of a worker that are read.
MOST_UPSTREAMS = 256
#: An upper bound for plausible queries per second of a name.
ABSURD = 1e9


class Members:
    """All workers that use a Redis with one prefix. Every method raises StoreDown when Redis cannot be used.

    `breathe` is called after every short step, since there may be many, registered by anybody.
    """

    def __init__(self, client: Any, names: Names, breathe: Breathe = go_on) -> None:
        self._redis = client
        self._names = names
        self.breathe = breathe
        #: The results of `roll`, by the hash of the report they are from.
        self._parts: dict[str, tuple[int, dict[str, Any]]] = {}

    def members(self) -> list[Member]:
        """Every worker that is running, or was within the last hour and did not say goodbye."""
        _, workers, _ = self._workers(MOST_WORKERS)
        return list(self._told(workers))

    def roll(self) -> tuple[float, list[Member]]:
        """The age of the register in seconds, and its members; a young register may be incomplete.

        From the reports only the numbers of workers per node are read. A flush reads the register twice within moments,
        and most reports are the same then: unchanged ones are not parsed again.
        """
        age, workers, _ = self._workers(MOST_WORKERS)
        return age, list(self._told(workers, self._part))

    def _part(self, worker_id: str, raw: Any) -> dict[str, Any]:
        if not isinstance(raw, bytes):  # an error, or any other unexpected reply
            return {}
        mark, (before, part) = hash(raw), self._parts.get(worker_id, (None, {}))
        if mark != before:
            part = _of_node(read_report(raw))
            self._parts[worker_id] = mark, part
        return part

    def some_members(self, limit: int) -> tuple[list[Member], int]:
        """The `limit` members that reported last, and how many more there are; for callers that must not take long."""
        _, workers, total = self._workers(limit)
        found = list(self._told(workers))
        return found, max(total - len(found), 0)

    def _workers(self, limit: int) -> tuple[float, dict[str, float], int]:
        """The register's age, the seconds since the last report of each of the latest workers, and the number of
        workers."""
        with redis_errors():
            raw = self._redis.eval(ROLL.source.decode(), 1, self._names.nodes, MEMBER_TTL, limit)
        read = read_roll(raw, self.breathe)
        if read is None:
            raise StoreDown("the cluster's register cannot be read")
        return read.age, read.workers, read.total

    def _told(
        self, workers: Mapping[str, float], read: Callable[[str, Any], dict[str, Any]] = lambda _, raw: read_report(raw)
    ) -> Iterator[Member]:
        """All workers with their reports; without those that are too long, or come after MAX_TOLD octets."""
        octets = 0
        texts = sorted(workers, key=natural)
        for start in range(0, len(texts), PORTION):
            portion = texts[start : start + PORTION]
            reports = self._reports(portion) if octets <= MAX_TOLD else [None] * len(portion)
            self.breathe()
            for worker_id, raw in zip(portion, reports, strict=True):
                octets += len(raw) if isinstance(raw, bytes) else 0
                found = member(worker_id, workers[worker_id], read(worker_id, raw))
                if found is not None:
                    yield found
                self.breathe()

    def _reports(self, workers: Iterable[str]) -> list[Any]:
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for worker_id in workers:
                pipeline.getrange(self._names.node(worker_id), 0, LONGEST_REPORT)
            return list(pipeline.execute(raise_on_error=False))

    def forget(self, node: str) -> int:
        """Remove a node that will not come back from the register; returns how many workers it had.

        This applies to all nodes of that name, unless it has an incarnation, as in `n1 (1a2b3c4d)`.
        """
        workers = [each for each in self.members() if node in (each.node, each.full_name)]
        for each in workers:
            worker_id = str(WorkerId(each.node, each.incarnation, each.worker))
            with redis_errors():
                self._redis.delete(self._names.node(worker_id))
                self._redis.zrem(self._names.nodes, worker_id)
                for server in _budgets(each.told):
                    self._redis.hdel(self._names.budget(server), f"{each.node}.{each.worker}")
        return len(workers)

    def announce(self, told: Mapping[str, str | int]) -> str:
        """Tell every worker, and those that are away when they return; the event's ID."""
        return self._tell(ANNOUNCE, told)[0]

    def announce_and_see(self, told: Mapping[str, str | int]) -> tuple[str, bool]:
        """The same, and whether anybody can have heard of it now."""
        event_id, heard = self._tell(ANNOUNCE, told)
        return event_id, heard > 0 or self._heard_elsewhere()

    def begin_flush(self, scope: Scope) -> tuple[str, bool]:
        """The same of a flush, which is under way from now on: also whether anybody can have heard of it now."""
        event_id, heard = self._tell(BEGIN, scope.event(), MOST_UNDER_WAY)
        return event_id, heard > 0 or self._heard_elsewhere()

    def _heard_elsewhere(self) -> bool:
        """Whether somebody may have heard of an event at another server of a Redis Cluster: each knows its clients."""
        if not has_slots(self._redis):
            return False
        for node in self._redis.get_nodes():
            try:
                with redis_errors(), line(self._redis.get_redis_connection(node)) as one:
                    (told,) = one.ask((b"PUBSUB", b"NUMSUB", self._names.control))
            except StoreDown:
                return True
            if not isinstance(told, list) or len(told) != 2 or told[1] != 0:  # an error when we may not ask
                return True
        return False

    def end_flush(self, scope: Scope, flush: str) -> None:
        """Tell every worker that the entries of a flush are deleted."""
        self._tell(END, scope.event() | {"of": flush}, json.dumps(scope.event()), flush)

    def _tell(self, script: Script, told: Mapping[str, str | int], *more: str | int) -> tuple[str, int]:
        control = self._names.control
        keys = (control, self._names.flushing)[: int(script.keys)]
        with redis_errors():
            reply: Any = self._redis.eval(
                script.source.decode(), len(keys), *keys, control, json.dumps(dict(told)), EVENTS_KEPT, *more
            )
        if reply is None:
            raise StoreDown(f"nothing has been flushed: {MOST_UNDER_WAY} flushes are under way; try again in a moment")
        return str(reply[0].decode()), int(reply[1])

    def listening(self, patience: float) -> Ear:
        """A subscription to the channel for acknowledgements."""
        return Ear(self._redis, self._names.acks, patience, self.breathe)

    def hottest(self, count: int) -> list[tuple[bytes, float]]:
        """The questions asked most, with queries per second: averages in which queries of a minute ago count half."""
        hot, names = self._names.hot, self._names
        with redis_errors():
            found = self._redis.zrevrange(hot, 0, count, withscores=True)  # one more: an item may be no question
            seconds, left = self._redis.zscore(hot, SECONDS), self._redis.pttl(hot)
        questions = [(names.question(names.root + text.decode("utf-8", "replace")), rate(score, seconds or 0.0, left))
                     for text, score in found]  # fmt: skip
        return [(key, qps) for key, qps in questions if key is not None and 0 <= qps < ABSURD][:count]

    def look(self, name: bytes, patience: float) -> list[dict[str, Any]]:
        """The entries of a name in the workers' L1, each with its `node` and `worker`; `patience` in seconds."""
        found: list[dict[str, Any]] = []
        _, workers, _ = self._workers(MOST_WORKERS)
        waiting = {WorkerId.parse(text) for text, age in workers.items() if age < SILENCE} - {None}
        for told in self._answers(name, patience, waiting):
            who = {"node": told["node"], "worker": told["worker"]}
            found += [who | _held(entry) for entry in told["held"][:MOST_HELD] if isinstance(entry, dict)]
            if len(found) >= MOST_HELD:
                break
        return found[:MOST_HELD]

    def answering(self, node: str, patience: float) -> list[Member]:
        """The workers of a node that answer when they are asked something; `patience` in seconds."""
        there = [each for each in self.members() if each.present and node in (each.node, each.full_name)]
        by_id = {WorkerId(each.node, each.incarnation, each.worker): each for each in there}
        told = self._answers(b"\0", patience, set(by_id))
        ids = [WorkerId(each["node"], each["incarnation"], each["worker"]) for each in told]
        return [by_id[each] for each in ids if each in by_id]

    def _answers(
        self, name: bytes, patience: float, waiting: set[WorkerId | None] | set[WorkerId]
    ) -> Iterator[dict[str, Any]]:
        """The replies of workers to a look-up, until all expected ones have arrived."""
        asked, deadline = os.urandom(8).hex(), time.monotonic() + patience
        with self.listening(patience) as ear:
            question = json.dumps({"event": "look", "id": asked, "name": name_text(name)})
            self._redis.publish(self._names.control, LOOK.decode() + " " + question)
            while waiting and (left := deadline - time.monotonic()) > 0:
                for told in map(read_message, ear.hear(left)):
                    self.breathe()
                    if told.get("event") == asked and isinstance(told.get("held"), list):
                        waiting.discard(WorkerId(told["node"], told["incarnation"], told["worker"]))
                        yield told


def _of_node(told: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a worker's report about its node: workers, leaving, contract."""
    return {name: told[name] for name in ("workers", "leaving", "contract") if name in told}


def _budgets(told: Mapping[str, Any]) -> Iterator[str]:
    """The servers with a budget of which a worker reports to have a share."""
    upstreams = told.get("upstreams")
    for each in upstreams[:MOST_UPSTREAMS] if isinstance(upstreams, list) else ():
        server = each.get("place") if isinstance(each, dict) else None
        if isinstance(server, str) and len(server) <= LONGEST:
            yield server


def _held(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A worker's report of an entry in its L1, cut to size."""
    texts = {name: str(entry.get(name, "?"))[:longest] for name, longest in _HELD.items()}
    return texts | {name: entry.get(name) for name in ("ttl_left", "age") if isinstance(entry.get(name), int)}
