"""The cluster as people see it: who is there, and telling all of them something. Through redis-py as it comes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

from rdnscache.dns.names import name_text
from rdnscache.errors import StoreDown
from rdnscache.store.browse import redis_errors
from rdnscache.store.contract import EVENTS_KEPT, HOT_UNIT, LOOK, MEMBER_TTL, Names
from rdnscache.store.members import Member, member, read_message, read_report, read_roll
from rdnscache.store.steering import ANNOUNCE, MOST_WORKERS, ROLL, Place
from rdnscache.store.told import LONGEST_REPORT

#: Reports asked for in one go.
PAGE = 200
#: No name is asked so often in a second.
ABSURD = 1e9


class Cluster:
    """All workers that use a Redis with one prefix. Every method raises StoreDown when Redis cannot be used."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._redis: Any = client
        self._names = names

    def members(self) -> list[Member]:
        """Every worker that is there, or was within the last hour and did not say goodbye."""
        return self.roll()[1]

    def roll(self) -> tuple[float, list[Member]]:
        """How old the register is, in seconds, and who is in it: in a young one not everybody is yet."""
        with redis_errors():
            raw = self._redis.eval(ROLL.source.decode(), 1, self._names.nodes, MEMBER_TTL, MOST_WORKERS)
        read = read_roll(raw)
        if read is None:
            raise StoreDown("the cluster's register cannot be read")
        _, since, places = read
        texts = sorted(place for place in places if Place.parse(place) is not None)
        reports: list[Any] = []
        for start in range(0, len(texts), PAGE):
            with redis_errors():
                pipeline = self._redis.pipeline(transaction=False)
                for place in texts[start : start + PAGE]:
                    pipeline.getrange(self._names.node(place), 0, LONGEST_REPORT)
                reports += pipeline.execute(raise_on_error=False)
        found = (
            member(place, places[place], read_report(report)) for place, report in zip(texts, reports, strict=True)
        )
        return since, [each for each in found if each is not None]

    def forget(self, node: str) -> int:
        """Stop expecting a node that will not come back; how many workers it had."""
        workers = [each for each in self.members() if each.node == node]
        for each in workers:
            place = str(Place(each.node, each.incarnation, each.worker))
            with redis_errors():
                self._redis.delete(self._names.node(place))
                self._redis.zrem(self._names.nodes, place)
        return len(workers)

    def announce(self, told: Mapping[str, str]) -> str:
        """Tell every worker, and those that are away when they return; the event's ID."""
        control = self._names.control
        with redis_errors():
            event_id: Any = self._redis.eval(
                ANNOUNCE.source.decode(), 1, control, control, json.dumps(dict(told)), EVENTS_KEPT
            )
        return str(event_id.decode())

    @contextmanager
    def listening(self, patience: float) -> Iterator[Any]:
        """An ear on the channel for acknowledgements."""
        with redis_errors(), self._redis.pubsub() as ear:
            ear.subscribe(self._names.acks)
            ear.get_message(timeout=patience)  # confirms the subscription
            yield ear

    def hottest(self, count: int) -> list[tuple[bytes, float]]:
        """The questions asked most, and how often a second: an average in which ten minutes ago counts half."""
        with redis_errors():
            found: Any = self._redis.zrevrange(self._names.hot, 0, count - 1, withscores=True)
        questions = [(self._names.question(self._names.root + text.decode("utf-8", "replace")), score / HOT_UNIT)
                     for text, score in found]  # fmt: skip
        return [(key, rate) for key, rate in questions if key is not None and 0 <= rate < ABSURD]

    def look(self, name: bytes, patience: float) -> list[dict[str, Any]]:
        """What the workers hold of a name in L1, each entry with its `node` and `worker`; `patience` in seconds."""
        asked = os.urandom(8).hex()
        found: list[dict[str, Any]] = []
        with self.listening(patience) as ear:
            waiting = {Place(each.node, each.incarnation, each.worker) for each in self.members() if each.present}
            question = json.dumps({"event": "look", "id": asked, "name": name_text(name)})
            self._redis.publish(self._names.control, LOOK.decode() + " " + question)
            deadline = time.monotonic() + patience
            while waiting and (left := deadline - time.monotonic()) > 0:
                told = read_message(ear.get_message(timeout=left))
                if told.get("event") == asked and isinstance(told.get("held"), list):
                    waiting.discard(Place(told["node"], told["incarnation"], told["worker"]))
                    found += [{"node": told["node"], "worker": told["worker"]} | entry
                              for entry in told["held"] if isinstance(entry, dict)]  # fmt: skip
        return found
