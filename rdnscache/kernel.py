"""What the kernel offers for processes and Python does not."""

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
    """Ask the kernel for SIGTERM when the parent dies, however it does (Linux; elsewhere nothing happens).

    Called in a new child; `parent` is the process it was forked by, which may be gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def forbid_dumps() -> None:
    """No core dump of this process, and of those it forks: neither a file nor through a program that collects them.

    Linux leaves it undebuggable for others than root, too.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # a program that collects dumps is not bound by the limit
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def give_memory_back() -> None:
    """Let the system have the memory again that is free: the C library keeps it, in pieces between what is in use."""
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
    """As many open files as we may have: every connection and every upstream query is one. How many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


_STATES = {"R": "running", "S": "waiting", "D": "waiting for a device", "T": "stopped", "t": "held by a debugger"}


def does_what(pid: int) -> str:
    """What the kernel says a process is doing (Linux; elsewhere alive is all there is to say)."""
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
    """When a process began, in clock ticks since the boot (Linux); 0 where none lives, or it cannot be known."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if words[0] in "ZX" else int(words[19])
    except (OSError, IndexError, ValueError):
        return 0


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of a node: from the first image of its supervisor, over all that follow it, to its end.

    Two nodes of one name differ in it, and so does a node after a restart.
    """

    #: 8 hexadecimal digits; part of what this node is called in Redis.
    name: str
    #: By the monotonic clock.
    begun: float
    #: The supervisor, and when that process began.
    pid: int
    born: int
    #: Which boot of which machine, and which process IDs; empty where that cannot be known.
    boot: str = ""
    space: str = ""

    @classmethod
    def here(cls, name: str = "", begun: float = 0.0) -> Incarnation:
        """This process as a supervisor; with the name and beginning that an image before has left, or new ones."""
        pid = os.getpid()
        told = (name, begun) if name else (os.urandom(4).hex(), time.monotonic())
        return cls(*told, pid, born(pid), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid"))

    def as_json(self) -> dict[str, str | int]:
        """What another node on this machine needs to see whether we live."""
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
    """Seconds since this machine was started, suspended time included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


#: How much CPU a container may use: microseconds, and in how many (cgroups version 2).
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cpus() -> int:
    """The CPUs this process may use; of a container with a quota, as many as that is worth."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_QUOTA.read_text().split())
    except (OSError, ValueError):  # not in a container, or "max"
        return count
    return max(min(count, round(quota / period)), 1)
