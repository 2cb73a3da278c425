"""Long work for people beside the answering of queries: others get their turn between its steps."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Called after every short step of long work.
Breathe = Callable[[], None]
#: Seconds of work after which others in this worker get their turn.
BREATH = 0.001


def go_on() -> None:
    """Nobody else waits: this is a command's own process."""


class Breath:
    """Lets others run once work has gone on for BREATH seconds."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def take(self) -> None:
        if time.perf_counter() - self._since > BREATH:
            import gevent  # commands know of breath too, and are without it

            gevent.sleep(BREATH)  # longer than no time, so that sockets are looked at as well
            self._since = time.perf_counter()
