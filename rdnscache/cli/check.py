"""`rdnscache check-redis`: whether a Redis is suitable as the shared cache."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from rdnscache.cli.access import find_redis, redis_options
from rdnscache.cli.output import echo_json, echo_table

#: The exit code for the worst finding.
CODES = {"ok": 0, "note": 0, "risky": 1, "wrong": 2}


@click.command("check-redis")
@click.argument("redis_url", metavar="[URL]", default="")
@redis_options
def check_redis(redis_url: str, url: str | None, prefix: str, as_json: str) -> None:
    """Check whether the Redis at URL is suitable: version, memory, permissions, latency, clocks, and who else has
    access.

    The commands of a node are tried with keys that belong to no name. Give the node's URL, with its user and password.
    Exit code 1 when something is risky, 2 when something is wrong.
    """
    from rdnscache.operator.audit import judge_all, worst
    from rdnscache.operator.probe import examine

    findings = list(judge_all(examine(find_redis(redis_url or url), prefix)))
    if as_json:
        echo_json([asdict(finding) for finding in findings], as_json)
    else:
        echo_table(("LEVEL", "SUBJECT", "FINDING"), ((each.level, each.subject, each.text) for each in findings))
    sys.exit(CODES[worst(findings)])
