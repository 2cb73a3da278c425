"""Globs over the keys of entries, as Redis reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rdnscache.dns.names import LONGEST_TEXT, name_text, parse_name, shown


def glob_escape(text: str) -> str:
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)


def is_pattern(text: str) -> bool:
    """Whether it has in it what is more than a character of a name."""
    return re.search(r"[*?\[\]]", text) is not None


def refuse_patterns(texts: Iterable[str], hint: str) -> None:
    """Raises ValueError where a name has in it what a person most probably means as a pattern; not behind a backslash.

    `hint` says what there is instead.
    """
    for text in texts:
        found = re.search(r"[*?\[\]]", re.sub(r"\\.", "", text))
        if found is not None:
            raise ValueError(f"{found[0]!r} is no pattern here: {hint}; in a name it is \\{ord(found[0]):03d}")


def pattern_text(pattern: str) -> str:
    """What a person typed as a glob over names, as a pattern over our presentation form.

    `*`, `?` and `[...]` keep their meaning. Raises ValueError for what can be no name.
    """
    if not is_pattern(pattern):
        return glob_escape(name_text(parse_name(pattern)))
    if len(pattern) > LONGEST_TEXT:
        raise ValueError(f"{shown(pattern)} fits no name: it has {len(pattern)} characters")
    text = ".".join(_label_pattern(label) for label in pattern.lower().split("."))
    if not text.endswith((".", "*", "]")):
        text += "."
    return re.sub(r"[^a-z0-9_.*?\[\]-]", lambda match: "".join(f"\\\\{c:03d}" for c in match[0].encode()), text)


def _label_pattern(label: str) -> str:
    """A label of a pattern: one of another script, and without a glob in it, as IDNA has it."""
    if label.isascii() or is_pattern(label):
        return label
    return name_text(parse_name(label)).removesuffix(".")
