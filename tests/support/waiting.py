"""Waiting for what is to happen, by asking for it again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], seconds: float = 5) -> Any:
    """What `condition` returns once it is true; AssertionError when it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"still {found!r} after {seconds} s")
        time.sleep(0.01)


def in_order(*conditions: Callable[[], Any], seconds: float = 15) -> None:
    """Wait for one after the other."""
    for condition in conditions:
        wait_for(condition, seconds)
