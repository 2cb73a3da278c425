"""From one image of a supervisor to the next: it executes itself again, and keeps its process, sockets and children.

The new image finds here what it was left, and lets its own workers succeed the old ones, one by one, on the same
sockets: a new version takes over and no query is lost.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields

_VARIABLE = "RDNSCACHE_HANDOVER"
#: Seconds the next image may take to say that it could run.
CHECK_TIME = 30.0
#: What must not come between the two images.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR2)


@dataclass(slots=True)
class Handover:
    """What is left: descriptors of sockets by place, process IDs of children by number."""

    sockets: dict[str, list[int]] = field(default_factory=dict)
    workers: list[int] = field(default_factory=list)
    #: The embedded server and the path of its socket.
    server: int = 0
    server_path: str = ""
    #: The node's incarnation, and since when (monotonic).
    incarnation: str = ""
    begun: float = 0.0
    #: Both descriptors of each worker's lifeline, and where the keeper is told.
    lines: list[tuple[int, int]] = field(default_factory=list)
    keeper: int = -1
    #: The orders that have been carried out, and the events that ordered this restart.
    orders: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    #: Zones that the cluster is to forget once the next image is at work.
    zones: list[str] = field(default_factory=list)

    def leave(self, place: str, sockets: Iterable[socket.socket]) -> None:
        self.sockets[place] = [sock.fileno() for sock in sockets]

    def take(self, place: str) -> list[socket.socket]:
        """The sockets that were left for a place; they are ours now."""
        found = [socket.socket(fileno=fd) for fd in self.sockets.pop(place, [])]
        for sock in found:
            sock.set_inheritable(False)
        return found

    def close(self) -> None:
        """Close what has not been taken."""
        for place in list(self.sockets):
            for sock in self.take(place):
                sock.close()


def received(environ: dict[str, str] | os._Environ[str] = os.environ) -> Handover:
    """What the image before has left us; nothing when we are the first. What only a later version knows is left out."""
    told = json.loads(environ.pop(_VARIABLE, "{}"))
    return Handover(**{each.name: told[each.name] for each in fields(Handover) if each.name in told})


def expected(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether we are the next image, or are asked whether it could run: our ports are taken then, by the one before."""
    return _VARIABLE in environ


def check() -> str:
    """Why the next image could not run; empty when it could."""
    try:
        done = subprocess.run(
            [*_command(), "--check"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CHECK_TIME,
            env={**os.environ, _VARIABLE: "{}"}, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def execute(handed: Handover, environ: Mapping[str, str] = os.environ) -> None:
    """Become the next image; returns only by OSError. Signals wait until it listens to them."""
    kept = [handed.sockets.values(), handed.lines, [[handed.keeper]]]
    for fd in (fd for group in kept for fds in group for fd in fds if fd >= 0):
        os.set_inheritable(fd, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        command = _command()
        os.execve(command[0], command, {**environ, _VARIABLE: json.dumps(asdict(handed))})
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _command() -> list[str]:
    """How this process was started."""
    return [sys.executable, *sys.orig_argv[1:]]
