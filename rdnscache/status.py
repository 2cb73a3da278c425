"""The cluster in figures: what its workers say of themselves, put together by node."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdnscache.store.cluster import Member

#: The layers of `answers`, as columns.
LAYERS = ("l1", "flight", "l2", "follower", "upstream", "stale", "failure")


@dataclass(slots=True)
class NodeStatus:
    """One node. Times in seconds, shares of all answers between two looks."""

    node: str
    present: bool
    #: Since its last word.
    silent: float
    version: str = ""
    uptime: float = 0.0
    workers: int = 0
    workers_present: int = 0
    #: Workers whose link to Redis is up.
    attached: int = 0
    redis_ms: float = 0.0
    qps: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    upstreams: list[dict[str, Any]] = field(default_factory=list)
    #: What a person should know: silent workers, options that differ from the others'.
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def summarize(before: Sequence[Member], after: Sequence[Member], seconds: float) -> list[NodeStatus]:
    """A line for each node from two looks at the members, so many seconds apart."""
    old = {(member.node, member.worker): member for member in before}
    names = sorted({member.node for member in after})
    found = [_summary([member for member in after if member.node == name], old, seconds) for name in names]
    _compare(found, after)
    return found


def _summary(members: list[Member], old: dict[tuple[str, int], Member], seconds: float) -> NodeStatus:
    present = [member for member in members if member.present]
    latest = min(members, key=lambda member: member.age).told
    status = NodeStatus(members[0].node, bool(present), min(member.age for member in members))
    status.version = f"{latest.get('version', '?')} ({latest.get('form', '?')})"
    if not present:
        return status
    status.uptime = time.time() - min(_number(member.told.get("started")) for member in present)
    status.workers = int(_number(latest.get("workers")))
    status.workers_present = len(present)
    status.attached = sum(int(_counter(member, "redis_attached")) for member in present)
    status.redis_ms = max(_number(member.told.get("redis_ms")) for member in present)
    status.upstreams = [_upstream(each) for each in _list(latest.get("upstreams"))]
    status.remarks = [
        f"worker {member.worker} is silent for {member.age:.0f} s" for member in members if not member.present
    ]
    counts = dict.fromkeys(LAYERS, 0.0)
    queries, span = 0.0, 0.0
    for member in present:
        past = old.get((member.node, member.worker))
        if past is None or past.told.get("pid") != member.told.get("pid"):
            continue
        span = max(span, _number(member.told.get("time")) - _number(past.told.get("time")))
        for layer in LAYERS:
            counts[layer] += _counter(member, f"answers.{layer}") - _counter(past, f"answers.{layer}")
        for transport in ("udp", "tcp"):
            queries += _counter(member, f"queries.{transport}") - _counter(past, f"queries.{transport}")
    status.qps = max(queries / (span or seconds), 0.0)
    total = sum(counts.values())
    status.shares = {layer: count / total if total else 0.0 for layer, count in counts.items()}
    return status


def _compare(nodes: list[NodeStatus], members: Sequence[Member]) -> None:
    """Remark on every option whose value is not that of most nodes."""
    configs = {member.node: dict(_dict(member.told.get("config"))) for member in members if member.present}
    for option in sorted({name for config in configs.values() for name in config}):
        values = [repr(config.get(option)) for config in configs.values()]
        usual = max(sorted(set(values)), key=values.count)
        for status in nodes:
            value = configs.get(status.node, {}).get(option)
            if status.node in configs and repr(value) != usual:
                status.remarks.append(f"{option} is {value!r}, elsewhere {usual}")


def _counter(member: Member, name: str) -> float:
    return _number(_dict(member.told.get("counters")).get(name))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _upstream(value: Any) -> dict[str, Any]:
    told = _dict(value)
    return {"address": str(told.get("address")), "ms": _number(told.get("ms")), "rests": _number(told.get("rests"))}
