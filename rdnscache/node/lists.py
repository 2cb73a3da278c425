"""The process for a node's lists, as the supervisor starts and ends it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rdnscache.config import Config
from rdnscache.lists.shelf import Shelf, find_directory
from rdnscache.node.children import Child, ProcessGroup
from rdnscache.node.lifeline import AT_WORK, Lifeline

#: Seconds within which it has to end.
END = 1.0


@dataclass(slots=True)
class Lists:
    """One process for all lists; none if the node has no lists."""

    child: Child | None = None

    def begin(self, processes: ProcessGroup, config: Config, redis_url: str | None, wait: bool, prove: bool) -> None:
        """Start it. With `wait`, wait until it has all lists it can get; with `prove`, until all workers of the cluster
        use them. Raises ConfigError when there is no directory for lists.
        """
        shelf = Shelf(find_directory(config.list_dir), config.node_id, redis_url or "")

        def run(line: Lifeline) -> int:
            # in the child alone: no other needs it
            from rdnscache.lists.process import run_lists

            return run_lists(config, redis_url, shelf, prove, partial(line.say, AT_WORK), line.beat)

        self.child = child = Child("the process for lists", run, patient=True)
        processes.children.append(child)
        while wait and not child.at_work and not child.failures and not processes.stops:
            processes.go_on(3600.0)

    def end(self, processes: ProcessGroup) -> None:
        if self.child is not None:
            self.child.retired = True
            processes.finish([self.child], END)
            processes.children.remove(self.child)
            self.child = None
