"""Text files that people write for us: read whole and within a limit, whatever editor they come from."""

from __future__ import annotations

import os
import stat

#: Octets of a file of options, servers or secrets; real ones have a few thousand.
LONGEST_FILE = 1 << 20


def read_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """A file's text, in UTF-8; a byte order mark is left out, and lines end with a newline only.

    `errors` is what to do with octets that are not UTF-8. Raises ValueError with a reason that can stand behind the
    file's name. Nothing is waited for: a FIFO or a terminal is refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("cannot be read: it is not a regular file")
            data = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > LONGEST_FILE:
        raise ValueError(f"is larger than {LONGEST_FILE} octets")
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not a text in UTF-8") from None
    if "\0" in text and errors == "strict":
        raise ValueError("cannot be read: it is not a text")
    return text.replace("\r\n", "\n").replace("\r", "\n")
