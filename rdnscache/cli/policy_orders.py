"""`rdnscache policy block|pass|clear|pause|resume|orders`: orders to the whole cluster, with confirmation."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from rdnscache.cli import completion
from rdnscache.cli.access import Seconds, open_browser, redis_options, secret_option
from rdnscache.cli.output import echo, echo_json, echo_nothing, echo_table, entries
from rdnscache.dns.names import name_text, parse_name
from rdnscache.errors import ConfigError
from rdnscache.store.patterns import refuse_patterns
from rdnscache.store.policy_document import LONGEST_PAUSE, UNTIL_RESUMED

if TYPE_CHECKING:
    from rdnscache.operator.policy_orders import Changes, PolicyOrders
    from rdnscache.store.patterns import refuse_patterns
from rdnscache.store.policy_document import PolicyDocument

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, from `90`, `90s`, `15m`, `2h` or `1d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", str(value))
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= LONGEST_PAUSE:
            self.fail(f"{value!r} is not a time such as 90s, 15m, 2h or 1d, up to 366d", param, ctx)
        return float(seconds)


def order_options(function: Callable[..., Any]) -> Callable[..., Any]:
    wait = click.option(
        "--wait", "patience", metavar="SECONDS", default=5.0, show_default=True, type=Seconds(0.05, 60),
        help="For the workers to confirm.",
    )  # fmt: skip
    return wait(secret_option(redis_options(function)))


@click.command()
@click.argument("names", metavar="NAME…", nargs=-1, required=True, shell_complete=completion.names)
@order_options
def block(names: tuple[str, ...], **told: Any) -> None:
    """Block NAME and everything below it on all nodes, until `clear`.

    Once this is confirmed, it holds in every node, local caches included; a node that was away applies it when it
    returns.

    Exit code 1 when a node has not confirmed, or none is running.
    """
    wanted = _names(names)

    def changes(before: PolicyDocument) -> dict[str, Any]:
        return {"blocked": _with(before.blocked, wanted), "passed": _without(before.passed, wanted)}

    _order(changes, f"blocked {', '.join(wanted)}", **told)


@click.command("pass")
@click.argument("names", metavar="NAME…", nargs=-1, required=True, shell_complete=completion.names)
@order_options
def pass_names(names: tuple[str, ...], **told: Any) -> None:
    """Never block NAME or anything below it, whatever lists say, until `clear`.

    Exit code 1 when a node has not confirmed, or none is running.
    """
    wanted = _names(names)

    def changes(before: PolicyDocument) -> dict[str, Any]:
        return {"passed": _with(before.passed, wanted), "blocked": _without(before.blocked, wanted)}

    _order(changes, f"passed {', '.join(wanted)}", **told)


@click.command()
@click.argument("names", metavar="NAME…", nargs=-1, required=True, shell_complete=completion.names)
@order_options
def clear(names: tuple[str, ...], **told: Any) -> None:
    """Revoke the `block` or `pass` of NAME: lists decide again.

    Exit code 1 when a node has not confirmed, or none is running; 2 when there is no order about NAME.
    """
    wanted = _names(names)

    def changes(before: PolicyDocument) -> dict[str, Any]:
        for name in wanted:
            if name not in (*before.blocked, *before.passed):
                raise click.UsageError(f"there is no order about {name}: see `rdnscache policy orders`")
        return {"blocked": _without(before.blocked, wanted), "passed": _without(before.passed, wanted)}

    _order(changes, f"cleared {', '.join(wanted)}", **told)


@click.command()
@click.option("--for", "seconds", metavar="TIME", type=Duration(), help="Such as 15m or 2h.  [default: until resumed]")
@order_options
def pause(seconds: float | None, **told: Any) -> None:
    """Stop blocking on all nodes, for a time or until `resume`. Local records are still answered.

    Exit code 1 when a node has not confirmed, or none is running.
    """
    until = time.time() + seconds if seconds is not None else UNTIL_RESUMED
    _order(lambda before: {"paused_until": until}, f"blocking is paused {_until(until)}", **told)


@click.command()
@order_options
def resume(**told: Any) -> None:
    """Resume blocking on all nodes.

    Exit code 1 when a node has not confirmed, or none is running.
    """
    _order(lambda before: {"paused_until": 0.0}, "blocking is resumed", **told)


@click.command()
@secret_option
@redis_options
def orders(secrets: tuple[str, ...], url: str | None, prefix: str, as_json: str) -> None:
    """Show the orders in force in the whole cluster, and the versions of the lists it uses."""
    _, found = _open(url, prefix, secrets, 1.0).read()
    if as_json:
        lists = {word: {"names": each.names, "modified": each.modified, "version": each.digest}
                 for word, each in found.lists.items()}  # fmt: skip
        paused = found.paused_until if found.paused(time.time()) else 0
        echo_json({"paused_until": paused, "blocked": found.blocked, "passed": found.passed, "lists": lists}, as_json)
        return
    rows = [("pause", f"all blocking, {_until(found.paused_until)}")] if found.paused(time.time()) else []
    rows += [("block", name) for name in found.blocked] + [("pass", name) for name in found.passed]
    for word, each in found.lists.items():
        changed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.modified))
        rows.append(("list", f"{word}: {each.names:,} names, version {each.digest[:8]} of {changed}"))
    if not echo_table(("ORDER", "ABOUT"), rows):
        echo_nothing("there are no orders and no lists")


COMMANDS = (block, pass_names, clear, pause, resume, orders)


def _order(
    changes: Changes, done: str, patience: float, url: str | None, prefix: str, secrets: Sequence[str], as_json: str
) -> None:
    work = _open(url, prefix, secrets, patience)
    signer = next((each.node for each in work.members().members() if each.signs), "")
    if signer and not secrets:
        raise ConfigError(f"{signer} accepts only signed orders: give the node's --secret")
    try:
        _, proof = work.change(changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        echo_json({"done": done} | proof.as_json(), as_json)
    else:
        echo(f"{done}; {entries(proof.entries)} deleted from local caches; confirmed by {proof}")
        for problem in proof.problems:
            echo(f"rdnscache: {problem}", err=True)
    sys.exit(0 if proof.complete else 1)


def _open(url: str | None, prefix: str, secrets: Sequence[str], patience: float) -> PolicyOrders:
    from rdnscache.operator.members import Members
    from rdnscache.operator.policy_orders import PolicyOrders

    browser = open_browser(url, prefix, secrets)
    return PolicyOrders(browser, lambda: Members(browser.redis, browser.names), patience)


def _names(texts: Sequence[str]) -> list[str]:
    """The names in presentation form. UsageError for anything else, and for the root, which would be everything."""
    found = []
    for text in texts:
        try:
            bare = text.removeprefix("*.")
            refuse_patterns([bare], "a name stands for all below it as well")
            name = parse_name(bare)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if name == b"\0":
            raise click.UsageError(f"{text!r} is no name to block or pass: a name stands for all below it as well")
        found.append(name_text(name))
    return found


def _with(names: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *more)))


def _without(names: Sequence[str], less: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in less)


def _until(moment: float) -> str:
    if moment < 0:
        return "until it is resumed"
    return "until " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
