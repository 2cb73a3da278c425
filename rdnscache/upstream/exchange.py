"""One query to one server: over UDP from a fresh random port with a fresh ID, over TCP when the reply is cut."""

from __future__ import annotations

import _socket
import os
import socket
import time

import gevent
from gevent import get_hub, getcurrent

from rdnscache.dns.wire import HEADER_SIZE, Reply, build_query, parse_reply
from rdnscache.errors import UpstreamFailed
from rdnscache.net import Address
from rdnscache.stream import READ

#: Datagrams that are not the reply, after which somebody is guessing: ask over TCP (RFC 5452 section 9.2).
MAX_STRAYS = 20
#: More than we say we take; room for it is made and given back with each reply.
RECEIVE_SIZE = 4096


def exchange(server: Address, key: bytes, edns: bool, timeout: float) -> Reply:
    """Ask `server` the question of `key` and return its reply, whatever its RCODE.

    A reply counts only from the asked address and port, with the asked ID and question (RFC 5452 section 9.1).
    Raises UpstreamFailed when there is none within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    try:
        reply = _over_udp(server, key, edns, deadline)
        if reply is None or reply.truncated:
            reply = _over_tcp(server, key, edns, deadline - time.monotonic())
    except OSError as error:
        raise UpstreamFailed(f"{server}: {error.strerror or error}") from None
    return reply


def _over_udp(server: Address, key: bytes, edns: bool, deadline: float) -> Reply | None:
    """The reply; None when the server is better asked over TCP."""
    ident = os.urandom(2)
    sock = _socket.socket(server.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)  # the bare one: half the price
    try:
        sock.connect(server.sockaddr)  # the kernel picks a random free port, and drops what others send to it
        sock.send(build_query(ident, key, edns))
        for _ in range(MAX_STRAYS):
            if not wait_readable(sock.fileno(), deadline - time.monotonic()):
                raise UpstreamFailed(f"{server}: no reply in time")
            try:
                data = sock.recv(RECEIVE_SIZE)
            except BlockingIOError:  # the checksum was bad
                continue
            if data[:2] == ident:
                reply = _reply_to(key, data)
                if reply is not None:
                    return reply
                if _cut_short(key, data):
                    return None
    finally:
        sock.close()
    return None


def _over_tcp(server: Address, key: bytes, edns: bool, timeout: float) -> Reply:
    query = build_query(os.urandom(2), key, edns)
    too_late = gevent.Timeout(max(timeout, 0), UpstreamFailed(f"{server}: no reply over TCP in time"))
    with too_late, socket.socket(server.family, socket.SOCK_STREAM) as sock:
        sock.connect(server.sockaddr)
        sock.sendall(len(query).to_bytes(2, "big") + query)
        size = int.from_bytes(_receive_exactly(sock, 2), "big")
        data = _receive_exactly(sock, size)
    reply = _reply_to(key, data)
    if reply is None or data[:2] != query[:2]:
        raise UpstreamFailed(f"{server}: a reply over TCP that does not fit the query")
    return reply


def _cut_short(key: bytes, data: bytes) -> bool:
    """A reply to this question with TC set, cut in the middle of a record."""
    end = HEADER_SIZE + len(key) - 1
    asked = data[HEADER_SIZE : end - 4].lower() + data[end - 4 : end]
    return len(data) >= end and data[2] & 0x82 == 0x82 and data[4:6] == b"\0\1" and asked == key[:-1]


def _reply_to(key: bytes, data: bytes) -> Reply | None:
    """The reply, if it is one to this question; a bare header with an error is: some cannot read EDNS at all."""
    if len(data) == HEADER_SIZE and data[3] & 0x0F:
        data = data[:4] + b"\0\1\0\0\0\0\0\0" + key[:-1]
    reply = parse_reply(data)
    return reply if reply is not None and reply.question() == key[:-1] else None


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionResetError("closed before the whole reply came")
        data += chunk
    return bytes(data)


def wait_readable(fd: int, seconds: float) -> bool:
    """Let others run until `fd` can be read; False when the time is over first."""
    if seconds <= 0:
        return False
    hub = get_hub()
    switch = getcurrent().switch
    watcher = hub.loop.io(fd, READ)
    timer = hub.loop.timer(seconds)
    try:
        watcher.start(switch, True)
        timer.start(switch, False)
        return bool(hub.switch())
    finally:
        for each in (watcher, timer):
            each.stop()
            each.close()
