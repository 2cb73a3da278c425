"""Child processes: started, watched, restarted, ended. This module does not know what they do.

A child that has reported that it is at work has to send heartbeats: one that lives but hangs is worse than a dead one.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rdnscache.kernel import die_with_parent, does_what, ended_how
from rdnscache.node.handover import SIGNALS
from rdnscache.node.keeper import Keeper
from rdnscache.node.lifeline import AT_WORK, Lifeline

log = logging.getLogger(__name__)

#: A child that lived this many seconds is restarted at once; otherwise after a pause that doubles each time.
LONG_LIFE = 5.0
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
#: The signal that tells a child that its successor is at work.
SUCCEEDED = signal.SIGUSR1
#: Seconds within which a successor has to be at work.
SUCCESSION = 15.0
#: Seconds within which any other child has to be at work, unless it closes its lifeline.
BEGINNING = 60.0
#: How often a child's heartbeat is checked within the time it may be silent; most seconds between two checks; and how
#: many seconds a hung child has to write its stack before it is killed.
LOOKS, LOOK = 5, 1.0
LAST_WORDS = 1.0
#: How many messages of children are kept until they are handled; the oldest are dropped.
MAX_WORDS = 256


@dataclass(slots=True)
class Child:
    """A process we keep running. `run` is called in it with its lifeline, and returns its exit code."""

    name: str
    run: Callable[[Lifeline], int]
    #: Called when it ended without being asked to; with True if it was killed because it hung.
    lost: Callable[[bool], None] = lambda hung: None
    pid: int = 0
    line: Lifeline | None = None
    #: Whether more may arrive on its lifeline.
    open: bool = False
    at_work: bool = False
    #: Its heartbeat count at the last check, how many seconds ago that changed, and whether it is being ended because
    #: of it.
    beats: int = -1
    silent: float = 0.0
    condemned: bool = False
    #: Whether it is to end without being replaced yet.
    retired: bool = False
    #: Whether it does one task and ends by itself; then it is not restarted.
    once: bool = False
    #: Whether it need not send heartbeats.
    patient: bool = False
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0

    def hear(self) -> list[str]:
        """Read its messages, note if it is at work or has ended, and return the others."""
        words = self.line.hear() if self.line is not None else None
        if words is None:
            self.open = False
            return []
        if AT_WORK in words:
            self.at_work, self.silent = True, 0.0  # the time before that does not count
        return [word for word in words if word != AT_WORK]

    def begin(self, line: Lifeline | None, pid: int) -> None:
        """Reset the state for a new process."""
        self.hush()
        self.line, self.open, self.pid, self.started = line, line is not None, pid, time.monotonic()
        self.at_work, self.beats, self.silent, self.condemned = False, -1, 0.0, False

    def become(self, successor: Child) -> None:
        """Its successor, which has the same name, takes its place."""
        self.begin(successor.line, successor.pid)
        self.at_work, self.open, self.started = successor.at_work, successor.open, successor.started
        self.failures, self.retired, successor.line, successor.open = 0, False, None, False

    def hush(self) -> None:
        if self.line is not None:
            self.line.close()
        self.line, self.open = None, False


@dataclass(slots=True)
class ProcessGroup:
    """All children of this process, and the handling of signals."""

    children: list[Child] = field(default_factory=list)
    #: How often we were told to stop; and to reload or restart since the last check.
    stops: int = 0
    reloads: int = 0
    restarts: int = 0
    #: Seconds without a heartbeat after which a child at work is ended, 0: never; and seconds children get when we die.
    hang_time: float = 0.0
    grace: float = 0.0
    #: Messages passed on by children.
    words: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_WORDS))
    #: Called in every turn; returns within how many seconds it has to be called again.
    pulse: Callable[[], float] = lambda: 3600.0
    _keeper: Keeper | None = None
    _looked: float = 0.0
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # those that arrived meanwhile

    def _on_stop(self, number: int, frame: object) -> None:
        self.stops += 1

    def _on_reload(self, number: int, frame: object) -> None:
        self.reloads += 1

    def _on_restart(self, number: int, frame: object) -> None:
        self.restarts += 1

    def go_on(self, seconds: float) -> None:
        """Start children that are due, sleep until something happens, and handle those that ended or hang."""
        if not self.stops:
            self._start_due()
            seconds = min(seconds, self._next_start())
        if self._keeper is not None:
            self._keeper.tell([child.pid for child in self.children if child.pid], self.grace)
        self._sleep(min(seconds, self._look(), self.pulse()))
        self._reap()
        self._watch()

    @property
    def keeper_fd(self) -> int:
        return self._keeper.fd if self._keeper is not None else -1

    def keep(self, keeper: Keeper) -> None:
        """Start the keeper: children that outlive us are killed from now on."""
        self._keeper = keeper

    def _sleep(self, seconds: float) -> None:
        """Wait for a signal, a message, or the end of the time."""
        poll = select.poll()  # not select(): it is limited to descriptors up to 1023
        poll.register(self._signals[0], select.POLLIN)
        speaking = {child.line.reader: child for child in self.children if child.open and child.line is not None}
        for reader in speaking:
            poll.register(reader, select.POLLIN)
        for fd, _ in poll.poll(max(seconds, 0) * 1000):
            if fd in speaking:
                self.words += speaking[fd].hear()
        try:
            os.read(self._signals[0], 4096)
        except BlockingIOError:
            pass

    def _look(self) -> float:
        return min(self.hang_time / LOOKS, LOOK) if self.hang_time else 3600.0

    def _watch(self) -> None:
        """End children that hang. Only time in which we ran ourselves counts: if all of us were stopped, none has
        hung."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * self._look()), now
        for child in self.children:
            if not self.hang_time or not child.pid or child.line is None or child.patient:
                continue
            if not (child.at_work or child.open):
                continue
            longest = self.hang_time if child.at_work else max(self.hang_time, BEGINNING)
            beats = child.line.beats
            if beats != child.beats and not child.condemned:
                child.beats, child.silent = beats, 0.0
                continue
            child.silent += passed
            if child.silent >= longest + LAST_WORDS and child.condemned:
                os.kill(child.pid, signal.SIGKILL)
            elif child.silent >= longest and not child.condemned:
                log.error("%s hangs: it is %s and has made no progress for %.1f s; it is replaced", child.name,
                          does_what(child.pid), child.silent)  # fmt: skip
                child.condemned = True
                os.kill(child.pid, signal.SIGABRT)

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if not child.pid and not child.retired and child.start_at <= now:
                self.start(child)

    def _next_start(self) -> float:
        now = time.monotonic()
        waiting = [child for child in self.children if not child.pid and not child.retired]
        return min((child.start_at - now for child in waiting), default=3600.0)

    def start(self, child: Child) -> None:
        """Fork. Signals are blocked meanwhile, so that the child never runs our handlers."""
        parent, line = os.getpid(), None
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            line = Lifeline()
            pid = os.fork()
            if pid == 0:
                self._live(child, parent, line)
        except OSError as error:  # no memory, process or descriptor is left at the moment
            log.warning("%s cannot be started: %s", child.name, error.strerror)
            child.start_at = time.monotonic() + LAST_PAUSE
            if line is not None:
                line.close()
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        line.hold()
        child.begin(line, pid)

    def _live(self, child: Child, parent: int, line: Lifeline) -> None:
        """The child's side of the fork; never returns."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor handles it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for fd in (*self._signals, self.keeper_fd):
                if fd >= 0:
                    os.close(fd)
            for other in self.children:
                other.hush()
            die_with_parent(parent)
            line.take()
            line.leave_stack()
            code = child.run(line)
        except Exception:
            log.exception("%s failed", child.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in [child for child in self.children if child.pid == pid]:
                self._ended(child, status)
                if child.once:
                    self.children.remove(child)

    def _ended(self, child: Child, status: int) -> None:
        now, stack = time.monotonic(), child.line.stack() if child.line is not None else ""
        child.pid = 0
        child.hush()
        if stack:
            log.warning("%s was in %s", child.name, stack)
        if now - child.started >= LONG_LIFE:
            child.failures = 0
        pause = min(FIRST_PAUSE * 2 ** min(child.failures, 10), LAST_PAUSE) if child.failures else 0.0
        child.failures += 1
        child.start_at = now + pause
        if not self.stops and not child.retired:
            child.lost(child.condemned)
            log.warning("%s %s; starting it again in %.1f s", child.name, ended_how(status), pause)

    def run_once(self, name: str, run: Callable[[], int]) -> None:
        """Run a task in a child that ends by itself, however long it takes."""

        def live(line: Lifeline) -> int:
            line.close()
            return run()

        child = Child(name, live, retired=True, once=True)
        self.start(child)
        if child.pid:
            self.children.append(child)

    def succeed(self, child: Child, seconds: float) -> bool:
        """Start a successor; when it is at work, end the old one within `seconds`. False when it does not work."""
        successor = Child(child.name, child.run, retired=True)
        self.children.append(successor)
        self.start(successor)
        try:
            deadline = time.monotonic() + SUCCESSION
            while successor.open and not successor.at_work and not self.stops and time.monotonic() < deadline:
                self.go_on(deadline - time.monotonic())
            if not successor.at_work or not successor.pid:
                self.finish([successor], 1.0, SUCCEEDED)  # the child it was to replace goes on in its place
                return False
            child.retired = True
            self.finish([child], seconds, SUCCEEDED)
            child.become(successor)
        finally:
            successor.hush()
            self.children.remove(successor)
        return True

    def finish(self, children: list[Child], seconds: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask children to end; kill those that do not end in time, or all when we are told to stop a second time."""
        self._signal(children, number)
        deadline = time.monotonic() + seconds
        while any(child.pid for child in children) and time.monotonic() < deadline and self.stops < 2:
            self.go_on(deadline - time.monotonic())
        late = [child for child in children if child.pid]
        for child in late:
            log.warning("%s did not end in time: it is killed", child.name)
        self._signal(late, signal.SIGKILL)
        for child in late:
            os.waitpid(child.pid, 0)
            child.pid = 0
            child.hush()

    def _signal(self, children: list[Child], number: signal.Signals) -> None:
        for child in children:
            if child.pid:
                os.kill(child.pid, number)
