"""An upstream over QUIC: `python -m bench.quic_upstream quic|h3 PORT CERTIFICATE KEY`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

from bench.upstream import reply

HEAD = [(b":status", b"200"), (b"content-type", b"application/dns-message")]


class Quic(QuicConnectionProtocol):
    """Each query is on a stream of its own, after its length (RFC 9250); it may arrive in pieces."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.came: dict[int, bytes] = {}

    def quic_event_received(self, event: Any) -> None:
        if not isinstance(event, StreamDataReceived):
            return
        data = self.came.pop(event.stream_id, b"") + event.data
        if not event.end_stream:
            self.came[event.stream_id] = data
        elif len(data) > 2:
            answer = reply(data[2:])
            self._quic.send_stream_data(event.stream_id, len(answer).to_bytes(2, "big") + answer, end_stream=True)
            self.transmit()


class Http(QuicConnectionProtocol):
    """Each query is the body of a request, which arrives in one piece."""

    http: H3Connection | None = None

    def quic_event_received(self, event: Any) -> None:
        if self.http is None:
            self.http = H3Connection(self._quic)
        for each in self.http.handle_event(event):
            if isinstance(each, DataReceived) and each.data:
                self.http.send_headers(each.stream_id, HEAD)
                self.http.send_data(each.stream_id, reply(each.data), end_stream=True)
                self.transmit()


async def run(scheme: str, port: int, certificate: str, key: str) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["doq" if scheme == "quic" else "h3"])
    configuration.load_cert_chain(certificate, key)
    await serve("127.0.0.1", port, configuration=configuration, create_protocol=Quic if scheme == "quic" else Http)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
