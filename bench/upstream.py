"""An upstream that is slow, loses some queries, or is silent about some names:
`python -m bench.upstream PORT DELAY [SILENT-PREFIX [LOSS]]`."""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from collections import deque

RECORD = b"\xc0\x0c\0\1\0\1" + (3600).to_bytes(4, "big") + b"\0\4\xc0\0\2\1"


def reply(query: bytes) -> bytes:
    """A reply with the address 192.0.2.1."""
    end = 12
    while query[end]:
        end += query[end] + 1
    return query[:2] + b"\x85\x80\0\1\0\1\0\0\0\0" + query[12 : end + 5] + RECORD


def serve(port: int, delay: float, silent: bytes, loss: float) -> None:
    """Answer each query after `delay` seconds; never those whose names begin with `silent`, and not the share `loss` of
    the others."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    due: deque[tuple[float, bytes, tuple[str, int]]] = deque()
    while True:
        left = max(due[0][0] - time.monotonic(), 0) if due else None
        if select.select([sock], [], [], left)[0]:
            query, source = sock.recvfrom(4096)
            if not (silent and query[13:].lower().startswith(silent)) and random.random() >= loss:
                due.append((time.monotonic() + delay, reply(query), source))
        while due and due[0][0] <= time.monotonic():
            _, data, source = due.popleft()
            sock.sendto(data, source)


if __name__ == "__main__":
    silent, loss = (*sys.argv[3:], "", "0")[:2] if len(sys.argv) != 4 else (sys.argv[3], "0")
    serve(int(sys.argv[1]), float(sys.argv[2]), silent.encode(), float(loss))
