"""A TCP proxy that delays data in both directions: `python -m bench.proxy PORT TARGET DELAY`.

It replaces netem where the kernel has none. It adds well below a millisecond itself; the round trip reported is
measured through it.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque


def serve(port: int, target: int, delay: float) -> None:
    """Accept connections on `port` of loopback and forward them to `target`."""
    listener = socket.create_server(("127.0.0.1", port))
    partner: dict[socket.socket, socket.socket] = {}
    due: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        left = max(due[0][0] - time.monotonic(), 0) if due else None
        for sock in select.select([listener, *partner], [], [], left)[0]:
            if sock is listener:
                client, server = listener.accept()[0], socket.create_connection(("127.0.0.1", target))
                partner |= {client: server, server: client}
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            elif sock in partner:
                due.append((time.monotonic() + delay, partner[sock], _receive(sock)))
        while due and due[0][0] <= time.monotonic():
            _, receiver, data = due.popleft()
            _deliver(receiver, data, partner)


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 18)
    except OSError:
        return b""


def _deliver(receiver: socket.socket, data: bytes, partner: dict[socket.socket, socket.socket]) -> None:
    """Send data; empty data or an error closes both sides."""
    try:
        if data:
            receiver.sendall(data)
            return
    except OSError:
        pass
    for sock in (receiver, partner.pop(receiver, None)):
        if sock is not None:
            partner.pop(sock, None)
            sock.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
