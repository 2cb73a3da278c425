"""What others can make us write into the log: little, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Node, RedisServer, Upstream, ask, free_port, wait_for

from rdnscache import logs

pytestmark = pytest.mark.once


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["text", "json"])
def written(request: pytest.FixtureRequest) -> Iterator[StringIO]:
    """What a logger of ours writes, set up as a node does it."""
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    out = StringIO()
    logs.set_up("info", request.param, "n1")
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)
    yield out
    root.handlers = before


@given(st.text(max_size=3000))
def test_a_cleaned_text_is_short_and_printable(text: str) -> None:
    """Whatever is in it: no control character, no direction mark, no more than a few times the limit."""
    cut = logs.clean(text)
    assert cut.isprintable() and len(cut) < 3 * logs.LONGEST_LINE
    if len(text) <= logs.LONGEST_LINE and text.isprintable():
        assert cut == text


def test_a_line_is_one_line(written: StringIO) -> None:
    """A message with line breaks and terminal escapes cannot forge a second line or colour the first."""
    logging.getLogger("x").warning("name %s", "a\n2026 ERROR forged\x1b[31m" + "b" * 10_000)
    text = written.getvalue()
    assert text.count("\n") == 1 and "\x1b" not in text and len(text) < 800


def test_the_zone_is_in_every_line(written: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the machine is, the time is UTC, and says so."""
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    try:
        logging.getLogger("x").warning("something")
    finally:
        monkeypatch.undo()
        time.tzset()
    (stamp,) = re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written.getvalue())
    assert abs(datetime.fromisoformat(stamp).timestamp() - time.time()) < 60


def test_a_traceback_is_cut(written: StringIO) -> None:
    """An exception's text may hold a whole message of somebody's."""
    try:
        raise ValueError("\x1b]0;mine\x07" * 100_000)
    except ValueError:
        logging.getLogger("x").exception("reading failed")
    text = written.getvalue()
    assert len(text) < 3 * logs.LONGEST_TRACE and "\x1b" not in text and "reading failed" in text


def test_one_place_writes_few_lines_in_a_row() -> None:
    """Then one each pause, with how many it could not; other places are not held back by it."""
    clock = Clock()
    hold_back = logs.HoldBack(clock)

    def record(line: int) -> logging.LogRecord:
        return logging.LogRecord("x", logging.INFO, "place.py", line, "said %d", (7,), None)

    passed = sum(hold_back.filter(record(1)) for _ in range(1000))
    assert passed == logs.BURST
    assert hold_back.filter(record(2))
    clock.now += logs.PAUSE * 1.01
    late = record(1)
    assert hold_back.filter(late) and not hold_back.filter(record(1))
    assert late.getMessage() == f"said 7 (and {1000 - logs.BURST} more from this place)"


def test_paced_lines_are_not_counted_twice() -> None:
    """Of `Throttled` and the query log every line that is due is written."""
    hold_back = logs.HoldBack(Clock())
    for name in ("paced", "fields"):
        record = logging.LogRecord("x", logging.INFO, "place.py", 1, "said", (), None)
        setattr(record, name, {"a": 1})
        assert all(hold_back.filter(record) for _ in range(100))


def test_a_throttled_warning_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing of it is kept that will not be said."""
    throttled = logs.Throttled(logging.getLogger("test"))
    with caplog.at_level("WARNING"):
        throttled.warn("x" * 1_000_000, 100.0)
        throttled.warn("\x1b" * 1_000_000, 100.0)
        throttled.catch_up(200.0)
    assert all(len(message) < 800 and message.isprintable() for message in caplog.messages)
    assert len(caplog.messages) == 2


def test_what_nobody_catches_is_logged(written: StringIO) -> None:
    """In the place of gevent's own printing, which knows no bound."""
    try:
        raise RuntimeError("y" * 100_000)
    except RuntimeError:
        kind, error, trace = sys.exc_info()
        assert kind is not None
        logs.log_uncaught(object(), kind, error, trace)
    text = written.getvalue()
    assert "RuntimeError" in text and "uncaught in object" in text and len(text) < 3 * logs.LONGEST_TRACE


def _control_messages() -> list[bytes]:
    """Things to publish that a worker has something to say about, 1 KB each."""
    filler = b"\x1b[2J\n" * 200
    flush = {"event": "flush", "name": "a.test.", "more": filler.decode()}
    return [
        filler,
        b"1-1 " + filler,
        b"? " + filler,
        b"1-1 " + json.dumps(flush).encode(),
        b"1-1 " + json.dumps(flush | {"name": filler.decode()}).encode(),
    ]


def test_20_mb_of_messages_make_a_small_log(redis_server: RedisServer) -> None:
    """Neither control messages nor wake-ups that nobody can read fill the disk, and the node goes on."""
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        with redis_server.client() as client:
            for message in _control_messages():
                pipe = client.pipeline(transaction=False)
                for _ in range(4_000):
                    pipe.publish("rdns:1:control", message)
                pipe.execute()
        assert ask(node.port, "still.test", timeout=10, tries=3).answer
        log = node.log()
        assert len(log) < 100_000
        assert "\x1b" not in log


def test_bad_requests_make_a_small_log(upstream: Upstream) -> None:
    """What is no HTTP is answered with an error, and written of a few times only."""
    admin = free_port()
    with Node([upstream.address], args=["--admin", f"127.0.0.1:{admin}"]) as node:
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", admin), 5) as sock:
                sock.sendall(b"\x1b[31m" + os.urandom(200).replace(b"\n", b"") + b"\r\n\r\n")
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass
        assert len(node.log()) < 100_000 and "\x1b" not in node.log()
