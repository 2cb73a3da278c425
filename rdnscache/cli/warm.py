"""`rdnscache cache warm`: ask a node for a list of names, so that the cluster has them cached."""

from __future__ import annotations

import errno
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, TypeVar

import click

from rdnscache.address import Address
from rdnscache.cli.access import open_cluster, redis_options
from rdnscache.cli.lists import FORMS, read_keys
from rdnscache.cli.output import MOST, echo, echo_json, echo_nothing, on_terminal
from rdnscache.cli.question_words import find_server
from rdnscache.dns.wire import NOERROR, NXDOMAIN, REFUSED, build_query
from rdnscache.errors import ConfigError

#: Seconds to wait for a reply, most questions waiting at a time, and attempts for each.
TIMEOUT, WINDOW, TRIES = 5.0, 256, 2
#: Number of replies after which to stop if all of them were REFUSED.
MOST_REFUSED = 20
#: Errors of a socket when no server is running at the address.
_NOBODY = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)

T = TypeVar("T")


class Away(Exception):
    """No server is running there, or it refuses our queries."""


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMS)),
    default="names",
    show_default=True,
    help="Format of FILE: lines of NAME [TYPE], of RANK,NAME, or a hosts file.",
)
@click.option("--limit", metavar="N", type=click.IntRange(1, MOST), help="Only the first N names of FILE.")
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Instead of FILE: the N names asked most in the cluster.",
)
@click.option(
    "--server", metavar="ADDR[:PORT]", default="127.0.0.1:5300", envvar="RDNSCACHE_SERVER", show_default=True,
    help="The node to ask.",
)  # fmt: skip
@click.option("--rate", metavar="N", default=200, show_default=True, type=click.IntRange(1), help="Questions a second.")
@redis_options
def warm(
    file: BinaryIO | None, form: str, limit: int | None, top: int | None, server: str, rate: int, url: str | None,
    prefix: str, as_json: str,
) -> None:  # fmt: skip
    """Ask a node for every line of FILE, '-' for standard input: `NAME [TYPE]`, A without one, '#' begins a comment.

    FILE may be compressed with gzip, and contain a million names.

    With --top, ask it for the names asked most in the cluster, so that expired ones are cached again.

    Exit code 1 when a question was not answered, or immediately when no server is running there; 2 when a line is not a
    name, and then nothing is asked.
    """
    if (file is None) == (top is None):
        raise click.UsageError("give a FILE or --top N")
    try:
        address = find_server(server, None)[0]
        if file is not None:
            keys = read_keys(file, form, limit)
        else:
            keys = [key for key, _ in open_cluster(url, prefix).hottest(top or 0)]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"no address of {server}: {error.strerror}") from None
    if not keys:
        echo_nothing("there is no name to ask for")
    results = {"answered": 0, "refused": 0, "failed": 0, "silent": 0}
    hidden = not on_terminal(sys.stderr)
    with click.progressbar(length=len(keys), file=sys.stderr, label="asking", hidden=hidden) as bar:
        try:
            for outcome in ask_all(address, keys, rate):
                results[outcome] += 1
                bar.update(1)
                if results["refused"] == MOST_REFUSED == sum(results.values()):
                    raise Away(f"{address} refuses our queries: see the node's option --allow")
        except Away as error:
            bar.render_finish()
            echo(f"rdnscache: {error}", err=True)
            sys.exit(1)
    if as_json:
        echo_json(results, as_json)
    else:
        echo(", ".join(f"{count} {name}" for name, count in results.items()))
    sys.exit(0 if results["answered"] == len(keys) else 1)


def ask_all(address: Address, keys: list[bytes], rate: int) -> Iterator[str]:
    """Ask each question, at `rate` per second; yields `answered`, `refused`, `failed` or `silent` for each as it is
    known.

    Raises ConfigError when the server cannot be reached at all, Away when nothing is running there from the start.
    """
    heard = False
    waiting: dict[int, tuple[float, bytes, int]] = {}
    again: list[tuple[bytes, int]] = []
    left = len(keys)
    due, ident = time.monotonic(), 0
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(address.sockaddr)
        except OSError as error:
            raise ConfigError(f"{address} cannot be asked: {error.strerror}") from None
        while left or again or waiting:
            now = time.monotonic()
            if (left or again) and now >= due and len(waiting) < WINDOW:
                key, attempt = again.pop() if again else (keys[-left], 1)
                left -= attempt == 1
                ident = (ident + 1) % 65536
                waiting[ident] = (now + TIMEOUT, key, attempt)
                message = build_query(ident.to_bytes(2, "big"), key, edns=True)
                _carry(partial(sock.send, message), address, heard)
                due = max(due + 1 / rate, now - 0.1)
            first = min((at for at, _, _ in waiting.values()), default=now + 1)
            wake = min(first, due) if (left or again) and len(waiting) < WINDOW else first
            if select.select([sock], [], [], max(wake - now, 0))[0]:
                data = _carry(partial(sock.recv, 4096), address, heard)
                if outcome := _outcome(data or b"", waiting):
                    heard = True
                    yield outcome
            for number in [number for number, (at, _, _) in waiting.items() if at <= time.monotonic()]:
                _, key, attempt = waiting.pop(number)
                if attempt < TRIES:
                    again.append((key, attempt + 1))
                else:
                    yield "silent"


def _carry(act: Callable[[], T], address: Address, heard: bool) -> T | None:
    """Send or receive. Once the server has replied, an error counts as a lost datagram, and the timeout handles it.

    Raises Away when there has been no reply yet and the system reports that nothing is running there.
    """
    try:
        return act()
    except OSError as error:
        if error.errno in _NOBODY and not heard:
            raise Away(f"{address} cannot be asked: {error.strerror}") from None
        return None


def _outcome(data: bytes, waiting: dict[int, tuple[float, bytes, int]]) -> str:
    """The outcome given by a reply; empty when it belongs to none of our questions."""
    ident = int.from_bytes(data[:2], "big")
    if len(data) < 12 or ident not in waiting:
        return ""
    del waiting[ident]
    return {NOERROR: "answered", NXDOMAIN: "answered", REFUSED: "refused"}.get(data[3] & 15, "failed")
