"""`rdnscache cache`: inspect, copy and flush the shared cache."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import click

from rdnscache.cli.access import open_browser, open_cluster, redis_options, secret_option
from rdnscache.cli.completion import names, rcodes, types
from rdnscache.cli.flush import flush
from rdnscache.cli.output import MOST, echo, echo_items, echo_json, echo_nothing, echo_table, entries, on_terminal
from rdnscache.cli.progress import progress
from rdnscache.cli.stats import stats
from rdnscache.cli.warm import warm
from rdnscache.dns.names import parse_name, question_text, rcode_number, rcode_text, type_number, type_text
from rdnscache.errors import ConfigError
from rdnscache.printable import natural, printable
from rdnscache.store.patterns import is_pattern, pattern_text, refuse_patterns

if TYPE_CHECKING:
    from rdnscache.operator.entries import View


@click.group()
def cache() -> None:
    """Inspect, copy and flush the shared cache."""


cache.add_command(flush)
cache.add_command(stats)
cache.add_command(warm)


@cache.command()
@click.argument("name", shell_complete=names)
@click.argument("rtype", metavar="[TYPE]", default="", shell_complete=types)
@secret_option
@redis_options
def get(name: str, rtype: str, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: str) -> None:
    """Show the entries of NAME: all types and variants, or one TYPE; in Redis and in local caches.

    Exit code 1 when there is nothing.
    """
    from rdnscache.operator.lookup import lookup

    try:
        refuse_patterns([name], "`cache ls PATTERN` lists what fits one")
        browser = open_browser(url, prefix, secrets)
        browser.whole = True
        views = lookup(browser, open_cluster(url, prefix), name, rtype)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        echo_json([asdict(view) for view in views], as_json)
    else:
        for view in views:
            echo(*_long(view))
    if not views:
        echo(f"rdnscache: nothing is stored for {name} {rtype}".rstrip(), err=True)
        sys.exit(1)


@cache.command("ls")
@click.argument("pattern", default="*", shell_complete=names)
@click.option("--type", "rtype", metavar="TYPE", shell_complete=types, help="Only this type.")
@click.option("--rcode", metavar="RCODE", shell_complete=rcodes, help="Only this RCODE, such as NXDOMAIN.")
@click.option("--older", metavar="SECONDS", type=click.IntRange(0), help="Only entries at least so old.")
@click.option("--expiring", metavar="SECONDS", type=click.IntRange(0), help="Only entries fresh no longer than this.")
@click.option("--sort", type=click.Choice(["name", "age", "ttl", "rcode"]), help="Wait for all, then sort by this.")
@click.option("--limit", metavar="N", type=click.IntRange(1, MOST), help="Stop after N entries.")
@secret_option
@redis_options
def list_entries(
    pattern: str,
    rtype: str | None,
    rcode: str | None,
    older: int | None,
    expiring: int | None,
    sort: str | None,
    limit: int | None,
    url: str | None,
    prefix: str,
    secrets: tuple[str, ...],
    as_json: str,
) -> None:
    """List the entries whose name matches PATTERN, such as '*.example.com'; without one, all entries."""
    try:
        text, wanted_type = pattern_text(pattern), type_text(type_number(rtype)) if rtype else ""
        wanted_rcode = rcode_text(rcode_number(rcode)) if rcode else ""
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    browser = open_browser(url, prefix, secrets)
    if is_pattern(pattern):
        candidates = progress(browser.find(text, wanted_type), browser, prints=sort is None)
    else:
        candidates = browser.of_name(parse_name(pattern), (wanted_type,) if wanted_type else (), search=True)
    found = (
        view
        for view in candidates
        if wanted_rcode in ("", view.rcode)
        and (older is None or view.age >= older)
        and (expiring is None or view.ttl_left <= expiring)
    )
    views = itertools.islice(sorted(found, key=SORTS[sort]) if sort else found, limit)
    if as_json:
        echo_items(map(asdict, views), as_json)
        return
    if not echo_table(HEAD, map(_short, views)):
        echo_nothing("there are no entries" if pattern == "*" else f"no entry matches {pattern}")


SORTS: dict[str, Callable[[View], Any]] = {
    "name": lambda view: (view.key.partition("{")[2].rpartition("}")[0].split(".")[::-1], view.key),
    "age": lambda view: -view.age,
    "ttl": lambda view: view.ttl_left,
    "rcode": lambda view: (view.rcode, view.key),
}


@cache.command()
@click.option(
    "--limit",
    metavar="N",
    default=20,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Most questions listed.",
)
@redis_options
def top(limit: int, url: str | None, prefix: str, as_json: str) -> None:
    """List the questions asked most in the cluster, with queries per second.

    Averages over all nodes, in which queries of a minute ago count half; updated every ten seconds. Names that only
    fail are not listed.
    """
    hottest = open_cluster(url, prefix).hottest(limit)
    if as_json:
        echo_json([{"question": question_text(key), "qps": round(rate, 3)} for key, rate in hottest], as_json)
        return
    if not echo_table((">QUERIES/S", "QUESTION"), ((f"{rate:,.2f}", question_text(key)) for key, rate in hottest)):
        echo_nothing("no question is asked often enough to be listed")


@cache.command("export")
@click.argument("file", type=click.File("w", lazy=True))
@secret_option
@redis_options
def export_entries(file: TextIO, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: str) -> None:
    """Write all entries to FILE, '-' for standard output: one JSON object per line."""
    from rdnscache.operator.pages import KEYS
    from rdnscache.operator.snapshot import export

    if file.name == "-" and sys.stdout is None:
        raise ConfigError("standard output is closed")
    browser = open_browser(url, prefix, secrets)
    count = 0
    try:
        for lines, some in progress(export(browser), browser, prints=file.name == "-", each=KEYS):
            file.write(lines)
            count += some
    except KeyboardInterrupt:
        echo(f"rdnscache: interrupted: {entries(count)} exported, not all", err=True)
        sys.exit(130)
    text = json.dumps({"exported": count}) if as_json else f"exported {entries(count)}"
    echo(text, err=True)


@cache.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--replace", is_flag=True, help="Replace entries that are in Redis already.")
@secret_option
@redis_options
def import_entries(
    file: BinaryIO, replace: bool, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: str
) -> None:
    """Store the entries of a snapshot, '-' for standard input. Lines that are not entries are refused and counted.

    If there is a secret, the entries are signed with it, so make sure that FILE can be trusted.
    Exit code 1 when a line was refused, 2 when FILE is not a snapshot, or the nodes have a secret and none is given.
    """
    from rdnscache.operator.snapshot import Counts, load

    browser = open_browser(url, prefix, secrets)
    signers = [member.node for member in open_cluster(url, prefix).members() if member.signs]
    if signers and not secrets:
        raise ConfigError(f"{signers[0]} accepts only signed entries: give the node's --secret")
    size = os.fstat(file.fileno()).st_size if file.seekable() and on_terminal(sys.stderr) else 0
    counts = Counts()
    bar: Any = click.progressbar(length=size, file=sys.stderr, label="storing", hidden=not size)
    try:
        with bar:
            load(browser, file, replace, counts, lambda: bar.update(file.tell() - bar.pos) if size else None)
    except KeyboardInterrupt:
        echo(f"rdnscache: interrupted: {entries(counts.stored)} stored, perhaps some more", err=True)
        sys.exit(130)
    if as_json:
        echo_json(asdict(counts), as_json)
    else:
        echo(f"stored {counts.stored}, already there {counts.known}, refused {counts.refused}")
    sys.exit(1 if counts.refused else 0)


def _long(view: View) -> list[str]:
    times = f"{view.state}, {view.ttl_left} s left, {view.age} s old"
    route = f" (route {view.route})" if view.route else ""
    asked = f"from {view.source}{route}, asked by {view.node}" + (f" at {view.stored}" if view.key else "")
    lines = [view.question, f"  {view.rcode}, {times}, {asked}"]
    lines += [f"  {line}" for line in view.answer]
    workers = [f"{each['node']}.{each['worker']} ({each.get('state')}, {each.get('ttl_left')} s)" for each in view.l1]
    lines.append(f"  L1: {', '.join(sorted(workers, key=natural)) or 'in no worker'}")
    return lines


#: Columns of a list of entries.
HEAD = ("NAME", "TYPE", "RCODE", "STATE", ">TTL", "ANSWER")


def _short(view: View) -> tuple[str, ...]:
    """A line of that list; the type is followed by the flags of the question, as in the key."""
    first = view.answer[0].split(" ", 4)[-1] if view.answer else "-"
    more = f" (+{len(view.answer) - 1})" if len(view.answer) > 1 else ""
    name, _, kind = view.key.partition("{")[2].rpartition("}:")
    return printable(name), printable(kind), printable(view.rcode), view.state, str(view.ttl_left), f"{first}{more}"
