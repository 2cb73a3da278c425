"""Orders to nodes, `reload` and `restart`, and the result that each node reports."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rdnscache.operator.members import Members
from rdnscache.operator.proof import Life, called
from rdnscache.printable import natural
from rdnscache.store.membership import Member, read_message


@dataclass(slots=True)
class Answers:
    """The results that nodes have reported for an order, by the nodes' names."""

    #: The nodes that have carried it out, each with a remark.
    done: dict[str, str] = field(default_factory=dict)
    #: The nodes that have not, each with the reason.
    refused: dict[str, str] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)


def named(members: Sequence[Member], node: str | None) -> dict[Life, str]:
    """The running nodes of that name, or all running nodes without a name, and the display name of each."""
    lives = called({(each.node, each.incarnation) for each in members if each.present})
    return {life: name for life, name in lives.items() if node in (None, life[0], name)}


def order(cluster: Members, what: str, node: str | None, nodes: Mapping[Life, str], patience: float) -> Answers:
    """Order `reload` or `restart`, and wait at most `patience` seconds for each node's result. Raises StoreDown."""
    answers, waiting = Answers(), dict(nodes)
    with cluster.listening(max(patience, 1.0)) as ear:
        event = cluster.announce({"event": what} | ({"node": node} if node else {}))
        deadline = time.monotonic() + patience
        while waiting and (left := deadline - time.monotonic()) > 0:
            for told in map(read_message, ear.hear(left)):
                cluster.breathe()
                said = told.get("order")
                if told.get("event") == event and isinstance(said, dict):
                    name = waiting.pop((told["node"], told["incarnation"]), None)
                    if name is not None:
                        _note(answers, name, said)
    answers.silent = sorted(waiting.values(), key=natural)
    return answers


def _note(answers: Answers, name: str, said: Mapping[str, Any]) -> None:
    refused = _text(said.get("refused"))
    if refused:
        answers.refused[name] = refused
        return
    waiting = said.get("waiting")
    remarks = [_text(said.get("note"))]
    if isinstance(waiting, list) and waiting:
        remarks.append(f"needs a restart: {', '.join(map(_text, waiting[:50]))}")
    answers.done[name] = "; ".join(filter(None, remarks))


def _text(told: Any) -> str:
    return told[:500] if isinstance(told, str) else ""
