"""Internationalised names as people type them, converted for the DNS (IDNA 2008, with the mapping of UTS 46,
non-transitional).

A separate module because its tables take a while to load: only commands and the page need it.
"""

from __future__ import annotations

import idna

#: Code points of a label. Its A-label has at least as many octets, and no label has more than 63.
LONGEST = 63


def a_label(label: str) -> bytes:
    """The A-label of a label that is not ASCII (RFC 5890 section 2.3.2.1).

    Raises ValueError with the reason.
    """
    if len(label) > LONGEST:
        raise ValueError("a label has at most 63 octets")
    try:
        mapped = idna.uts46_remap(label, std3_rules=False, transitional=False)
        if not mapped or "." in mapped or len(mapped) > LONGEST:
            raise ValueError("it is not one label once it is mapped")
        return idna.alabel(mapped)
    except UnicodeError as error:
        raise ValueError(str(error)) from None
