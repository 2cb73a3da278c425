"""Queries over TCP: pipelined, answered in any order, sent again when a connection ends, bounded in every way."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dns.edns
import dns.message
import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Asked, Peer, StreamServer, all_ended, answered, answering, free_port, turning

from rdnscache.address import Address
from rdnscache.dns.edns import keepalive
from rdnscache.errors import LOCAL, SAID, SILENT, UNREACHABLE
from rdnscache.stream import Stream
from rdnscache.upstream import channel
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.framing import Frames, framed
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.transports import over_tcp

pytestmark = pytest.mark.once


@contextmanager
def pool_to(port: int, **limits: Any) -> Iterator[Pool]:
    pool = over_tcp(Address("127.0.0.1", port), replace(Limits(), **limits))
    try:
        yield pool
    finally:
        pool.close()
        gevent.sleep(0)


def sent(pool: Pool, count: int = 1, **options: Any) -> list[Asked]:
    queries = [Asked(f"n{number}", **options) for number in range(count)]
    for query in queries:
        pool.send(query)
    return queries


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 200), max_size=40))
@settings(max_examples=300)
def test_messages_come_out_as_they_went_in(messages: list[bytes], sizes: list[int]) -> None:
    """Whatever pieces the octets come in, the messages come out whole and in order, and nothing else."""
    data, frames, out = b"".join(map(framed, messages)), Frames(), []
    while data:
        size = sizes.pop() if sizes else len(data)
        frames.feed(data[:size])
        data = data[size:]
        while (message := frames.next()) is not None:
            out.append(message)
    assert out == messages


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"\0\0\x81\x80\0\0\0\0\0\0\0\1\0\0\x29" + rest))
@settings(max_examples=300)
def test_a_keepalive_is_read_out_of_anything(data: bytes) -> None:
    """Whatever a server sends, reading its idle timeout raises nothing."""
    seconds = keepalive(data)
    assert seconds is None or 0 <= seconds <= 6553.5


def test_an_idle_timeout_is_read_as_it_was_meant() -> None:
    """Beside other options, from a reply that dnspython has made."""
    reply = dns.message.make_response(dns.message.make_query("a.test", "A", use_edns=0))
    told: list[dns.edns.Option] = [dns.edns.GenericOption(dns.edns.OptionType.make(11), b"\1\x2c")]
    told.insert(0, dns.edns.GenericOption(dns.edns.OptionType.make(10), bytes(8)))
    reply.use_edns(0, options=told)
    assert keepalive(reply.to_wire()) == 30
    reply.use_edns(0)
    assert keepalive(reply.to_wire()) is None


def test_many_queries_share_one_connection_and_one_write() -> None:
    """All queries of a turn of the hub leave together, and no two have the same ID."""
    came: list[bytes] = []

    def script(peer: Peer) -> None:
        came.append(peer.sock.recv(65536, socket.MSG_PEEK))
        peer.serve()

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool, 100)
        all_ended(queries)
        assert answered(queries)
        assert (server.connections, pool.openings, pool.open) == (1, 1, 1)
        assert len({query.data[:2] for query in queries if query.data}) == 100
        assert len(came[0]) > 100 * 30


def test_answers_come_in_any_order() -> None:
    """The last query's answer first: each finds the one who asked."""

    def script(peer: Peer) -> None:
        for query in reversed(peer.queries(50)):
            peer.answer(query)
        peer.serve()

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool, 50)
        all_ended(queries)
        assert answered(queries)


def test_answers_octet_by_octet() -> None:
    """Each in a segment of its own, length and all."""

    def script(peer: Peer) -> None:
        for query in peer.queries(3):
            peer.drip(answering(query))
        peer.serve()

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool, 3)
        all_ended(queries)
        assert answered(queries)


def test_a_server_that_closes_after_each_answer_costs_retries_only() -> None:
    """All are answered, and after the first losses each has a connection of its own, a few at a time."""
    most, now = 0, 0
    lock = threading.Lock()

    def script(peer: Peer) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        query = peer.query()
        if query is not None:
            peer.answer(query)
        with lock:
            now -= 1

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool, 200)
        all_ended(queries, 20)
        assert answered(queries)
        assert server.connections <= 200 + 20
        assert most <= Limits().short_connections
        before = server.connections
        more = sent(pool, 50)
        all_ended(more, 20)
        assert answered(more)
        assert server.connections == before + 50


