"""Long work for operators in a process that also answers queries: other greenlets run between its steps."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Called after every short step of long work.
Breathe = Callable[[], None]
#: Seconds of work after which other greenlets of this worker may run.
BREATH = 0.001


def go_on() -> None:
    """Does nothing: in a command's own process nobody else waits."""


class Breath:
    """Lets others run once work has gone on for BREATH seconds."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def take(self) -> None:
        if time.perf_counter() - self._since > BREATH:
            import gevent  # commands know of breath too, and are without it

            gevent.sleep(BREATH)  # not 0, so that the hub polls its sockets as well
            self._since = time.perf_counter()
