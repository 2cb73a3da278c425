"""JSON that others wrote into Redis, read without trusting it."""

from __future__ import annotations

import json
import math
from typing import Any

#: Maximum octets of a worker's report (real ones have about 10,000), and of its answer to a question or an event.
LONGEST_REPORT, LONGEST_ANSWER = 64 << 10, 1 << 20
#: Maximum values in either (real ones have about 2,000): the time for reading depends on them.
MOST_VALUES = 4000


def read_object(raw: bytes | str, limit: int) -> dict[str, Any]:
    """A JSON object of at most `limit` octets with finite numbers. Raises ValueError for anything else."""
    if len(raw) > limit:
        raise ValueError(f"{len(raw)} octets are more than {limit}")
    text = raw if isinstance(raw, str) else raw.decode()
    if sum(map(text.count, ",[{")) > MOST_VALUES:  # the few inside strings count as well
        raise ValueError(f"more than {MOST_VALUES} values")
    try:
        told = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(told, dict):
        raise ValueError("not a JSON object")
    return told


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"{text:.40} is too large a number")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is not a finite number")
    return number


#: Made once: it reads the reports of all workers of a large cluster at about the same time.
_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_finite)
