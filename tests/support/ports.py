"""Free ports for servers, which no other process of the tests takes."""

from __future__ import annotations

import random
import socket
import sys
from collections import deque

#: Claims of the latest ports. A server has bound its port long before its claim is dropped for another one.
_claims: deque[socket.socket] = deque(maxlen=128)


def free_port() -> int:
    """A port of 127.0.0.1 free for UDP and TCP, outside the range of ephemeral ports."""
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        if _is_free(port) and _claim(port):
            return port


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _claim(port: int) -> bool:
    """Claim a port by an abstract socket named after it, which only one process can bind, until it ends."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0rdnscache-tests-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True
