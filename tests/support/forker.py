"""A process that has imported all of rdnscache, and forks commands and nodes on request.

Imports take half a second of CPU for each command and one for each node, and tests run hundreds of them. A forked
process has the same arguments, files, variables and exit code as an executed one; `processes.Forked` is its client.
The only difference: workers of such a node apply gevent's patches after the imports instead of before.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

from gevent import monkey

import rdnscache
from rdnscache import cli

#: The longest request, in octets.
LONGEST = 1 << 16
#: What gevent imports to patch the modules of these names.
PATCHES = ("events", "local", "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "time")


def main() -> None:
    """Serve the socket that is our stdin, until the other end is closed."""
    for module in pkgutil.walk_packages(rdnscache.__path__, "rdnscache."):
        if module.name != "rdnscache.__main__":
            import_module(module.name)
    for name in PATCHES:
        import_module(f"gevent.{name}")
    monkey.patch_all = patch_late
    metadata.entry_points = metadata.entry_points().select  # patching looks for plug-ins in all packages, 25 times
    gc.freeze()
    if serve(socket.socket(fileno=os.dup(0))):
        try:
            cli.main()
        except SystemExit as end:
            leave(end.code)
            raise


def leave(code: str | int | None) -> None:
    """End without taking all modules apart, which costs more than most commands; returns when there is more to say."""
    if not isinstance(code, str):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def patch_late(patch_all: Callable[[], object] = monkey.patch_all) -> None:
    """Apply gevent's patches; names that redis-py has imported already are replaced too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)  # that ssl is there: for the sake of redis.asyncio
        patch_all()
    replaced = {id(old): (module, name) for module, items in monkey.saved.items() for name, old in items.items()}
    for holder in [module for name, module in sys.modules.items() if name.partition(".")[0] == "redis"]:
        for name, held in list(vars(holder).items()):
            if callable(held) and id(held) in replaced:
                where, what = replaced[id(held)]
                setattr(holder, name, getattr(sys.modules[where], what))


def serve(control: socket.socket) -> bool:
    """True in a process that is to be a command, False when there is nothing more to do.

    A request comes with four files: stdin, stdout, stderr, and where the process's number and its end are told.
    """
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([control.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, where = running.pop(ready)
                tell(where, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(where)
                os.close(ready)
                continue
            asked, files, _, _ = socket.recv_fds(control, LONGEST, 4)
            if not asked:
                return False
            pid = os.fork()
            if pid == 0:
                control.close()
                become(json.loads(asked), files[:3])
                for each in (*files, *running, *(where for _, where in running.values())):
                    os.close(each)
                return True
            tell(files[3], pid)
            running[os.pidfd_open(pid)] = (pid, files[3])
            for each in files[:3]:
                os.close(each)


def tell(where: int, number: int) -> None:
    try:
        os.write(where, b"%d\n" % number)
    except BrokenPipeError:  # the client has gone
        pass


def become(asked: dict[str, object], files: list[int]) -> None:
    """Set up what an executed command would find: files, variables, arguments."""
    words, env = asked["words"], asked["env"]
    assert isinstance(words, list) and isinstance(env, dict)
    for number, each in enumerate(files):
        os.dup2(each, number)
    os.environ.clear()
    os.environ.update(env)
    encoding, _, errors = str(env.get("PYTHONIOENCODING", "")).partition(":")
    for stream in (sys.stdin, sys.stdout, sys.stderr) if encoding else ():
        stream.reconfigure(encoding=encoding, errors=errors or stream.errors)  # type: ignore[union-attr]
    sys.argv = [str(Path(rdnscache.__path__[0], "__main__.py")), *words]
    sys.orig_argv = [sys.executable, "-m", "rdnscache", *words]
    sys.modules["__main__"].__package__ = "rdnscache"  # `python -m rdnscache`, as its usage says


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    main()
