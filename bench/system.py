"""What the benchmarks need of the machine: CPUs, ports, and the resources a program has used."""

from __future__ import annotations

import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

TICK = os.sysconf("SC_CLK_TCK")
_given_ports: set[int] = set()


class BenchError(Exception):
    """An error, with one sentence for the person at the terminal."""


def two_cpus() -> tuple[int, int]:
    """The CPU for the server under test, and the CPU for everything else."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchError("There is only one CPU; the server and its load need one each.")
    return cpus[0], cpus[1]


def free_port() -> int:
    """A port of 127.0.0.1 free for UDP and TCP, outside the range of ephemeral ports."""
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        if port in _given_ports:
            continue
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        _given_ports.add(port)
        return port


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns once `condition` holds; BenchError with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds:g} s.")
        time.sleep(0.01)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def tree(pid: int) -> list[int]:
    """`pid` and all processes below it."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes' threads and of the children they have waited for."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid))) / TICK


def busy_seconds(cpu: int) -> float:
    """Seconds for which a CPU has not been idle, including time stolen by the host."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) / TICK
    raise BenchError(f"/proc/stat has no line for CPU {cpu}.")


def pss_bytes(pids: Iterable[int]) -> int:
    """Resident memory, pages shared by n processes counted as 1/n each."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


class Program:
    """A program started in a process group of its own and pinned to `cpu`."""

    def __init__(self, name: str, command: list[str], folder: Path, cpu: int, env: dict[str, str] | None = None):
        self.name = name
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(cpu), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=Path(__file__).absolute().parents[1],
                start_new_session=True,
            )

    def check(self) -> None:
        """BenchError with the end of its log if it has ended."""
        if self.process.poll() is not None:
            end = " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
            raise BenchError(f"{self.name} ended with {self.process.returncode}: {end or 'no output'}")

    def cpu(self) -> float:
        return cpu_seconds(tree(self.process.pid))

    def pss(self) -> int:
        return pss_bytes(tree(self.process.pid))

    def stop(self) -> None:
        """Send SIGTERM, then SIGKILL to its group if it does not end in time."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def output(command: list[str], env: dict[str, str] | None = None) -> str:
    """The output of a program; empty if it is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    root = Path(__file__).absolute().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=env, cwd=root)
    return (done.stdout + done.stderr).strip()


def machine() -> dict[str, object]:
    """The properties of the machine that the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpus": os.cpu_count(),
        "cpu": model or platform.machine(),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
