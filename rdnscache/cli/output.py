"""What commands print: the one place through which anything gets to a terminal."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any, TextIO

import click

from rdnscache.printable import printable

#: What writing fails with when a disk is full or a terminal gone.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


def echo(*lines: str, err: bool = False) -> None:
    """Print lines. Names, versions and texts in them come from Redis and the network: none can steer a terminal, or
    pass for two lines.
    """
    _write("".join(f"{printable(line)}\n" for line in lines), err)


def echo_json(told: Any, indent: int | None = None) -> None:
    """Print JSON, in ASCII."""
    _write(json.dumps(told, indent=indent) + "\n", False)


def entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads it as it is written; None is one that was closed before we began."""
    return stream is not None and stream.isatty()


def _write(text: str, err: bool) -> None:
    if not err and text and sys.stdout is None:  # closed before we began: click would say nothing
        raise OSError(errno.EBADF, "standard output is closed")
    click.echo(text, nl=False, err=err)


def give_up_output() -> None:
    """Say that the output cannot be written; what is left of it goes nowhere, or Python would try again at its end."""
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
