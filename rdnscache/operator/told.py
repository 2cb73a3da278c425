"""What workers have told of themselves, read without trusting it: anybody may have put it into Redis."""

from __future__ import annotations

import math
from typing import Any

from rdnscache.printable import printable

#: No count, rate or time that is true comes near this; it also keeps columns narrow.
_ABSURD = 1e15


def number(value: Any) -> float:
    """A number somebody told; 0 for what is none, or cannot be true."""
    return float(value) if isinstance(value, int | float) and abs(value) < _ABSURD else 0.0


def are_numbers(values: list[Any]) -> bool:
    """Whether all of them can be true: quicker than to look at each, of which there may be many."""
    try:
        return math.isfinite(sum(values)) and max(map(abs, values)) < _ABSURD
    except (TypeError, OverflowError):
        return False


def word(value: Any, longest: int = 100) -> str:
    """A word somebody told, cut and on one line."""
    return printable(str(value)[:longest]) if isinstance(value, str | int) else "?"


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
