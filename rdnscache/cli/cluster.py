"""`rdnscache cluster`, `reload` and `restart`: the nodes of the cluster, their status, and orders to them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from rdnscache.cli.access import Seconds, open_cluster, redis_options
from rdnscache.cli.completion import nodes
from rdnscache.cli.output import echo, echo_json, echo_nothing, echo_table
from rdnscache.cli.status_table import status_lines
from rdnscache.errors import ConfigError
from rdnscache.operator.cluster_status import summarize
from rdnscache.operator.proof import called
from rdnscache.printable import natural

if TYPE_CHECKING:
    from rdnscache.operator.members import Members
    from rdnscache.store.membership import Member

#: Seconds within which a running node answers.
ANSWERS = 1.0
#: Seconds between updates with --watch.
LOOK = 2.0


@click.group()
def cluster() -> None:
    """See which nodes are in the cluster, and their status."""


@cluster.command()
@click.option("--watch", is_flag=True, help="Update every two seconds, until Ctrl-C.")
@redis_options
def status(watch: bool, url: str | None, prefix: str, as_json: str) -> None:
    """Show nodes, workers, versions, rates, where answers come from, and differences between nodes.

    Rates are those of the last seconds. Answers are given by layer, in percent, as in metrics and on the page: l1 is
    the worker's local cache, flight a question that was being resolved already, l2 Redis, follower an answer that
    another worker or node was fetching at the time, upstream a server that was asked, stale an entry past its TTL,
    failure no answer, local an answer that needs neither cache nor upstream.

    Gaps are counted since the workers started: links to Redis lost / events read late / wake-ups lost.

    Exit code 1 when a node is missing, or there is none.
    """
    members = open_cluster(url, prefix)
    while True:
        nodes = summarize(members.members())
        if watch and not as_json:
            click.clear()
        if as_json:
            echo_json([node.as_json() for node in nodes], as_json)
        elif nodes:
            echo(*status_lines(nodes))
        else:
            echo_nothing("no node is running")
        if not watch:
            sys.exit(0 if nodes and all(node.present for node in nodes) else 1)
        time.sleep(LOOK)


@cluster.command("members")
@redis_options
def list_members(url: str | None, prefix: str, as_json: str) -> None:
    """List every worker, and when it last reported."""
    found = open_cluster(url, prefix).members()
    if as_json:
        echo_json([_member(each) for each in found], as_json)
        return
    names = called({(each.node, each.incarnation) for each in found})
    rows = ((f"{names[each.node, each.incarnation]}.{each.worker}", _heard(each)) for each in found)
    if not echo_table(("WORKER", "HEARD"), rows):
        echo_nothing("no worker is running")


def _heard(member: Member) -> str:
    return f"{member.age:.1f} s ago{'' if member.present else ', missing'}"


def _member(each: Member) -> dict[str, str | int | float]:
    return {"node": each.node, "incarnation": each.incarnation, "worker": each.worker, "age": each.age}


@cluster.command()
@click.argument("node", shell_complete=nodes)
@redis_options
def config(node: str, url: str | None, prefix: str, as_json: str) -> None:
    """Show the options of NODE, defaults included; secrets and passwords are masked.

    Exit code 1 when there is no node of that name.
    """
    found = [each for each in open_cluster(url, prefix).members() if node in (each.node, each.full_name)]
    if not found:
        echo(f"rdnscache: no node is called {node}", err=True)
        if as_json:
            echo_json({}, as_json)
        sys.exit(1)
    told = min(found, key=lambda each: each.age).told
    parts = (told.get("own"), told.get("config"))
    values = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
    if as_json:
        echo_json(values, as_json)
    else:
        echo(*(f"{name} = {json.dumps(value)}" for name, value in sorted(values.items())))


@cluster.command()
@click.argument("node", shell_complete=nodes)
@click.option("--force", is_flag=True, help="Also a node that still runs: it registers again with its next report.")
@redis_options
def forget(node: str, force: bool, url: str | None, prefix: str, as_json: str) -> None:
    """Remove NODE from the register: it ended without saying goodbye and will not come back.

    Exit code 1 when there is no node of that name, 2 when it still answers.
    """
    members = open_cluster(url, prefix)
    if not force and members.answering(node, ANSWERS):
        raise ConfigError(f"{node} is there, and answers: end it first, or give --force")
    count = members.forget(node)
    if as_json:
        echo_json({"node": node, "workers": count}, as_json)
    elif count:
        echo(f"forgot {node}: {count} worker{'' if count == 1 else 's'}")
    else:
        echo(f"rdnscache: no node is called {node}", err=True)
    sys.exit(0 if count else 1)


_wait_option = click.option(
    "--wait", "patience", metavar="SECONDS", default=30.0, show_default=True, type=Seconds(0, 600),
    help="For the nodes to have done it; 0: only tell them.",
)  # fmt: skip


@click.command()
@click.option("--node", metavar="WORD", shell_complete=nodes, help="Only this node.")
@_wait_option
@redis_options
def reload(node: str | None, patience: float, url: str | None, prefix: str, as_json: str) -> None:
    """Make nodes read their configuration again and apply it, worker by worker, without losing a query.

    Each node reports the result: a configuration that cannot be used is refused, and the old one stays in use.

    Exit code 1 when a node has refused or not reported, or there is none.
    """
    _order("reload", node, patience, open_cluster(url, prefix), as_json)


@click.command()
@click.option("--node", metavar="WORD", shell_complete=nodes, help="Only this node.")
@_wait_option
@redis_options
def restart(node: str | None, patience: float, url: str | None, prefix: str, as_json: str) -> None:
    """Make nodes restart on the sockets they have, without losing a query: for a new version, or any changed option.

    Each node reports the result: one that could not start again keeps running as it is.

    Exit code 1 when a node has refused or not reported, or there is none.
    """
    _order("restart", node, patience, open_cluster(url, prefix), as_json)


def _order(what: str, node: str | None, patience: float, members: Members, as_json: str) -> None:
    """Send an order to one node or to all of them, and print the results."""
    from rdnscache.operator.orders import named, order

    nodes = named(members.members(), node)
    if not nodes:
        echo("rdnscache: no node is running" if node is None else f"rdnscache: no node is called {node}", err=True)
        if as_json:
            echo_json({what: [], "refused": {}, "silent": []}, as_json)
        sys.exit(1)
    names = sorted({life[0] for life in nodes})
    found = order(members, what, None if node is None else names[0], nodes, patience)
    if as_json:
        echo_json({what: sorted(found.done, key=natural), "refused": found.refused, "silent": found.silent}, as_json)
    elif patience == 0:
        told = ", ".join(sorted(nodes.values(), key=natural))
        echo(f"sent to {told}; the result will be in `rdnscache cluster status`")
    else:
        echo(*(f"{name}: {what} done{f' ({note})' if note else ''}" for name, note in _in_order(found.done)))
        for name, reason in _in_order(found.refused):
            echo(f"rdnscache: {name} has refused: {reason}", err=True)
        for name in found.silent:
            echo(f"rdnscache: {name} has not reported a result within {patience:g} s", err=True)
    sys.exit(1 if patience and (found.refused or found.silent) else 0)


def _in_order(told: Mapping[str, str]) -> list[tuple[str, str]]:
    """Texts by node, in the order of their names."""
    return sorted(told.items(), key=lambda item: natural(item[0]))
