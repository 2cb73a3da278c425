"""The `rdnscache` command. The commands parse options and print; their work is done elsewhere."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from rdnscache import __version__
from rdnscache.cli.output import CANNOT_WRITE, echo, give_up_output
from rdnscache.errors import RdnscacheError, StoreDown
from rdnscache.forms import form

#: The module of each command. Only the one needed is imported, which halves the time a command takes to start.
COMMANDS = {
    "serve": "serve",
    "query": "query",
    "cache": "cache",
    "cluster": "cluster",
    "reload": "cluster",
    "restart": "cluster",
    "policy": "policy",
    "check-config": "serve",
    "check-redis": "check",
}


#: The variable that a shell sets to ask for completions.
COMPLETE = "_RDNSCACHE_COMPLETE"


class Commands(click.Group):
    """A group whose commands end with one sentence and an exit code for every expected error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found: click.Command = getattr(import_module(f"rdnscache.cli.{COMMANDS[name]}"), name.replace("-", "_"))
        return found

    def main(self, *args: Any, **extra: Any) -> Any:
        if sys.stdin is None:  # closed before we began: treated as empty
            sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
        extra.setdefault("complete_var", COMPLETE)  # by default click derives it from the path of the command
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in CANNOT_WRITE:
                raise
            give_up_output()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreDown as error:
            echo(f"rdnscache: Redis: {error}", err=True)
            sys.exit(1)
        except RdnscacheError as error:
            echo(f"rdnscache: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            echo("rdnscache: interrupted", err=True)
            sys.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"rdnscache %(version)s ({form()})")
def main() -> None:
    """A clustered DNS cache whose nodes share one Redis.

    \b
    rdnscache serve --upstream 192.0.2.53      start a node
    rdnscache query example.com                ask it
    rdnscache cache ls                         list what the cluster has cached
    """
