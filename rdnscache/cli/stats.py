"""`rdnscache cache stats`: the number of entries of each kind."""

from __future__ import annotations

import sys

import click

from rdnscache.cli.access import open_browser, redis_options, secret_option
from rdnscache.cli.output import echo, echo_json, entries, on_terminal
from rdnscache.cli.progress import keys
from rdnscache.dns.names import parse_name


@click.command()
@click.option("--zone", metavar="NAME", help="Only this name and everything below it.")
@click.option("--exact", is_flag=True, help="Count every entry, however many there are; takes seconds for a million.")
@secret_option
@redis_options
def stats(zone: str | None, exact: bool, url: str | None, prefix: str, secrets: tuple[str, ...], as_json: str) -> None:
    """Count the entries by type, RCODE and state.

    With more than 50,000 keys in Redis (5,000 with a secret) the figures are estimates from a sample of that size; the
    output says so, and by how much they may be off.
    """
    try:
        wanted = parse_name(zone) if zone else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    browser = open_browser(url, prefix, secrets)
    hidden = not exact or not on_terminal(sys.stderr)
    length = 1 if hidden else (keys(browser) or 0) + 1
    with click.progressbar(length=length, file=sys.stderr, label="counting", hidden=hidden) as bar:
        for counts in browser.counts(wanted, not exact):
            bar.update(counts.looked - bar.pos)
    parts = {"types": counts.by(0), "rcodes": counts.by(1), "states": counts.by(2)}
    if as_json:
        told = {} if counts.exact else {"keys": counts.keys, "looked_at": counts.looked, "margin": counts.margin}
        echo_json({"entries": counts.entries, **parts, "exact": counts.exact, **told}, as_json)
        return
    if counts.exact:
        echo(entries(counts.entries))
    else:
        echo(f"about {_about(counts.entries)} entries: estimated from {counts.looked:,} of {counts.keys:,} keys,"
             f" each figure within {_about(counts.margin)} of the true one with 95 % confidence")  # fmt: skip
    tell = str if counts.exact else _about
    for name, part in parts.items():
        echo(f"{name:8} {', '.join(f'{label} {tell(number)}' for label, number in part.items()) or '-'}")


def _about(count: int) -> str:
    """A figure rounded to three digits, which is more than its precision."""
    return f"{round(count, 3 - len(str(count))) if count >= 1000 else count:,}"
