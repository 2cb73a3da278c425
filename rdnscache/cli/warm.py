"""`rdnscache cache warm`: ask a node for a list of names, so that the cluster knows them."""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from typing import TextIO

import click

from rdnscache.cli.access import open_cluster, redis_options
from rdnscache.dns.names import parse_name, type_number
from rdnscache.dns.wire import NOERROR, NXDOMAIN, build_query
from rdnscache.net import Address

#: Seconds a question may wait for its reply, how many may be open, and how often each is asked.
TIMEOUT, WINDOW, TRIES = 5.0, 256, 2


@click.command()
@click.argument("file", type=click.File("r"), required=False)
@click.option(
    "--top", metavar="N", type=click.IntRange(1, 1000), help="Instead of FILE: what the cluster is asked most."
)
@click.option(
    "--server", metavar="ADDR[:PORT]", default="127.0.0.1:5300", envvar="RDNSCACHE_SERVER", show_default=True,
    help="The node to ask.",
)  # fmt: skip
@click.option("--rate", metavar="N", default=200, show_default=True, type=click.IntRange(1), help="Questions a second.")
@redis_options
def warm(
    file: TextIO | None, top: int | None, server: str, rate: int, url: str | None, prefix: str, as_json: bool
) -> None:
    """Ask a node for every line of FILE, '-' for standard input: `NAME [TYPE]`, A without one, '#' begins a comment.

    With --top, ask it for the names the cluster is asked most, so that those that have expired are there again.
    Exit code 1 when one had no answer, 2 when a line cannot be read; then nothing is asked.
    """
    if (file is None) == (top is None):
        raise click.UsageError("give a FILE or --top N")
    try:
        address = Address.parse(server, 53)
        if file is not None:
            keys = list(dict.fromkeys(_keys(file)))
        else:
            keys = [key for key, _ in open_cluster(url, prefix).hottest(top or 0)]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    results = {"answered": 0, "failed": 0, "silent": 0}
    with click.progressbar(length=len(keys), file=sys.stderr, label="asking", hidden=not sys.stderr.isatty()) as bar:
        for outcome in ask_all(address, keys, rate):
            results[outcome] += 1
            bar.update(1)
    if as_json:
        click.echo(json.dumps(results))
    else:
        click.echo(", ".join(f"{count} {name}" for name, count in results.items()))
    sys.exit(1 if results["failed"] or results["silent"] else 0)


def _keys(file: TextIO) -> Iterator[bytes]:
    """The questions of a list. Raises ValueError with the line's number."""
    for number, line in enumerate(file, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            if len(words) > 2:
                raise ValueError("more than a name and a type")
            rtype = type_number(words[1]) if len(words) == 2 else 1
            yield parse_name(words[0]) + rtype.to_bytes(2, "big") + b"\0\1\0"
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None


def ask_all(address: Address, keys: list[bytes], rate: int) -> Iterator[str]:
    """Ask each question, so many a second; `answered`, `failed` or `silent` for each as it is known."""
    waiting: dict[int, tuple[float, bytes, int]] = {}
    queue = [(key, 1) for key in reversed(keys)]
    due, ident = time.monotonic(), 0
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        sock.connect(address.sockaddr)
        while queue or waiting:
            now = time.monotonic()
            if queue and now >= due and len(waiting) < WINDOW:
                key, attempt = queue.pop()
                ident = (ident + 1) % 65536
                waiting[ident] = (now + TIMEOUT, key, attempt)
                _send(sock, build_query(ident.to_bytes(2, "big"), key, edns=True))
                due = max(due + 1 / rate, now - 0.1)
            first = min((at for at, _, _ in waiting.values()), default=now + 1)
            wake = min(first, due) if queue and len(waiting) < WINDOW else first
            if select.select([sock], [], [], max(wake - now, 0))[0] and (outcome := _receive(sock, waiting)):
                yield outcome
            for number in [number for number, (at, _, _) in waiting.items() if at <= time.monotonic()]:
                _, key, attempt = waiting.pop(number)
                if attempt < TRIES:
                    queue.append((key, attempt + 1))
                else:
                    yield "silent"


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.send(data)
    except OSError:  # nobody listens there; the timeout will tell
        pass


def _receive(sock: socket.socket, waiting: dict[int, tuple[float, bytes, int]]) -> str:
    """The outcome a reply brings; empty when it is none of ours."""
    try:
        data = sock.recv(4096)
    except OSError:
        return ""
    ident = int.from_bytes(data[:2], "big")
    if len(data) < 12 or ident not in waiting:
        return ""
    del waiting[ident]
    return "answered" if data[3] & 15 in (NOERROR, NXDOMAIN) else "failed"
