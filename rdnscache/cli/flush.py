"""`rdnscache cache flush`: delete entries in the whole cluster, with confirmation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rdnscache.cli.access import Seconds, open_browser, open_cluster, redis_options
from rdnscache.cli.completion import names, rcodes, types
from rdnscache.cli.completion import words as words_of
from rdnscache.cli.output import echo, echo_json, entries, on_terminal
from rdnscache.cli.progress import keys
from rdnscache.cli.question_words import sort_out
from rdnscache.dns.names import parse_name, rcode_number, shown, type_number
from rdnscache.operator.proof import Proof
from rdnscache.store.patterns import refuse_patterns
from rdnscache.store.scope import Scope

if TYPE_CHECKING:
    from rdnscache.operator.flush import Flush


@click.command()
@click.argument("words", metavar="[NAME]... [TYPE]...", nargs=-1, shell_complete=words_of)
@click.option(
    "--type", "rtypes", metavar="TYPE", multiple=True, shell_complete=types,
    help="Only this type of NAME or --zone; repeatable.",
)  # fmt: skip
@click.option(
    "--zone", "zones", metavar="NAME", multiple=True, shell_complete=names,
    help="This name and everything below it; repeatable.",
)  # fmt: skip
@click.option("--rcode", metavar="RCODE", shell_complete=rcodes, help="Only entries with this RCODE, such as SERVFAIL.")
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@click.option(
    "--wait",
    "patience",
    metavar="SECONDS",
    default=2.0,
    show_default=True,
    type=Seconds(0.05, 60),
    help="For the workers to confirm.",
)
@redis_options
def flush(
    words: tuple[str, ...],
    rtypes: tuple[str, ...],
    zones: tuple[str, ...],
    rcode: str | None,
    everything: bool,
    patience: float,
    url: str | None,
    prefix: str,
    as_json: str,
) -> None:
    """Delete NAMEs, zones, an RCODE, or everything from Redis and from the local cache of every worker.

    With TYPEs, delete only these. A word that could be either is a type, unless there is no other name; a final dot
    makes it a name.

    Every worker is told and confirms it: from then on nobody answers with what is meant, from Redis neither. The output
    says how long that took; entries are deleted for a moment then, and the nodes delete the rest. When Redis has just
    been started or emptied it takes 3 s more, until all nodes are known again.
    Several names are flushed one after the other.

    Exit code 1 when a worker has not confirmed, or no node is running; a worker that was away applies the flush when it
    returns.
    """
    from rdnscache.operator.flush import Flush

    scopes = _scopes(words, rtypes, zones, rcode, everything)
    browser = open_browser(url, prefix)
    cluster = open_cluster(url, prefix)
    proof, deleted, left = Proof(), 0, False
    for number, scope in enumerate(scopes):
        work = Flush(browser, cluster, scope, patience)
        found = _run(work, deleted)
        proof = found if number == 0 else proof.joined(found)
        deleted += work.deleted
        left |= not work.swept
    flushed = "; ".join(map(str, scopes))
    if as_json:
        echo_json({"flushed": flushed, "entries": deleted, "left_to_nodes": left} | proof.as_json(), as_json)
    else:
        rest = "; the nodes delete the rest from Redis" if left else ""
        count = f"{entries(deleted)} in Redis, {proof.entries} in local caches"
        echo(f"flushed {flushed}: {count}; confirmed by {proof}{rest}")
        for problem in proof.problems:
            echo(f"rdnscache: {problem}", err=True)
    sys.exit(0 if proof.complete else 1)


def _run(work: Flush, before: int) -> Proof:
    """Flush, with progress if it takes long. `before` is the number of entries deleted so far."""
    hidden = work.scope.name is not None or not on_terminal(sys.stderr)
    try:
        length = 1 if hidden else (keys(work.browser) or 0) + 1
        bar: Any = click.progressbar(length=length, file=sys.stderr, label="deleting", hidden=hidden)
        with bar:
            work.step = bar.update
            return work.run()
    except KeyboardInterrupt:
        _interrupted(work, before)


def _interrupted(work: Flush, before: int) -> NoReturn:
    """Ctrl-C: a person is told how far it came; what has been announced is done without us."""
    told = "every worker was told, none was waited for" if work.announced else "no worker was told"
    rest = "; the nodes delete the rest" if work.announced and not work.swept else ""
    echo(f"rdnscache: interrupted: {entries(before + work.deleted)} deleted; {told}{rest}", err=True)
    sys.exit(130)


def _scopes(
    words: Sequence[str], rtypes: Sequence[str], zones: Sequence[str], rcode: str | None, everything: bool
) -> list[Scope]:  # fmt: skip
    """The scopes to flush; UsageError for options that contradict each other or cannot be parsed."""
    try:
        said = sort_out(words, named=not zones)
        names = [*said.names, *said.classes]
        odd = [*(f"@{server}" for server in said.servers), *(f"+{flag}" for flag in said.flags)]
        if odd:
            raise ValueError(f"{odd[0]} is not a name that can be flushed")
        types = [*said.types, *rtypes]
        _refuse(names, types, zones, rcode, everything)
        numbers: list[int | None] = [*dict.fromkeys(map(type_number, types))]
        kind = rcode_number(rcode) if rcode else None
        whole = [Scope(rcode=kind)] if not (names or zones) else []
        return whole + [
            Scope(name=name, zone=zone, qtype=number, rcode=kind)
            for name, zone in dict.fromkeys(
                [(parse_name(each), None) for each in names] + [(None, parse_name(each)) for each in zones]
            )
            for number in numbers or [None]
        ]
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _refuse(
    names: Sequence[str], types: Sequence[str], zones: Sequence[str], rcode: str | None, everything: bool
) -> None:  # fmt: skip
    """Raises ValueError."""
    if everything == bool(names or zones or rcode):
        raise ValueError("give a NAME, --zone, --rcode, or --all alone")
    if names and zones:
        raise ValueError("give a NAME or --zone, not both")
    if types and not (names or zones):
        raise ValueError("a TYPE needs a NAME or --zone")
    refuse_patterns((*names, *zones), "--zone NAME is NAME and all below it")
    for name in names:
        if name.startswith(".") and name != ".":
            raise ValueError(f"{shown(name)} begins with a dot: --zone {name[1:]} is that name and all below it")
