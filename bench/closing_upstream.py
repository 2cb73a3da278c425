"""An upstream over TLS that ends each connection after one answer: `python -m bench.closing_upstream PORT CERT KEY`."""

from __future__ import annotations

import asyncio
import ssl
import sys

from bench.upstream import reply


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = reply(await reader.readexactly(size))
        writer.write(len(answer).to_bytes(2, "big") + answer)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def run(port: int, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.num_tickets = 0  # no session resumption
    server = await asyncio.start_server(serve_one, "127.0.0.1", port, ssl=context, backlog=500)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
