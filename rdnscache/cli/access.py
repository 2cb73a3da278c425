"""How commands find the Redis they work on."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from rdnscache.cli.node_file import config_option, unreadable
from rdnscache.cli.output import json_options
from rdnscache.errors import ConfigError
from rdnscache.node import embedded
from rdnscache.redis_url import canonical, parse

if TYPE_CHECKING:
    from rdnscache.operator.entries import Browser
    from rdnscache.operator.members import Members
    from rdnscache.store.seal import Seal


class Seconds(click.FloatRange):
    """Seconds in a range; 'nan', which no comparison refuses, is in none."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("'nan' is no number of seconds", param, ctx)
        return number


def redis_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        json_options,
        click.option(
            "--prefix", metavar="WORD", envvar="RDNSCACHE_PREFIX", default="rdns", show_default=True,
            help="Prefix of every key.",
        ),
        click.option(
            "--redis", "url", metavar="URL", envvar="RDNSCACHE_REDIS",
            help="The Redis of the cache.  [default: the embedded server running here]",
        ),
    ):  # fmt: skip
        function = decorate(function)
    return config_option(function)


def secret_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--secret", "secrets", metavar="ID:TEXT|file:PATH", envvar="RDNSCACHE_SECRET", multiple=True,
        help="The secret of the nodes, if they have one.",
    )(function)  # fmt: skip


def find_redis(url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The URL to use. Raises ConfigError when there is none, or more than one candidate."""
    if url == "none":
        raise ConfigError("--redis none: there is no shared cache to look into")
    if url and url != "embedded":
        try:
            parse(url)
            return canonical(url)
        except ValueError as error:
            raise ConfigError(f"--redis: {error}") from None
    sockets = embedded.running_sockets()
    if not sockets:
        raise ConfigError(f"no embedded server runs here: say where the cache is with --redis URL{unreadable()}")
    if len(sockets) > 1:
        listed = ", ".join(f"unix://{path}" for path in sockets)
        raise ConfigError(f"several embedded servers run here, choose one with --redis: {listed}")
    return f"unix://{sockets[0]}"


def open_browser(url: str | None, prefix: str, secrets: Sequence[str] = ()) -> Browser:
    """The entries in Redis. Imports what commands need here, since that takes a while and must not happen before a
    worker forks. Raises ConfigError, also for invalid secrets.
    """
    from rdnscache.operator.entries import Browser

    return Browser(find_redis(url), prefix, _seal(secrets) if secrets else None)


def _seal(secrets: Sequence[str]) -> Seal:
    from rdnscache import option_parsers as values
    from rdnscache.store.seal import Seal

    try:
        return Seal(values.secrets(secrets))
    except ValueError as error:
        raise ConfigError(f"--secret: {error}") from None


def open_cluster(url: str | None, prefix: str) -> Members:
    """The members of the cluster, and its events."""
    from rdnscache.operator.members import Members

    browser = open_browser(url, prefix)
    return Members(browser.redis, browser.names)
