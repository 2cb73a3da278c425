"""UDP: one listener is one socket of this worker's slot, read in batches from the hub."""

from __future__ import annotations

import socket
import time
from typing import Any

from gevent import get_hub

from rdnscache import metrics
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import Query, parse_query
from rdnscache.server.batch import Batch
from rdnscache.server.desk import Desk, compose_landed
from rdnscache.stream import READ


class UdpListener:
    """Steps 1 to 4 for datagrams. Nothing that raises stops the reading."""

    def __init__(self, sock: socket.socket, wildcard: bool, desk: Desk, inner: bool = False) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._desk = desk
        #: Whether those who ask are workers of this node: their queries have been counted already.
        self._inner = inner
        self._batch = Batch(sock, wildcard)
        self._loop = get_hub().loop
        self._watcher = self._loop.io(sock.fileno(), READ)
        self._flushing = False
        self._reading = False
        self._held = False

    def start(self) -> None:
        self._reading = True
        self._go_on()

    def stop(self) -> None:
        """Read no more; the socket stays open for those who wait, and for the next worker of this slot."""
        self._reading = False
        self._go_on()

    def hold(self) -> None:
        """Leave the datagrams in the kernel for a moment."""
        self._held = True
        self._go_on()

    def release(self) -> None:
        self._held = False
        self._go_on()

    def _go_on(self) -> None:
        if self._reading and not self._held:
            self._watcher.start(self.drain)
        else:
            self._watcher.stop()

    def drain(self) -> None:
        """Take one batch: answer what L1 holds at once, start flights for the rest, return to the hub."""
        if self._held or not self._reading:
            return
        batch, desk = self._batch, self._desk
        now = time.monotonic()
        count = batch.receive()
        hits = dropped = 0
        for index in range(count):
            try:
                query = parse_query(batch.data(index), False)
                if query is None:
                    dropped += 1
                    continue
                reply = desk.lookup(query, now)
                if reply is not None:
                    hits += 1
                else:
                    reply = desk.take(self, query, batch.client(index))
                if reply is not None:
                    batch.reply(index, reply)
            except Exception:
                desk.unexpected("answering a datagram")
        batch.flush()
        if self._inner:
            return
        counters = desk.counters
        counters[metrics.QUERIES_UDP] += count - dropped
        counters[metrics.L1] += hits
        counters[metrics.DROPPED] += dropped

    def answer(self, query: Query, client: Any, entry: Entry | None) -> None:
        """Queue a reply; what lands in one turn of the hub leaves together."""
        self._batch.reply_to(client, compose_landed(query, entry, time.monotonic()))
        if not self._flushing:
            self._flushing = True
            self._loop.run_callback(self.flush)

    def flush(self) -> None:
        self._flushing = False
        self._batch.flush()
