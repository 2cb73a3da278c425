"""`rdnscache cache`: look into the shared cache, and flush it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from rdnscache import config as configuration
from rdnscache import embedded
from rdnscache.dns.names import name_text, parse_name, type_number, type_text
from rdnscache.errors import ConfigError
from rdnscache.store.contract import pattern_text

if TYPE_CHECKING:
    from rdnscache.store.browse import Browser, View


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--prefix", metavar="WORD", envvar="RDNSCACHE_PREFIX", default="rdns", show_default=True,
            help="First part of every key.",
        ),
        click.option(
            "--redis", "url", metavar="URL", envvar="RDNSCACHE_REDIS",
            help="Where the cache is.  [default: the embedded server running here]",
        ),
    ):  # fmt: skip
        function = decorate(function)
    return function


def find_redis(url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The URL to use. Raises ConfigError when there is none, or more than one to choose from."""
    options = {option.name: option for option in configuration.options()}
    if url and url != "embedded":
        try:
            parsed = options["redis"].metadata["parse"](url)
        except ValueError as error:
            raise ConfigError(f"--redis: {error}") from None
        if parsed == "none":
            raise ConfigError("--redis none: there is no shared cache to look into")
        return str(parsed)
    sockets = embedded.running_sockets()
    if not sockets:
        raise ConfigError("no embedded server runs here: say where the cache is with --redis URL")
    if len(sockets) > 1:
        listed = ", ".join(f"unix://{path}" for path in sockets)
        raise ConfigError(f"several embedded servers run here, choose one with --redis: {listed}")
    return f"unix://{sockets[0]}"


def _browser(url: str | None, prefix: str) -> Browser:
    from rdnscache.store.browse import Browser  # redis-py takes a while, and must not be loaded before a worker forks

    return Browser(find_redis(url), prefix)


@click.group()
def cache() -> None:
    """Look into the shared cache, and flush it."""


@cache.command()
@click.argument("name")
@click.argument("rtype", metavar="[TYPE]", default="")
@_common
def get(name: str, rtype: str, url: str | None, prefix: str, as_json: bool) -> None:
    """Show what is stored for NAME: all types and variants, or one TYPE. Exit code 1 when there is nothing."""
    try:
        wire = parse_name(name)
        wanted = type_text(type_number(rtype)) if rtype else ""
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    views = list(_browser(url, prefix).find(pattern_text(name_text(wire)), wanted))
    if as_json:
        click.echo(json.dumps([asdict(view) for view in views], indent=2))
    else:
        for view in views:
            click.echo(_long(view))
    if not views:
        click.echo(f"rdnscache: nothing is stored for {name_text(wire)} {wanted}".rstrip(), err=True)
        sys.exit(1)


@cache.command("ls")
@click.argument("pattern", default="*")
@_common
def list_entries(pattern: str, url: str | None, prefix: str, as_json: bool) -> None:
    """List the entries whose name fits PATTERN, such as '*.example.com'; all of them without one."""
    try:
        text = pattern_text(pattern)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for view in _browser(url, prefix).find(text):
        click.echo(json.dumps(asdict(view)) if as_json else _short(view))


@cache.command()
@click.argument("name", default="")
@click.option("--all", "everything", is_flag=True, help="Flush every entry.")
@_common
def flush(name: str, everything: bool, url: str | None, prefix: str, as_json: bool) -> None:
    """Delete all entries of NAME, or of every name with --all: in Redis and in the local cache of every worker."""
    if bool(name) == everything:
        raise click.UsageError("give a NAME, or --all")
    try:
        wire = parse_name(name) if name else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    count = _browser(url, prefix).flush(wire)
    what = name_text(wire) if wire else "everything"
    if as_json:
        click.echo(json.dumps({"flushed": what, "entries": count}))
    else:
        click.echo(f"flushed {what}: {count} {'entry' if count == 1 else 'entries'} in Redis; every worker was told")


def _long(view: View) -> str:
    head = f"{view.key}\n  {view.rcode}, {view.state}, {view.ttl_left} s left, {view.age} s old"
    lines = [f"{head}, stored {view.stored} by {view.node} from {view.source}"]
    return "\n".join(lines + [f"  {line}" for line in view.answer])


def _short(view: View) -> str:
    first = view.answer[0].split(" ", 4)[-1] if view.answer else "-"
    more = f" (+{len(view.answer) - 1})" if len(view.answer) > 1 else ""
    return f"{view.key} {view.rcode} {view.state} {view.ttl_left}s {first}{more}"
