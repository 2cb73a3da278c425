"""Texts that others made, as a terminal or a log may have them: what would steer it is shown instead of done."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text on one line. Control characters, marks that turn the direction of writing and what else cannot be seen are
    escaped as in Python: `\\x1b`, `\\n`, `\\u202e`.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text])
