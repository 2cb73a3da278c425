"""Waiting for what is to happen, by asking for it again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Seconds that a busy machine may take for what usually takes a moment; waiting longer costs nothing where all is well.
PATIENCE = 20.0


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `condition` returns once it is true; AssertionError when it is not in time.

    Less than 5 seconds are a bound that the test is about. More are there for busy machines, which may take `PATIENCE`.
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
    """Wait for one after the other."""
    for condition in conditions:
        wait_for(condition, seconds)
