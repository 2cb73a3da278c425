"""The upstream of a siege: `python -m siege.upstream PORT`. The first letter of a name determines the answer.

g   an address, 10 ms later            x   nothing, ever
n   NXDOMAIN, at once                  s   an address, 1.5 s later
b   60 KB of addresses                 p   65 KB of records whose names are one long name of odd octets, by pointer
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import sys
import threading
import time

DELAY = {"g": 0.01, "s": 1.5}
_RECORD = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1"
_SOA = b"\0\0\6\0\1\0\0\0\x3c\0\x16\0\0" + struct.pack("!5I", 1, 3600, 600, 86400, 60)
#: A name of maximum length, of octets that take four characters each as text.
_ODD = (b"\x3f" + b"\xff" * 63) * 3 + b"\x3d" + b"\xff" * 61 + b"\0"
TCP_ONLY = "bp"


def big(question: bytes) -> tuple[int, bytes]:
    """The number of records, and the records."""
    return 3700, b"".join(_RECORD[:12] + bytes((192, 0, number >> 8, number & 255)) for number in range(3700))


def pointers(question: bytes) -> tuple[int, bytes]:
    """MX records: the first spells the name out, the others point to it."""
    at = 12 + len(question) + 14
    first = b"\xc0\x0c\0\x0f\0\1\0\0\1\x2c" + struct.pack("!HH", 2 + len(_ODD), 0) + _ODD
    rest = [b"\xc0\x0c\0\x0f\0\1\0\0\1\x2c\0\4" + struct.pack("!HH", number, 0xC000 | at) for number in range(1, 4000)]
    return 4000, first + b"".join(rest)


def reply(query: bytes, stream: bool) -> bytes | None:
    """The reply to a query; None for no reply."""
    kind = chr(query[13] | 32)
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    head = query[:2]
    if kind == "x":
        return None
    if kind == "n":
        return head + b"\x81\x83\0\1\0\0\0\1\0\0" + question + _SOA
    if kind in TCP_ONLY:
        if not stream:
            return head + b"\x83\x80\0\1\0\0\0\0\0\0" + question
        count, records = (big if kind == "b" else pointers)(question)
        return head + b"\x81\x80\0\1" + struct.pack("!H", count) + b"\0\0\0\0" + question + records
    return head + b"\x81\x80\0\1\0\1\0\0\0\0" + question + _RECORD


def serve_udp(port: int) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", port))
    due: list[tuple[float, int, bytes, tuple[str, int]]] = []
    number = 0
    while True:
        left = max(due[0][0] - time.monotonic(), 0) if due else None
        if select.select([sock], [], [], left)[0]:
            for _ in range(64):
                try:
                    query, client = sock.recvfrom(4096, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                told = reply(query, False)
                if told is None:
                    continue
                delay = DELAY.get(chr(query[13] | 32), 0)
                if delay:
                    number += 1
                    heapq.heappush(due, (time.monotonic() + delay, number, told, client))
                else:
                    sock.sendto(told, client)
        while due and due[0][0] <= time.monotonic():
            _, _, told, client = heapq.heappop(due)
            sock.sendto(told, client)


def serve_tcp(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve_connection, args=(sock,), daemon=True).start()


def serve_connection(sock: socket.socket) -> None:
    with sock, sock.makefile("rb") as stream:
        try:
            while len(size := stream.read(2)) == 2:
                told = reply(stream.read(int.from_bytes(size, "big")), True)
                if told is not None:
                    sock.sendall(len(told).to_bytes(2, "big") + told)
        except OSError:
            return


if __name__ == "__main__":
    threading.Thread(target=serve_tcp, args=(int(sys.argv[1]),), daemon=True).start()
    serve_udp(int(sys.argv[1]))
