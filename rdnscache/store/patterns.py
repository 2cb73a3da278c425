"""Glob patterns over the keys of entries, in the syntax of Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rdnscache.dns.names import LONGEST_TEXT, name_text, parse_name, shown


def glob_escape(text: str) -> str:
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)


def is_pattern(text: str) -> bool:
    """Whether a text contains a special character of globs."""
    return re.search(r"[*?\[\]]", text) is not None


def refuse_patterns(texts: Iterable[str], hint: str) -> None:
    """Raises ValueError if a name contains a special character of globs without a backslash before it.

    `hint` says what can be used instead.
    """
    for text in texts:
        found = re.search(r"[*?\[\]]", re.sub(r"\\.", "", text))
        if found is not None:
            raise ValueError(f"{found[0]!r} is not a pattern here: {hint}; in a name write \\{ord(found[0]):03d}")


def pattern_text(pattern: str) -> str:
    """The pattern over our presentation form for a glob over names that a person typed.

    `*`, `?` and `[...]` keep their meaning. Raises ValueError if no name can match.
    """
    if not is_pattern(pattern):
        return glob_escape(name_text(parse_name(pattern)))
    if len(pattern) > LONGEST_TEXT:
        raise ValueError(f"{shown(pattern)} matches no name: it has {len(pattern)} characters")
    text = ".".join(_label_pattern(label) for label in pattern.lower().split("."))
    if not text.endswith((".", "*", "]")):
        text += "."
    return re.sub(r"[^a-z0-9_.*?\[\]-]", lambda match: "".join(f"\\\\{c:03d}" for c in match[0].encode()), text)


def _label_pattern(label: str) -> str:
    """A label of a pattern; a label that is not ASCII and has no glob is converted by IDNA."""
    if label.isascii() or is_pattern(label):
        return label
    return name_text(parse_name(label)).removesuffix(".")
