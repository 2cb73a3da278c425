"""Queries over HTTP/2 to servers that do to it what a test says: every query ends once, and with its own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from h2.connection import H2Connection
from h2.exceptions import FlowControlError, NoAvailableStreamIDError, ProtocolError
from hpack import Decoder
from hypothesis import example, given
from hypothesis import strategies as st
from support import Asked, StreamServer, all_ended, answered, turning, wait_for
from support.certificates import Authority, Certificate
from support.http2 import Http2Peer, frame, speaking

from rdnscache.address import Address
from rdnscache.errors import SAID
from rdnscache.upstream.certificates import Identity, context
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.http2_frames import MAX_FRAME, Farewell, Frames
from rdnscache.upstream.http2_headers import REMEMBERED, RememberingDecoder, RememberingEncoder
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.tls import Secured
from rdnscache.upstream.transports import over_https

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Certificate]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    return authority, authority.sign("dns.example")


@pytest.fixture
def serving(made: tuple[Authority, Certificate]) -> Callable[..., Any]:
    """A context of a server's pool and the server, for a script and what its settings are."""
    authority, certificate = made

    @contextmanager
    def serve(script: Callable[[Http2Peer], None], **settings: int) -> Iterator[tuple[Pool, StreamServer]]:
        identity = Identity("dns.example", ca=str(authority.file))
        secured = Secured(identity, context(identity, "h2"), "h2")
        with StreamServer(speaking(script, **settings), certificate.server(("h2",))) as server:
            address = Address("127.0.0.1", server.port)
            pool = over_https(address, secured, ("dns.example", "/dns-query"), Limits(connections=1))
            yield pool, server
            pool.close()

    return serve


def _ask(pool: Pool, count: int, seconds: float = 10.0) -> list[Asked]:
    queries = [Asked(f"n{number}", seconds=seconds) for number in range(count)]
    for query in queries:
        pool.send(query)
    return queries


