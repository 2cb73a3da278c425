"""Running commands, and information about processes."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def clean_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Our environment without rdnscache's variables, except for the form under test, and with `extra`."""
    kept = ("RDNSCACHE_PURE",)
    env = {name: value for name, value in os.environ.items() if name in kept or not name.startswith("RDNSCACHE_")}
    return env | (extra or {})


def children_of(pid: int) -> list[int]:
    """The child processes of `pid`, by /proc."""
    pairs = ((each, _state(each)) for each in os.listdir("/proc") if each.isdigit())
    return sorted(int(each) for each, (state, parent) in pairs if parent == pid and state not in "ZX")


def alive(pid: int) -> bool:
    return _state(pid)[0] not in "ZX"


def _state(pid: int | str) -> tuple[str, int]:
    """The state letter of a process, and its parent; for one that is gone as for a dead one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            state, parent = stat.read().rpartition(b")")[2].split()[:2]
    except OSError:
        return "X", 0
    return state.decode(), int(parent)


def run(
    *words: str, env: dict[str, str] | None = None, stdin: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """The output and exit code of any program, run in the project's folder."""
    return subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=timeout, env=env, cwd=ROOT, check=False
    )


def command(
    *words: str, env: dict[str, str] | None = None, stdin: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """The output and exit code of a command of rdnscache, whose only variables are those in `env`.

    It is forked from a process that has imported what it needs, unless `env` has variables for Python or the form.
    """
    if not forkable(env or {}):
        return run(sys.executable, "-m", "rdnscache", *words, env=clean_env(env), stdin=stdin, timeout=timeout)
    with ExitStack() as stack:
        given, said, complaints = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        process = Forked(words, clean_env(env), (given.fileno(), said.fileno(), complaints.fileno()))
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        texts = [(each.seek(0), each.read())[1] for each in (said, complaints)]
        return subprocess.CompletedProcess(words, code, *texts)


def forkable(env: Iterable[str]) -> bool:
    """Whether variables of these names are read only after what the forker has done already."""
    later = ("XDG_RUNTIME_DIR", "PYTHONIOENCODING")
    return all(name in later or (name.startswith("RDNSCACHE_") and name != "RDNSCACHE_PURE") for name in env)


class Forked:
    """`rdnscache` with these words, forked from a process that has imported what it needs; used as a Popen is."""

    def __init__(self, words: Sequence[str], env: dict[str, str], files: Sequence[int]) -> None:
        self.args = words
        self.returncode: int | None = None
        asked = json.dumps({"words": words, "env": env}).encode()
        told, tells = os.pipe()
        self._told = os.fdopen(told, "rb", buffering=0)
        with os.fdopen(tells, "wb") as end:
            socket.send_fds(_forker(), [asked], [*files, end.fileno()])
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal; TimeoutExpired after `timeout` seconds."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _forker() -> socket.socket:
    """Where processes are asked for; the one behind it ends with us."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        program = subprocess.Popen(
            [sys.executable, "-m", "support.forker"], stdin=its.fileno(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=clean_env({"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}), cwd=ROOT,
        )  # fmt: skip
    atexit.register(program.wait)
    atexit.register(ours.close)
    return ours
