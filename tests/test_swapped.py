"""Servers on TLS, HTTP/2, HTTP/3 and QUIC that mix answers up: no client gets the answer to another's question."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest
from h2.exceptions import ProtocolError
from support import Node, Peer, StreamServer, addresses, answer, ask
from support.certificates import Authority
from support.http2 import Http2Peer, frame, speaking
from support.quic import QuicServer

pytest.importorskip("aioquic", reason="aioquic is not installed")

pytestmark = pytest.mark.once

WAYS = ("tls", "https", "quic", "h3")
#: The address of each name, by its first letter; one that no server means to give.
TRUE, WRONG = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}, "203.0.113.66"
#: Says a message in the place of the answer to a query.
Say = Callable[[bytes], None]


class Wicked:
    """Answers what is asked, but for the names `a.TRICK.test` and `b.TRICK.test`, which are answered together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, tuple[dns.message.Message, Say]]] = {}

    def hears(self, data: bytes, say: Say, besides: Mapping[str, Say]) -> None:
        """`besides` are the ways in which this transport can say what nobody asked for."""
        query = dns.message.from_wire(data)
        letter, trick = str(query.question[0].name).lower().split(".")[:2]
        with self._lock:
            held = self._held.setdefault(trick, {})
            if letter == "c" or len(held) == 2:  # asked again, since the connection was ended
                return say(right(query))
            held[letter] = query, say
            if len(held) < 2:
                return None
        first, second = held["a"], held["b"]
        if trick == "swapped":
            first[1](with_id(right(second[0]), first[0]))
            second[1](with_id(right(first[0]), second[0]))
            return None
        if trick == "renamed":  # under its own question, the other's records
            first[1](renamed(second[0], first[0]))
            second[1](renamed(first[0], second[0]))
            return None
        if trick in besides:
            besides[trick](wrong(first[0]))
        first[1](right(first[0]))
        second[1](right(second[0]))
        if trick == "afterwards":
            besides["again"](wrong(first[0]))
        return None


def right(query: dns.message.Message) -> bytes:
    return answer(query, f"300 A {TRUE[str(query.question[0].name)[0].lower()]}").to_wire()


def wrong(query: dns.message.Message) -> bytes:
    return answer(query, f"300 A {WRONG}").to_wire()


def with_id(message: bytes, query: dns.message.Message) -> bytes:
    return query.id.to_bytes(2, "big") + message[2:]


def renamed(other: dns.message.Message, query: dns.message.Message) -> bytes:
    reply = answer(query)
    reply.answer.extend(dns.message.from_wire(right(other)).answer)
    return reply.to_wire()


def over_tls(wicked: Wicked) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        lock = threading.Lock()

        def say(message: bytes) -> None:
            with lock:
                peer.send(message)

        while (data := peer.query()) is not None:
            free = bytes((data[0] ^ 0x55, data[1]))
            besides = {"unasked": lambda message, free=free: say(free + message[2:]), "again": say}
            wicked.hears(data, say, besides)

    return script


def over_https(wicked: Wicked) -> Callable[[Http2Peer], None]:
    def script(peer: Http2Peer) -> None:
        def say(stream: int, message: bytes) -> None:
            with suppress(ProtocolError, OSError):  # the client may have ended the connection
                peer.head(stream)
                peer.body(stream, message)

        for stream, data in peer:
            besides = {  # a stream that is none of the client's
                "unasked": lambda message: peer.raw(frame(0, 1, 4001, message)),
                "again": lambda message, stream=stream: peer.raw(frame(0, 1, stream, message)),
            }
            wicked.hears(data, lambda message, stream=stream: say(stream, message), besides)

    return script


def over_quic(wicked: Wicked, http: bool) -> Callable[[Any, int, bytes], None]:
    def script(protocol: Any, stream: int, data: bytes) -> None:
        def say(message: bytes, stream: int = stream) -> None:
            def do() -> None:
                if http:
                    usual = [(b":status", b"200"), (b"content-type", b"application/dns-message")]
                    protocol.http.send_headers(stream, usual)
                    protocol.http.send_data(stream, message, end_stream=True)
                else:
                    protocol._quic.send_stream_data(stream, len(message).to_bytes(2, "big") + message, True)
                protocol.transmit()

            protocol._loop.call_soon_threadsafe(do)

        def unasked(message: bytes) -> None:
            number = protocol._quic.get_next_available_stream_id()
            protocol._quic.send_stream_data(number, len(message).to_bytes(2, "big") + message, True)

        wicked.hears(data, say, {"unasked": unasked, "again": unasked})

    return script


@pytest.fixture(scope="module", params=WAYS)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that forwards to a wicked server."""
    folder: Path = tmp_path_factory.mktemp("wicked")
    wicked, kind = Wicked(), str(request.param)
    with ExitStack() as stack:
        if kind in ("quic", "h3"):
            server = stack.enter_context(QuicServer(folder, over_quic(wicked, kind == "h3"), http=kind == "h3"))
            url = f"{kind}://127.0.0.1:{server.port}?ca={server.ca}#dns.example"
        else:
            authority = Authority(folder)
            made = authority.sign("dns.example")
            script = over_tls(wicked) if kind == "tls" else speaking(over_https(wicked))
            tls = made.server(("h2",) if kind == "https" else ())
            port = stack.enter_context(StreamServer(script, tls)).port
            more = "&address=127.0.0.1" if kind == "https" else ""
            host = f"dns.example:{port}/dns-query" if kind == "https" else f"127.0.0.1:{port}"
            url = f"{kind}://{host}?ca={authority.file}{more}" + ("" if kind == "https" else "#dns.example")
        yield stack.enter_context(Node([url], args=("--upstream-timeout", "1", "--upstream-deadline", "3")))


@pytest.mark.parametrize("trick", ["swapped", "renamed", "unasked", "afterwards"])
def test_nobody_gets_what_another_asked_for(node: Node, trick: str) -> None:
    """Answers in each other's place are none; what was not asked for harms nobody; the server is asked again."""
    with ThreadPoolExecutor() as pool:
        names = [f"{letter}.{trick}.test" for letter in "ab"]
        replies = list(pool.map(lambda name: ask(node.port, name, timeout=8), names))
    for letter, reply in zip("ab", replies, strict=True):
        if trick in ("swapped", "renamed"):
            assert (reply.rcode(), reply.answer) == (dns.rcode.SERVFAIL, [])
        else:
            assert addresses(reply) == [TRUE[letter]]
    assert addresses(ask(node.port, f"c.{trick}.test", timeout=8)) == [TRUE["c"]]
    if trick in ("unasked", "afterwards"):
        for letter in "ab":
            assert addresses(ask(node.port, f"{letter}.{trick}.test")) == [TRUE[letter]]
    assert not [line for line in node.log().splitlines() if "Traceback" in line or "internal error" in line]
