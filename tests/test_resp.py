"""What a server may send: read as hiredis reads it, within bounds, however it is cut and however hostile it is."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Node, RedisServer, Upstream, answer, ask, wait_for
from support.relay import pass_on

from rdnscache.operator.redis_py import client
from rdnscache.redis_url import parse
from rdnscache.store.packing import pack
from rdnscache.store.resp import MORE, Map, Push, Reader

_WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20).map(str.encode)


def _bulk(kind: bytes, text: bytes) -> bytes:
    return kind + b"%d\r\n%b\r\n" % (len(text), text)


_SCALARS = st.one_of(
    st.binary(max_size=300).map(lambda text: _bulk(b"$", text)),
    st.integers(-(10**17), 10**17).map(lambda number: b":%d\r\n" % number),
    _WORDS.map(lambda word: b"+%b\r\n" % word),
    _WORDS.map(lambda word: b"-ERR %b\r\n" % word),
    _WORDS.map(lambda word: _bulk(b"=", b"txt:" + word)),
    st.sampled_from(
        [b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n", b"*0\r\n", b"~0\r\n", b"%0\r\n"]
    ),
)
_REPLIES = st.recursive(
    _SCALARS,
    lambda inner: st.tuples(st.sampled_from([b"*", b"~"]), st.lists(inner, max_size=5)).map(
        lambda told: told[0] + b"%d\r\n" % len(told[1]) + b"".join(told[1])
    ),
    max_leaves=20,
)
_MESSAGES = st.lists(_SCALARS, min_size=1, max_size=4).map(lambda parts: b">%d\r\n" % len(parts) + b"".join(parts))


def _plain(value: Any) -> Any:
    """For comparison: kinds of lists aside from messages are the same, errors are their text."""
    if isinstance(value, hiredis.ReplyError):
        return "error", str(value)
    if isinstance(value, Push | hiredis.PushNotification):
        return "message", [_plain(part) for part in value]
    if isinstance(value, dict):
        return [_plain(part) for pair in value.items() for part in pair]
    if isinstance(value, list | set | frozenset):
        return [_plain(part) for part in value]
    return value


def _all_of(reader: Any, more: object) -> Iterator[Any]:
    while (value := reader.gets()) is not more:
        yield _plain(value)


@pytest.mark.pure
@given(st.lists(st.one_of(_REPLIES, _MESSAGES), max_size=6), st.lists(st.integers(1, 40), min_size=1))
@settings(max_examples=300)
def test_it_reads_what_hiredis_reads(replies: list[bytes], sizes: list[int]) -> None:
    """All replies and messages, in pieces of any size."""
    data = b"".join(replies)
    theirs = hiredis.Reader(notEnoughData=MORE)
    theirs.feed(data)
    reader, found = Reader(), []
    while data:
        size = sizes[len(found) % len(sizes)]
        reader.feed(data[:size])
        data = data[size:]
        found += _all_of(reader, MORE)
    assert found == list(_all_of(theirs, MORE))
    assert not reader.has_data()


@pytest.mark.pure
@given(st.binary(max_size=200))
def test_anything_is_read_or_refused(data: bytes) -> None:
    """Never another exception than ValueError, never an endless loop."""
    reader = Reader()
    reader.feed(data)
    try:
        for _ in range(len(data) + 1):
            if reader.gets() is MORE:
                return
    except ValueError:
        return
    raise AssertionError("more replies than octets")


@pytest.mark.pure
@given(
    st.lists(
        st.one_of(st.binary(max_size=300), st.binary(min_size=2040, max_size=2060), st.text(), st.integers()),
        min_size=1,
        max_size=70,
    )
)
def test_commands_are_written_as_hiredis_writes_them(command: list[bytes | str | int]) -> None:
    """Whatever the number, the kind and the size of their parts."""
    assert pack(command) == hiredis.pack_command(tuple(command))


def test_strings_of_other_kinds() -> None:
    """An error as a string, which hiredis does not know."""
    reader = Reader()
    reader.feed(b"!5\r\nERR x\r\n")
    assert str(reader.gets()) == "ERR x"


@pytest.mark.pure
def test_a_map_is_told_from_a_list() -> None:
    """Its keys and values are in turn."""
    reader = Reader()
    reader.feed(b"%1\r\n$1\r\na\r\n:1\r\n")
    found = reader.gets()
    assert isinstance(found, Map) and found == [b"a", 1]


@pytest.mark.pure
@pytest.mark.parametrize(
    "data",
    [
        b">2000000000\r\n", b"*2000000000\r\n", b"%2000000000\r\n", b"~2000000000\r\n", b"*99999999999999999999\r\n",
        b"*1\r\n" * 20, b"$-2\r\n", b"*-2\r\n", b">-1\r\n", b"$1x\r\n", b"$\r\n", b":\r\n", b":1 \r\n", b":-\r\n",
        b"\r\n", b"+" + b"x" * 5000, b"$1\r\nabc", b"?1\r\n", b"$?\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"#x\r\n",
        b",x\r\n", b"*1\r\n>1\r\n", b"+a\rb\r\n", b"*40000\r\n" * 8, b"*262144\r\n*2\r\n",
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes) -> None:
    """Sizes beyond the bounds when they are announced, and what is no RESP."""
    reader = Reader()
    reader.feed(data)
    with pytest.raises(ValueError, match=r"[a-z]"):
        list(_all_of(reader, MORE))


@pytest.mark.pure
def test_nothing_is_made_for_what_is_announced() -> None:
    """A list of as many elements as may be, and a string of any size, cost nothing before they come."""
    tracemalloc.start()
    try:
        for data in (b"*200000\r\n", b"$900000000000\r\n", b"*3\r\n$1000000\r\n"):
            reader = Reader()
            reader.feed(data)
            assert reader.gets() is MORE
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.pure
@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 5 << 20])
def test_a_string_that_is_too_large_is_passed_over(size: int) -> None:
    """An error stands for it; what comes behind it is read. In pieces, and at once."""
    data = b"*2\r\n" + _bulk(b"$", b"x" * size) + b"$2\r\nok\r\n:7\r\n"
    for piece in (65536, len(data)):
        reader, found = Reader(), []
        for start in range(0, len(data), piece):
            reader.feed(data[start : start + piece])
            while (value := reader.gets()) is not MORE:
                found.append(value)
        (large, small), number = found
        assert (small, number) == (b"ok", 7)
        if size <= 1 << 20:
            assert len(large) == size
        else:
            assert str(large) == f"TOOLARGE a string of {size} octets"


@pytest.mark.pure
def test_strings_of_one_reply_have_a_bound_together() -> None:
    """Five of 1 MB: the last is passed over; the next reply begins anew."""
    large = _bulk(b"$", b"x" * (1 << 20))
    reader = Reader()
    reader.feed(b"*5\r\n" + large * 5 + large)
    first = reader.gets()
    assert [isinstance(part, bytes) for part in first] == [True] * 4 + [False]
    assert isinstance(reader.gets(), bytes)


class Between:
    """Stands between nodes and a real server; sends what it is told to instead of the server's words."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        #: What every new connection is greeted with, in place of a reply.
        self.greeting = b""
        self.accepted = 0
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._clients.append(near)
            if self.greeting:
                self.say(self.greeting, near)
                continue
            far = socket.create_connection(("127.0.0.1", self._server.port))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def say(data: bytes, to: socket.socket) -> None:
        try:
            to.sendall(data)
        except OSError:
            pass

    def say_to_all(self, data: bytes) -> None:
        for each in self._clients:
            self.say(data, each)

    def close(self) -> None:
        self._listener.close()
        for each in self._clients:
            each.close()


