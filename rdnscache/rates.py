"""Queries a second, as people write them: `500/s`, `30000/m`, `1/h` or `500`."""

from __future__ import annotations

import math
import re

_MOST, _LEAST = 10_000_000, 1 / 3600
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(?:/(s|m|h))?")
_UNITS = {"s": 1, "m": 60, "h": 3600}
#: A rate without a bound.
UNLIMITED = math.inf


def read_rate(text: str) -> float:
    """Queries a second, from `500/s`, `30000/m` or `500`; 0: none is said. Raises ValueError with one sentence."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is not a number of queries a second, minute or hour, such as 500/s, 30000/m")
    rate = float(match[1]) / _UNITS[match[2] or "s"]
    if rate > _MOST or 0 < rate < _LEAST:
        raise ValueError(f"{text!r} is not between 1/h and {_MOST}/s, and not 0, which is any number")
    return rate


def rate_text(rate: float) -> str:
    if rate == UNLIMITED:
        return "0/s"
    told = {unit: f"{rate * seconds:.3f}".rstrip("0").rstrip(".") for unit, seconds in _UNITS.items()}
    exact = (f"{text}/{unit}" for unit, text in told.items() if abs(float(text) / _UNITS[unit] - rate) < 1e-9)
    return next(exact, f"{told['h']}/h")
