"""`rdnscache serve` and `rdnscache check-config`."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import Field
from typing import Any

import click

from rdnscache.cli.output import echo, echo_json, json_options
from rdnscache.config import TABLES, load, options
from rdnscache.config_text import MASK, default_text, env_name, flag_name, plain, toml_name
from rdnscache.logs import set_up

log = logging.getLogger(__name__)


def some_options(names: Collection[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """One click option for each of these fields of Config, in its order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return _with_options(function, [option for option in options() if option.name in names])

    return decorate


def config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """One click option for each field of Config, in its order."""
    return _with_options(function, options())


def _with_options(function: Callable[..., Any], chosen: Sequence[Field[Any]]) -> Callable[..., Any]:
    for option in reversed(chosen):
        help_text = f"{option.metadata['help']}  [default: {default_text(option)}; env: {env_name(option)}]"
        function = click.option(
            flag_name(option),
            option.name,
            metavar=option.metadata["metavar"],
            help=help_text,
            multiple=isinstance(option.default, tuple),
        )(function)
    return function


@click.command()
@click.option("--config", "file", metavar="FILE.toml", envvar="RDNSCACHE_CONFIG", help="Read options from this file.")
@click.option("--check", is_flag=True, help="Check whether a node could run with these options, and exit.")
@config_options
def serve(file: str | None, check: bool, **given: Any) -> None:
    """Run a node: its workers and, by default, a Redis of its own.

    Every option can also be set in the environment, or in the file under its name with '_' instead of '-'.
    The command line takes precedence over the environment, and the environment over the file.

    Ends on SIGTERM or Ctrl-C once the queries in flight are answered. Exit code 2 when the options cannot be used.
    """
    notes: list[str] = []
    config = load(file, given, os.environ, notes.append)
    set_up(config.log_level, config.log_format, config.node_id)
    for note in notes:
        log.warning(note)
    from rdnscache.node.supervisor import Supervisor

    if check:
        from rdnscache.group_policies import load_policies
        from rdnscache.kernel import raise_file_limit
        from rdnscache.node import handover
        from rdnscache.node.descriptors import fit
        from rdnscache.node.sockets import check_ports

        load_policies(config)
        if not handover.expected():  # otherwise the node that asks is listening on them
            check_ports(config)
        _, less = fit(config, raise_file_limit())
        if less:
            echo(less, err=True)
        echo("a node could run with these options")
        return
    sys.exit(Supervisor(config, lambda: load(file, given, os.environ, log.warning)).run())


def _line(option: Field[Any], value: Any) -> str:
    """An option as a line of a file; a comment if it is not set or must not be shown."""
    name, told = toml_name(option), plain(option, value)
    try:
        if told is not None and option.metadata["parse"](told) == value:
            return f"{name} = {json.dumps(told)}"
    except ValueError:
        pass
    if isinstance(told, str) and told != MASK and MASK in told:
        return f"# {name} = {json.dumps(told)}, less its password"
    return f"# {name} is set, and not shown" if value else f"# {name} is not set"


@click.command("check-config")
@click.argument("file")
@json_options
def check_config(file: str, as_json: str) -> None:
    """Check a configuration file, and print the resulting configuration, defaults included, as a file.

    Secrets and passwords are not shown.

    Exit code 2 and one sentence when it cannot be used.
    """
    config = load(file, {}, {}, lambda note: echo(f"rdnscache: {note}", err=True))
    table = {toml_name(option): plain(option, getattr(config, option.name)) for option in options()}
    if as_json:
        echo_json(table, as_json)
        return
    tables = [(f"[[{name}]]", each) for name in TABLES for each in table.pop(name)]
    echo(*(_line(option, getattr(config, option.name)) for option in options() if toml_name(option) in table))
    for head, each in tables:
        inner = [("[[view.zone]]", each) for each in (each.pop("zone") if each.get("zone") else [])]
        for title, values in ((head, each), *inner):
            echo(title)
            for name, value in values.items():
                echo(f"{name} = {json.dumps(value)}")
    echo(f"# {file} is fine")
