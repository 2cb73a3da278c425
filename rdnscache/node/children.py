"""Child processes: started, watched, started again, ended. Nothing here knows what they do.

Those that have said that they are at work have to beat: a child that lives but does nothing is worse than a dead one.
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

#: A child that lived this long in seconds starts again at once; before, after a pause that doubles each time.
LONG_LIFE = 5.0
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
#: Tells a child that its successor is at work.
SUCCEEDED = signal.SIGUSR1
#: Seconds a successor may take until it is at work.
SUCCESSION = 15.0
#: Seconds in which any other child has to begin its work, unless it closes its line.
BEGINNING = 60.0
#: Looks at a child's beats within the time it may be silent, seconds between two looks at most; seconds that one has to
#: leave its stack before it is killed.
LOOKS, LOOK = 5, 1.0
LAST_WORDS = 1.0
#: Words of children that are kept until somebody has time for them: the latest.
MAX_WORDS = 256


@dataclass(slots=True)
class Child:
    """A process we keep running. `run` is its whole life, on the line it is given, and returns its exit code."""

    name: str
    run: Callable[[Lifeline], int]
    #: Called when it has ended and nobody had asked it to; with True if it was ended because it hung.
    lost: Callable[[bool], None] = lambda hung: None
    pid: int = 0
    line: Lifeline | None = None
    #: Whether more may be heard on the line.
    open: bool = False
    at_work: bool = False
    #: Its beats at our last look, and for how many seconds of ours there was none; whether it is being ended for that.
    beats: int = -1
    silent: float = 0.0
    condemned: bool = False
    #: Whether it is to end, and nobody to be started in its place yet.
    retired: bool = False
    #: Whether it has something to do and ends by itself: then it is forgotten.
    once: bool = False
    #: Whether it may be silent for as long as it likes.
    patient: bool = False
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0

    def hear(self) -> list[str]:
        """What it passes on, having taken its word that it is at work; or it has ended."""
        words = self.line.hear() if self.line is not None else None
        if words is None:
            self.open = False
            return []
        if AT_WORK in words:
            self.at_work, self.silent = True, 0.0  # the time before is not held against it
        return [word for word in words if word != AT_WORK]

    def begin(self, line: Lifeline | None, pid: int) -> None:
        """A life, of which nothing is known yet."""
        self.hush()
        self.line, self.open, self.pid, self.started = line, line is not None, pid, time.monotonic()
        self.at_work, self.beats, self.silent, self.condemned = False, -1, 0.0, False

    def become(self, successor: Child) -> None:
        """Its successor, who has no other name, is the child from now on."""
        self.begin(successor.line, successor.pid)
        self.at_work, self.open, self.started = successor.at_work, successor.open, successor.started
        self.failures, self.retired, successor.line, successor.open = 0, False, None, False

    def hush(self) -> None:
        if self.line is not None:
            self.line.close()
        self.line, self.open = None, False


@dataclass(slots=True)
class ProcessGroup:
    """All children of this process, and the signals that concern them."""

    children: list[Child] = field(default_factory=list)
    #: How often we were told to stop; and to reload or restart, since somebody looked.
    stops: int = 0
    reloads: int = 0
    restarts: int = 0
    #: Seconds without a beat after which a child at work is ended, 0: never; and those that children have when we die.
    hang_time: float = 0.0
    grace: float = 0.0
    #: What children pass on.
    words: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_WORDS))
    #: Called at every turn; returns the seconds until it has to be called again at the latest.
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # they may have waited for us

    def _on_stop(self, number: int, frame: object) -> None:
        self.stops += 1

    def _on_reload(self, number: int, frame: object) -> None:
        self.reloads += 1

    def _on_restart(self, number: int, frame: object) -> None:
        self.restarts += 1

    def go_on(self, seconds: float) -> None:
        """Start what is due, sleep until something happens, see who has ended or hangs."""
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
        """From now on, children that outlive us are killed."""
        self._keeper = keeper

    def _sleep(self, seconds: float) -> None:
        """Until a signal or a word comes, or the time is over."""
        poll = select.poll()  # not select(): it cannot take descriptors above 1023
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
        """End those who hang. Only what we are awake counts: if all of us were stopped, nobody has been silent."""
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
                log.error("%s hangs: it is %s and has made no progress for %.1f s; it is ended", child.name,
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
        """Fork. Signals wait meanwhile, so that the child never runs our handlers."""
        parent, line = os.getpid(), None
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            line = Lifeline()
            pid = os.fork()
            if pid == 0:
                self._live(child, parent, line)
        except OSError as error:  # no memory, process or descriptor left for now
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
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
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
        """Have something done by a child that ends by itself, however long it takes."""

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
                self.finish([successor], 1.0, SUCCEEDED)  # by the one it was to succeed, who goes on
                return False
            child.retired = True
            self.finish([child], seconds, SUCCEEDED)
            child.become(successor)
        finally:
            successor.hush()
            self.children.remove(successor)
        return True

    def finish(self, children: list[Child], seconds: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask them to end; kill those that have not in time, or when we are told to stop a second time."""
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
