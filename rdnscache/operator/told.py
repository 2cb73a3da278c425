"""Reads values of workers' reports without trusting them: anybody may have put them into Redis."""

from __future__ import annotations

import math
from typing import Any

from rdnscache.printable import printable

#: Above any true count, rate or time; it also keeps columns narrow.
_ABSURD = 1e15


def number(value: Any) -> float:
    """A number from a report; 0 for anything else, or an impossible value."""
    return float(value) if isinstance(value, int | float) and abs(value) < _ABSURD else 0.0


def are_numbers(values: list[Any]) -> bool:
    """Whether all numbers are plausible: faster than checking each of many one by one."""
    try:
        return math.isfinite(sum(values)) and max(map(abs, values)) < _ABSURD
    except (TypeError, OverflowError):
        return False


def word(value: Any, longest: int = 100) -> str:
    """A word from a report, cut, and on one line."""
    return printable(str(value)[:longest]) if isinstance(value, str | int) else "?"


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
