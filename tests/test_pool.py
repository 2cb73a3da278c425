"""How a worker's TCP connections share its time, its memory and its slots."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rdnscache.clients.networks import client_prefix

#: In a process of its own: gevent's hub is not to meet that of other tests.
_TURNS = """
import time
from gevent import get_hub, sleep
from rdnscache.server.pool import LOOK, TURN, Pool

events = []
pool = Pool(10, 1000, [lambda: events.append("datagrams")])


class Busy:
    def __init__(self):
        self.queued, self.left = False, 10

    def serve(self):
        end = time.monotonic() + LOOK
        while time.monotonic() < end:
            pass
        events.append("connection")
        self.left -= 1
        return self.left > 0


for _ in range(20):
    pool.serve_soon(Busy())
other = get_hub().loop.timer(0, TURN / 10)
other.start(lambda: events.append("others"))
while events.count("connection") < 200:
    sleep(0.001)
print(" ".join(events))
"""


def test_a_burst_leaves_others_their_turns() -> None:
    """While many connections have much to ask, datagrams are looked at between them, and the hub goes round."""
    path = Path(__file__).parent.parent
    command = [sys.executable, "-c", _TURNS]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=path, timeout=60)
    events = done.stdout.split()
    assert events.count("connection") == 200, done.stderr
    for kind, most in (("datagrams", 2), ("others", 50)):
        waited = longest = 0
        for event in events[: len(events) - events[::-1].index("connection")]:
            waited = 0 if event == kind else waited + (event == "connection")
            longest = max(longest, waited)
        assert longest <= most, kind


#: 300 connections with something to read, or answers to send, all in one turn of the hub.
_READY = """
import socket, sys, time
from types import SimpleNamespace
from gevent import get_hub, sleep
from rdnscache.server.connection import TcpConnection
from rdnscache.server.pool import LOOK, TURN, Pool
from rdnscache.stream import Stream

done, looks, turns = [], [], []
shared = Pool(10, 1000, [lambda: looks.append(len(done))])
guard = SimpleNamespace(allowed=SimpleNamespace(holds=lambda source: True, group=lambda source: 0), proxies=None)
listener = SimpleNamespace(guard=guard, pool=shared, held=False)


def slow(method):
    def call(self, *data):
        done.append(self)
        end = time.monotonic() + LOOK / 4
        while time.monotonic() < end:
            pass
        return method(self, *data)

    return call


server = socket.create_server(("127.0.0.1", 0), backlog=512)
server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
clients = [socket.create_connection(server.getsockname()) for _ in range(300)]
kept = [TcpConnection(server.accept()[0], b"\\x7f\\0\\0\\1", None, listener) for _ in clients]
if sys.argv[1] == "read":
    for client in clients:
        client.sendall(b"\\0")
else:
    for each in kept:
        while not each.unread:
            each._stream.write(bytes(50_000))
        each._stream.write(bytes(10_000))
    for client in clients:
        client.setblocking(False)
        try:
            while client.recv(1 << 20):
                pass
        except BlockingIOError:
            pass
Stream.read, Stream.write_rest = slow(Stream.read), slow(Stream.write_rest)
get_hub().loop.timer(0, TURN / 10).start(lambda: turns.append(len(done)))
while len(done) < 300:
    sleep(0.001)
for noted in (looks, turns):
    print(max(after - before for before, after in zip([0, *noted], [*noted, 300])))
"""


@pytest.mark.parametrize("what", ["read", "write"])
def test_many_connections_that_are_ready_leave_others_their_turns(what: str) -> None:
    """Where all have something to read or to send at once, datagrams are looked at between, and the hub goes round."""
    command = [sys.executable, "-c", _READY, what]
    path = Path(__file__).parent.parent
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=path, timeout=60)
    assert done.stdout, done.stderr
    looks, turns = map(int, done.stdout.split())
    assert looks <= 8
    assert turns <= 70


#: A connection that is closed by us, by the client, or by an error.
_CLOSED = """
import gc, socket, sys, weakref
from types import SimpleNamespace
from gevent import sleep
from rdnscache.server.connection import TcpConnection
from rdnscache.server.pool import Pool

gc.disable()
pool = Pool(10, 1000, [])
guard = SimpleNamespace(allowed=SimpleNamespace(holds=lambda source: True, group=lambda source: 0), proxies=None)
listener = SimpleNamespace(guard=guard, pool=pool, held=False)
one = socket.create_server(("127.0.0.1", 0))
other = socket.create_connection(one.getsockname())
connection = TcpConnection(one.accept()[0], b"\\x7f\\0\\0\\1", None, listener)
pool.join(connection)
kept = weakref.ref(connection)
sleep(0.01)
if sys.argv[1] == "by us":
    connection.close()
else:
    if sys.argv[1] == "broken":
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    other.close()
del connection
while len(pool):
    sleep(0.01)
sleep(0.01)
print(kept())
"""


@pytest.mark.parametrize("how", ["by us", "by the client", "broken"])
def test_a_closed_connection_is_gone(how: str) -> None:
    """At once: its memory does not wait for the garbage collector, which hardly ever comes."""
    command = [sys.executable, "-c", _CLOSED, how]
    path = Path(__file__).parent.parent
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=path, timeout=60)
    assert done.stdout == "None\n", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("c0000201", "c00002fe", True),
        ("c0000201", "c0000301", False),
        ("7f000001", "7f000002", False),
        ("00000000000000000000ffffc0000201", "c0000207", True),
        ("20010db8000001000000000000000001", "20010db8000001ffffffffffffffffff", True),
        ("20010db8000001000000000000000001", "20010db8000002000000000000000001", False),
    ],
)
def test_a_network_is_one_client(one: str, other: str, same: bool) -> None:
    """A /24 or /56, an IPv4-mapped address the IPv4 one; on this machine each address."""
    assert (client_prefix(bytes.fromhex(one)) == client_prefix(bytes.fromhex(other))) == same
