"""Child processes: started, watched, started again, ended. Nothing here knows what they do."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rdnscache.handover import SIGNALS
from rdnscache.process import die_with_parent, ended_how

log = logging.getLogger(__name__)

#: A child that lived this long in seconds starts again at once; before, after a pause that doubles each time.
LONG_LIFE = 5.0
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
#: Tells a child that its successor is at work.
SUCCEEDED = signal.SIGUSR1
#: Seconds a successor may take until it is at work.
SUCCESSION = 15.0


@dataclass(slots=True)
class Child:
    """A process we keep running. `run` is its whole life and returns its exit code.

    It is given a descriptor to write to when it is at work; `ready` is our end, -1 when nothing is awaited there.
    """

    name: str
    run: Callable[[int], int]
    pid: int = 0
    ready: int = -1
    at_work: bool = False
    #: Whether it is to end, and nobody to be started in its place yet.
    retired: bool = False
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0

    def hear(self) -> None:
        """Take its word that it is at work; or it has ended."""
        self.at_work = os.read(self.ready, 1) != b""
        self.hush()

    def hush(self) -> None:
        if self.ready >= 0:
            os.close(self.ready)
            self.ready = -1


@dataclass(slots=True)
class Family:
    """All children of this process, and the signals that concern them."""

    children: list[Child] = field(default_factory=list)
    #: How often we were told to stop; and to reload or restart, since somebody looked.
    stops: int = 0
    reloads: int = 0
    restarts: int = 0
    _signals: tuple[int, int] = (-1, -1)

    def catch_signals(self) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self._signals = (read, write)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        signal.signal(signal.SIGUSR2, self._on_restart)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # they may have waited for us

    def _on_stop(self, number: int, frame: object) -> None:
        self.stops += 1

    def _on_reload(self, number: int, frame: object) -> None:
        self.reloads += 1

    def _on_restart(self, number: int, frame: object) -> None:
        self.restarts += 1

    def go_on(self, seconds: float) -> None:
        """Start what is due, sleep until something happens, see who has ended."""
        self.start_due()
        self.sleep(seconds)
        self.reap()

    def sleep(self, seconds: float) -> None:
        """Until a signal comes, or the time is over."""
        poll = select.poll()  # not select(): it cannot take descriptors above 1023
        poll.register(self._signals[0], select.POLLIN)
        speaking = {child.ready: child for child in self.children if child.ready >= 0}
        for ready in speaking:
            poll.register(ready, select.POLLIN)
        for fd, _ in poll.poll(max(seconds, 0) * 1000):
            if fd in speaking:
                speaking[fd].hear()
        try:
            os.read(self._signals[0], 4096)
        except BlockingIOError:
            pass

    def start_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if not child.pid and not child.retired and child.start_at <= now:
                self.start(child)

    def next_start(self) -> float:
        now = time.monotonic()
        waiting = [child for child in self.children if not child.pid and not child.retired]
        return min((child.start_at - now for child in waiting), default=3600.0)

    def start(self, child: Child) -> None:
        """Fork. Signals wait meanwhile, so that the child never runs our handlers."""
        parent, tell = os.getpid(), -1
        child.hush()
        child.at_work = False
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            child.ready, tell = os.pipe()
            pid = os.fork()
            if pid == 0:
                self._live(child, parent, tell)
        except OSError as error:  # no memory, process or descriptor left for now
            log.warning("%s cannot be started: %s", child.name, error.strerror)
            child.start_at = time.monotonic() + LAST_PAUSE
            return
        finally:
            if tell >= 0:
                os.close(tell)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        child.pid, child.started = pid, time.monotonic()

    def _live(self, child: Child, parent: int, tell: int) -> None:
        """The child's side of the fork; never returns."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for fd in (*self._signals, *(other.ready for other in self.children if other.ready >= 0)):
                os.close(fd)
            die_with_parent(parent)
            code = child.run(tell)
        except Exception:
            log.exception("%s failed", child.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self.children:
                if child.pid == pid:
                    self._ended(child, status)

    def _ended(self, child: Child, status: int) -> None:
        now = time.monotonic()
        child.pid = 0
        if now - child.started >= LONG_LIFE:
            child.failures = 0
        pause = min(FIRST_PAUSE * 2 ** min(child.failures, 10), LAST_PAUSE) if child.failures else 0.0
        child.failures += 1
        child.start_at = now + pause
        if not self.stops and not child.retired:
            log.warning("%s %s; starting it again in %.1f s", child.name, ended_how(status), pause)

    def succeed(self, child: Child, seconds: float) -> bool:
        """Start a successor; when it is at work, end the old one within `seconds`. False when it does not work."""
        heir = Child(child.name, child.run, retired=True)
        self.children.append(heir)
        self.start(heir)
        try:
            deadline = time.monotonic() + SUCCESSION
            while heir.ready >= 0 and not self.stops and time.monotonic() < deadline:
                self.sleep(deadline - time.monotonic())
                self.reap()
            if not heir.at_work or not heir.pid:
                self.finish([heir], 1.0, SUCCEEDED)  # by the one it was to succeed, who goes on
                return False
            child.retired = True
            self.finish([child], seconds, SUCCEEDED)
            child.pid, child.started, child.failures, child.retired = heir.pid, heir.started, 0, False
        finally:
            heir.hush()
            self.children.remove(heir)
        return True

    def finish(self, children: list[Child], seconds: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask them to end; kill those that have not in time, or when we are told to stop a second time."""
        self._signal(children, number)
        deadline = time.monotonic() + seconds
        while any(child.pid for child in children) and time.monotonic() < deadline and self.stops < 2:
            self.sleep(deadline - time.monotonic())
            self.reap()
        late = [child for child in children if child.pid]
        for child in late:
            log.warning("%s did not end in time", child.name)
        self._signal(late, signal.SIGKILL)
        for child in late:
            os.waitpid(child.pid, 0)
            child.pid = 0

    def _signal(self, children: list[Child], number: signal.Signals) -> None:
        for child in children:
            if child.pid:
                os.kill(child.pid, number)
