"""What others wrote into Redis as JSON, read without trusting them."""

from __future__ import annotations

import json
import math
from typing import Any

#: Octets of what a worker says of itself (about 10,000), and of what it says to a question or an event.
LONGEST_REPORT, LONGEST_ANSWER = 64 << 10, 1 << 20
#: Values in either (about 2,000): it is they that take time to read.
MOST_VALUES = 4000


def read_object(raw: bytes | str, limit: int) -> dict[str, Any]:
    """A JSON object of at most `limit` octets whose numbers can be true. Raises ValueError for anything else."""
    if len(raw) > limit:
        raise ValueError(f"{len(raw)} octets are more than {limit}")
    text = raw if isinstance(raw, str) else raw.decode()
    if sum(map(text.count, ",[{")) > MOST_VALUES:  # those in texts count as well, which are few
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
        raise ValueError(f"{text:.40} is not a number that can be")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is not a number that can be")
    return number


#: Made once: a word of every worker of a large cluster is read with it at about the same time.
_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_finite)
