"""Runs a node from a checkout: at once in plain Python, and compiled as soon as that can be had.

    python deploy/checkout.py COMPILE... -- SERVE...

This process becomes the node. A child of it compiles meanwhile, and sends the node SIGUSR2 when that has succeeded: the
node executes itself anew with what it finds, and no query is lost. When it fails, it says so, and the node goes on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

#: Where the compiler's words go; seconds between two looks whether the node is still there.
LOG = Path("build/compile.log")
LOOK = 0.5


def main() -> None:
    cut = sys.argv.index("--")
    making, serving = sys.argv[1:cut], sys.argv[cut + 1 :]
    node = os.getpid()
    # The node takes signals once it can act on them; until then, this one would end it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    tell("the node begins in plain Python; it is compiled meanwhile, which takes about a minute")
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os._exit(compile_for(node, making))
    os.execv(serving[0], serving)


def compile_for(node: int, command: list[str]) -> int:
    """Compile and let the node know. It is given up when the node ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node
    os.nice(10)
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as log:
        work = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "REQUIRE_COMPILED": "1"},
        )  # fmt: skip
    while work.returncode is None:
        try:
            work.wait(LOOK)
        except subprocess.TimeoutExpired:
            if os.getppid() != node:
                os.killpg(work.pid, signal.SIGTERM)
    if os.getppid() != node:
        return 1
    if work.returncode:
        tell(f"no compiled form, the node goes on in plain Python: {last_words()} (all of it: {LOG})")
        return 1
    tell("compiled: the node takes that form now, without losing a query")
    os.kill(node, signal.SIGUSR2)
    return 0


def last_words() -> str:
    """What the setup said last, or whoever spoke last."""
    lines = [line.strip() for line in LOG.read_text(errors="replace").splitlines() if line.strip()]
    ours = [line.partition(": ")[2] for line in lines if line.startswith("rdnscache: ")]
    return (ours or lines or ["it said nothing"])[-1].removeprefix("no compiled form: ")


def tell(text: str) -> None:
    print(f"rdnscache: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
