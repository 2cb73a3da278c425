"""Texts that others made, as a terminal or a log may have them: what would steer it is shown instead of done."""

from __future__ import annotations

import re

#: Control characters of ASCII and Latin-1 (ESC and CSI among them), line separators, marks that turn the direction of
#: writing or cannot be seen, and lone surrogates, which no encoding takes.
_STEERING = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    """A text on one line, with every such character escaped as in Python: `\\x1b`, `\\n`, `\\u202e`."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
