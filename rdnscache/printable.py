"""Makes texts from others safe for a terminal or a log: control sequences are shown instead of carried out."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line. Control characters, marks that change the writing direction and anything else invisible are
    escaped as in Python: `\\x1b`, `\\n`, `\\u202e`.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text])
