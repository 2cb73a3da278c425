"""`rdnscache cache flush`: the whole cluster forgets, and says so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rdnscache.cli.access import open_browser, open_cluster, redis_options
from rdnscache.cli.output import echo, echo_json, entries, on_terminal
from rdnscache.cli.progress import keys
from rdnscache.dns.names import parse_name, rcode_number, type_number
from rdnscache.store.scope import Scope

if TYPE_CHECKING:
    from rdnscache.operator.flush import Flush


@click.command()
@click.argument("name", default="")
@click.option("--type", "rtype", metavar="TYPE", help="Only this type of NAME.")
@click.option("--zone", metavar="NAME", help="This name and everything below it.")
@click.option("--rcode", metavar="RCODE", help="Only entries with this RCODE, such as SERVFAIL.")
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@click.option(
    "--wait",
    "patience",
    metavar="SECONDS",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.05, 60),
    help="For the workers to confirm.",
)
@redis_options
def flush(
    name: str,
    rtype: str | None,
    zone: str | None,
    rcode: str | None,
    everything: bool,
    patience: float,
    url: str | None,
    prefix: str,
    as_json: bool,
) -> None:
    """Make the whole cluster forget NAME, a zone, an RCODE, or everything: Redis and the local cache of every worker.

    Workers are told before the entries are deleted from Redis and again afterwards, and confirm both; the output says
    how long that took. When Redis has just been started or emptied it takes 3 s more, until all nodes are known again.
    Exit code 1 when one has not confirmed, or no node is there; who was away applies the flush when it returns.
    """
    from rdnscache.operator.flush import Flush
    from rdnscache.store.sweeping import PAGE

    scope = _scope(name, rtype, zone, rcode, everything)
    browser = open_browser(url, prefix)
    work = Flush(browser, open_cluster(url, prefix), scope, patience)
    hidden = name != "" or not on_terminal(sys.stderr)
    try:
        # claims are looked for first, then entries
        length = 1 if hidden else 2 * (keys(browser) or 0) // PAGE + 1
        bar: Any = click.progressbar(length=length, file=sys.stderr, label="deleting", hidden=hidden)
        with bar:
            work.step = lambda: bar.update(1)
            proof = work.run()
    except KeyboardInterrupt:
        _interrupted(work)
    if as_json:
        echo_json({"flushed": str(scope), "entries": work.deleted} | proof.as_json())
    else:
        local = f"{proof.entries} in local caches"
        echo(f"flushed {scope}: {entries(work.deleted)} in Redis, {local}; confirmed by {proof}")
        for problem in proof.problems:
            echo(f"rdnscache: {problem}", err=True)
    sys.exit(0 if proof.complete else 1)


def _interrupted(work: Flush) -> NoReturn:
    """Ctrl-C: whatever has been deleted is forgotten by the workers as well; and a person is told how far it came."""
    if work.begun:  # something may have been deleted that we have not heard of yet
        work.announce()
    told = "every worker was told" if work.announced else "no worker was told"
    rest = "" if work.swept else ", perhaps not all"
    echo(f"rdnscache: interrupted: {entries(work.deleted)} deleted{rest}; {told}, none was waited for", err=True)
    sys.exit(130)


def _scope(name: str, rtype: str | None, zone: str | None, rcode: str | None, everything: bool) -> Scope:
    """What to flush; UsageError for what does not go together or cannot be read."""
    if everything == bool(name or zone or rcode):
        raise click.UsageError("give a NAME, --zone, --rcode, or --all alone")
    if name and zone:
        raise click.UsageError("give a NAME or --zone, not both")
    if rtype and not (name or zone):
        raise click.UsageError("--type needs a NAME or --zone")
    if "*" in name + (zone or ""):
        raise click.UsageError("'*' is no pattern here: --zone NAME is NAME and all below it; in a name it is \\042")
    try:
        return Scope(
            name=parse_name(name) if name else None,
            zone=parse_name(zone) if zone else None,
            qtype=type_number(rtype) if rtype else None,
            rcode=rcode_number(rcode) if rcode else None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
