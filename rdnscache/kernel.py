"""Facilities of the kernel for processes that Python's library does not offer."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent dies (Linux; elsewhere nothing happens).

    Called in a new child; `parent` is the process that forked it, which may be gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def forbid_dumps() -> None:
    """Prevent core dumps of this process and its children, as files and through a program that collects them.

    On Linux only root can attach a debugger after that.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # the limit does not apply to a program that collects dumps
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def give_memory_back() -> None:
    """Return free memory to the system: the C library keeps it, in fragments between blocks that are in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def first_free_port() -> int:
    """The lowest port that may be bound without privileges."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def raise_file_limit() -> int:
    """Raise the limit of open files as far as allowed, since every connection and upstream query needs one; returns
    it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems allow less than the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


_STATES = {"R": "running", "S": "waiting", "D": "waiting for a device", "T": "stopped", "t": "held by a debugger"}


def does_what(pid: int) -> str:
    """What a process is doing, according to the kernel; only "alive" where the system is not Linux."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "alive"
    return _STATES.get(state, "alive")


def ended_how(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def born(pid: int) -> int:
    """When a process began, in clock ticks since the boot (Linux); 0 when it does not live, or this is not known."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if words[0] in "ZX" else int(words[19])
    except (OSError, IndexError, ValueError):
        return 0


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of a node: from the start of its supervisor, through all images that succeed it, to its end.

    It tells apart two nodes of the same name, and a node from the same one before a restart.
    """

    #: 8 hexadecimal digits; part of this node's name in Redis.
    name: str
    #: A moment of the monotonic clock.
    begun: float
    #: The process ID of the supervisor, and when that process began.
    pid: int
    born: int
    #: The boot ID of the machine and the PID namespace; empty when they are not known.
    boot: str = ""
    space: str = ""

    @classmethod
    def here(cls, name: str = "", begun: float = 0.0) -> Incarnation:
        """This process as a supervisor; with the name and start that an earlier image handed over, or new ones."""
        pid = os.getpid()
        told = (name, begun) if name else (os.urandom(4).hex(), time.monotonic())
        return cls(*told, pid, born(pid), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid"))

    def as_json(self) -> dict[str, str | int]:
        """What another node on this machine needs to find out whether this one is alive."""
        return {"boot": self.boot, "space": self.space, "pid": self.pid, "born": self.born}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def since_boot() -> float:
    """Seconds since this machine was started, including those in which it was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


#: The CPU quota of a container: microseconds of CPU, and the period in microseconds (cgroups version 2).
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cpus() -> int:
    """The number of CPUs this process may use; in a container with a quota, as many as the quota amounts to."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_QUOTA.read_text().split())
    except (OSError, ValueError):  # not in a container, or "max"
        return count
    return max(min(count, round(quota / period)), 1)
