"""The handover from one image of a supervisor to the next, when it executes itself again.

Process, sockets and children are kept. The new image reads here what it takes over, and replaces the old workers by its
own one by one, on the same sockets: a new version takes over and no query is lost.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields

_VARIABLE = "RDNSCACHE_HANDOVER"
#: Seconds within which the next image has to report that it could run.
CHECK_TIME = 30.0
#: Signals that are blocked while one image replaces the other.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR2)


@dataclass(slots=True)
class Handover:
    """What is handed over: descriptors of sockets by label, process IDs of children by number."""

    sockets: dict[str, list[int]] = field(default_factory=dict)
    workers: list[int] = field(default_factory=list)
    #: By label, how many of its sockets are from systemd; these come first.
    given: dict[str, int] = field(default_factory=dict)
    #: The embedded server and the path of its socket.
    server: int = 0
    server_path: str = ""
    #: The node's incarnation, and its start (monotonic).
    incarnation: str = ""
    begun: float = 0.0
    #: Both descriptors of each worker's lifeline, and the pipe to the keeper.
    lines: list[tuple[int, int]] = field(default_factory=list)
    keeper: int = -1
    #: The orders carried out so far, and the events that ordered this restart.
    orders: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    #: Zones to flush in the cluster once the next image is at work.
    zones: list[str] = field(default_factory=list)

    def leave(self, label: str, sockets: Iterable[socket.socket]) -> None:
        self.sockets[label] = [sock.fileno() for sock in sockets]

    def take(self, label: str) -> list[socket.socket]:
        """Take over the sockets for a label."""
        found = [socket.socket(fileno=fd) for fd in self.sockets.pop(label, [])]
        for sock in found:
            sock.set_inheritable(False)
        return found

    def close(self) -> None:
        """Close the sockets that nobody has taken."""
        for label in list(self.sockets):
            for sock in self.take(label):
                sock.close()


def received(environ: dict[str, str] | os._Environ[str] = os.environ) -> Handover:
    """The handover from the previous image; empty in the first one. Fields that this version does not know are
    ignored."""
    told = json.loads(environ.pop(_VARIABLE, "{}"))
    return Handover(**{each.name: told[each.name] for each in fields(Handover) if each.name in told})


def expected(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the next image, or a test whether it could run: then the previous one holds our ports."""
    return _VARIABLE in environ


def check(beat: Callable[[], float]) -> str:
    """Why the next image could not run; empty when it could. `beat` is called repeatedly meanwhile."""
    words, deadline = [*_command(), "--check"], time.monotonic() + CHECK_TIME
    env = {**os.environ, _VARIABLE: "{}"}
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env
        )
    except OSError as error:
        return str(error)
    with process:
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            try:
                _, complaint = process.communicate(timeout=min(left, beat()))
                break
            except subprocess.TimeoutExpired:
                if not left:
                    process.kill()
                    return f"{shlex.join(words)} took longer than {CHECK_TIME:g} s"
    return "" if process.returncode == 0 else complaint.strip() or f"exit code {process.returncode}"


def execute(handed: Handover, environ: Mapping[str, str] = os.environ) -> None:
    """Execute the next image; does not return except with OSError. Signals stay blocked until it handles them."""
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