def test_a_server_that_closes_after_some_answers() -> None:
    """It is given as many queries on each connection as it takes."""

    def script(peer: Peer) -> None:
        for query in peer.queries(10):
            peer.answer(query)

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool, 300)
        all_ended(queries, 20)
        assert answered(queries)
        assert server.connections <= 30 + 8


@pytest.mark.parametrize("way", ["reset", "close", "half"])
def test_a_connection_that_ends_midway_costs_a_retry(way: str) -> None:
    """By RST, by FIN, or in the middle of an answer: what was on its way is sent again, and answered once."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            for query in peer.queries(40)[:20]:
                peer.answer(query)
            if way == "half":
                peer.sock.sendall(b"\0\x40" + b"x" * 20)
            if way == "reset":
                peer.reset()
        else:
            peer.serve()

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool, 40)
        all_ended(queries)
        assert answered(queries)
        assert server.connections == 2


def test_a_reset_before_any_answer_costs_a_retry() -> None:
    """Once is an accident."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.queries(5)
            peer.reset()
        else:
            peer.serve()

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool, 5)
        all_ended(queries)
        assert answered(queries)


def test_a_server_that_never_answers_but_closes_is_given_up() -> None:
    """After a few connections its queries fail, and it is left alone for a while."""
    with StreamServer(lambda peer: None) as server, pool_to(server.port) as pool:
        queries = sent(pool, 5)
        all_ended(queries)
        assert {query.why for query in queries} == {UNREACHABLE}
        assert server.connections <= 4
        all_ended(sent(pool, 5))
        assert server.connections <= 5


def test_refused_connections_fail_at_once_and_are_not_tried_on_and_on() -> None:
    """Each query hears of it; attempts to connect are spaced out; and when the server is back it is used again."""
    port = free_port()
    with pool_to(port) as pool:
        started = time.monotonic()
        while time.monotonic() < started + 1:
            queries = sent(pool, 3)
            all_ended(queries)
            assert {query.why for query in queries} == {UNREACHABLE}
            assert "refused" in str(queries[0].failure)
        assert pool.openings <= 7
        sock = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=lambda: Peer(sock.accept()[0], 0).serve(), daemon=True).start()

        def works() -> bool:
            queries = sent(pool, 3)
            all_ended(queries)
            return answered(queries)

        turning(works)
        sock.close()


def test_what_this_host_lacks_is_no_fault_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor, and without a way to the address, LOCAL is the reason."""

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with StreamServer(lambda peer: peer.serve()) as server, pool_to(server.port) as pool:
        with monkeypatch.context() as patched:
            patched.setattr(channel, "RawSocket", full)
            queries = sent(pool, 3)
            all_ended(queries)
        assert {query.why for query in queries} == {LOCAL}
        queries = sent(pool, 3)
        all_ended(queries)
        assert answered(queries)
    pool = over_tcp(Address("255.255.255.255", 53), Limits())
    queries = sent(pool)
    all_ended(queries)
    assert queries[0].why == LOCAL
    pool.close()


@pytest.mark.parametrize("garbage", [b"\0\3abc", b"\0\0", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_garbage_is_said_by_the_server(garbage: bytes) -> None:
    """What is not DNS ends a connection; when every connection brings it, the queries fail with SAID or in time."""

    def script(peer: Peer) -> None:
        peer.query()
        peer.sock.sendall(garbage)
        peer.query()

    with StreamServer(script) as server, pool_to(server.port, patience=0.3) as pool:
        queries = sent(pool)
        all_ended(queries)
        assert queries[0].why in ((SAID,) if garbage[0] == 0 else (SAID, SILENT))
        assert server.connections <= 4


def test_answers_nobody_asked_for_end_a_connection() -> None:
    """A few are passed over, hundreds are not; and no query is answered by one."""

    def script(peer: Peer) -> None:
        query = peer.query()
        if query is not None:
            wrong = bytes((query[0] ^ 1,)) + query[1:]
            for _ in range(10 if peer.number else 300):
                peer.answer(wrong)
            if peer.number:
                peer.answer(query)
                peer.serve()
            peer.query()

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries = sent(pool)
        all_ended(queries)
        assert answered(queries)
        assert server.connections == 2


def test_a_silent_connection_is_given_up_and_reopened() -> None:
    """Half open, as after a reboot behind a firewall: what waits on it goes over another one."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.hear_out()
        peer.serve()

    with StreamServer(script) as server, pool_to(server.port, patience=0.5, connections=1) as pool:
        queries = sent(pool, 10)
        all_ended(queries)
        assert answered(queries)
        assert server.connections == 2


