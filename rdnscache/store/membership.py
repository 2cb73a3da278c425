"""What workers say to people, read with care: their reports, and what they confirm."""

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

#: Workers that one node may have; characters of its name.
MOST_OF_A_NODE, LONGEST_NAME = 256, 255
#: Workers of the register that are read in one step.
PORTION = 100


#: A version of the contract.
_VERSION = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Member:
    """A worker as it described itself; it has been silent for `age` seconds."""

    node: str
    incarnation: str
    worker: int
    age: float
    told: Mapping[str, Any]

    @property
    def full_name(self) -> str:
        """Of its node, where several have that name."""
        return f"{self.node} ({self.incarnation})"

    @property
    def present(self) -> bool:
        return self.age < SILENCE

    @property
    def workers(self) -> int:
        """How many its node has; 0 where that is not known."""
        count = self.told.get("workers")
        return count if isinstance(count, int) and 0 <= count <= MOST_OF_A_NODE else 0

    @property
    def contract(self) -> str:
        """The version of the entries that it shares; empty where that cannot be known."""
        told = self.told.get("contract", VERSION)
        return told if isinstance(told, str) and _VERSION.fullmatch(told) else ""

    @property
    def leaves(self) -> bool:
        """Whether its node is about to end."""
        return self.told.get("leaving") is True

    @property
    def signs(self) -> bool:
        """Whether it has a secret."""
        config = self.told.get("config")
        return isinstance(config, dict) and bool(config.get("secret"))


@dataclass(frozen=True, slots=True)
class Ack:
    """A worker's word that it has applied an event; `learnt` while it was attaching."""

    event: str
    node: str
    incarnation: str
    worker: int
    entries: int
    learnt: bool


def read_message(message: bytes) -> dict[str, Any]:
    """What a message on the channel for acknowledgements says, from whom; nothing when it is not from a worker."""
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
    """The worker that a text of the register names; None when it names none."""
    worker_id = WorkerId.parse(text)
    return Member(*worker_id, age, told) if worker_id is not None else None


class Roll(NamedTuple):
    """The register as Redis tells it; see `steering.ROLL`."""

    new: bool
    age: float
    #: The seconds for which each has been silent.
    workers: dict[str, float]
    total: int


def read_roll(reply: Any, breathe: Breathe = go_on) -> Roll | None:
    """`breathe` is called after every short step: there may be thousands."""
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
    """What a worker says of itself; nothing when it cannot be read."""
    try:
        return read_object(raw, LONGEST_REPORT) if isinstance(raw, bytes) else {}
    except ValueError:
        return {}


def replaced(raw: Any, life: Incarnation, age: float, up: float) -> bool:
    """Whether a worker of a node of our name, silent for `age` s, since before we began, is dead by its last report.

    We have been here for `up` s. In doubt it is not: it could be cut off and still answer. See docs/decisions.md.
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
    """Whether the process `pid` that was `born` then is no more."""
    pid, then = told.get("pid"), told.get("born")
    return isinstance(pid, int) and isinstance(then, int) and 0 < pid < 1 << 31 and born(pid) != then