@pytest.fixture
def between(redis_server: RedisServer) -> Iterator[Between]:
    found = Between(redis_server)
    yield found
    found.close()


def _memory(node: Node) -> int:
    """Octets that the workers have had at most, by the kernel."""
    peaks = [Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0] for pid in node.children()]
    return sum(map(int, peaks)) << 10


@pytest.mark.parametrize("odd", [b">2000000000\r\n", b"*2000000000\r\n", b"$20000000000000\r\n", b"*1\r\n" * 100, b"?"])
def test_a_node_survives_a_hostile_server(between: Between, odd: bytes) -> None:
    """It lets go of the connection, answers meanwhile, and comes back; nothing is made for what is announced."""
    with Upstream() as upstream, Node([upstream.address], redis=between.url) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        workers, before = node.children(), _memory(node)
        between.say_to_all(odd)
        wait_for(lambda: node.log().count("attached to Redis") >= 2, 10)
        assert ask(node.port, "still.test", tries=3).answer
        assert node.children() == workers
        assert _memory(node) - before < 32 << 20


@pytest.mark.parametrize("odd", [b"*2000000000\r\n", b"%2000000000\r\n", b"$20000000000000\r\n", b"+" + b"x" * 100_000])
def test_a_hostile_server_at_the_first_word(between: Between, odd: bytes) -> None:
    """Before the link takes the connection over, the bounds hold too; and for people's commands."""
    between.greeting = odd
    with Upstream() as upstream, Node([upstream.address], redis=between.url) as node:
        wait_for(lambda: between.accepted >= 3, 10)
        before = _memory(node)
        assert ask(node.port, "still.test", tries=3).answer
        assert _memory(node) - before < 32 << 20
    with pytest.raises(Exception, match=r"(?i)protocol|time|read"), client(parse(between.url), 0.5) as found:
        found.ping()


