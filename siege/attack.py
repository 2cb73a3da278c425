"""A malicious client: `python -m siege.attack WHAT PORT SECONDS [NUMBER]`. Prints its results as JSON."""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count

from bench.load import query

#: Another address than that of the honest clients.
HOST = "127.66.0.1"


def _udp(port: int, sockets: int) -> list[socket.socket]:
    found = []
    for _ in range(sockets):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        found.append(sock)
    return found


def _tcp(port: int, connections: int) -> list[socket.socket]:
    """Open as many connections as the server accepts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, connections + 100)), hard))
    found = []
    for _ in range(connections):
        try:
            sock = socket.create_connection(("127.0.0.1", port), 2, (HOST, 0))
        except OSError:
            break
        sock.setblocking(False)
        found.append(sock)
    return found


def _framed(name: str, ident: int = 1) -> bytes:
    message = query(name, ident)
    return len(message).to_bytes(2, "big") + message


def _flood(port: int, seconds: float, rate: float, letter: str) -> dict[str, float]:
    """New names that begin with a letter, each in a zone of its own."""
    socks = _udp(port, 16)
    tag = f"{time.monotonic_ns() % 10**9}"
    began = time.monotonic()
    sent = refused = 0
    for number in count():
        now = time.monotonic()
        if now >= began + seconds:
            return {"sent": sent, "refused": refused}
        while sent < (now - began) * rate:
            try:
                socks[sent & 15].send(query(f"{letter}{sent}-{tag}.z{sent}.test", sent & 0xFFFF))
            except OSError:
                refused += 1
            sent += 1
        if number % 8 == 0:
            _drain(socks)
        time.sleep(0.002)
    raise AssertionError("not reached")


def _drain(socks: Sequence[socket.socket]) -> list[bytes]:
    found = []
    for sock in socks:
        while True:
            try:
                found.append(sock.recv(65535))
            except OSError:
                break
    return found


def silent(port: int, seconds: float, number: float) -> dict[str, float]:
    return _flood(port, seconds, number, "x")


def nxdomain(port: int, seconds: float, number: float) -> dict[str, float]:
    return _flood(port, seconds, number, "n")


def pulse(port: int, seconds: float, number: float) -> dict[str, float]:
    """Queries for one name that takes 1.5 s, spread over 1 s; the most answers that came within 0.1 s."""
    (sock,) = _udp(port, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    name = f"s{time.monotonic_ns()}.pulse.test"
    began = time.monotonic()
    arrived: list[float] = []
    refused = sent = 0
    while (now := time.monotonic()) < began + max(seconds, 5):
        while sent < min((now - began) * number, number):
            sock.send(query(name, sent & 0xFFFF))
            sent += 1
        for data in _drain((sock,)):
            arrived += [now] if data[3] & 15 == 0 else []
            refused += data[3] & 15 != 0
        time.sleep(0.001)
    moments = arrived[:: max(len(arrived) // 50, 1)]
    most = max((sum(at <= other < at + 0.1 for other in arrived) for at in moments), default=0)
    return {"sent": sent, "answered": len(arrived), "refused": refused, "most in 0.1 s": most}


def slow_readers(port: int, seconds: float, number: float) -> dict[str, float]:
    """Connections that ask 128 times for 60 KB and read nothing."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 2) as first:  # have it cached
        first.sendall(_framed("big.one.test"))
        first.recv(1)
    socks = _tcp(port, int(number))
    for sock in socks:
        try:
            sock.sendall(_framed("big.one.test") * 128)
        except OSError:
            continue
    time.sleep(max(began + seconds - time.monotonic(), 0))
    return {"connections": len(socks)}


def bursts(port: int, seconds: float, number: float) -> dict[str, float]:
    """Connections with 1,500 pipelined queries for a cached name each, again when all are answered."""
    socks = _tcp(port, int(number))
    burst = _framed("g0.hot.fine.example") * 1500
    left = dict.fromkeys(socks, burst)
    place = {sock.fileno(): sock for sock in socks}
    got = dict.fromkeys(socks, 0)
    poll = select.poll()
    for fd in place:
        poll.register(fd, select.POLLIN | select.POLLOUT)
    ends, answered = time.monotonic() + seconds, 0
    reply_size = 0
    while time.monotonic() < ends and place:
        for fd, event in poll.poll(100):
            sock = place[fd]
            try:
                if event & select.POLLOUT and left[sock]:
                    left[sock] = left[sock][sock.send(left[sock]) :]
                    if not left[sock]:
                        poll.modify(fd, select.POLLIN)
                if event & select.POLLIN:
                    data = sock.recv(1 << 18)
                    if not data:
                        raise ConnectionResetError
                    reply_size = reply_size or 2 + int.from_bytes(data[:2], "big")
                    got[sock] += len(data)
                    if got[sock] >= 1500 * reply_size:
                        answered += 1500
                        got[sock], left[sock] = 0, burst
                        poll.modify(fd, select.POLLIN | select.POLLOUT)
            except BlockingIOError:
                continue
            except OSError:
                poll.unregister(fd)
                del place[fd]
    return {"connections": len(socks), "answered": answered, "connections left": len(place)}


def slots(port: int, seconds: float, number: float) -> dict[str, float]:
    """Connections that wait for a silent name each, opened again when they are closed."""
    ends = time.monotonic() + seconds
    socks = _tcp(port, int(number))
    opened = len(socks)
    for at, sock in enumerate(socks):
        sock.send(_framed(f"x{at}-{time.monotonic_ns()}.slots.test"))
    while time.monotonic() < ends:
        for at, sock in enumerate(socks):
            try:
                if sock.recv(4096) != b"":
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            sock.close()
            new = _tcp(port, 1)
            if new:
                opened += 1
                socks[at] = new[0]
                try:
                    new[0].send(_framed(f"x{at}-{time.monotonic_ns()}.slots.test"))
                except OSError:
                    continue
        time.sleep(0.05)
    return {"opened": opened}


def odd(port: int, seconds: float, number: float) -> dict[str, float]:
    """Datagrams that are no queries, or ask for what is refused, `number` a second."""
    socks = _udp(port, 8)
    fine = query("g0.hot.fine.example")
    proxied = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\1" * 12 + fine
    words = (b"", b"\0" * 11, b"\xff" * 600, proxied, fine[:-2], fine[:2] + b"\x28" + fine[3:])
    began, sent = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        while sent < (now - began) * number:
            socks[sent & 7].send(words[sent % len(words)])
            sent += 1
        _drain(socks)
        time.sleep(0.002)
    return {"sent": sent}


ATTACKS: dict[str, Callable[[int, float, float], dict[str, float]]] = {
    attack.__name__: attack for attack in (silent, nxdomain, pulse, slow_readers, bursts, slots, odd)
}

if __name__ == "__main__":
    what, port, seconds, number = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    print(json.dumps(ATTACKS[what](port, seconds, number)))
