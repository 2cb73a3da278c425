"""The status of the cluster: the reports of its workers, combined by node."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from operator import add
from typing import Any

from rdnscache.operator.policy_status import lagging, policy_of
from rdnscache.operator.proof import called
from rdnscache.operator.told import are_numbers, as_dict, as_list, number, word
from rdnscache.operator.traffic import l1_of, order_of
from rdnscache.outcomes import LAYERS
from rdnscache.printable import natural
from rdnscache.store.membership import Member
from rdnscache.store.steering import STEP, STEPS


@dataclass(slots=True)
class NodeStatus:
    """One node. Times in seconds; rates and shares are those of the last seconds."""

    node: str
    present: bool
    #: Seconds since its last report.
    silent: float
    version: str = ""
    uptime: float = 0.0
    workers: int = 0
    workers_present: int = 0
    #: Workers whose link to Redis is up.
    attached: int = 0
    redis_ms: float = 0.0
    #: The worst state of a worker's access to Redis.
    redis_state: str = ""
    #: Since the workers started: how often a link was lost, events read late, followers whose message was lost.
    detachments: int = 0
    events_missed: int = 0
    wakes_lost: int = 0
    qps: float = 0.0
    #: Of all answers, by layer.
    shares: dict[str, float] = field(default_factory=dict)
    upstream_qps: float = 0.0
    saved_qps: float = 0.0
    upstreams: list[dict[str, Any]] = field(default_factory=list)
    #: Totals of its workers: entries, octets and evictions of L1, and the limits of entries and octets.
    l1: dict[str, int] = field(default_factory=dict)
    #: The result of its last order, `reload` or `restart`.
    order: dict[str, Any] = field(default_factory=dict)
    #: Its policy: the version of the cluster's orders, whether blocking is paused, and the version of each list.
    policy: dict[str, Any] = field(default_factory=dict)
    #: Remarks for the operator: silent workers, options that differ from other nodes'.
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        for name in ("silent", "uptime", "qps", "upstream_qps", "saved_qps"):
            told[name] = round(told[name], 2)
        return told | {"shares": {layer: round(share, 4) for layer, share in self.shares.items()}}


#: Seconds after the end of a step when every worker has reported it: they report every two seconds.
SETTLED = 2.5
#: Seconds by which a clock may be off without a remark.
SKEW = 5.0
#: Facts other than options that should be equal on all nodes, and their names.
_SAME = {"version": "version", "contract": "the form of entries (contract)"}
#: States from good to bad.
STATES = ("none", "attached", "probing", "open", "clock", "away")


#: Limits, since anybody may have put reports into Redis: most remarks and upstreams shown of a node; most options
#: compared, those of most nodes first; most slow queries taken from a worker.
MAX_REMARKS, MAX_UPSTREAMS, MAX_OPTIONS, MAX_SLOW = 20, 64, 100, 50
#: Most options read of one worker, and most counted before the rarest are dropped.
MAX_TOLD, MAX_COUNTED = 400, 2000
#: Length in characters of a name of 255 octets that are all escaped.
MAX_NAME = 1016


def _go_on() -> None:
    """Nobody else waits."""


def summarize(members: Sequence[Member], breathe: Callable[[], None] = _go_on) -> list[NodeStatus]:
    """The status of each node; two of the same name are listed separately. `breathe` is called after every short
    step."""
    lives: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for member in members:
        lives[member.node, member.incarnation].append(member)
    names = called(lives)
    found = {}
    for life, workers in sorted(lives.items(), key=lambda item: natural(" ".join(item[0]))):
        found[names[life]] = _summary(names[life], workers, breathe)
        breathe()
    for status in found.values():
        status.remarks += lagging(status, found.values())
    _compare(found, {names[life]: workers for life, workers in lives.items()}, breathe)
    for life, workers in lives.items():
        remarks = found[names[life]].remarks
        if any(as_list(member.told.get("twins")) for member in workers):
            remarks.insert(0, f"another node is also named {life[0]}: give each its own --node-id")
        more = len(remarks) - MAX_REMARKS
        remarks[MAX_REMARKS:] = [f"and {more} more"] if more > 0 else []
        breathe()
    return list(found.values())


def _summary(called_so: str, members: list[Member], breathe: Callable[[], None]) -> NodeStatus:
    present = [member for member in members if member.present]
    latest = min(members, key=lambda member: member.age).told
    status = NodeStatus(called_so, bool(present), min(member.age for member in members))
    status.version = f"{word(latest.get('version'))} ({word(latest.get('form'))})"
    if not present:
        return status
    status.uptime = max(0.0, *(_by_its_clock(member) - number(member.told.get("started")) for member in present))
    status.workers = int(number(latest.get("workers")))
    status.workers_present = len(present)
    status.attached = sum(int(_counter(member, "redis_attached")) for member in present)
    status.redis_ms = max(number(member.told.get("redis_ms")) for member in present)
    states = {str(member.told.get("redis_state")) for member in present}
    status.redis_state = max((state for state in STATES if state in states), key=STATES.index, default="?")
    for name, counter in (("detachments", "redis_detachments"), ("events_missed",) * 2, ("wakes_lost",) * 2):
        setattr(status, name, sum(int(_counter(member, counter)) for member in present))
    status.upstreams = _upstreams(present, breathe)
    status.policy = policy_of(present)
    status.l1, status.order = l1_of(present), order_of(present)
    status.remarks = [
        f"worker {member.worker} has been silent for {member.age:.0f} s" for member in members if not member.present
    ] + _said(present)
    rates = dict.fromkeys(LAYERS, 0.0)
    for member in present:
        for layer in LAYERS:
            rates[layer] += _rate(member, f"answers.{layer}")
        breathe()
    total = sum(rates.values())
    status.shares = {layer: rate / total if total else 0.0 for layer, rate in rates.items()}
    status.qps = sum(_rate(member, f"queries.{transport}") for member in present for transport in ("udp", "tcp"))
    status.upstream_qps = rates["upstream"] + rates["failure"]
    status.saved_qps = sum(_rate(member, "upstream_queries_saved.other_node") for member in present)
    return status


def _by_its_clock(member: Member) -> float:
    """The present time according to the clock of a member's machine."""
    return number(member.told.get("time")) + member.age


