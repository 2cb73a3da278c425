"""The keeper: a process that makes sure that no child outlives the supervisor for long.

When a supervisor dies, the kernel sends its children SIGTERM, and they finish the queries in flight. One that hangs or
is stopped does not; so the keeper kills the remaining ones when their time is over. It does nothing else, holds no
socket, and ends as soon as none of them is left.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import time
from collections.abc import Iterable

from rdnscache.node.handover import SIGNALS

log = logging.getLogger(__name__)


class Keeper:
    """The supervisor's side: it tells the keeper which processes to kill, and after how many seconds."""

    def __init__(self, fd: int = -1) -> None:
        """Take over the keeper of an earlier image by its descriptor, or start a new one (Linux only)."""
        if fd >= 0:
            os.set_inheritable(fd, False)
        self.fd = fd if fd >= 0 else _start()
        self._told = b""

    def tell(self, pids: Iterable[int], grace: float) -> None:
        """Tell the keeper our children, and how many seconds they have to end after our death."""
        told = json.dumps([grace, sorted(pids)]).encode() + b"\n"
        if self.fd < 0 or told == self._told:
            return
        self._told = told
        try:
            os.write(self.fd, told)
        except BlockingIOError:  # it is stopped or starved: the next message will do
            self._told = b""
        except OSError:  # it has been killed
            os.close(self.fd)
            self.fd = _start()
            self._told = b""


def _start() -> int:
    """Start a keeper that is not our child, so that the supervisor does not wait for it. Returns the pipe to it."""
    if not hasattr(os, "pidfd_open"):
        return -1
    reader, writer = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # in the keeper, for good
    try:
        pid = os.fork()
        if pid == 0:
            try:
                if os.fork() == 0:
                    _detach(reader)
                    _keep(reader)
            finally:
                os._exit(0)
    except OSError:  # no process can be started: there is only the kernel's SIGTERM then
        log.warning("the keeper cannot be started: if this process is killed, hung workers may keep running")
        os.close(writer)
        return -1
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.waitpid(pid, 0)
    os.set_blocking(writer, False)
    return writer


def _detach(reader: int) -> None:
    """Detach from the terminal, and close everything except the pipe and standard error."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in (1, 2, reader):
            try:
                os.close(fd)
            except OSError:  # the descriptor of the directory listing itself
                continue


def _keep(reader: int) -> None:
    held: dict[int, int] = {}
    grace, heard = 0.0, b""
    while data := os.read(reader, 65536):
        *lines, heard = (heard + data).split(b"\n")
        if lines:
            grace, pids = json.loads(lines[-1])
            _hold(held, pids)
    _outlast(held, time.monotonic() + grace)


def _hold(held: dict[int, int], pids: list[int]) -> None:
    """Kill by pidfd: a process ID may belong to another process by the time it is used."""
    for pid in held.keys() - set(pids):
        os.close(held.pop(pid))
    for pid in set(pids) - held.keys():
        try:
            held[pid] = os.pidfd_open(pid)
        except OSError:  # it is gone already
            continue


def _outlast(held: dict[int, int], deadline: float) -> None:
    poll = select.poll()
    pids = {fd: pid for pid, fd in held.items()}
    for fd in pids:
        poll.register(fd, select.POLLIN)
    while pids and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            del pids[fd]
    for fd, pid in pids.items():
        log.warning("process %d has outlived its supervisor and does not end: it is killed", pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError:
            continue
