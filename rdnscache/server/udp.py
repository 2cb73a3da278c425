"""UDP: a listener reads one socket of this worker in batches, from the hub."""

from __future__ import annotations

import socket
from typing import Any

from gevent import get_hub

from rdnscache import clock, metrics, outcomes
from rdnscache.clients.guard import Guard
from rdnscache.clients.limit import PASS
from rdnscache.clients.proxy import parse_proxy, tls_name
from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import Query, parse_query
from rdnscache.metrics import count_reply, observe
from rdnscache.server.answering import Answering
from rdnscache.server.batch import Batch
from rdnscache.stream import READ

#: The same for the compiled form, where it is a plain number.
_REPLIES = metrics.REPLIES_UDP


class UdpListener:
    """Steps 1 to 4 for datagrams (see docs/architecture.md). An exception does not stop it."""

    def __init__(
        self, sock: socket.socket, wildcard: bool, answering: Answering, guard: Guard, segments: bool = True
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._answering = answering
        self._allowed = guard.allowed
        self._limiter = guard.limiter
        self._proxies = guard.proxies
        self._routes = guard.routes
        self._tls_names = guard.tls_names
        self._batch = Batch(sock, wildcard, segments)
        self._loop = get_hub().loop
        self._watcher = self._loop.io(sock.fileno(), READ)
        self._sending = False
        self._reading = False
        self._held = False
        self._dropped = 0

    def start(self) -> None:
        self._reading = True
        self._go_on()

    def stop(self) -> None:
        """Stop reading; the socket stays open for replies that are due, and for the worker's successor."""
        self._reading = False
        self._go_on()

    def hold(self) -> None:
        """Leave datagrams in the kernel until `release`."""
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
        """Read one batch: answer from L1 where possible, start flights for the rest, return to the hub."""
        if self._held or not self._reading:
            return
        batch, answering = self._batch, self._answering
        now = clock.now()
        count = batch.receive()
        if count == 0:
            return
        hits = plain = 0
        counters, query_log, key, seen = answering.counters, answering.query_log, b"", None
        watched = count - 1 if query_log.due(count) else -1
        self._dropped = 0
        for index in range(count):
            try:
                query = self._admit(index, now, index == watched)
                if query is None:
                    continue
                key, seen = query.key, query
                reply = answering.lookup(query, now)
                if reply is None:
                    reply = answering.take(self, query, batch.client(index), now)
                elif reply:
                    hits += 1
                if reply:  # empty: the client gets none
                    batch.reply(index, reply)
                    if query.rcode == 0:
                        plain += 1
                    else:
                        count_reply(counters, metrics.REPLIES_UDP, query.rcode)
            except Exception:
                answering.unexpected("answering a datagram")
        batch.send_queued()
        counters[metrics.QUERIES_UDP] += count - self._dropped
        if self._dropped:
            counters[metrics.DROPPED] += self._dropped
        if plain:
            counters[metrics.REPLIES_UDP] += plain
        if hits:
            counters[metrics.ANSWERS + outcomes.L1] += hits
            observe(counters, metrics.L1_SECONDS, clock.now() - now, hits)
        if seen is not None:
            query_log.heat(key, seen, count - self._dropped)

    def _admit(self, index: int, now: float, watched: bool) -> Query | None:
        """The query in a datagram; None if it is not to be looked up: then an error reply is queued, if any."""
        batch, answering = self._batch, self._answering
        data, source, stream, asked, named = batch.data(index), batch.source(index), False, b"", b""
        if self._proxies is not None and self._proxies.holds(source):
            proxied = parse_proxy(data)
            if proxied is None:
                answering.counters[metrics.PROXY_ERRORS] += 1
                self._dropped += 1
                return None
            if self._tls_names is not None and proxied.source:
                named = tls_name(data, proxied.end)
            data, source, stream = data[proxied.end :], proxied.source or source, proxied.stream
            asked = proxied.destination
        query = parse_query(data, False)
        if query is None or (query.error and answering.forged(data)):
            self._dropped += 1
            return None
        query.source = source
        if watched:
            query.watch = answering.query_log.watch(query, "udp", source)
        verdict = PASS if self._limiter is None or stream else self._limiter.check(source, now)
        query.group = self._allowed.group(source)
        if named and self._tls_names is not None:
            query.group = self._tls_names.group(named, source, query.group)
        if verdict == PASS and query.group >= 0:
            reply = answering.routed(query, asked, self._routes) if self._routes is not None else None
            if reply is None:
                return query
        else:
            reply = answering.deny(query) if verdict == PASS else answering.limit(query, verdict)
        if reply is not None:
            count_reply(answering.counters, metrics.REPLIES_UDP, query.rcode)
            batch.reply(index, reply)
        return None

    def answer(self, query: Query, client: Any, entry: Entry, layer: int) -> None:
        """Queue a reply; all replies of one turn of the hub are sent together."""
        answering = self._answering
        reply = answering.finish(query, entry, layer)
        if not reply:
            return
        count_reply(answering.counters, _REPLIES, query.rcode)
        self._batch.reply_to(client, reply)
        if not self._sending:
            self._sending = True
            self._loop.run_callback(self._send_queued)

    def _send_queued(self) -> None:
        self._sending = False
        self._batch.send_queued()
