"""The handshake of a QUIC connection in steps for a thread: aioquic takes some milliseconds for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Step:
    """A step of a handshake, for a thread: it takes the datagrams received and makes those to be sent."""

    __slots__ = ("address", "came", "error", "make", "out", "quic")

    def __init__(self, quic: Any | None, make: Callable[[], Any], address: Any, came: list[bytes]) -> None:
        self.quic = quic
        self.make = make
        self.address = address
        self.came = came
        self.out: list[bytes] = []
        self.error: Exception | None = None

    def __call__(self) -> Step:
        try:
            if self.quic is None:
                self.quic = self.make()
            for data in self.came:
                self.quic.receive_datagram(data, self.address, now=time.monotonic())
            self.out = [data for data, _ in self.quic.datagrams_to_send(now=time.monotonic())]
        except Exception as error:  # no input may end the thread
            self.error = error
        return self
