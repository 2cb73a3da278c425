"""One blocking query to another worker of the node: over UDP, and over TCP if the reply is truncated.

The UpstreamFailed of a failure has SILENT if nothing arrived in time, UNREACHABLE if the server or the network refused,
LOCAL if the query could not leave this host, SAID if the data received is not a reply.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import socket
import time

from gevent import get_hub, getcurrent
from gevent.monkey import get_original

from rdnscache.address import Address
from rdnscache.dns.wire import TCP_SIZE, Reply, build_query
from rdnscache.errors import SAID, SILENT, UpstreamFailed
from rdnscache.stream import READ, WRITE
from rdnscache.upstream.blame import failure_of
from rdnscache.upstream.datagrams import MAX_STRAYS
from rdnscache.upstream.reading import about, read_reply

#: Maximum pieces of a reply over TCP: the largest reply has 123 of the smallest usual size.
MAX_CHUNKS = 1000

#: The unpatched poll: it neither waits nor switches here.
_poll = get_original("select", "poll")


def exchange(server: Address, key: bytes, edns: bool, timeout: float, header: bytes = b"") -> Reply:
    """Ask `server` the question of `key` and return its reply, whatever its RCODE. Raises UpstreamFailed.

    `timeout` is in seconds. `header` (of the PROXY protocol) precedes the query.
    """
    deadline = time.monotonic() + timeout
    reply = over_udp(server, key, edns, deadline, header)
    return over_tcp(server, key, edns, deadline, header) if reply is None else reply


def over_udp(server: Address, key: bytes, edns: bool, deadline: float, header: bytes = b"") -> Reply | None:
    """The reply; None if TCP is to be used: it is truncated or unreadable, or there were too many wrong datagrams.

    Only a reply from the server's address and port with our ID and question is accepted (RFC 5452 section 9.1).
    """
    ident = os.urandom(2)
    sock = None
    sent = False
    try:
        sock = _socket.socket(server.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)  # half the cost of socket.socket
        sock.connect(server.sockaddr)  # the kernel picks a random free port, and drops datagrams from elsewhere
        sock.send(header + build_query(ident, key, edns))
        sent = True
        for _ in range(MAX_STRAYS):
            if not wait(sock.fileno(), READ, deadline):
                raise UpstreamFailed(f"{server}: no reply in time", why=SILENT)
            try:
                data = sock.recv(TCP_SIZE)  # the largest message: the kernel would cut off the rest
            except BlockingIOError:  # the checksum was bad
                continue
            if data[:2] == ident:
                reply = read_reply(key, data)
                if reply is not None and not reply.truncated:
                    return reply
                if reply is not None or about(key, data):
                    return None
    except OSError as error:
        raise failure_of(server, error, sent) from None
    finally:
        if sock is not None:
            sock.close()
    return None


def over_tcp(server: Address, key: bytes, edns: bool, deadline: float, header: bytes = b"") -> Reply:
    """The reply; with TC set it is not a reply (RFC 2181 section 9)."""
    ident = os.urandom(2)
    query = build_query(ident, key, edns)
    sock = None
    sent = False
    try:
        sock = _socket.socket(server.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        code = sock.connect_ex(server.sockaddr)
        if code == errno.EINPROGRESS:
            sent = True
            if not wait(sock.fileno(), WRITE, deadline):
                raise UpstreamFailed(f"{server}: no connection over TCP in time", why=SILENT)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        sent = True
        sock.send(header + len(query).to_bytes(2, "big") + query)  # the buffer of a new socket has room for it
        data = _receive(server, sock, deadline)
    except OSError as error:
        raise failure_of(server, error, sent) from None
    finally:
        if sock is not None:
            sock.close()
    reply = read_reply(key, data) if data[:2] == ident else None
    if reply is None:
        raise UpstreamFailed(f"{server}: a reply over TCP that cannot be read or does not fit the query", why=SAID)
    if reply.truncated:
        raise UpstreamFailed(f"{server}: a truncated reply over TCP", why=SAID)
    return reply


def _receive(server: Address, sock: _socket.socket, deadline: float) -> bytes:
    """Read one message, which follows its length (RFC 1035 section 4.2.2)."""
    data = bytearray()
    for _ in range(MAX_CHUNKS):
        if len(data) >= 2 and len(data) >= 2 + int.from_bytes(data[:2], "big"):
            return bytes(data[2 : 2 + int.from_bytes(data[:2], "big")])
        if not wait(sock.fileno(), READ, deadline):
            raise UpstreamFailed(f"{server}: no reply over TCP in time", why=SILENT)
        try:
            chunk = sock.recv(TCP_SIZE)
        except BlockingIOError:
            continue
        if not chunk:
            raise ConnectionResetError(errno.ECONNRESET, "closed before the reply was complete")
        data += chunk
    raise UpstreamFailed(f"{server}: a reply over TCP in too many pieces", why=SAID)


def wait(fd: int, events: int, deadline: float) -> bool:
    """Let others run until `fd` can be read or written; False if the time `deadline` comes first.

    A timer that fires late (the process was stopped, or the hub busy) may fire before the event of data that has
    arrived meanwhile, so the descriptor is polled once more at the end.
    """
    seconds = deadline - time.monotonic()
    if seconds > 0:
        hub = get_hub()
        switch = getcurrent().switch
        watcher = hub.loop.io(fd, events)
        timer = hub.loop.timer(seconds)
        try:
            watcher.start(switch, True)
            timer.start(switch, False)
            if hub.switch():
                return True
        finally:
            for each in (watcher, timer):
                each.stop()
                each.close()
    look = _poll()
    look.register(fd, select.POLLIN if events == READ else select.POLLOUT)
    return bool(look.poll(0))
