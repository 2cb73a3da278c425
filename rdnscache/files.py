"""Text files that people write: files of options are read as a whole up to a limit, lists line by line."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

#: Octets of a file of options, servers or secrets; real ones have a few thousand.
LONGEST_FILE = 1 << 20
#: The variable in which systemd tells a service where its credentials are (systemd.exec(5)).
CREDENTIALS = "CREDENTIALS_DIRECTORY"


def read_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """A file's text, read as UTF-8, without a byte order mark and with newlines only.

    `errors` is what to do with octets that are not UTF-8. Raises ValueError with a reason that can follow the file's
    name in a sentence. A FIFO or a terminal is refused, since reading it could block.
    """
    try:
        with open_regular(path) as file:
            data = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > LONGEST_FILE:
        raise ValueError(f"is larger than {LONGEST_FILE} octets")
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot be read: line {_line(data, error.start)} is not in UTF-8") from None
    if "\0" in text and errors == "strict":
        raise ValueError(f"cannot be read: line {_line(data, data.index(0))} is not a text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(data: bytes, at: int) -> int:
    """The number of the line that an octet is in."""
    return len(data[: at + 1].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))


def locate(path: str | os.PathLike[str]) -> str:
    """The path of a file; one that begins with $CREDENTIALS_DIRECTORY is in the folder that systemd made for a service.

    Raises ValueError like `read_text`.
    """
    text = os.fspath(path)
    if not text.startswith(f"${CREDENTIALS}/"):
        return text
    folder = os.environ.get(CREDENTIALS)
    if not folder:
        raise ValueError(f"cannot be read: {CREDENTIALS} is not set, as it is in a service with LoadCredential=")
    return os.path.join(folder, text.removeprefix(f"${CREDENTIALS}/"))


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file; a FIFO or a terminal is refused: reading it could block. ValueError as in `read_text`."""
    try:
        descriptor = os.open(locate(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ValueError("cannot be read: it is not a regular file")
    return file


def unpacked(file: BinaryIO) -> BinaryIO:
    """The file, or the content of a gzip file: unpacked while it is read, so that it may be larger than memory."""
    buffered = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file))
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.GzipFile(fileobj=buffered))
    return buffered


def read_lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """The lines of a file, without a byte order mark and without their line ends.

    A line longer than `longest` octets is cut to one octet more than that; its rest is skipped when the next line is
    read. Raises ValueError when a gzip file is damaged.
    """
    first = True
    try:
        while line := file.readline(longest + 2):
            whole = line.endswith(b"\n")
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            yield (line.removeprefix(codecs.BOM_UTF8) if first else line)[: longest + 1]
            first = False
            while not whole and (rest := file.readline(64 << 10)):
                whole = rest.endswith(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"the gzip file is damaged: {error}") from None
