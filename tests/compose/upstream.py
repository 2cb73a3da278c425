"""The upstream of the compose test, in a container of its own: answers every A question, and prints each.

Names that begin with `slow` take half a second, so that many can wait for one at a time.
"""

from __future__ import annotations

import socket
import socketserver
import threading

PORT = 53
ANSWER = b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4\xc0\0\2\1"  # the question's name, A, 3600 s, 192.0.2.1
SLOW = 0.5


def question_of(query: bytes) -> tuple[str, bytes]:
    """The name asked for, and the question's octets. IndexError when it is none."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace").lower())
        at += query[at] + 1
    return ".".join(labels), query[12 : at + 5]


def reply_to(query: bytes) -> tuple[bytes, float]:
    """The reply, and how many seconds it takes."""
    name, question = question_of(query)
    print(name, flush=True)
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + ANSWER, SLOW if name.startswith("slow") else 0.0


class OverTcp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while len(size := self.rfile.read(2)) == 2:
            reply, _ = reply_to(self.rfile.read(int.from_bytes(size, "big")))
            self.wfile.write(len(reply).to_bytes(2, "big") + reply)


class TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve_udp(sock: socket.socket) -> None:
    while True:
        query, client = sock.recvfrom(4096)
        try:
            reply, seconds = reply_to(query)
        except IndexError:
            continue
        if seconds:
            threading.Timer(seconds, sock.sendto, (reply, client)).start()
        else:
            sock.sendto(reply, client)


if __name__ == "__main__":
    threading.Thread(target=TcpServer(("0.0.0.0", PORT), OverTcp).serve_forever, daemon=True).start()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    udp.bind(("0.0.0.0", PORT))
    serve_udp(udp)