def test_a_query_given_up_in_silence_sends_others_elsewhere() -> None:
    """After it, new queries do not go where nothing came from, long before that connection is given up."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.hear_out()
        peer.serve()

    with StreamServer(script) as server, pool_to(server.port, patience=60.0) as pool:
        (lost,) = sent(pool)
        turning(lambda: time.monotonic() > lost.sent_at + 0.4)
        pool.cancel(lost)
        first = sent(pool)
        turning(lambda: pool.open == 2)
        queries = sent(pool, 10)
        all_ended(queries)
        assert answered(queries)
        assert not lost.ends
        assert not first[0].ends


def test_silence_from_the_beginning_fails_in_time() -> None:
    """A server that takes connections and queries and says nothing: the queries fail with SILENT."""
    with StreamServer(lambda peer: peer.hear_out()) as server:
        with pool_to(server.port, patience=0.2) as pool:
            queries = sent(pool, 3, seconds=0.1)
            all_ended(queries)
            assert {query.why for query in queries} == {SILENT}


def test_a_cancelled_query_hears_nothing_and_its_id_is_not_used_again() -> None:
    """Its late answer is nobody's, even when many others have been asked meanwhile."""
    gate = threading.Event()

    def script(peer: Peer) -> None:
        late = peer.queries(10)
        gate.wait(10)
        while (query := peer.query()) is not None:
            assert query[:2] not in {each[:2] for each in late}
            peer.answer(query)
            if late:
                peer.answer(late.pop())

    with StreamServer(script) as server, pool_to(server.port, connections=1) as pool:
        lost = sent(pool, 10)
        turning(lambda: pool.open)
        gevent.sleep(0)
        for query in lost:
            pool.cancel(query)
        gate.set()
        queries = sent(pool, 400)
        all_ended(queries)
        assert answered(queries)
        assert not any(query.ends for query in lost)
        assert server.connections == 1


def test_queries_can_be_cancelled_at_any_time() -> None:
    """While they wait for a connection, while they are on their way, when they have failed: nobody hears twice."""
    with StreamServer(lambda peer: peer.serve()) as server, pool_to(server.port) as pool:
        early = sent(pool, 20)
        for query in early[::2]:
            pool.cancel(query)
        all_ended(early[1::2])
        done = sent(pool, 5)
        all_ended(done)
        for query in done:
            pool.cancel(query)
        assert answered(done)
        assert not any(query.ends for query in early[::2])
    with pool_to(free_port()) as pool:
        (refused,) = sent(pool)
        all_ended([refused])
        pool.cancel(refused)
        (refused,) = sent(pool)
        pool.cancel(refused)
        gevent.sleep(0.01)
        assert not refused.ends


def test_names_that_are_never_answered_do_not_fill_a_connection_up() -> None:
    """Their numbers stay taken; so before they are half of all, another connection takes over."""

    def script(peer: Peer) -> None:
        while (query := peer.query()) is not None:
            if b"never" not in query:
                peer.answer(query)

    with StreamServer(script) as server, pool_to(server.port, queries=16, connections=1) as pool:
        for _ in range(10):
            lost = [Asked(f"never{number}") for number in range(4)]
            for query in lost:
                pool.send(query)
            queries = sent(pool, 4)
            all_ended(queries)
            assert answered(queries)
            for query in lost:
                pool.cancel(query)
        assert 3 <= server.connections <= 6
        turning(lambda: len(pool.connections) <= 2)


def test_queries_beyond_all_bounds_fail_and_the_others_do_not() -> None:
    """Those on their way and those that wait are bounded; what is beyond fails at once, and is no server's fault."""
    gate = threading.Event()

    def script(peer: Peer) -> None:
        gate.wait(10)
        peer.serve()

    with StreamServer(script) as server, pool_to(server.port, queries=10, waiting=50, connections=2) as pool:
        first = sent(pool, 20)
        turning(lambda: pool.open == 2)
        turning(lambda: all(query.carrier is not pool for query in first))
        queries = sent(pool, 80)
        turning(lambda: sum(query.ends for query in queries) == 30)
        assert {query.why for query in queries if query.ends} == {LOCAL}
        gate.set()
        all_ended(first + queries)
        assert answered(first)
        assert sum(query.data is not None for query in queries) == 50
        assert server.connections == 2


