"""Network namespaces, for tests that flood ports or send from other addresses."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import pytest

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def _leave() -> None:
    """Move the calling thread, and all that it starts, to a network namespace with loopback only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a network namespace of its own; it is skipped if that is not allowed."""

    @wraps(test)
    def run(*args: Any, **named: Any) -> None:
        with ThreadPoolExecutor(1) as thread:
            try:
                thread.submit(_leave).result()
            except OSError as error:
                pytest.skip(f"no network of its own: {error}")
            thread.submit(test, *args, **named).result()

    return run
