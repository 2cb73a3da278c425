"""The output of commands: everything that is printed to a terminal goes through here."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TextIO, TypeVar

import click

from rdnscache.printable import printable

#: Errors of writing to a full disk or a closed terminal.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
#: The forms of JSON output; a command has one of these, or an empty text for human-readable output.
JSON, JSONL = "json", "jsonl"
#: The most that an option counts up to.
MOST = 2**31 - 1
#: Rows of a table, and seconds, that are waited for before the first is printed; the most a column is made wide.
AHEAD, AHEAD_TIME, WIDEST = 500, 0.3, 48

T = TypeVar("T")


def json_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--json` and `--jsonl`; the last one given counts."""
    lines = click.option("--jsonl", "as_json", flag_value=JSONL, help="Print JSON, one element of the array per line.")
    array = click.option("--json", "as_json", flag_value=JSON, default="", help="Print JSON.")
    return array(lines(function))


def echo(*lines: str, err: bool = False) -> None:
    """Print lines. Names, versions and texts from Redis and the network are escaped: they can neither control the
    terminal nor fake a line break.
    """
    _write("".join(f"{printable(line)}\n" for line in lines), err)


def echo_json(told: Any, form: str = JSON) -> None:
    """Print one thing as JSON, in ASCII; a list as `echo_items` does."""
    if isinstance(told, list):
        echo_items(told, form)
    else:
        _write(json.dumps(told, indent=2 if form == JSON else None) + "\n", False)


def echo_items(items: Iterable[Any], form: str) -> None:
    """Print items as they are found: as an array with one element per line, or only the elements."""
    if form == JSONL:
        for item in items:
            _write(json.dumps(item) + "\n", False)
        return
    before = "[\n"
    for item in items:
        _write(before + json.dumps(item), False)
        before = ",\n"
    _write("[]\n" if before == "[\n" else "\n]\n", False)


def echo_nothing(text: str) -> None:
    """Say on standard error that there is nothing to list, so that programs that read the list do not see it."""
    echo(f"rdnscache: {text}", err=True)


def echo_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bool:
    """Print rows below their headings, aligned, as they are found. Returns whether there were any; if not, prints
    nothing.
    """
    line = ""
    for line in aligned(head, rows):
        echo(line)
    return line != ""


def aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; none when there are no rows.

    The first rows determine the widths; a longer cell further down shifts only its own line. The last column is not
    padded; one whose heading begins with '>' is aligned to the right.
    """
    coming = iter(rows)
    first = list(_first(coming))
    if not first:
        return
    right = [each.startswith(">") for each in head[:-1]]
    heads = [each.lstrip(">") for each in head]
    widths = [min(max(len(row[at]) for row in (heads, *first)), WIDEST) for at in range(len(right))]
    for row in chain([heads], first, coming):
        cells = [cell.rjust(width) if to_right else cell.ljust(width)
                 for cell, width, to_right in zip(row, widths, right, strict=False)]  # fmt: skip
        yield "  ".join([*cells, row[-1]]).rstrip()


def _first(rows: Iterator[T]) -> Iterator[T]:
    """The rows that arrive within a moment."""
    end = time.monotonic() + AHEAD_TIME
    for row in islice(rows, AHEAD):
        yield row
        if time.monotonic() >= end:
            return


def entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def on_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal; None is a stream that was closed before we began."""
    return stream is not None and stream.isatty()


def _write(text: str, err: bool) -> None:
    if not err and text and sys.stdout is None:  # closed before we began: click would ignore that
        raise OSError(errno.EBADF, "standard output is closed")
    click.echo(text, nl=False, err=err)


def give_up_output() -> None:
    """Report that the output cannot be written, and discard the rest: otherwise Python would try again at its exit."""
    try:
        click.echo("rdnscache: the output cannot be written", err=True)
    except OSError:
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
        except AttributeError:  # closed before we began
            pass
    os.close(nowhere)
