"""The output of `cluster status`: three tables of 80 columns, and remarks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rdnscache.cli.output import aligned
from rdnscache.operator.cluster_status import NodeStatus, budgets
from rdnscache.operator.policy_status import policy_lines
from rdnscache.outcomes import LAYERS
from rdnscache.printable import printable
from rdnscache.rates import rate_text

NODES = ("node", "workers", "up", ">queries/s", "Redis", "gaps", "version")
GAPS = "gaps: links to Redis lost / events read late / wake-ups lost"
#: Longest name of a node in the table of answers; longest list of nodes for which an upstream rests.
LONGEST_NAME, LONGEST_RESTS = 15, 32


def status_lines(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """Nodes, where their answers come from, upstreams, and remarks for the operator."""
    yield from _table(NODES, map(_node, nodes))
    if any(node.present for node in nodes):
        yield GAPS
    shares = ((_brief(node.node), *_shares(node)) for node in nodes if node.present)
    yield from _table(("answers %", *(f">{layer}" for layer in LAYERS), ""), shares)
    yield from _table(("upstream", ">ms", "rests"), _upstreams(nodes))
    for upstream, told in budgets(nodes).items():
        kept = f", {told['reserved']:.0f}/s reserved for workers that may be cut off" if told["reserved"] >= 0.5 else ""
        yield f"budget {printable(upstream)}: {told['used']:.0f}/s of {rate_text(told['budget'])}{kept}"
    yield from map(printable, policy_lines(nodes))
    for node in nodes:
        if not node.present:
            yield f"{node.node}: silent for {node.silent:.0f} s"
        yield from (f"{node.node}: {text}" for text in node.remarks)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    return aligned(head, (tuple(map(printable, row)) for row in rows))


def _node(node: NodeStatus) -> tuple[str, ...]:
    if not node.present:
        return (node.node, *"-----", node.version.removesuffix(" (compiled)"))
    redis = "away" if not node.attached else f"{node.redis_ms:.1f} ms"
    if 0 < node.attached < node.workers:
        redis = f"{node.attached}/{node.workers} workers"
    if node.redis_state not in ("attached", "away"):
        redis = f"{node.redis_state}, {redis}"
    gaps = f"{node.detachments}/{node.events_missed}/{node.wakes_lost}"
    workers = f"{node.workers_present}/{node.workers}"
    version = node.version.removesuffix(" (compiled)")
    return node.node, workers, _duration(node.uptime), f"{node.qps:,.0f}", redis, gaps, version


def _shares(node: NodeStatus) -> tuple[str, ...]:
    return (*(f"{100 * node.shares[layer]:.1f}" if node.qps else "-" for layer in LAYERS), "")


def _upstreams(nodes: Sequence[NodeStatus]) -> Iterator[tuple[str, str, str]]:
    """Each upstream as all nodes see it: the shortest and longest mean round trip, and the nodes for which it rests."""
    seen: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for node in nodes:
        for told in node.upstreams if node.present else ():
            seen[told["address"]].append((node.node, told))
    for address, views in seen.items():
        times = sorted({f"{told['ms']:.1f}" for _, told in views if told["ms"]}, key=float)
        resting = [f"{_brief(node)} {_rest(told)}" for node, told in views if told["rests"] or told.get("resting")]
        yield address, "-".join([*times[:1], *times[1:][-1:]]) or "no answer yet", _some(resting) or "-"


def _rest(told: dict[str, Any]) -> str:
    return f"for {told['rests']:.0f} s" if told["rests"] else "until it answers"


def _some(texts: Sequence[str]) -> str:
    """The first texts, and how many more there are."""
    count = 1
    while count < len(texts) and len(", ".join(texts[: count + 1])) <= LONGEST_RESTS:
        count += 1
    more = [f"{len(texts) - count} more"] if len(texts) > count else []
    return ", ".join([*texts[:count], *more])


def _brief(name: str) -> str:
    """A name shortened to fit the table; the end is kept, since the names of pods differ there."""
    return name if len(name) <= LONGEST_NAME else f"{name[:4]}..{name[-LONGEST_NAME + 6 :]}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
