"""A thread for the steps of handshakes, whose computation takes milliseconds. OpenSSL releases the GIL meanwhile;
Python code gives it up often enough.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent import get_hub
from gevent.threadpool import ThreadPool

#: Steps at a time: on one CPU the hub waits behind all running steps (0.8 ms at p99 with two, 0.015 ms with one).
THREADS = 1
#: Seconds after which Python code in a thread has to let the hub run.
TURN = 0.0005
#: How much lower the thread's priority is, so that a hub on the same CPU goes first. Much lower would hold up the hub
#: on a busy machine: a thread that others keep from running may have the interpreter at that moment.
NICE = 4
#: Steps that wait; a step beyond fails.
WAITING = 1000


class Handshakes:
    """The handshake thread of a worker. Steps are done in their order of arrival."""

    def __init__(self) -> None:
        self._pool: Any = ThreadPool(THREADS + 1)  # its slots are free again only after `done` of the step before
        sys.setswitchinterval(TURN)
        self._nice = min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19)
        self._running = 0
        self._waiting: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()

    def do(self, step: Callable[[], Any], done: Callable[[Any], None]) -> bool:
        """Call `step` in a thread, then `done` with its result in the hub. Returns False if too many steps wait.

        `step` must not raise.
        """
        if len(self._waiting) >= WAITING:
            return False
        self._waiting.append((step, done))
        self._begin()
        return True

    def _begin(self) -> None:
        while self._waiting and self._running < THREADS:
            step, done = self._waiting.popleft()
            self._running += 1
            self._pool.spawn(self._lowered, step).rawlink(lambda result, done=done: self._end(result, done))

    def _lowered(self, step: Callable[[], Any]) -> Any:
        """Do a step with a lower priority, where threads have one of their own."""
        if sys.platform == "linux":
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        return step()

    def _end(self, result: Any, done: Callable[[Any], None]) -> None:
        self._running -= 1
        try:
            done(result.value)
        finally:
            self._begin()


def of_this_worker() -> Handshakes:
    """The Handshakes of this worker, made at the first call: threads do not survive a fork."""
    hub = get_hub()
    found = getattr(hub, "_rdnscache_handshakes", None)
    if found is None:
        found = hub._rdnscache_handshakes = Handshakes()
    return found
