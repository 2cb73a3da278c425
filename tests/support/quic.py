"""A server of DNS over QUIC (RFC 9250) or HTTP/3, with certificates of our own; only where aioquic is installed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .certificates import Authority
from .ports import free_port


class QuicServer:
    """`script(protocol, stream, message)` is called in the server's thread for each complete message.

    With `http`, messages are the bodies of HTTP/3 requests; `protocol.http` answers them, `heads` has their headers.
    """

    def __init__(self, folder: Path, script: Callable[[Any, int, bytes], None], name: str = "dns.example",
                 days: int = 2, http: bool = False) -> None:  # fmt: skip
        self.script, self.port, self.http = script, free_port(), http
        self.heads: list[dict[bytes, bytes]] = []
        self.connections: list[Any] = []
        #: Whether each of them resumed an earlier session.
        self.resumed: list[bool] = []
        self._made = Authority(folder).sign(name, "127.0.0.1", days=days, alone=True)
        #: Its self-signed certificate as a CA, and the pin of its key.
        self.ca, self.pin = self._made.certificate, self._made.pin
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> QuicServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def do(self, action: Callable[[Any], None]) -> None:
        """To every connection, in the server's thread."""
        for each in list(self.connections):
            self._loop.call_soon_threadsafe(lambda each=each: (action(each), each.transmit()))

    def _run(self) -> None:
        from aioquic.asyncio.protocol import QuicConnectionProtocol
        from aioquic.asyncio.server import serve
        from aioquic.h3.connection import H3Connection
        from aioquic.h3.events import HeadersReceived
        from aioquic.quic.configuration import QuicConfiguration
        from aioquic.quic.events import HandshakeCompleted, StreamDataReceived

        server = self

        class Protocol(QuicConnectionProtocol):
            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more)
                self.streams: dict[int, bytes] = {}
                self.http: Any = None

            def quic_event_received(self, event: Any) -> None:
                if server.http and self.http is None:
                    self.http = H3Connection(self._quic)
                if isinstance(event, HandshakeCompleted):
                    server.connections.append(self)
                    server.resumed.append(event.session_resumed)
                if self.http is not None:
                    for each in self.http.handle_event(event):
                        self.requested(each)
                elif isinstance(event, StreamDataReceived):
                    data = self.streams[event.stream_id] = self.streams.get(event.stream_id, b"") + event.data
                    if event.end_stream:
                        server.script(self, event.stream_id, data[2:])
                        self.transmit()

            def requested(self, event: Any) -> None:
                if isinstance(event, HeadersReceived):
                    server.heads.append(dict(event.headers))
                else:
                    self.streams[event.stream_id] = self.streams.get(event.stream_id, b"") + event.data
                if event.stream_ended:
                    server.script(self, event.stream_id, self.streams[event.stream_id])
                    self.transmit()

        asyncio.set_event_loop(self._loop)
        tickets: dict[bytes, Any] = {}
        configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3" if self.http else "doq"])
        configuration.load_cert_chain(self._made.certificate, self._made.key)
        self._loop.run_until_complete(
            serve("127.0.0.1", self.port, configuration=configuration, create_protocol=Protocol,
                  session_ticket_fetcher=lambda label: tickets.pop(label, None),
                  session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket))
        )  # fmt: skip
        self._ready.set()
        self._loop.run_forever()
