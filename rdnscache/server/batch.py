"""Batches of datagrams in plain Python; batch.pyx is the compiled form, for Linux."""

from __future__ import annotations

import socket
from typing import Any

#: Datagrams read in one turn of the hub.
BATCH = 64
#: Maximum size of a query; longer datagrams are cut. Enough for a header, a question and a large OPT record.
QUERY_SIZE = 4096

# Not in the socket module on every platform; the numbers are those of Linux.
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
IPV6_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)
IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_CONTROL_SPACE = 64


class Batch:
    """Up to 64 datagrams from one socket, and the replies to them.

    With `wildcard`, a reply is sent from the address that its query was sent to (IP_PKTINFO; RFC 3542 section 6).
    Replies that the kernel does not take at once are dropped. With `segments`, the compiled form hands replies of equal
    size to one client to Linux as one message (UDP_SEGMENT).
    """

    def __init__(self, sock: socket.socket, wildcard: bool, segments: bool = True) -> None:
        self._sock = sock
        self._wildcard = wildcard
        self._received: list[tuple[bytes, Any]] = []
        self._queue: list[tuple[Any, bytes]] = []
        if wildcard:
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def receive(self) -> int:
        """Read the datagrams that have arrived; returns their number, without those from port 0, which has no reply."""
        received = self._received = []
        try:
            while len(received) < BATCH:
                if self._wildcard:
                    data, control, _, address = self._sock.recvmsg(QUERY_SIZE, _CONTROL_SPACE)
                    client = (address, _reply_control(control))
                else:
                    data, address = self._sock.recvfrom(QUERY_SIZE)
                    client = (address, [])
                if address[1] != 0:
                    received.append((data, client))
        except OSError:  # none is left, or the socket had a pending error, which reading has cleared
            pass
        return len(received)

    def data(self, index: int) -> bytes:
        return self._received[index][0]

    def client(self, index: int) -> Any:
        """The sender and the address it asked, for `reply_to`."""
        return self._received[index][1]

    def source(self, index: int) -> bytes:
        """The sender's address, 4 or 16 octets."""
        family = socket.AF_INET6 if self._sock.family == socket.AF_INET6 else socket.AF_INET
        return socket.inet_pton(family, self._received[index][1][0][0].partition("%")[0])

    def reply(self, index: int, data: bytes) -> None:
        """Queue a reply to a datagram of this batch."""
        self.reply_to(self._received[index][1], data)

    def reply_to(self, client: Any, data: bytes) -> None:
        """Queue a reply to a sender of this or an earlier batch; `send_queued` sends it, or a full queue does."""
        self._queue.append((client, data))
        if len(self._queue) >= BATCH:
            self.send_queued()

    def send_queued(self) -> None:
        """Send the queued replies; those that the kernel does not take are lost."""
        queue, self._queue = self._queue, []
        for (address, control), data in queue:
            try:
                if control:
                    self._sock.sendmsg((data,), control, 0, address)
                else:
                    self._sock.sendto(data, address)
            except OSError:  # the socket's buffer is full, or the client is unreachable
                pass


def _reply_control(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The control message that sends a reply from the address that was asked. The route decides the interface."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(data) == 12:
            return [(level, kind, b"\0\0\0\0" + data[4:8] + b"\0\0\0\0")]
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO and len(data) == 20:
            link_local = data[0] == 0xFE and data[1] & 0xC0 == 0x80
            return [(level, kind, data if link_local else data[:16] + b"\0\0\0\0")]
    return []
