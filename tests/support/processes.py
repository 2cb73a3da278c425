"""Commands run, and processes looked at."""

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
from contextlib import ExitStack
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def clean_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Our environment without rdnscache's variables (but the form under test stays), and with `extra`."""
    kept = ("RDNSCACHE_PURE",)
    env = {name: value for name, value in os.environ.items() if name in kept or not name.startswith("RDNSCACHE_")}
    return env | (extra or {})


def children_of(pid: int) -> list[int]:
    """The child processes of `pid`, by /proc."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(folder.name))
    return sorted(found)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def run(
    *words: str, env: dict[str, str] | None = None, stdin: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """What any program says and how it ends, run where the project lies."""
    return subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=timeout, env=env, cwd=ROOT, check=False
    )


def command(
    *words: str, env: dict[str, str] | None = None, stdin: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """The same of a command of rdnscache, with no variable of its own but those in `env`.

    It is forked from a process that has imported what it needs, unless `env` says how Python or its form begins.
    """
    if any(name == "RDNSCACHE_PURE" or not name.startswith("RDNSCACHE_") for name in env or ()):
        return run(sys.executable, "-m", "rdnscache", *words, env=clean_env(env), stdin=stdin, timeout=timeout)
    asked = json.dumps({"words": words, "env": clean_env(env)}).encode()
    with ExitStack() as stack:
        given, said, complaints = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        told, tells = os.pipe()
        answers = stack.enter_context(os.fdopen(told, "rb", buffering=0))
        with os.fdopen(tells, "wb") as end:
            socket.send_fds(_forker(), [asked], [given.fileno(), said.fileno(), complaints.fileno(), end.fileno()])
        pid = int(answers.readline())
        if not select.select([answers], [], [], timeout)[0]:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, timeout)
        code = int(answers.readline())
        texts = [(each.seek(0), each.read())[1] for each in (said, complaints)]
        return subprocess.CompletedProcess(words, code, *texts)


@cache
def _forker() -> socket.socket:
    """Where commands are asked for; the process behind it ends with us."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        program = subprocess.Popen(
            [sys.executable, "-m", "support.forker"], stdin=its.fileno(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=clean_env({"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}), cwd=ROOT,
        )  # fmt: skip
    atexit.register(program.wait)
    atexit.register(ours.close)
    return ours
