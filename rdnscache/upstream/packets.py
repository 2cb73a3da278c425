"""Datagrams of connected sockets that never wait. packets.pyx is the twin that asks the system without detours."""

from __future__ import annotations

import os

#: As large as any message can be: the system would cut off the rest.
_SIZE = 65535


def receive(fd: int) -> bytes | None:
    """The next datagram; None when there is none. Raises OSError for what the system has heard about those sent."""
    try:
        return os.read(fd, _SIZE)
    except BlockingIOError:
        return None


def send(fd: int, data: bytes) -> None:
    """Send a datagram, or raise OSError."""
    os.write(fd, data)
