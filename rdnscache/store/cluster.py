"""The cluster as people see it: who is there, and telling all of them something. Through redis-py as it comes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from rdnscache.dns.names import name_text
from rdnscache.store.browse import redis_errors
from rdnscache.store.contract import ANNOUNCE, BEAT, EVENTS_KEPT, HOT_UNIT, LOOK, MEMBER_TTL, Names
from rdnscache.store.told import LONGEST_ANSWER, LONGEST_REPORT, read_object

#: Seconds without a word after which a worker counts as away: it should speak every BEAT.
SILENCE = 3 * BEAT + 0.5
#: Octets of what one worker tells of itself, and of what all do who are looked at together; workers in one command.
MAX_REPORT, MAX_TOLD, PORTION = 64 << 10, 8 << 20, 32
#: No name is asked so often in a second.
ABSURD = 1e9


@dataclass(frozen=True, slots=True)
class Member:
    """A worker as it described itself, `age` seconds ago."""

    node: str
    worker: int
    age: float
    told: Mapping[str, Any]

    @property
    def present(self) -> bool:
        return self.age < SILENCE

    @property
    def signs(self) -> bool:
        """Whether it has a secret."""
        config = self.told.get("config")
        return isinstance(config, dict) and bool(config.get("secret"))


@dataclass(slots=True)
class Proof:
    """Who has applied an event, and who has not. Times in seconds after it was announced."""

    #: The last worker of a node that has confirmed with all of its workers.
    confirmed: dict[str, float] = field(default_factory=dict)
    #: Why a node has not.
    missing: dict[str, str] = field(default_factory=dict)
    #: Entries the workers have dropped.
    entries: int = 0

    @property
    def complete(self) -> bool:
        return not self.missing

    def as_json(self) -> dict[str, Any]:
        times = {node: round(seconds * 1000, 1) for node, seconds in self.confirmed.items()}
        return {"local_entries": self.entries, "confirmed_ms": times, "missing": self.missing}

    def __str__(self) -> str:
        total = len(self.confirmed) + len(self.missing)
        slowest = max(self.confirmed.values(), default=0.0) * 1000
        text = f"{len(self.confirmed)}/{total} node{'' if total == 1 else 's'}"
        return f"{text}, {slowest:.0f} ms" if self.confirmed else text


class Cluster:
    """All workers that use a Redis with one prefix. Every method raises StoreDown when Redis cannot be used."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._redis: Any = client
        self._names = names

    def members(self) -> list[Member]:
        """Every worker that is there, or was within the last hour and did not say goodbye."""
        with redis_errors():
            found: Any = self._redis.smembers(self._names.nodes)
            places = sorted(place.decode("utf-8", "replace") for place in found)
            pipeline = self._redis.pipeline(transaction=False)
            for place in places:
                key = f"{self._names.root}node:{place}"
                pipeline.get(key)
                pipeline.pttl(key)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        members, gone = [], []
        for place, raw, left in zip(places, replies[::2], replies[1::2], strict=True):
            member = _member(place, raw, left)
            if member is None:
                gone.append(place)
            else:
                members.append(member)
        if gone:
            with redis_errors():
                self._redis.srem(self._names.nodes, *gone)
        return members

    def some_members(self, limit: int, breathe: Callable[[], None]) -> tuple[list[Member], int]:
        """Members as Redis happens to list them, and how many there are besides; for who has more to do than to look.

        At most `limit`, and MAX_TOLD octets of what they tell. `breathe` is called after every short step.
        """
        with redis_errors():
            total = int(self._redis.scard(self._names.nodes))
        found: list[Member] = []
        seen = octets = 0
        for places in self._some_places(limit):
            seen += len(places)
            for place, raw, left in self._reports(places):
                octets += len(raw) if isinstance(raw, bytes) else 0
                member = _member(place, raw, left)
                if member is not None:
                    found.append(member)
                breathe()
            if octets > MAX_TOLD:
                break
        return found, max(total - seen, 0)

    def _some_places(self, limit: int) -> Iterator[list[str]]:
        """Names of members, in portions; each once."""
        cursor, known = -1, set[bytes]()
        while cursor and len(known) < limit:
            with redis_errors():
                cursor, raw = self._redis.sscan(self._names.nodes, max(cursor, 0), count=PORTION)
            places = sorted(set(raw) - known)[: limit - len(known)]
            known.update(places)
            for start in range(0, len(places), PORTION):
                yield [place.decode("utf-8", "replace") for place in places[start : start + PORTION]]

    def _reports(self, places: list[str]) -> Iterator[tuple[str, Any, Any]]:
        """Each member's name, what it tells, None where that is too much, and the PTTL of that."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for place in places:
                key = f"{self._names.root}node:{place}"
                pipeline.getrange(key, 0, MAX_REPORT)
                pipeline.pttl(key)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        for place, raw, left in zip(places, replies[::2], replies[1::2], strict=True):
            yield place, raw if isinstance(raw, bytes) and len(raw) <= MAX_REPORT else None, left

    def forget(self, node: str) -> int:
        """Stop expecting a node that will not come back; how many workers it had."""
        workers = [member for member in self.members() if member.node == node]
        for member in workers:
            place = f"{node}.{member.worker}"
            with redis_errors():
                self._redis.delete(f"{self._names.root}node:{place}")
                self._redis.srem(self._names.nodes, place)
        return len(workers)

    def announce(self, told: Mapping[str, str]) -> str:
        """Tell every worker, and those that are away when they return; the event's ID."""
        control = self._names.control
        with redis_errors():
            event_id: Any = self._redis.eval(
                ANNOUNCE.source.decode(), 1, control, control, json.dumps(dict(told)), EVENTS_KEPT
            )
        return str(event_id.decode())

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
        with redis_errors(), self._redis.pubsub() as ear:
            ear.subscribe(self._names.acks)
            ear.get_message(timeout=patience)
            waiting = {(member.node, member.worker) for member in self.members() if member.present}
            question = json.dumps({"event": "look", "id": asked, "name": name_text(name)})
            self._redis.publish(self._names.control, LOOK.decode() + " " + question)
            deadline = time.monotonic() + patience
            while waiting and (left := deadline - time.monotonic()) > 0:
                for told in _acks(ear.get_message(timeout=left), asked, "held", list):
                    waiting.discard((told["node"], told["worker"]))
                    found += [{"node": told["node"], "worker": told["worker"]} | entry
                              for entry in told["held"] if isinstance(entry, dict)]  # fmt: skip
        return found

    def tell(self, told: Mapping[str, str], patience: float) -> Proof:
        """Announce an event and wait, `patience` seconds at most, until every worker has confirmed it."""
        proof = Proof()
        waiting: dict[str, set[int]] = {}
        with redis_errors(), self._redis.pubsub() as ear:
            ear.subscribe(self._names.acks)
            ear.get_message(timeout=patience)  # confirms the subscription
            for member in self.members():
                if member.present:
                    waiting.setdefault(member.node, set()).add(member.worker)
                else:
                    proof.missing.setdefault(member.node, f"not heard of for {member.age:.0f} s")
            started = time.monotonic()
            event_id = self.announce(told)
            while waiting and (left := started + patience - time.monotonic()) > 0:
                for told_back in _acks(ear.get_message(timeout=left), event_id, "entries", int):
                    node = told_back["node"]
                    proof.entries += told_back["entries"]
                    waiting.get(node, set()).discard(told_back["worker"])
                    if not waiting.get(node, {0}):
                        del waiting[node]
                        proof.confirmed[node] = time.monotonic() - started
        for node, workers in waiting.items():
            proof.missing[node] = f"no word from worker {', '.join(map(str, sorted(workers)))}"
        for node in proof.missing:
            proof.confirmed.pop(node, None)
        return proof


def _acks(message: Any, event_id: str, name: str, kind: type) -> Iterator[dict[str, Any]]:
    """What a message on the channel for acknowledgements says of an event, when it has a field of this kind."""
    if not message or message["type"] != "message":
        return
    try:
        told = read_object(message["data"], LONGEST_ANSWER)
        fits = isinstance(told["node"], str) and isinstance(told["worker"], int) and isinstance(told[name], kind)
        if fits and told["event"] == event_id:
            yield told
    except (ValueError, KeyError, TypeError):
        return  # not from a worker


def _member(place: str, raw: Any, left_ms: Any) -> Member | None:
    node, _, worker = place.rpartition(".")
    if not isinstance(raw, bytes) or not isinstance(left_ms, int) or not worker.isdigit():
        return None
    try:
        told = read_object(raw, LONGEST_REPORT)
    except ValueError:
        return None
    return Member(node, int(worker), max(MEMBER_TTL - left_ms / 1000, 0.0), told)