def test_an_idle_connection_is_closed_and_opened_again() -> None:
    """After its idle time; the next query opens one."""
    with StreamServer(lambda peer: peer.serve()) as server, pool_to(server.port, idle=0.2) as pool:
        for count in (1, 2, 3):
            queries = sent(pool, 3)
            all_ended(queries)
            assert answered(queries)
            assert server.connections == count
            turning(lambda: not pool.connections)


@pytest.mark.parametrize("seconds", [0, 0.1, 30])
def test_the_idle_time_is_the_servers(seconds: float) -> None:
    """We ask for it in the first query of a connection, and heed the reply (RFC 7828); 0 closes at once."""
    options: list[list[int]] = []

    def script(peer: Peer) -> None:
        while (data := peer.query()) is not None:
            query = dns.message.from_wire(data)
            options.append([int(option.otype) for option in query.options])
            reply = dns.message.make_response(query)
            told = dns.edns.GenericOption(dns.edns.OptionType.make(11), int(10 * seconds).to_bytes(2, "big"))
            reply.use_edns(0, options=[told] if options[-1] else [])
            peer.send(reply.to_wire())

    with StreamServer(script) as server, pool_to(server.port, idle=0.3) as pool:
        queries = sent(pool, 3)
        all_ended(queries)
        assert options == [[11], [], []]
        connection = pool.connections[0] if pool.connections else None
        if seconds == 30:
            assert connection is not None
            assert connection.idle == 27
        elif seconds:
            turning(lambda: not pool.connections)
        else:
            assert connection is None
        queries = sent(pool)
        all_ended(queries)
        assert queries[0].data
        assert server.connections == (1 if seconds == 30 else 2)


def test_a_server_that_reads_nothing_costs_little_memory() -> None:
    """What it does not take is bounded, and the queries go elsewhere or fail."""

    def script(peer: Peer) -> None:
        time.sleep(2)

    with StreamServer(script) as server, pool_to(server.port, queries=100_000, waiting=100_000, patience=0.5) as pool:
        turning(lambda: sent(pool) and pool.open)
        queries = sent(pool, 60_000, seconds=0.2)
        all_ended(queries, 20)
        assert {query.why for query in queries} <= {UNREACHABLE, LOCAL, SILENT}


def test_closing_ends_everything_once() -> None:
    """On its way, waiting or sent afterwards: each query fails once, and no connection is left."""
    with StreamServer(lambda peer: peer.hear_out()) as server, pool_to(server.port, queries=10) as pool:
        queries = sent(pool, 50)
        turning(lambda: pool.open)
        pool.close()
        queries += sent(pool, 5)
        all_ended(queries)
        assert {(query.ends, query.why) for query in queries} == {(1, LOCAL)}
        assert not pool.connections


def test_replies_in_a_burst_do_not_hold_up_the_hub() -> None:
    """While thousands are handed out slowly, others get their turn every few milliseconds."""

    class Slow(Asked):
        def arrived(self, data: bytes) -> None:
            super().arrived(data)
            until = time.perf_counter() + 0.0005
            while time.perf_counter() < until:
                pass

    def script(peer: Peer) -> None:
        queries = peer.queries(400)
        peer.sock.sendall(b"".join(framed(answering(query)) for query in queries))
        peer.serve()

    with StreamServer(script) as server, pool_to(server.port) as pool:
        queries: list[Asked] = [Slow(f"n{number}") for number in range(400)]
        for query in queries:
            pool.send(query)
        turns = 0
        while not all(query.ends for query in queries):
            gevent.sleep(0)
            turns += any(query.ends for query in queries)
        assert turns >= 20
        assert answered(queries)


@pytest.mark.parametrize("paused", [False, True])
def test_what_came_before_a_reset_is_read(paused: bool) -> None:
    """Whoever writes first finds out about the reset, but the answers that had come by then count.

    So they do where reading has paused at that moment, since others have their turn.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        came: list[bytes | str] = []
        stream = Stream(ours, came.append, came.append, 1 << 16)
        theirs.sendall(b"an answer")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        if paused:
            stream.pause()
        stream.write(b"a query")
        stream.write(b"another")
        stream.resume()
        with gevent.Timeout(5):
            while len(came) < 2:
                gevent.sleep(0.01)
        stream.close()
        assert came[0] == b"an answer"
        assert isinstance(came[1], str)
