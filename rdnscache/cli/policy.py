"""`rdnscache policy`: what the policy decides about names, and why; the content of lists."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from rdnscache.cli.completion import names, types
from rdnscache.cli.output import echo, echo_json, echo_nothing, echo_table, json_options
from rdnscache.cli.policy_orders import COMMANDS
from rdnscache.cli.serve import some_options
from rdnscache.config import Config, load
from rdnscache.errors import ConfigError
from rdnscache.policy.compiled_list import ListFacts
from rdnscache.policy.rpz_text import RPZ

#: Options that make up a policy.
OPTIONS = ("upstream", "zone", "records", "hosts", "block", "pass_", "rpz", "block_answer", "special_names",
           "single_label", "rebind_protection", "rebind_allow", "filter_types", "dns64", "dns64_exclude",
           "view", "listen", "allow", "deny", "proxy_from")  # fmt: skip


@click.group()
def policy() -> None:
    """Explain and change what is decided about names before any server is asked."""


def policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = some_options(OPTIONS)(function)
    function = json_options(function)
    return click.option(
        "--config", "file", metavar="FILE.toml", envvar="RDNSCACHE_CONFIG", help="Read options from this file."
    )(function)


def _load(file: str | None, given: dict[str, Any]) -> Config:
    return load(file, given, os.environ, lambda note: echo(f"rdnscache: {note}", err=True))


@policy.command()
@click.argument("name", shell_complete=names)
@click.option(
    "--type",
    "rtype",
    metavar="TYPE",
    shell_complete=types,
    default="A",
    show_default=True,
    help="Type of the question.",
)
@click.option("--client", metavar="ADDR", default="", help="The client's address; it may be in a view.")
@click.option("--listener", metavar="ADDR:PORT", default="", help="The listener it uses; by default the first one.")
@click.option("--tls-name", metavar="NAME", default="", help="The host name it sent in TLS, as a balancer reports it.")
@policy_options
def explain(
    name: str, rtype: str, client: str, listener: str, tls_name: str, file: str | None, as_json: str, **given: Any
) -> None:  # fmt: skip
    """Explain what a node with these options would do with NAME, and why.

    With --client, according to the view of that client.
    The options are those of `serve`: from the command line, the environment and the file.
    """
    from rdnscache.operator.explanation import view_of

    config = _load(file, given)
    try:
        found = _explained(config, name, rtype, client, view_of(config, client, listener, tls_name))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        echo_json(found, as_json)
        return
    echo(found["question"])
    for key, value in found.items():
        if key != "question":
            for line in value if isinstance(value, list) else [value]:
                echo(f"  {key}: {line}")


def _explained(
    config: Config, name: str, rtype: str, client: str, view: tuple[str, Config] | None
) -> dict[str, Any]:  # fmt: skip
    from rdnscache.lists.sources import transfers_of
    from rdnscache.operator.explanation import explain as explained
    from rdnscache.policies import compiled_here, load_policy

    inside = view[1] if view is not None else config
    data = load_policy(inside)
    tables = {source: table for source, (_, table) in compiled_here(data.lists, transfers_of(inside)).items()}
    found = explained(inside, data, tables, name, rtype, client)
    question = {"question": found.pop("question")}
    if view is None:
        return question | {"answer": "REFUSED: the client is not allowed"}
    return question | ({"view": view[0]} if config.view else {}) | found


@policy.command()
@policy_options
def lists(file: str | None, as_json: str, **given: Any) -> None:
    """Show the lists that a node with these options has: how many names or rules, how many lines were passed over."""
    from rdnscache.group_policies import load_policies
    from rdnscache.lists.sources import all_transfers
    from rdnscache.policies import facts_here

    config = _load(file, given)
    found = facts_here(load_policies(config).lists, all_transfers(config))
    if as_json:
        echo_json(list(map(_facts, found)), as_json)
        return
    rows = ((each.kind, _held(each), f"{each.refused:,}", each.file) for each in found)
    if not echo_table(("KIND", ">HOLDS", ">SKIPPED", "FILE"), rows):
        echo_nothing("there are no lists")


def _held(facts: ListFacts) -> str:
    return _many(facts.names, "rule" if facts.kind == RPZ else "name")


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


@policy.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True)
@json_options
def check(files: tuple[str, ...], as_json: str) -> None:
    """Read lists and response policy zones as a node would, and report lines that are not understood.

    Exit code 1 when a line is ignored, 2 when a file cannot be read.
    """
    from rdnscache.lists.sources import ListSource
    from rdnscache.policies import compile_file, kind_of

    found = []
    for file in files:
        try:
            found.append(compile_file(ListSource(kind_of(file), file))[0])
        except ConfigError as error:
            echo(f"rdnscache: {error}", err=True)
            sys.exit(2)
        if not as_json:
            echo(*_checked(found[-1]))
    if as_json:
        remarks = ([{"line": remark.line, "reason": remark.reason} for remark in each.remarks] for each in found)
        echo_json([_facts(each) | {"remarks": told} for each, told in zip(found, remarks, strict=True)], as_json)
    sys.exit(1 if any(each.refused for each in found) else 0)


def _facts(facts: ListFacts) -> dict[str, Any]:
    return {"kind": facts.kind, "file": facts.file, "names": facts.names, "passed_over": facts.refused}


def _checked(facts: ListFacts) -> Iterator[str]:
    """The lines of a file that are not understood, and what it holds."""
    for remark in facts.remarks:
        yield f"{facts.file}, line {remark.line}: {remark.reason}"
    if facts.refused > len(facts.remarks):
        yield f"{facts.file}: {facts.refused - len(facts.remarks)} more lines are skipped"
    yield f"{facts.file}: {_held(facts)}, {_many(facts.refused, 'line')} skipped"


for command in COMMANDS:
    policy.add_command(command)
