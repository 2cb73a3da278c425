"""An upstream that is slow, or silent about some names: `python -m bench.upstream PORT DELAY [SILENT-PREFIX]`."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque

RECORD = b"\xc0\x0c\0\1\0\1" + (3600).to_bytes(4, "big") + b"\0\4\xc0\0\2\1"


def reply(query: bytes) -> bytes:
    """The question again, and 192.0.2.1."""
    end = 12
    while query[end]:
        end += query[end] + 1
    return query[:2] + b"\x85\x80\0\1\0\1\0\0\0\0" + query[12 : end + 5] + RECORD


def serve(port: int, delay: float, silent: bytes) -> None:
    """Answers each query `delay` seconds after it came; never those whose name begins with `silent`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    due: deque[tuple[float, bytes, tuple[str, int]]] = deque()
    while True:
        left = max(due[0][0] - time.monotonic(), 0) if due else None
        if select.select([sock], [], [], left)[0]:
            query, source = sock.recvfrom(4096)
            if not (silent and query[13:].lower().startswith(silent)):
                due.append((time.monotonic() + delay, reply(query), source))
        while due and due[0][0] <= time.monotonic():
            _, data, source = due.popleft()
            sock.sendto(data, source)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]), "".join(sys.argv[3:]).encode())
