"""`rdnscache cache`: look into the shared cache, move it, and flush it."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TextIO, TypeVar

import click

from rdnscache.cli.access import open_browser, open_cluster, redis_options, secret_option
from rdnscache.cli.output import echo, echo_json, on_terminal
from rdnscache.cli.warm import warm
from rdnscache.dns.names import parse_name, question_text, rcode_number, rcode_text, type_number, type_text
from rdnscache.errors import ConfigError, StoreDown
from rdnscache.store.patterns import is_pattern, pattern_text
from rdnscache.store.scope import Scope

if TYPE_CHECKING:
    from rdnscache.operator.entries import Browser, View
    from rdnscache.operator.flush import Flush

T = TypeVar("T")


@click.group()
def cache() -> None:
    """Look into the shared cache, move it, and flush it."""


cache.add_command(warm)


@cache.command()
@click.argument("name")
@click.argument("rtype", metavar="[TYPE]", default="")
@secret_option
@redis_options
def get(name: str, rtype: str, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: bool) -> None:
    """Show what the cluster holds of NAME: all types and variants, or one TYPE; in Redis and in local caches.

    Exit code 1 when there is nothing.
    """
    from rdnscache.operator.lookup import lookup

    if "*" in name:
        raise click.UsageError("'*' is no pattern here: `cache ls PATTERN` lists what fits one; in a name it is \\042")
    try:
        browser = open_browser(url, prefix, secrets)
        browser.whole = True
        views = lookup(browser, open_cluster(url, prefix), name, rtype)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        echo_json([asdict(view) for view in views], indent=2)
    else:
        for view in views:
            echo(*_long(view))
    if not views:
        echo(f"rdnscache: nothing is stored for {name} {rtype}".rstrip(), err=True)
        sys.exit(1)


@cache.command("ls")
@click.argument("pattern", default="*")
@click.option("--type", "rtype", metavar="TYPE", help="Only this type.")
@click.option("--rcode", metavar="RCODE", help="Only this RCODE, such as NXDOMAIN.")
@click.option("--older", metavar="SECONDS", type=click.IntRange(0), help="Only entries at least so old.")
@click.option("--expiring", metavar="SECONDS", type=click.IntRange(0), help="Only entries fresh no longer than this.")
@click.option("--sort", type=click.Choice(["name", "age", "ttl", "rcode"]), help="Wait for all, then sort by this.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="Stop after N entries.")
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
    as_json: bool,
) -> None:
    """List the entries whose name fits PATTERN, such as '*.example.com'; all of them without one."""
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
    views = sorted(found, key=SORTS[sort]) if sort else found
    for view in itertools.islice(views, limit):
        if as_json:
            echo_json(asdict(view))
        else:
            echo(_short(view))


SORTS: dict[str, Callable[[View], Any]] = {
    "name": lambda view: (view.key.partition("{")[2].rpartition("}")[0].split(".")[::-1], view.key),
    "age": lambda view: -view.age,
    "ttl": lambda view: view.ttl_left,
    "rcode": lambda view: (view.rcode, view.key),
}


def progress(items: Iterable[T], browser: Browser, prints: bool = False, each: int = 1) -> Iterator[T]:
    """The same items; how far we are is shown to who waits, unless what comes of them is printed before that person.

    `each` is how many keys of Redis stand behind an item.
    """
    if not on_terminal(sys.stderr) or (prints and on_terminal(sys.stdout)):
        yield from items
        return
    length = _keys(browser)
    steps = None if length is None else length // each + 1
    with click.progressbar(items, steps, file=sys.stderr, label="reading", update_min_steps=1 + 1000 // each) as bar:
        yield from bar


def _keys(browser: Browser) -> int | None:
    """About how many keys there are; None where the user may not ask."""
    try:
        return browser.count()
    except StoreDown:
        return None


@cache.command()
@click.option("--zone", metavar="NAME", help="Only this name and everything below it.")
@click.option("--exact", is_flag=True, help="Count each entry, however many there are: some seconds for a million.")
@secret_option
@redis_options
def stats(zone: str | None, exact: bool, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: bool) -> None:
    """Count the entries by type, RCODE and state.

    With more than 50,000 keys in Redis (5,000 with a secret) the figures are estimates, from as many of them; the
    output says so, and by how much they may be off.
    """
    try:
        wanted = parse_name(zone) if zone else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    browser = open_browser(url, prefix, secrets)
    hidden = not on_terminal(sys.stderr)
    length = 1 if hidden else (_keys(browser) or 0) + 1
    with click.progressbar(length=length, file=sys.stderr, label="counting", hidden=hidden or not exact) as bar:
        for counts in browser.counts(wanted, not exact):
            bar.update(counts.looked - bar.pos)
    parts = {"types": counts.by(0), "rcodes": counts.by(1), "states": counts.by(2)}
    if as_json:
        told = {} if counts.exact else {"keys": counts.keys, "looked_at": counts.looked, "margin": counts.margin}
        echo_json({"entries": counts.entries, **parts, "exact": counts.exact, **told})
        return
    if counts.exact:
        echo(entries(counts.entries))
    else:
        echo(f"about {_about(counts.entries)} entries: estimated from {counts.looked:,} of {counts.keys:,} keys,"
             f" each figure within {_about(counts.margin)} of the truth in 95 cases of 100")  # fmt: skip
    tell = str if counts.exact else _about
    for name, part in parts.items():
        echo(f"{name:8} {', '.join(f'{label} {tell(number)}' for label, number in part.items()) or '-'}")


def _about(count: int) -> str:
    """Three digits of a figure, which is more than is known of it."""
    return f"{round(count, 3 - len(str(count))) if count >= 1000 else count:,}"


@cache.command()
@click.option(
    "--limit", metavar="N", default=20, show_default=True, type=click.IntRange(1, 1000), help="Questions to list."
)
@redis_options
def top(limit: int, url: str | None, prefix: str, as_json: bool) -> None:
    """List the questions the cluster is asked most, with queries a second.

    An average over all nodes in which a minute ago counts half, from samples told every ten seconds. Names that only
    fail are not among them.
    """
    hottest = open_cluster(url, prefix).hottest(limit)
    if as_json:
        echo_json([{"question": question_text(key), "qps": round(rate, 3)} for key, rate in hottest])
        return
    for key, rate in hottest:
        echo(f"{rate:12,.2f}  {question_text(key)}")


@cache.command("export")
@click.argument("file", type=click.File("w", lazy=True))
@secret_option
@redis_options
def export_entries(file: TextIO, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: bool) -> None:
    """Write all entries to FILE, '-' for standard output: one JSON object a line."""
    from rdnscache.operator.snapshot import export

    if file.name == "-" and sys.stdout is None:
        raise ConfigError("standard output is closed")
    browser = open_browser(url, prefix, secrets)
    count = -1  # the first line is no entry
    for line in progress(export(browser), browser, prints=file.name == "-"):
        file.write(line + "\n")
        count += 1
    text = json.dumps({"exported": count}) if as_json else f"exported {entries(count)}"
    echo(text, err=True)


@cache.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--replace", is_flag=True, help="Store what is in the file over what is in Redis.")
@secret_option
@redis_options
def import_entries(
    file: BinaryIO, replace: bool, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: bool
) -> None:
    """Store the entries of a snapshot, '-' for standard input. What is not an entry is refused and counted.

    With a secret they are signed: then be sure of where FILE is from.
    Exit code 1 when a line was refused, 2 when FILE is no snapshot, or the nodes have a secret and none is given.
    """
    from rdnscache.operator.snapshot import load

    browser = open_browser(url, prefix, secrets)
    signers = [member.node for member in open_cluster(url, prefix).members() if member.signs]
    if signers and not secrets:
        raise ConfigError(f"{signers[0]} believes only what is signed: give --secret, as to the node")
    size = os.fstat(file.fileno()).st_size if file.seekable() and on_terminal(sys.stderr) else 0
    bar: Any = click.progressbar(length=size, file=sys.stderr, label="storing", hidden=not size)
    with bar:
        counts = load(browser, file, replace, lambda: bar.update(file.tell() - bar.pos) if size else None)
    if as_json:
        echo_json(asdict(counts))
    else:
        echo(f"stored {counts.stored}, already there {counts.known}, refused {counts.refused}")
    sys.exit(1 if counts.refused else 0)


@cache.command()
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

    scope = _scope(name, rtype, zone, rcode, everything)
    browser = open_browser(url, prefix)
    work = Flush(browser, open_cluster(url, prefix), scope, patience)
    hidden = name != "" or not on_terminal(sys.stderr)
    try:
        length = 1 if hidden else (_keys(browser) or 0) + 1
        bar: Any = click.progressbar(length=length, file=sys.stderr, label="deleting", hidden=hidden)
        with bar:
            work.step = bar.update
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


def entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


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


def _long(view: View) -> list[str]:
    times = f"{view.state}, {view.ttl_left} s left, {view.age} s old"
    route = f" (route {view.route})" if view.route else ""
    asked = f"from {view.source}{route}, asked by {view.node}" + (f" at {view.stored}" if view.key else "")
    lines = [view.question, f"  {view.rcode}, {times}, {asked}"]
    lines += [f"  {line}" for line in view.answer]
    places = [f"{each['node']}.{each['worker']} ({each.get('state')}, {each.get('ttl_left')} s)" for each in view.l1]
    lines.append(f"  L1: {', '.join(sorted(places)) or 'in no worker'}")
    return lines


def _short(view: View) -> str:
    first = view.answer[0].split(" ", 4)[-1] if view.answer else "-"
    more = f" (+{len(view.answer) - 1})" if len(view.answer) > 1 else ""
    return f"{view.key} {view.rcode} {view.state} {view.ttl_left}s {first}{more}"
