"""Members of the cluster: their reports and confirmations, read without trusting them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rdnscache.breath import Breathe, go_on
from rdnscache.kernel import Incarnation, born, since_boot
from rdnscache.store.contract import MEMBER_TTL, SILENCE, VERSION
from rdnscache.store.foreign_json import LONGEST_ANSWER, LONGEST_REPORT, read_object
from rdnscache.store.steering import WorkerId

#: Maximum workers of a node; maximum characters of its name.
MOST_OF_A_NODE, LONGEST_NAME = 256, 255
#: Workers of the register read between two breaths.
PORTION = 100


#: A version of the contract.
_VERSION = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Member:
    """A worker and its report, `told`; its last heartbeat was `age` seconds ago."""

    node: str
    incarnation: str
    worker: int
    age: float
    told: Mapping[str, Any]

    @property
    def full_name(self) -> str:
        """The name of its node and its incarnation, for nodes with the same name."""
        return f"{self.node} ({self.incarnation})"

    @property
    def present(self) -> bool:
        return self.age < SILENCE

    @property
    def workers(self) -> int:
        """The number of workers of its node; 0 if it is not known."""
        count = self.told.get("workers")
        return count if isinstance(count, int) and 0 <= count <= MOST_OF_A_NODE else 0

    @property
    def contract(self) -> str:
        """The version of the entries that it shares; empty if it cannot be read."""
        told = self.told.get("contract", VERSION)
        return told if isinstance(told, str) and _VERSION.fullmatch(told) else ""

    @property
    def leaves(self) -> bool:
        """Whether its node is shutting down."""
        return self.told.get("leaving") is True

    @property
    def signs(self) -> bool:
        """Whether it has a secret."""
        config = self.told.get("config")
        return isinstance(config, dict) and bool(config.get("secret"))


@dataclass(frozen=True, slots=True)
class Ack:
    """A worker's confirmation of an event; `learnt` says that it was applied while attaching."""

    event: str
    node: str
    incarnation: str
    worker: int
    entries: int
    learnt: bool


def read_message(message: bytes) -> dict[str, Any]:
    """The fields of a message on the channel for acknowledgements; empty if it is not from a worker."""
    try:
        told = read_object(message, LONGEST_ANSWER)
    except ValueError:
        return {}
    texts = [told.get(name) for name in ("event", "node", "incarnation")]
    worker = told.get("worker")
    if not all(isinstance(text, str) and len(text) <= LONGEST_NAME for text in texts):
        return {}
    return told if isinstance(worker, int) and 0 <= worker < MOST_OF_A_NODE else {}


def read_ack(message: bytes) -> Ack | None:
    told = read_message(message)
    entries = told.get("entries")
    if not isinstance(entries, int) or not 0 <= entries < 1 << 40:
        return None
    who = told["node"], told["incarnation"], told["worker"]
    return Ack(told["event"], *who, entries, told.get("learnt") is True)


def member(text: str, age: float, told: Mapping[str, Any]) -> Member | None:
    """The worker that a member of the register names; None if it is not a worker's."""
    worker_id = WorkerId.parse(text)
    return Member(*worker_id, age, told) if worker_id is not None else None


class Roll(NamedTuple):
    """The reply of `steering.ROLL`."""

    new: bool
    age: float
    #: The seconds since the last heartbeat of each.
    workers: dict[str, float]
    total: int


def read_roll(reply: Any, breathe: Breathe = go_on) -> Roll | None:
    """The register in a reply; None if it is malformed. `breathe` is called regularly: there may be thousands."""
    try:
        new, age, now, told, total = reply
        moment = float(now)
        workers: dict[str, float] = {}
        for number, (text, then) in enumerate(zip(told[::2], told[1::2], strict=True)):
            silent = moment - float(then)
            if text != b"since" and silent <= MEMBER_TTL:
                workers[text.decode("utf-8", "replace")] = max(silent, 0.0)
            if number % PORTION == 0:
                breathe()
        return Roll(new == 1, float(age), workers, int(total))
    except (TypeError, ValueError, AttributeError):
        return None


def read_report(raw: Any) -> dict[str, Any]:
    """A worker's report; empty if it cannot be read."""
    try:
        return read_object(raw, LONGEST_REPORT) if isinstance(raw, bytes) else {}
    except ValueError:
        return {}


def replaced(raw: Any, life: Incarnation, age: float, up: float) -> bool:
    """Whether the last report of a worker proves it dead. Its node has our name, and it was silent before we began.

    It has been silent for `age` s, and we have run for `up` s. In doubt it lives: it could be cut off from Redis and
    still answer clients. See docs/decisions.md.
    """
    told = read_report(raw)
    host = told.get("host")
    if not isinstance(host, dict):
        return False
    same_machine = bool(life.boot) and host.get("boot") == life.boot
    if same_machine and host.get("space") == life.space:
        return _gone(host) and _gone(told)
    if told.get("twins") or up < SILENCE:
        return False
    return same_machine or not host.get("boot") or since_boot() < age


def _gone(told: Mapping[str, Any]) -> bool:
    """Whether the process in a report (`pid`, and `born`, its start time) has ended."""
    pid, then = told.get("pid"), told.get("born")
    return isinstance(pid, int) and isinstance(then, int) and 0 < pid < 1 << 31 and born(pid) != then
