"""The parts of a node's configuration that commands use: its Redis, the prefix there, and the address it answers at."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from rdnscache.address import Address
from rdnscache.cli.output import echo
from rdnscache.errors import ConfigError

#: The file that is used when none is named.
USUAL = Path("/etc/rdnscache/rdnscache.toml")
#: Options of a node that commands also have, and the names they have there.
_OURS = {"redis": "url", "prefix": "prefix", "secret": "secrets"}
#: The prefix of our variables, and those that are known without importing all options, which takes a while.
ENVIRONMENT = "RDNSCACHE_"
_KNOWN = {"RDNSCACHE_CONFIG", "RDNSCACHE_REDIS", "RDNSCACHE_PREFIX", "RDNSCACHE_SECRET", "RDNSCACHE_PURE"}


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--config`: its values apply when neither the command line nor the environment has one."""
    return click.option(
        "--config", metavar="FILE.toml", envvar="RDNSCACHE_CONFIG", is_eager=True, expose_value=False, callback=_read,
        help=f"The node's configuration, for Redis, prefix, secret and port.  [default: {USUAL}, if it is there]",
    )(function)  # fmt: skip


def _read(ctx: click.Context, option: click.Parameter, file: str | None) -> None:
    try:
        settings = node_settings(file, os.environ)
    except ConfigError:
        if not ctx.resilient_parsing:  # otherwise a shell asks for completions
            raise
        settings = {}
    if not ctx.resilient_parsing and any(name.startswith(ENVIRONMENT) and name not in _KNOWN for name in os.environ):
        from rdnscache import config as configuration
        from rdnscache.config_sources import strange_variables
        from rdnscache.config_text import env_name

        for text in strange_variables(os.environ, {env_name(each) for each in configuration.options()}):
            echo(f"rdnscache: {text}", err=True)
    ctx.default_map = {**(ctx.default_map or {}), **settings}


def node_settings(file: str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Defaults for the options of commands, from a node's file or, for options not in it, its environment.

    Raises ConfigError for a file that was named; the usual one is ignored when it cannot be read.
    """
    table: dict[str, Any] = {}
    if file or os.access(USUAL, os.R_OK):
        from rdnscache import config as configuration
        from rdnscache.config_sources import read_toml
        from rdnscache.config_text import toml_name

        known = {toml_name(each) for each in configuration.options()}
        table = read_toml(file or str(USUAL), known, configuration.TABLES)
    found = {ours: table[name] for name, ours in _OURS.items() if name in table}
    listen = environ.get("RDNSCACHE_LISTEN") or table.get("listen")
    if listen:
        found["server"] = _asked_at(listen, file)
    return found


def _asked_at(listen: Any, file: str | None) -> str:
    """The first address a node listens on, in a form its own machine can reach."""
    from rdnscache import config as configuration

    (option,) = (each for each in configuration.options() if each.name == "listen")
    try:
        first: Address = option.metadata["parse"](listen)[0]
    except ValueError as error:
        raise ConfigError(f"listen in {file or USUAL}: {error}") from None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first.host, first.host)
    return str(Address(host, first.port))


def unreadable() -> str:
    """A hint for when the usual file exists but this user may not read it."""
    return f"; this user may not read {USUAL}" if USUAL.exists() and not os.access(USUAL, os.R_OK) else ""
