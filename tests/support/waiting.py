"""Waiting for conditions by polling."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Seconds that a busy machine may take for what is usually instant; a longer limit costs nothing if all is well.
PATIENCE = 20.0


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The value of `condition` once it is true; AssertionError if it is not in time.

    Less than 5 seconds are a limit that the test is about; longer limits are raised to `PATIENCE` for busy machines.
    """
    if seconds >= 5:
        seconds = max(seconds, PATIENCE)
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"still {found!r} after {seconds} s")
        time.sleep(0.01)


def in_order(*conditions: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for one condition after the other."""
    for condition in conditions:
        wait_for(condition, seconds)
