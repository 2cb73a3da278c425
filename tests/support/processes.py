"""Commands run, and processes looked at."""

from __future__ import annotations

import os
import subprocess
import sys
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


def command(*words: str, env: dict[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The same of a command of rdnscache, with no variable of its own but those in `env`."""
    return run(sys.executable, "-m", "rdnscache", *words, env=clean_env(env), stdin=stdin)
