"""Makes texts from others safe for a terminal or a log: control sequences are shown instead of carried out."""

from __future__ import annotations

import re

_DIGITS = re.compile("([0-9]+)")


def printable(text: str) -> str:
    """The text on one line. Control characters, marks that change the writing direction and anything else invisible are
    escaped as in Python: `\\x1b`, `\\n`, `\\u202e`.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text])


def natural(text: str) -> list[tuple[int, str]]:
    """The key to sort texts by as people do: `node-4` before `node-10`."""
    parts = [(0, part) for part in _DIGITS.split(text)]
    for place in range(1, len(parts), 2):
        digits = parts[place][1].lstrip("0")
        parts[place] = len(digits), digits
    return parts