def _said(present: Sequence[Member]) -> list[str]:
    """Remarks about a node's clock, and about the result of its last order."""
    remarks = []
    latest = min(present, key=lambda member: member.age)
    ahead = _by_its_clock(latest) - time.time()
    if latest.told.get("time") is not None and abs(ahead) >= SKEW:
        remarks.append(f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours")
    order = max((as_dict(member.told.get("order")) for member in present), key=lambda told: number(told.get("time")))
    refused, waiting = word(order.get("refused", ""), 500), as_list(order.get("waiting"))
    if refused:
        when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(number(order.get("time"))))
        remarks.append(f"it has refused a {word(order.get('what'))} at {when}: {refused}")
    if waiting:
        remarks.append(f"changed options that need a restart: {', '.join(map(word, waiting[:10]))}")
    return remarks


def _compare(
    nodes: Mapping[str, NodeStatus], lives: Mapping[str, Sequence[Member]], breathe: Callable[[], None]
) -> None:
    """Add a remark for every option whose value is not that of most nodes."""
    configs: dict[str, dict[str, Any]] = {}
    for name, members in lives.items():
        for member in members:
            if member.present:
                same = {name_of: member.told[told] for told, name_of in _SAME.items() if told in member.told}
                configs[name] = same | as_dict(member.told.get("config"))
        breathe()
    known: Counter[str] = Counter()
    for config in configs.values():
        known.update(islice(config, MAX_TOLD))
        if len(known) > MAX_COUNTED:
            known = Counter(dict(known.most_common(MAX_OPTIONS)))
        breathe()
    for option in sorted(name for name, _ in known.most_common(MAX_OPTIONS)):
        values = {}
        for node, config in configs.items():
            values[node] = _shown(config.get(option))
            breathe()
        counts = Counter(values.values())
        ranking = sorted(counts, key=lambda value: (-counts[value], value))
        undecided = len(ranking) > 1 and counts[ranking[0]] == counts[ranking[1]]  # then neither value is the usual one
        for name, status in nodes.items() if len(counts) > 1 else ():
            value = values.get(name, ranking[0])
            if value != ranking[0]:
                status.remarks.append(f"{option:.100} is {value}, elsewhere {ranking[0]}")
            elif undecided and name in values:
                status.remarks.append(f"{option:.100} is {value}, elsewhere {ranking[1]}")
        breathe()


