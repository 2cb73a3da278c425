"""`rdnscache cluster` and `rdnscache reload`: who is there, how they are, and telling them something."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from rdnscache.cli.access import open_cluster, redis_options
from rdnscache.cli.output import echo, echo_json
from rdnscache.endpoint import rate_text
from rdnscache.errors import ConfigError
from rdnscache.operator.cluster_status import NodeStatus, budgets, summarize
from rdnscache.operator.policy_status import policy_lines
from rdnscache.operator.proof import called
from rdnscache.printable import printable

if TYPE_CHECKING:
    from rdnscache.operator.members import Members
    from rdnscache.store.membership import Member

#: Seconds in which a node that is there answers.
ANSWERS = 1.0
#: Seconds between two looks with --watch.
LOOK = 2.0


@click.group()
def cluster() -> None:
    """See who is in the cluster, and how they are."""


@cluster.command()
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@redis_options
def status(watch: bool, url: str | None, prefix: str, as_json: bool) -> None:
    """Show nodes, workers, versions, rates, where answers come from, and what differs.

    Rates are those of the last seconds; `gaps` are links to Redis given up, events learnt late, wake-ups lost.
    Exit code 1 when a node is missing.
    """
    members = open_cluster(url, prefix)
    while True:
        nodes = summarize(members.members())
        if watch and not as_json:
            click.clear()
        if as_json:
            echo_json([node.as_json() for node in nodes])
        else:
            echo(*_table(nodes))
        if not watch:
            sys.exit(0 if nodes and all(node.present for node in nodes) else 1)
        time.sleep(LOOK)


@cluster.command("members")
@redis_options
def list_members(url: str | None, prefix: str, as_json: bool) -> None:
    """List every worker, and when it last said something."""
    found = open_cluster(url, prefix).members()
    if as_json:
        echo_json([_member(each) for each in found])
        return
    names = called({(each.node, each.incarnation) for each in found})
    for each in found:
        name = names[each.node, each.incarnation]
        echo(f"{name}.{each.worker}  {each.age:.1f} s ago{'' if each.present else ', missing'}")


def _member(each: Member) -> dict[str, str | int | float]:
    return {"node": each.node, "incarnation": each.incarnation, "worker": each.worker, "age": each.age}


@cluster.command()
@click.argument("node")
@redis_options
def config(node: str, url: str | None, prefix: str, as_json: bool) -> None:
    """Show with which options NODE runs, defaults included; secrets and passwords are masked.

    Exit code 1 when no node is called so.
    """
    found = [each for each in open_cluster(url, prefix).members() if node in (each.node, each.full_name)]
    if not found:
        echo(f"rdnscache: no node is called {node}", err=True)
        sys.exit(1)
    told = min(found, key=lambda each: each.age).told
    parts = (told.get("own"), told.get("config"))
    values = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
    if as_json:
        echo_json(values, indent=2)
    else:
        echo(*(f"{name} = {json.dumps(value)}" for name, value in sorted(values.items())))


@cluster.command()
@click.argument("node")
@click.option("--force", is_flag=True, help="Also a node that is there: it enters itself again with its next word.")
@redis_options
def forget(node: str, force: bool, url: str | None, prefix: str, as_json: bool) -> None:
    """Stop expecting NODE: it ended without a goodbye and will not come back.

    Exit code 1 when no node is called so, 2 when it answers.
    """
    members = open_cluster(url, prefix)
    if not force and members.answering(node, ANSWERS):
        raise ConfigError(f"{node} is there, and answers: end it first")
    count = members.forget(node)
    if as_json:
        echo_json({"node": node, "workers": count})
    elif count:
        echo(f"forgot {node}: {count} worker{'' if count == 1 else 's'}")
    else:
        echo(f"rdnscache: no node is called {node}", err=True)
    sys.exit(0 if count else 1)


#: Columns of layers, and what they are called there.
_LAYERS = {
    "l1": "l1", "flight": "joined", "l2": "l2", "follower": "other", "upstream": "upstream", "stale": "stale",
    "failure": "failed",
}  # fmt: skip


def _table(nodes: list[NodeStatus]) -> list[str]:
    if not nodes:
        return ["no node is there"]
    head = ("node", "workers", "version", "up", "queries/s", *_LAYERS.values(), "Redis", "gaps", "upstreams")
    rows = [head, *(tuple(map(printable, _cells(node))) for node in nodes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for upstream, told in budgets(nodes).items():
        kept = f", {told['reserved']:.0f}/s reserved for who may be cut off" if told["reserved"] >= 0.5 else ""
        lines.append(f"budget {printable(upstream)}: {told['used']:.0f}/s of {rate_text(told['budget'])}{kept}")
    lines += map(printable, policy_lines(nodes))
    for node in nodes:
        lines += [f"{node.node}: {text}" for text in node.remarks]
    return lines


def _cells(node: NodeStatus) -> tuple[str, ...]:
    if not node.present:
        return (
            node.node,
            "-",
            node.version,
            f"silent for {node.silent:.0f} s",
            *("-" for _ in range(len(_LAYERS) + 4)),
        )
    shares = (f"{node.shares[layer]:.1%}" if node.qps else "-" for layer in _LAYERS)
    redis = "away" if not node.attached else f"{node.redis_ms:.1f} ms"
    if 0 < node.attached < node.workers:
        redis = f"{node.attached}/{node.workers} workers"
    if node.redis_state not in ("attached", "away"):
        redis = f"{node.redis_state}, {redis}"
    gaps = f"{node.detachments}/{node.events_missed}/{node.wakes_lost}"
    ups = " ".join(f"{up['address']}{_health(up)}" for up in node.upstreams)
    workers = f"{node.workers_present}/{node.workers}"
    return (node.node, workers, node.version, _duration(node.uptime), f"{node.qps:,.0f}", *shares, redis, gaps, ups)


def _health(upstream: dict[str, Any]) -> str:
    if upstream["rests"]:
        return f" (rests {upstream['rests']:.0f} s)"
    return f" {upstream['ms']:.1f} ms" if upstream["ms"] else " (not asked yet)"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


_wait_option = click.option(
    "--wait", "patience", metavar="SECONDS", default=30.0, show_default=True, type=click.FloatRange(0, 600),
    help="For the nodes to have done it; 0: only tell them.",
)  # fmt: skip


@click.command()
@click.option("--node", metavar="WORD", help="Only this node.")
@_wait_option
@redis_options
def reload(node: str | None, patience: float, url: str | None, prefix: str, as_json: bool) -> None:
    """Make nodes read their configuration again and take over what changed, worker by worker, without a lost query.

    Each node says how it went: a configuration that cannot be used is refused, and the old one stays.
    Exit code 1 when a node has refused or said nothing, or none is there.
    """
    _order("reload", node, patience, open_cluster(url, prefix), as_json)


@click.command()
@click.option("--node", metavar="WORD", help="Only this node.")
@_wait_option
@redis_options
def restart(node: str | None, patience: float, url: str | None, prefix: str, as_json: bool) -> None:
    """Make nodes restart on the sockets they have, without a lost query: for a new version, or any option.

    Each node says how it went: one that could not start with what is there now goes on as it is.
    Exit code 1 when a node has refused or said nothing, or none is there.
    """
    _order("restart", node, patience, open_cluster(url, prefix), as_json)


def _order(what: str, node: str | None, patience: float, members: Members, as_json: bool) -> None:
    """Tell one node or all of them, and say what came of it."""
    from rdnscache.operator.orders import named, order

    nodes = named(members.members(), node)
    if not nodes:
        echo("rdnscache: no node is there" if node is None else f"rdnscache: no node is called {node}", err=True)
        if as_json:
            echo_json({what: [], "refused": {}, "silent": []})
        sys.exit(1)
    names = sorted({life[0] for life in nodes})
    found = order(members, what, None if node is None else names[0], nodes, patience)
    if as_json:
        echo_json({what: sorted(found.done), "refused": found.refused, "silent": found.silent})
    elif patience == 0:
        echo(f"told {', '.join(sorted(nodes.values()))}; how it went is in `rdnscache cluster status`")
    else:
        echo(*(f"{name}: {what} done{f' ({note})' if note else ''}" for name, note in sorted(found.done.items())))
        for name, reason in sorted(found.refused.items()):
            echo(f"rdnscache: {name} has refused: {reason}", err=True)
        for name in found.silent:
            echo(f"rdnscache: {name} has not said how it went within {patience:g} s", err=True)
    sys.exit(1 if patience and (found.refused or found.silent) else 0)
