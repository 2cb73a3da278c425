"""QUIC connections to an upstream: whom they are with, many streams at a time, sessions taken up again, and ends."""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from support.quic import QuicServer

from rdnscache.endpoint import Endpoint
from rdnscache.errors import LOCAL, UNREACHABLE, UpstreamFailed

pytest.importorskip("aioquic", reason="aioquic is not installed")

from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived, StreamReset

from rdnscache.upstream.quic_channel import QuicChannel
from rdnscache.upstream.quic_handshake import Step
from rdnscache.upstream.quic_identity import Tickets

pytestmark = pytest.mark.once


def echo(protocol: Any, stream: int, message: bytes) -> None:
    """The message itself, behind its length."""
    protocol._quic.send_stream_data(stream, len(message).to_bytes(2, "big") + message, end_stream=True)


class Client:
    """A channel, and what has come of it."""

    def __init__(self, url: str, tickets: Tickets | None = None) -> None:
        (endpoint,) = Endpoint.parse(url)
        self.opened = 0
        self.came: dict[int, bytes] = {}
        self.whole: list[int] = []
        self.reset: list[int] = []
        self.failures: list[UpstreamFailed] = []
        self.channel = QuicChannel(endpoint, "doq", tickets or Tickets(), self._open, self._event, self.failures.append)

    def _open(self) -> None:
        self.opened += 1

    def _event(self, event: Any) -> None:
        if isinstance(event, StreamReset):
            self.reset.append(event.stream_id)
        elif isinstance(event, StreamDataReceived):
            self.came[event.stream_id] = self.came.get(event.stream_id, b"") + event.data
            if event.end_stream:
                self.whole.append(event.stream_id)

    def ask(self, message: bytes) -> int:
        return self.channel.ask(len(message).to_bytes(2, "big") + message)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, (self.opened, self.failures)
            gevent.sleep(0.005)


def url_of(server: QuicServer, name: str = "#dns.example", more: str = "") -> str:
    return f"quic://127.0.0.1:{server.port}?ca={server.ca}{more}{name}"


def test_many_streams_at_a_time(tmp_path: Path) -> None:
    """Each has its own answer, whatever their order and size."""
    with QuicServer(tmp_path, echo) as server:
        client = Client(url_of(server))
        client.until(lambda: client.opened)
        assert client.channel.streams_left > 50
        messages = [bytes([number]) * size for number, size in enumerate([1, 100, 5000, 60000, *[50] * 40])]
        streams = [client.ask(message) for message in messages]
        client.until(lambda: len(client.whole) == len(streams))
        assert [client.came[stream][2:] for stream in streams] == messages
        client.channel.close()
    assert client.failures == []


@pytest.mark.parametrize(
    ("kind", "part"),
    [("name", "doesn't match"), ("authority", "signed"), ("expired", "no longer valid"), ("pin", "pins")],
)
def test_who_is_not_meant_is_refused(tmp_path: Path, kind: str, part: str) -> None:
    """Another name, another authority, a certificate that is over, a key that is not pinned: one sentence, no query."""
    with QuicServer(tmp_path, echo, days=-1 if kind == "expired" else 2) as server:
        url = {
            "name": url_of(server, "#other.example"), "expired": url_of(server),
            "authority": f"quic://127.0.0.1:{server.port}#dns.example",
            "pin": f"quic://127.0.0.1:{server.port}?pin={'A' * 43}=",
        }[kind]  # fmt: skip
        client = Client(url)
        client.until(lambda: client.failures)
    (failure,) = client.failures
    assert failure.why == UNREACHABLE
    assert client.opened == 0
    assert re.search(part, str(failure)), failure


def test_who_is_meant_by_pin_or_address(tmp_path: Path) -> None:
    """A key that is pinned needs no name; without a name the certificate has to be for the address."""
    with QuicServer(tmp_path, echo) as server:
        for url in (f"quic://127.0.0.1:{server.port}?pin={server.pin}", url_of(server, ""),
                    url_of(server, more=f"&pin={server.pin}")):  # fmt: skip
            client = Client(url)
            client.until(lambda client=client: client.opened)
            client.channel.close()


