"""The wires between the nodes and Redis: `python -m chaos.relay TARGET PORT…`, a line for each port, by stdin.

`delay LINE SECONDS` adds a delay in each direction; `loss LINE SHARE` delays that share of deliveries, and all data
after them, by 0.2 s, as TCP does after a lost packet; `hole LINE` lets nothing through and closes nothing, like a cut
cable; `heal LINE` undoes all of these.
"""

from __future__ import annotations

import os
import random
import select
import socket
import sys
import time
from collections import deque
from typing import Any

#: Minimum delay of TCP after a lost packet, in seconds.
RETRANSMISSION = 0.2


class Line:
    """One port and the faults of its connections."""

    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.heal()

    def heal(self) -> None:
        self.delay = self.loss = 0.0
        self.hole = False


class End:
    """A socket, its peer, and the data on its way to the peer."""

    def __init__(self, sock: socket.socket, line: Line) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.line = line
        self.partner: End
        self.due: deque[tuple[float, bytes]] = deque()
        self.closed = False

    def take(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except OSError:
            data = b""
        moment = time.monotonic() + self.line.delay
        if random.random() < self.line.loss:
            moment += RETRANSMISSION
        self.due.append((max(moment, self.due[-1][0]) if self.due else moment, data))
        self.closed = not data

    def deliver(self) -> bool:
        """Deliver what is due; returns False if the connection has ended."""
        while self.due and self.due[0][0] <= time.monotonic() and not self.line.hole:
            _, data = self.due.popleft()
            try:
                if not data:
                    return False
                self.partner.sock.sendall(data)
            except OSError:
                return False
        return True


class Relay:
    def __init__(self, target: int, ports: list[int]) -> None:
        self._target = target
        self._lines = [Line(port) for port in ports]
        self._ends: list[End] = []
        self._rest = ""

    def run(self) -> None:
        while True:
            open_ends = {end.sock: end for end in self._ends if not end.closed and not end.line.hole}
            listeners = {line.listener: line for line in self._lines if not line.hole}
            moments = [end.due[0][0] for end in self._ends if end.due and not end.line.hole]
            left = max(min(moments) - time.monotonic(), 0) if moments else None
            watched: list[Any] = [sys.stdin, *listeners, *open_ends]
            for ready in select.select(watched, [], [], left)[0]:
                if ready is sys.stdin:
                    if not (data := os.read(0, 4096)):  # past Python's buffer, which select does not see
                        return
                    *lines, self._rest = (self._rest + data.decode()).split("\n")
                    for line in lines:
                        self._told(line.split())
                elif ready in listeners:
                    self._connect(ready.accept()[0], listeners[ready])
                else:
                    open_ends[ready].take()
            for end in list(self._ends):
                if end in self._ends and not end.deliver():
                    for each in (end, end.partner):
                        self._ends.remove(each)
                        each.sock.close()

    def _connect(self, client: socket.socket, line: Line) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        near, far = End(client, line), End(server, line)
        near.partner, far.partner = far, near
        self._ends += [near, far]

    def _told(self, words: list[str]) -> None:
        """Execute a line of stdin."""
        line = self._lines[int(words[1])]
        if words[0] == "heal":
            line.heal()
        elif words[0] == "hole":
            line.hole = True
        else:
            setattr(line, words[0], float(words[2]))


if __name__ == "__main__":
    Relay(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]).run()