def history(members: Sequence[Member], breathe: Callable[[], None] = _go_on) -> dict[str, Any]:
    """Answers per second of the whole cluster, by layer, in steps of STEP seconds, up to the last one all have
    reported.
    """
    last = int(time.time() - SETTLED) // STEP - 1
    numbers = range(last - STEPS + 2, last + 1)
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(LAYERS))
    for member in members:
        for step in as_list(member.told.get("history"))[-STEPS - 1 :]:
            if isinstance(step, list) and len(step) == len(LAYERS) + 1 and int(number(step[0])) in numbers:
                place, *answers = step if are_numbers(step) else map(number, step)
                sums[int(place)] = list(map(add, sums[int(place)], answers))
        breathe()
    layers = {
        layer: [round(max(sums[place][index], 0) / STEP, 2) if place in sums else 0.0 for place in numbers]
        for index, layer in enumerate(LAYERS)
    }
    return {"step": STEP, "end": (last + 1) * STEP, "layers": layers}


def slow(members: Sequence[Member], count: int, breathe: Callable[[], None] = _go_on) -> list[dict[str, Any]]:
    """The latest slow queries, newest first."""
    found: list[dict[str, Any]] = []
    for member in members:
        for each in map(as_dict, as_list(member.told.get("slow"))[-MAX_SLOW:]):
            told = {name: number(each.get(name)) for name in ("time", "ms")}
            words = {name: word(each.get(name)) for name in ("type", "layer")}
            found.append({"node": member.node, "name": word(each.get("name"), MAX_NAME)} | told | words)
        if len(found) > 2 * MAX_SLOW:
            found = _latest(found, count)
        breathe()
    return _latest(found, count)


def _latest(found: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return sorted(found, key=lambda each: -number(each["time"]))[:count]


def _counter(member: Member, name: str) -> float:
    return number(as_dict(member.told.get("counters")).get(name))


def _rate(member: Member, name: str) -> float:
    """Events a second."""
    return number(as_dict(member.told.get("recent")).get(name)) / max(number(member.told.get("recent_seconds")), 0.001)


def _shown(value: Any) -> str:
    """The value of an option as it was reported, cut before it is formatted."""
    return f"{[_cut(each) for each in value[:10]] if isinstance(value, list) else _cut(value)!r:.100}"


def _cut(value: Any) -> Any:
    return value[:100] if isinstance(value, str) else "?" if isinstance(value, list | dict) else value


#: The numbers reported about a budget.
_OF_A_BUDGET = ("budget", "used", "reserved")


def budgets(nodes: Sequence[NodeStatus]) -> dict[str, dict[str, float]]:
    """The upstreams with a budget, and the latest numbers about it."""
    found: dict[str, dict[str, float]] = {}
    for node in sorted(nodes, key=lambda node: -node.silent):
        for told in node.upstreams if node.present else ():
            if told.get("budget"):
                found[told["address"]] = {name: told[name] for name in _OF_A_BUDGET}
    return found


def _upstreams(members: Sequence[Member], breathe: Callable[[], None]) -> list[dict[str, Any]]:
    """A node's upstreams, each as the worker sees it for which it is slowest; its budget as reported last."""
    found: dict[str, dict[str, Any]] = {}
    for member in sorted(members, key=lambda member: -member.age):
        for told in map(as_dict, as_list(member.told.get("upstreams"))[:MAX_UPSTREAMS]):
            address = word(told.get("address"))
            if address not in found and len(found) == MAX_UPSTREAMS:
                continue
            seen = found.setdefault(address, {"address": address, "ms": 0.0, "rests": 0.0, "resting": False})
            seen["resting"] = seen["resting"] or told.get("resting") is True
            for name in ("ms", "rests"):
                seen[name] = max(seen[name], number(told.get(name)))
            if number(told.get("budget")):
                seen |= {name: number(told.get(name)) for name in _OF_A_BUDGET}
        breathe()
    return list(found.values())