def test_the_next_connection_takes_up_the_session(tmp_path: Path) -> None:
    """With the ticket of the last one, and each ticket once."""
    with QuicServer(tmp_path, echo) as server:
        tickets = Tickets()
        for number in range(3):
            client = Client(url_of(server), tickets)
            client.until(lambda client=client: client.opened and client.channel._tickets._last is not None)
            assert client.channel.resumed == bool(number)
            client.channel.close()
        assert server.resumed == [False, True, True]
        client = Client(url_of(server), Tickets())
        client.until(lambda: client.opened)
        assert not client.channel.resumed
        client.channel.close()


def test_a_stream_and_a_connection_that_the_server_ends(tmp_path: Path) -> None:
    """A stream that is reset is that stream's end alone; the end of the connection is told once."""
    with QuicServer(tmp_path, lambda protocol, stream, message: protocol._quic.reset_stream(stream, 1)) as server:
        client = Client(url_of(server))
        client.until(lambda: client.opened)
        stream = client.ask(b"one")
        client.until(lambda: client.reset == [stream])
        assert client.channel.open
        server.do(lambda protocol: protocol._quic.close(error_code=2, reason_phrase="busy\x1b[2J"))
        client.until(lambda: client.failures)
        assert str(client.failures[0]).endswith(": busy[2J")
        assert client.channel.ended_by_server
        assert client.channel.streams_left == 0


def test_garbage_is_passed_over() -> None:
    """What is no packet of the connection changes nothing, whatever it is; a close in the middle tells nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        client = Client(f"quic://127.0.0.1:{server.getsockname()[1]}")
        client.until(lambda: client.channel._quic is not None and select.select([server], [], [], 0)[0])
        first, where = server.recvfrom(65535)
        for data in (b"", b"\0", b"\xff" * 1200, os.urandom(1300), first, first[:100], b"\xc0\0\0\0\0" + first[5:]):
            server.sendto(data, where)
        client.until(lambda: select.select([server], [], [], 0)[0])  # it tries again
        assert (client.opened, client.failures, client.channel.closed) == (0, [], False)
        client.channel.close()
        assert client.failures == []


def test_nobody_there(tmp_path: Path) -> None:
    """A port that is closed is told as such at once."""
    with QuicServer(tmp_path, echo) as server:
        port = server.port
    client = Client(f"quic://127.0.0.1:{port + 1 if port < 65535 else 1}")
    client.until(lambda: client.failures)
    assert client.failures[0].why == UNREACHABLE


def test_handshakes_are_computed_by_other_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take milliseconds, for which hits would wait; what follows is for the hub."""
    took: list[tuple[int, bool]] = []
    real = QuicConnection.receive_datagram

    def noted(self: QuicConnection, *args: Any, **more: Any) -> None:
        if self._is_client:
            took.append((threading.get_ident(), client.channel.open))
        real(self, *args, **more)

    monkeypatch.setattr(QuicConnection, "receive_datagram", noted)
    with QuicServer(tmp_path, echo) as server:
        client = Client(url_of(server))
        client.until(lambda: client.opened)
        stream = client.ask(b"one")
        client.until(lambda: client.whole == [stream])
        client.channel.close()
    hub = threading.get_ident()
    assert {ident == hub for ident, opened in took if not opened} == {False}
    assert {ident == hub for ident, opened in took if opened} == {True}


def test_a_file_of_ours_that_has_gone_is_told(tmp_path: Path) -> None:
    """It is read in a thread, and no fault of the server's."""
    with QuicServer(tmp_path, echo) as server:
        client = Client(url_of(server, more=f"&cert={tmp_path / 'gone.pem'}"))
        client.until(lambda: client.failures)
        assert client.failures[0].why == LOCAL
        assert "No such file" in str(client.failures[0])


def test_one_that_is_closed_in_its_handshake_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may have it at that moment."""
    may_go = threading.Event()
    real = Step.__call__
    monkeypatch.setattr(Step, "__call__", lambda self: may_go.wait(10) and real(self))
    with QuicServer(tmp_path, echo) as server:
        client = Client(url_of(server))
        client.until(lambda: client.channel._stepping)
        client.channel.close()
        may_go.set()
        client.until(lambda: not client.channel._stepping)
        assert (client.opened, client.failures) == (0, [])