def _failing_once(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> list[str]:
    """A method of h2 fails at its third call from now."""
    calls: list[str] = []
    original = getattr(H2Connection, name)

    def method(self: H2Connection, *args: Any, **more: Any) -> Any:
        if self.config.client_side:
            calls.append(name)
            if len(calls) == 3:
                raise error
        return original(self, *args, **more)

    monkeypatch.setattr(H2Connection, name, method)
    return calls


@pytest.mark.parametrize("name", ["get_next_available_stream_id", "send_headers", "send_data"])
@pytest.mark.parametrize("error", [ProtocolError(), NoAvailableStreamIDError(), FlowControlError(), KeyError(5)])
def test_what_h2_does_not_send_goes_over_another_connection(
    serving: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    """`send` never raises: the connection ends, and its queries are sent again."""
    with serving(Http2Peer.serve) as (pool, server):
        first = _ask(pool, 1)
        all_ended(first)
        _failing_once(monkeypatch, name, error)
        queries = _ask(pool, 5)
        all_ended(queries)
        assert answered(first + queries)
        assert server.connections == 2


def test_goaway_with_half_the_queries_taken(serving: Callable[..., Any]) -> None:
    """Those above the last stream are sent again, and those below get their answers on the same connection."""
    asked: list[list[bytes]] = [[], []]

    def script(peer: Http2Peer) -> None:
        requests = peer.requests(10) if peer.number == 0 else []
        if requests:
            peer.goaway(requests[4][0])
            asked[0] += [query for _, query in requests]
            wait_for(lambda: len(asked[1]) == 5)
            for stream, query in requests[:5]:
                peer.answer(stream, query)
        for stream, query in peer:
            asked[1].append(query)
            peer.answer(stream, query)

    with serving(script) as (pool, _):
        queries = _ask(pool, 10)
        all_ended(queries)
        assert answered(queries)
        assert [query.losses for query in queries] == 5 * [0] + 5 * [1]
        assert asked[0][5:] == asked[1]
        turning(lambda: pool.open == 1)


def test_goaway_with_no_query_taken(serving: Callable[..., Any]) -> None:
    """A server that takes nothing over any connection: each query fails in the end, and connections have pauses."""

    def script(peer: Http2Peer) -> None:
        peer.requests(1)
        peer.goaway(0, 11)
        peer.hear_out()

    with serving(script) as (pool, server):
        queries = _ask(pool, 3)
        all_ended(queries)
        assert all(query.ends == 1 and "ENHANCE_YOUR_CALM" in str(query.failure) for query in queries)
        assert server.connections <= 5


def test_goaway_of_a_server_that_ends_slowly(serving: Callable[..., Any]) -> None:
    """The first GOAWAY takes all that may be on its way: no more queries come, and nothing is sent again."""

    def script(peer: Http2Peer) -> None:
        for stream, query in peer.requests(3):
            peer.goaway((1 << 31) - 1)
            peer.answer(stream, query)
        peer.serve()

    with serving(script) as (pool, server):
        queries = _ask(pool, 3)
        all_ended(queries)
        assert answered(queries)
        assert not any(query.losses for query in queries)
        more = _ask(pool, 3)
        all_ended(more)
        assert answered(more)
        assert server.connections == 2


def test_streams_that_are_reset(serving: Callable[..., Any]) -> None:
    """A refused one has not been looked at and is sent again; any other reset is what the server says."""

    def script(peer: Http2Peer) -> None:
        for number, (stream, query) in enumerate(peer):
            if number in (0, 3):
                peer.http.reset_stream(stream, 7 if number else 2)
                peer.flush()
            else:
                peer.answer(stream, query)

    with serving(script) as (pool, server):
        queries = _ask(pool, 6)
        all_ended(queries)
        assert answered(queries[1:])
        assert queries[0].why == SAID and "reset (INTERNAL_ERROR)" in str(queries[0].failure)
        assert [query.losses for query in queries] == [0, 0, 0, 1, 0, 0]
        assert server.connections == 1


def _wrong(peer: Http2Peer, stream: int, query: bytes) -> None:
    """What the first label of the query says."""
    kind = query[13 : 13 + query[12]].decode()
    if kind == "oversized":
        peer.head(stream)
        peer.body(stream, bytes(70_000))
    elif kind == "html":
        peer.head(stream, kind="text/html")
        peer.body(stream, b"<html>")
    elif kind in ("404", "500"):
        peer.head(stream, int(kind))
        peer.body(stream, b"no")
    elif kind == "empty":
        peer.head(stream)
        peer.body(stream, b"")
    elif kind == "early":
        peer.http.send_headers(stream, [(":status", "413")], end_stream=True)
        peer.flush()
    else:
        peer.answer(stream, query)


WRONG = {
    "oversized": "more than 65,535 octets", "html": "not a DNS message", "404": "HTTP status 404",
    "500": "HTTP status 500", "empty": "not a DNS message", "early": "HTTP status 413",
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_answer_fails_its_query_only(serving: Callable[..., Any], kind: str) -> None:
    """The server has said something of no use; the others on the connection get their answers."""
    with serving(lambda peer: [_wrong(peer, *request) for request in peer]) as (pool, server):
        queries = [Asked("good"), Asked(kind), Asked("fine")]
        for query in queries:
            pool.send(query)
        all_ended(queries)
        assert answered([queries[0], queries[2]])
        assert queries[1].why == SAID and WRONG[kind] in str(queries[1].failure)
        assert queries[1].ends == 1 and server.connections == 1


GARBAGE = {
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "long": frame(0, 0, 1, b"")[:3].replace(b"\0", b"\xff") + bytes(6),
    "stream": frame(1, 4, 2, b"\x88"),
    "push": frame(5, 4, 1, b"\0\0\0\2\x88"),
    "block": frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
    "padding": frame(0, 8, 1, b"\xffab"),
    "window": frame(8, 0, 0, b"\x7f\xff\xff\xff"),
    "headers": b"".join((frame(1, 0, 1, b"\x88"), *(frame(9, 0, 1, bytes(1000)) for _ in range(70)))),
    "goaway": frame(7, 0, 0, b"abc"),
    "data": frame(0, 1, 1, b"abc"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_not_http2_ends_the_connection(serving: Callable[..., Any], kind: str) -> None:
    """At once, and its queries are sent again."""

    def script(peer: Http2Peer) -> None:
        if peer.number == 0:
            peer.requests(3)
            peer.raw(GARBAGE[kind])
            peer.hear_out()
        peer.serve()

    with serving(script) as (pool, server):
        queries = _ask(pool, 3)
        all_ended(queries, 3)
        assert answered(queries)
        assert server.connections == 2


def test_headers_that_are_too_large(serving: Callable[..., Any]) -> None:
    """Nobody takes them: their connection ends, and what is sent again comes to its end."""

    def script(peer: Http2Peer) -> None:
        for stream, _ in peer:
            peer.head(stream, x_much=20_000 * "a")
            peer.flush()

    with serving(script) as (pool, _):
        queries = _ask(pool, 1)
        all_ended(queries)
        assert queries[0].why == SAID and "header" in str(queries[0].failure)


def test_a_server_that_closes_amid_an_answer(serving: Callable[..., Any]) -> None:
    """Half an answer is none: it is asked for again."""
    queries: list[Asked] = []

    def script(peer: Http2Peer) -> None:
        if peer.number == 0:
            (first, query), (second, other) = peer.requests(2)
            peer.answer(first, query)
            peer.head(second)
            peer.body(second, other, end=False)
            wait_for(lambda: queries and queries[0].ends)  # an end by RST could take the first answer with it
            return
        peer.serve()

    with serving(script) as (pool, server):
        queries += _ask(pool, 2)
        all_ended(queries)
        assert answered(queries)
        assert [query.losses for query in queries] == [0, 1]
        assert server.connections == 2


def test_cancelled_queries_do_not_clog_the_connection(serving: Callable[..., Any]) -> None:
    """Streams that are never answered are reset when too many are taken, and their answers are nobody's."""
    peers: list[Http2Peer] = []

    def script(peer: Http2Peer) -> None:
        peers.append(peer)
        for stream, query in peer:
            if b"good" in query:
                peer.answer(stream, query)

    with serving(script, max_concurrent_streams=8) as (pool, server):
        for turn in range(20):
            good, silent = Asked("good"), [Asked(f"s{turn}"), Asked(f"t{turn}")]
            for query in (*silent, good):
                pool.send(query)
            all_ended([good])
            for query in silent:
                pool.cancel(query)
            assert answered([good])
        assert not any(query.ends for query in silent)
        assert server.connections == 1
        turning(lambda: len(peers[0].resets) >= 30)


def test_many_large_answers(serving: Callable[..., Any]) -> None:
    """They are more than the window of the connection, which is opened again and again."""

    def script(peer: Http2Peer) -> None:
        for stream, query in peer:
            peer.answer(stream, query, bytes(60_000))

    with serving(script) as (pool, server):
        queries = _ask(pool, 60)
        all_ended(queries, 10)
        assert answered(queries)
        assert server.connections == 1


def test_large_answers_to_cancelled_queries(serving: Callable[..., Any]) -> None:
    """What comes for nobody counts against the window, too."""
    with serving(lambda peer: [_wrong(peer, *request) for request in peer]) as (pool, server):
        for _ in range(30):
            wrong = Asked("oversized")
            pool.send(wrong)
            all_ended([wrong])
            assert wrong.why == SAID
        good = _ask(pool, 1)
        all_ended(good)
        assert answered(good)
        assert server.connections == 1


def test_a_server_with_little_room(serving: Callable[..., Any]) -> None:
    """Queries that do not fit its window go in pieces, when it lets them."""
    with serving(Http2Peer.serve, initial_window_size=50) as (pool, server):
        queries = _ask(pool, 200)
        all_ended(queries)
        assert answered(queries)
        assert server.connections == 1


FRAME = st.builds(
    frame, st.sampled_from([0, 1, 3, 4, 6, 8, 9, 200]), st.integers(0, 255), st.integers(0, 2**31 - 1),
    st.binary(max_size=300),
)  # fmt: skip


def _octets(piece: bytes | Farewell) -> bytes:
    assert isinstance(piece, bytes)
    return piece


GOAWAY = st.builds(Farewell, st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1))


@given(st.lists(st.one_of(FRAME, GOAWAY), max_size=20), st.integers(1, 5), st.data())
def test_frames_in_whatever_pieces_they_come(whole: list[bytes | Farewell], most: int, data: st.DataObject) -> None:
    """All of them come out whole and in order, GOAWAY by itself, and what is not whole waits."""
    sent = b"".join(
        frame(7, 0, 0, each.last.to_bytes(4, "big") + each.code.to_bytes(4, "big") + b"why")
        if isinstance(each, Farewell) else each for each in whole
    )  # fmt: skip
    frames = Frames()
    got: list[bytes | Farewell] = [b""]
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        frames.feed(sent[:size])
        sent = sent[size:]
        while (piece := frames.next(most)) is not None:
            if isinstance(piece, Farewell):
                got += [piece, b""]
            else:
                got[-1] = _octets(got[-1]) + piece
    expected: list[bytes | Farewell] = [b""]
    for each in whole:
        if isinstance(each, Farewell):
            expected += [each, b""]
        else:
            expected[-1] = _octets(expected[-1]) + each
    assert got == expected


@given(st.integers(MAX_FRAME + 1, 2**24 - 1))
def test_a_frame_that_is_too_long(size: int) -> None:
    """It is refused by its first octets, behind what came before."""
    frames, before = Frames(), frame(6, 0, 0, bytes(8))
    frames.feed(before + size.to_bytes(3, "big") + bytes(6))
    assert frames.next(9) == before
    with pytest.raises(ValueError, match=str(size)):
        frames.next(9)


FIELD = st.tuples(st.sampled_from([b":method", b"accept", b"x-one", b"x-two"]), st.sampled_from([b"POST", b"1", b"23"]))


@example([[(b":method", b"1")], 0, [(b":method", b"1")], 40, 40, [(b":method", b"1"), (b":method", b"1")]])
@given(st.lists(st.one_of(st.lists(FIELD, min_size=1, max_size=6), st.sampled_from([0, 40, 80, 4096])), max_size=30))
def test_remembered_headers_are_those_that_were_meant(said: list[list[tuple[bytes, bytes]] | int]) -> None:
    """Whatever comes between them, and however large the server's table is."""
    encoder, decoder = RememberingEncoder(), Decoder()
    for each in said:
        if isinstance(each, int):
            encoder.header_table_size = each
        else:
            assert list(decoder.decode(encoder.encode(each), raw=True)) == each


@given(st.lists(st.one_of(st.lists(FIELD, min_size=1, max_size=6), st.sampled_from([0, 40, 80, 4096])), max_size=30))
def test_remembered_blocks_are_read_as_if_they_were_new(said: list[list[tuple[bytes, bytes]] | int]) -> None:
    """Whatever a server puts into its table in between; each is said twice, so that the second may be known."""
    encoder, decoder = RememberingEncoder(), RememberingDecoder()
    for each in said:
        if isinstance(each, int):
            encoder.header_table_size = each
        else:
            for _ in range(2):
                assert list(decoder.decode(encoder.encode(each), raw=True)) == each


def test_few_blocks_are_remembered() -> None:
    """A server that never says the same twice does not fill the memory."""
    decoder = RememberingDecoder()
    for number in range(10 * REMEMBERED):
        value = b"%d" % number
        block = b"\x0f\x0d" + bytes((len(value),)) + value  # content-length, not to be put into the table
        assert list(decoder.decode(block, raw=True)) == [(b"content-length", value)]
    assert len(decoder._known) <= REMEMBERED
