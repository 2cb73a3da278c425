"""The `rdnscache` command: a thin front door. Each command's work is elsewhere."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from rdnscache import __version__
from rdnscache.cli.output import CANNOT_WRITE, echo, give_up_output
from rdnscache.errors import RdnscacheError, StoreDown
from rdnscache.forms import form


class Commands(click.Group):
    """A group whose commands end with one sentence and an exit code where we know what went wrong."""

    def main(self, *args: Any, **extra: Any) -> Any:
        if sys.stdin is None:  # closed before we began: as if it were empty
            sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"rdnscache %(version)s ({form()})")
def main() -> None:
    """A clustered DNS cache whose nodes share one Redis.

    \b
    rdnscache serve --upstream 192.0.2.53      start a node
    rdnscache query example.com                ask it
    rdnscache cache ls                         see what the cluster remembers
    """


def _add_commands() -> None:
    from rdnscache.cli.cache import cache
    from rdnscache.cli.check import check_redis
    from rdnscache.cli.cluster import cluster, reload, restart
    from rdnscache.cli.query import query
    from rdnscache.cli.serve import check_config, serve
    from rdnscache.cli.warm import warm

    cache.add_command(warm)
    for command in (serve, query, cache, cluster, reload, restart, check_config, check_redis):
        main.add_command(command)


_add_commands()
