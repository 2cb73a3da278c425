"""Sees to it that nothing outlives the supervisor: a process of its own that waits for the supervisor's end.

When a supervisor dies, the kernel sends its children SIGTERM, and they finish what is in flight. One that hangs, or is
stopped, does not; so the keeper kills what is left when the time for that is over. It has nothing else to do, holds no
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
    """The supervisor's end: `told` who is to be killed, and after what time."""

    def __init__(self, fd: int = -1) -> None:
        """With the descriptor an earlier image had, the keeper that it started; without, a new one (Linux only)."""
        if fd >= 0:
            os.set_inheritable(fd, False)
        self.fd = fd if fd >= 0 else _start()
        self._told = b""

    def tell(self, pids: Iterable[int], grace: float) -> None:
        """Who our children are, and how many seconds they have when we have died."""
        told = json.dumps([grace, sorted(pids)]).encode() + b"\n"
        if self.fd < 0 or told == self._told:
            return
        self._told = told
        try:
            os.write(self.fd, told)
        except BlockingIOError:  # it is stopped, or starved: the next word counts
            self._told = b""
        except OSError:  # it has been killed
            os.close(self.fd)
            self.fd = _start()
            self._told = b""


def _start() -> int:
    """Start a keeper that is not our child, or the supervisor would take it for one of its own. Where to write."""
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
    except OSError:  # no process can be started: the kernel's SIGTERM has to do
        log.warning("the keeper cannot be started: if this process is killed, its workers may keep running")
        os.close(writer)
        return -1
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.waitpid(pid, 0)
    os.set_blocking(writer, False)
    return writer


def _detach(reader: int) -> None:
    """Leave the terminal, and everything open but the pipe and where the log goes."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in (1, 2, reader):
            try:
                os.close(fd)
            except OSError:  # that of the list itself
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
    """By their descriptors: a process ID may be somebody else's by the time it is used."""
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
        log.warning("process %d has outlived its supervisor: it is killed", pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError:
            continue
