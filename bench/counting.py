"""An upstream that records the arrival of each datagram by the kernel's clock, and a client that floods nodes."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

#: socket(7): a receive timestamp with nanoseconds; Python has no name for it.
SO_TIMESTAMPNS = 35
_TIME = struct.Struct("@qq")


class CountingUpstream:
    """An upstream over UDP. Every name has the address 192.0.2.1 with TTL `ttl`; if `deaf` it does not answer."""

    def __init__(self, ttl: int = 300, deaf: bool = False) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.deaf = deaf
        self.ttl = ttl
        #: The arrival of each query, and its name in wire form.
        self.heard: list[tuple[float, bytes]] = []
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ended = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(2)
        self._sock.close()

    def most_in(self, seconds: float = 1.0) -> int:
        """Maximum number of queries in any span of `seconds`."""
        times = sorted(moment for moment, _ in list(self.heard))
        return max((bisect_left(times, moment + seconds) - place for place, moment in enumerate(times)), default=0)

    def count(self, name: str) -> int:
        wire = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
        return sum(heard == wire for _, heard in list(self.heard))

    def _serve(self) -> None:
        while not self._ended:
            data, ancillary, _, source = self._sock.recvmsg(4096, 64)
            if len(data) < 17:
                continue
            end = data.index(0, 12) + 1
            seconds, nanoseconds = _TIME.unpack(ancillary[0][2][: _TIME.size])
            self.heard.append((seconds + nanoseconds / 1e9, data[12:end].lower()))
            if not self.deaf:
                self._sock.sendto(self._answer(data, end + 4), source)

    def _answer(self, query: bytes, end: int) -> bytes:
        head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1" + self.ttl.to_bytes(4, "big") + b"\0\4\xc0\0\2\1"
        return head + query[12:end] + record


class Flood:
    """Asks nodes in turn for new names, without waiting for replies."""

    def __init__(self, ports: Sequence[int], label: str = "cold") -> None:
        self.asked = 0
        #: The number of replies received, by RCODE.
        self.rcodes: Counter[int] = Counter()
        self._label = label
        self._socks = []
        for port in ports:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            self._socks.append(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for sock in self._socks:
            sock.close()

    def run(self, rate: float, seconds: float) -> None:
        """Ask for `rate` names a second and read the replies that arrive meanwhile."""
        begun, first = time.monotonic(), self.asked
        while (now := time.monotonic()) < begun + seconds:
            while self.asked - first < (now - begun) * rate:
                name = f"x{self.asked}.{self._label}{self.asked % 97}.test"
                self._send(self._socks[self.asked % len(self._socks)], name)
                self.asked += 1
            self.take()
            time.sleep(0.002)

    def take(self) -> None:
        for sock in self._socks:
            while True:
                try:
                    self.rcodes[sock.recv(4096)[3] & 0x0F] += 1
                except OSError:
                    break

    @staticmethod
    def _send(sock: socket.socket, name: str) -> None:
        wire = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
        try:
            sock.send(os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + wire + b"\0\0\1\0\1")
        except OSError:  # the socket's buffer is full
            pass