@pytest.mark.parametrize("size", [10 << 20, 40 << 20])
def test_a_large_value_is_deleted(redis_server: RedisServer, size: int) -> None:
    """A value nobody can use does not stay in the way, not even one so large that Redis cuts off who reads it."""
    name = "rdns:1:{large.test.}:A"
    with Upstream(lambda query, _: answer(query, "1 A 192.0.2.1")) as upstream:
        with Node([upstream.address], redis=redis_server.url) as node, redis_server.client() as redis:
            wait_for(lambda: "attached to Redis" in node.log())
            info = "rcode=NOERROR ttl=300 stale=0 stored=2026-11-23T07:00:00Z from=192.0.2.53 node=n1"
            redis.hset(name, mapping={"info": info, "wire": b"\0" * size})
            redis.expire(name, 300)

            def is_gone() -> bool:
                assert ask(node.port, "large.test", tries=3).answer
                return (redis.hstrlen(name, "wire") or 0) < 1000

            wait_for(is_gone, 10)


#: What a server may say of a cluster's slots that is none of it.
NO_MAPS = [
    7, b"x", [7], [[0, 5]], [[0, 16384, [b"h", 1]]], [[5, 0, [b"h", 1]]], [[0, 5, [7, 1]]], [[0, 5, [b"h", b"x"]]],
    [[0, 10**17, [b"h", 1]]], [[0, 5, [b"h", 0]]], [[b"a", b"b", [b"h", 1]]], [[0, 5, []]],
    [[n, n, [b"h%d" % n, 1]] for n in range(1001)],
]  # fmt: skip


def test_a_map_of_slots_that_makes_no_sense() -> None:
    """Whatever a server says of a cluster's slots: one error, no list as long as it likes, no thousands of links."""
    command = [sys.executable, "-c", _MAPS_OF_SLOTS, repr(NO_MAPS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.splitlines() == ["StoreDown"] * len(NO_MAPS), done.stderr


#: In a process of its own: links are greenlets.
_MAPS_OF_SLOTS = """
import ast, sys
from rdnscache.errors import StoreDown
from rdnscache.redis_url import parse
from rdnscache.metrics import Board
from rdnscache.store.cluster import RedisCluster
from rdnscache.store.contract import Names
from rdnscache.store.flushes import Flushes
from rdnscache.store.server import ServerSettings
from rdnscache.store.servers import LinkSettings

for told in ast.literal_eval(sys.argv[1]):
    settings = ServerSettings(LinkSettings("n", (), 1.0, 1.0), Board.scrap(), lambda: 0.0)
    shards = RedisCluster(parse("redis+cluster://127.0.0.1:1"), Names("rdns"), settings, None, Flushes())
    try:
        shards._apply("127.0.0.1", told)
        print(f"taken: {str(told)[:100]}")
    except StoreDown:
        print("StoreDown")
"""


def test_people_read_the_same(redis_server: RedisServer) -> None:
    """redis-py over our reader: maps, sets, errors, messages and decoding are as they were."""
    with client(parse(redis_server.tcp_url), 2) as found:
        found.hset("h", mapping={"a": "1", "b": "2"})
        found.sadd("s", "x")
        assert found.hgetall("h") == {b"a": b"1", b"b": b"2"}
        assert found.smembers("s") == {b"x"}
        assert found.info("server")["redis_version"]
        with pytest.raises(Exception, match="WRONGTYPE"):
            found.lpush("h", "x")
        with found.pubsub() as ear:
            ear.subscribe("c")
            assert ear.get_message(timeout=2)["type"] == "subscribe"
            found.publish("c", "hello")
            assert wait_for(lambda: ear.get_message(timeout=1))["data"] == b"hello"
