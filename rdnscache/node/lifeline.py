"""The lifeline from a child process to its parent: reports that it is at work and alive, orders to pass on, and a
stack.

The parent makes a lifeline before each fork. Messages go through a pipe that never blocks the child. The heartbeat is a
number in shared memory, so that it costs neither side a system call. The stack of the child at a fatal signal is
written behind that number by faulthandler, which does not need the interpreter to run.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import tempfile

#: The line before the stack.
_BEATS = mmap.PAGESIZE
#: Most octets of a stack that are read, and most frames shown.
_LONGEST_STACK, _FRAMES = 8192, 10
#: Messages are shorter than this, so that a pipe accepts each as a whole or not at all.
_LONGEST_WORD = 200
_FRAME = re.compile(r'File "(?:.*/)?(.+?)", line ([0-9]+) in (\S+)')

#: Messages of a child: that it is at work; and orders it passes on, followed by the ID of the event.
AT_WORK, RELOAD, RESTART = "at work", "reload", "restart"


class Lifeline:
    """Both ends; after the fork each side closes the other's, with `take` and `hold`."""

    def __init__(self, memory: int = -1, reader: int = -1) -> None:
        """A new lifeline; or with the descriptors from `fds`, the parent's end of an existing one."""
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
        """Called in the child after the fork: keep its end."""
        os.close(self.reader)
        self.reader = -1

    def beat(self) -> None:
        self._count[0] += 1

    def say(self, word: str) -> None:
        """Send a message to the parent, unless it is gone or the pipe is full."""
        try:
            os.write(self._writer, f"{word[:_LONGEST_WORD]}\n".encode())
        except OSError:  # it is gone, or hangs
            return

    def leave_stack(self) -> None:
        """Write the stack on a fatal signal, including SIGABRT, from now on."""
        faulthandler.enable(self._file, all_threads=False)

    # ---- the parent's

    @property
    def beats(self) -> int:
        return int(self._count[0])

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors that the next image needs to keep reading."""
        return self._file, self.reader

    def hold(self) -> None:
        """Called in the parent after the fork: keep its end."""
        os.close(self._writer)
        self._writer = -1

    def hear(self) -> list[str] | None:
        """The messages that have arrived; None when the child has ended or closed its end."""
        data = os.read(self.reader, 65536)
        if not data:
            return None
        *words, self._heard = (self._heard + data).split(b"\n")
        self._heard = self._heard[-_LONGEST_WORD:]
        return [word.decode("ascii", "replace") for word in words]

    def stack(self) -> str:
        """The stack of the child at a fatal signal, innermost call first; empty when there was none."""
        text = os.pread(self._file, _LONGEST_STACK, _BEATS).decode("utf-8", "replace")
        frames = [f"{file}:{line} {name}" for file, line, name in _FRAME.findall(text)]
        return " < ".join(frames[:_FRAMES])

    def close(self) -> None:
        """Close our end."""
        self._count.release()
        self._memory.close()
        for fd in (self._file, self.reader, self._writer):
            if fd >= 0:
                os.close(fd)
        self._file = self.reader = self._writer = -1


def _shared_file() -> int:
    """An anonymous file, in memory if the system supports that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rdnscache-lifeline")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
