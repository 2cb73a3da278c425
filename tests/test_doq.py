"""DNS over QUIC: the queries of a pool over streams, in any order, given up, reset, and lost with their connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import all_ended, answered, sent
from support.quic import QuicServer

from rdnscache.endpoint import Endpoint
from rdnscache.errors import SAID, UNREACHABLE
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.pool import Pool

pytest.importorskip("aioquic", reason="aioquic is not installed")

from rdnscache.upstream.doq import over_quic

pytestmark = pytest.mark.once


def told(protocol: Any, stream: int, message: bytes) -> None:
    protocol._quic.send_stream_data(stream, len(message).to_bytes(2, "big") + message, end_stream=True)
    protocol.transmit()


@contextmanager
def pool_to(server: QuicServer) -> Iterator[Pool]:
    (endpoint,) = Endpoint.parse(f"quic://127.0.0.1:{server.port}?ca={server.ca}#dns.example")
    pool = over_quic(endpoint, Limits())
    yield pool
    pool.close()


def test_queries_have_their_own_answers_in_any_order(tmp_path: Path) -> None:
    """ID 0, sizes padded, one stream each; what is asked first may be answered last; connections are shared."""
    seen: list[bytes] = []

    def script(protocol: Any, stream: int, message: bytes) -> None:
        seen.append(message)
        protocol._loop.call_later(0.1 if b"n000000" in message else 0, told, protocol, stream, message)

    with QuicServer(tmp_path, script) as server, pool_to(server) as pool:
        queries = sent(pool, 300)
        all_ended(queries, 20)
        assert answered(queries)
        assert len(seen) == 300
        assert {(message[:2], len(message) % 128) for message in seen} == {(b"\0\0", 0)}
        assert pool.openings <= Limits().connections


def test_a_connection_that_ends_costs_no_answer(tmp_path: Path) -> None:
    """What was on its way is asked again over the next one."""
    ended: list[int] = []

    def script(protocol: Any, stream: int, message: bytes) -> None:
        if len(ended) < 2 and b"n000010" in message:
            ended.append(stream)
            protocol._quic.close(error_code=0)
        else:
            told(protocol, stream, message)

    with QuicServer(tmp_path, script) as server, pool_to(server) as pool:
        queries = sent(pool, 40)
        all_ended(queries, 20)
        assert answered(queries)
        assert len(ended) == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [(b"", UNREACHABLE), (b"\0\5\0\0", UNREACHABLE), (b"\0\4\0\0\0\0\0", UNREACHABLE), (b"\0\4\0\1\0\0", SAID),
     (b"\xff" * 70000, UNREACHABLE), (None, UNREACHABLE)],
)  # fmt: skip
def test_what_is_no_answer_ends_the_query(tmp_path: Path, answer: bytes | None, why: str) -> None:
    """Nothing, half a message, more than one, an ID, more than any message has, a stream that is reset: told once."""

    def script(protocol: Any, stream: int, message: bytes) -> None:
        if answer is None:
            protocol._quic.reset_stream(stream, 1)
        else:
            protocol._quic.send_stream_data(stream, answer, end_stream=True)

    with QuicServer(tmp_path, script) as server, pool_to(server) as pool:
        (query,) = sent(pool, 1)
        all_ended([query], 20)
        assert (query.ends, query.why) == (1, why)
        assert str(query.failure).startswith("quic://127.0.0.1:")


def test_nobody_hears_of_what_was_given_up(tmp_path: Path) -> None:
    """A query that is cancelled ends for nobody, and others go on beside it."""

    def script(protocol: Any, stream: int, message: bytes) -> None:
        if b"n000000" not in message:
            told(protocol, stream, message)

    with QuicServer(tmp_path, script) as server, pool_to(server) as pool:
        silent, other = sent(pool, 2)
        all_ended([other], 20)
        pool.cancel(silent)
        (late,) = sent(pool, 2)[1:]
        all_ended([late], 20)
        assert silent.ends == 0
