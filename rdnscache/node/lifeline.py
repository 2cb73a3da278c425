"""What a child process tells its parent: that it is at work, that it lives, what it was asked to pass on, how it died.

The parent makes a lifeline before each fork. Words go through a pipe, which never makes the child wait; beats are a
number in memory that both have, so that they cost neither side a system call. Where the child was when a fatal signal
met it is written behind that number, by faulthandler, which needs no turn of the interpreter.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import tempfile

#: What stands before the stack.
_BEATS = mmap.PAGESIZE
#: Octets of a stack that are read, frames that are shown.
_LONGEST_STACK, _FRAMES = 8192, 10
#: Words are shorter, so that a pipe takes each as a whole or not at all.
_LONGEST_WORD = 200
_FRAME = re.compile(r'File "(?:.*/)?(.+?)", line ([0-9]+) in (\S+)')

#: What a child says: that it is at work; and what it was asked to pass on, with the ID of who asked behind it.
AT_WORK, RELOAD, RESTART = "at work", "reload", "restart"


class Lifeline:
    """Both ends of it; after the fork each side gives up the other's, by `take` and `hold`."""

    def __init__(self, memory: int = -1, reader: int = -1) -> None:
        """Without descriptors a new one; with those that `fds` gave, the parent's end of an old one."""
        self._writer = -1
        if memory < 0:
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            memory = _shared_file()
            os.ftruncate(memory, _BEATS)
            os.lseek(memory, _BEATS, os.SEEK_SET)
        else:
            os.set_inheritable(memory, False)
            os.set_inheritable(reader, False)
        self._file = memory
        self.reader = reader
        self._memory = mmap.mmap(memory, _BEATS)
        self._count = memoryview(self._memory)[:8].cast("Q")
        self._heard = b""

    # ---- the child's end

    def take(self) -> None:
        """We have been forked: the parent has the other end."""
        os.close(self.reader)
        self.reader = -1

    def beat(self) -> None:
        self._count[0] += 1

    def say(self, word: str) -> None:
        """Tell the parent, if it listens and has room."""
        try:
            os.write(self._writer, f"{word[:_LONGEST_WORD]}\n".encode())
        except OSError:  # it is gone, or hangs
            return

    def leave_stack(self) -> None:
        """From now on a fatal signal, SIGABRT among them, leaves behind where we were."""
        faulthandler.enable(self._file, all_threads=False)

    # ---- the parent's

    @property
    def beats(self) -> int:
        return int(self._count[0])

    @property
    def fds(self) -> tuple[int, int]:
        """What has to be inherited by an image that is to go on listening."""
        return self._file, self.reader

    def hold(self) -> None:
        """The child has been forked and has the other end."""
        os.close(self._writer)
        self._writer = -1

    def hear(self) -> list[str] | None:
        """The words that have arrived; None at the end of the child, or when it can say nothing more."""
        data = os.read(self.reader, 65536)
        if not data:
            return None
        *words, self._heard = (self._heard + data).split(b"\n")
        self._heard = self._heard[-_LONGEST_WORD:]
        return [word.decode("ascii", "replace") for word in words]

    def stack(self) -> str:
        """Where the child was when a fatal signal met it, the innermost call first; empty when none did."""
        text = os.pread(self._file, _LONGEST_STACK, _BEATS).decode("utf-8", "replace")
        frames = [f"{file}:{line} {name}" for file, line, name in _FRAME.findall(text)]
        return " < ".join(frames[:_FRAMES])

    def close(self) -> None:
        """Release what we have of it."""
        self._count.release()
        self._memory.close()
        for fd in (self._file, self.reader, self._writer):
            if fd >= 0:
                os.close(fd)
        self._file = self.reader = self._writer = -1


def _shared_file() -> int:
    """A file nobody else sees, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rdnscache-lifeline")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
