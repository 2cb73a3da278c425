"""Enforces that tests marked `pure`, which `make quick` runs, start no process and use no network."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_IMPURE = frozenset({"os.fork", "os.posix_spawn", "socket.bind", "socket.connect", "socket.sendto", "subprocess.Popen"})
_guarding = False


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if _guarding and event in _IMPURE and not _is_silent(event, arguments):
        raise AssertionError(f"a test that is marked pure uses {event}")


def _is_silent(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether nothing is said: a UDP socket that asks for a route, a Unix socket as a kind of file."""
    return (event == "socket.connect" and arguments[0].type == socket.SOCK_DGRAM) or (
        event == "socket.bind" and arguments[0].family == socket.AF_UNIX
    )


sys.addaudithook(_look)


@contextmanager
def guarded() -> Iterator[None]:
    """A context in which impure events are errors."""
    global _guarding  # noqa: PLW0603
    _guarding = True
    try:
        yield
    finally:
        _guarding = False
