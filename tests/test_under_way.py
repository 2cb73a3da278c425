"""Flushes that are proved while their entries are still in Redis: nobody answers with these, whoever comes when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support import Changing, ChaosRelay, Node, RedisServer, Upstream, addresses, answer_of, ask, command, wait_for
from support.redis_cluster import RedisCluster, running_cluster
from support.servers import KINDS

from rdnscache.dns.names import parse_name
from rdnscache.dns.question import question_key
from rdnscache.operator.ear import Ear
from rdnscache.operator.entries import Browser
from rdnscache.operator.flush import Flush
from rdnscache.operator.members import Members
from rdnscache.store.scope import Scope
from rdnscache.store.steering import MOST_UNDER_WAY
from rdnscache.store.under_way import LINGER, SETTLED, UnderWay, read_under_way

OLD, NEW = "192.0.2.1", "192.0.2.2"
ALL = Scope()
ZONE = Scope(zone=parse_name("z.test"))
INFO = b"rcode=NOERROR ttl=60 stale=60 stored=2026-11-27T00:00:00Z from=x node=n1"


def key(name: str) -> bytes:
    return question_key(parse_name(name), 1, 1, 0)


def begin(url: str, scope: Scope) -> str:
    """Announce a flush as commands do, and leave its entries where they are."""
    browser = Browser(url, "rdns")
    return Members(browser.redis, browser.names).begin_flush(scope)[0]


def run(url: str, *words: str) -> str:
    done = command("cache", *words, "--redis", url)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.pure
class TestUnderWay:
    def test_what_was_stored_before_is_refused(self) -> None:
        """By the event its node had seen, as numbers; without one it is older than everything."""
        known = UnderWay()
        assert not known
        known.begin(b"100-1", ZONE)
        for name, seen, refused in (
            ("a.z.test", b"", True), ("a.z.test", b" seen=99-5", True), ("a.z.test", b" seen=100-0", True),
            ("a.z.test", b" seen=100-1", False), ("a.z.test", b" seen=1000-0", False), ("a.test", b"", False),
        ):  # fmt: skip
            assert known.refuses(key(name), 0, INFO + seen) is refused, (name, seen)

    def test_an_rcode_is_told_apart(self) -> None:
        """Of a flush of one RCODE all others stand."""
        known = UnderWay()
        known.begin(b"5-0", Scope(rcode=3))
        assert (known.refuses(key("a.test"), 3, INFO), known.refuses(key("a.test"), 0, INFO)) == (True, False)

    def test_with_too_many_everything_before_the_newest_is_gone(self) -> None:
        """There is a bound, and nothing comes back for it."""
        known = UnderWay()
        for number in range(1, MOST_UNDER_WAY + 2):
            known.begin(b"%d-0" % number, ZONE)
        assert len(list(known)) == 1 and not known.end(b"1-0")
        newest = b" seen=%d-0" % (MOST_UNDER_WAY + 1)
        assert known.refuses(key("other.test"), 0, INFO + b" seen=3-0")
        assert not known.refuses(key("other.test"), 0, INFO + newest)

    def test_it_counts_for_a_while_when_it_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was read before it was deleted may come late, where messages and replies have no order."""
        known, now = UnderWay(), time.monotonic()
        known.begin(b"5-0", ALL)
        assert known.end(b"5-0") and not known.end(b"6-0")
        assert known.refuses(key("a.test"), 0, INFO)
        monkeypatch.setattr(time, "monotonic", lambda: now + LINGER + 1)
        assert not known.refuses(key("a.test"), 0, INFO) and not known

    def test_an_id_from_the_future_is_not_believed(self) -> None:
        """The stream has no such event: what has been stored since is not refused for it."""
        known = UnderWay()
        known.begin(b"9999999999999999-0", ALL)
        known.begin(b"12-0", ALL)
        known.cap([b"9999999999999999-0"], b"10-0")
        assert known.refuses(key("a.test"), 0, INFO + b" seen=11-0")
        known.end(b"12-0")
        known.cap([b"12-0"], b"10-0")
        assert not known.refuses(key("a.test"), 0, INFO + b" seen=10-0")

    def test_what_redis_tells_is_read_with_care(self) -> None:
        """What is no ID is passed over, and what cannot be read means everything."""
        told = [
            b'{"event": "flush", "zone": "z.test."}',
            b"1-0",
            b"",
            b"2-0",
            b"{}",
            b"x",
            b'{"zone": 1}',
            b"3-0",
            b"y",
        ]
        assert list(read_under_way(told)) == [(b"1-0", ZONE), (b"2-0", ALL), (b"3-0", ALL)]


@pytest.mark.once
class TestNodes:
    @pytest.fixture
    def place(self, redis_server: RedisServer) -> Iterator[tuple[RedisServer, Changing, Upstream, Node]]:
        """A node, whose Redis has the old answer to two names; the upstream has a new one."""
        handler = Changing()
        with Upstream(handler) as upstream, Node([upstream.address], redis_server.url) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            for name in ("a.z.test.", "other.test."):
                assert answer_of(node.port, name) == OLD
            wait_for(lambda: len(redis_server.client().keys("rdns:1:{*.}*")) == 2)
            handler.address = NEW
            yield redis_server, handler, upstream, node

    def test_nobody_answers_with_it(self, place: tuple[RedisServer, Changing, Upstream, Node]) -> None:
        """Nor who starts later, nor who was cut off and has forgotten nothing; commands do not show it."""
        server, _, upstream, node = place
        with ChaosRelay(server.port) as relay, Node([upstream.address], relay.url) as cut:
            wait_for(lambda: "attached to Redis" in cut.log())
            assert answer_of(cut.port, "a.z.test.") == OLD
            relay.tell("hole 0")
            begin(server.url, ZONE)
            wait_for(lambda: "carrying on without" in cut.log(), 15)
            relay.tell("heal 0")
            wait_for(lambda: "flushes that were missed: zone z.test." in cut.log(), 15)
            assert server.client().hget("rdns:1:{a.z.test.}:A", "answer") == b"a.z.test. 300 IN A 192.0.2.1"
            for words in (("ls",), ("ls", "a.z.test"), ("export", "-")):
                assert "a.z.test" not in run(server.url, *words)
            assert command("cache", "get", "a.z.test", "--redis", server.url).returncode == 1
            assert json.loads(run(server.url, "stats", "--json"))["entries"] == 1
            with Node([upstream.address], server.url) as late:
                wait_for(lambda: "attached to Redis" in late.log())
                assert answer_of(late.port, "a.z.test.") == NEW
                stored = "a.z.test. 300 IN A 192.0.2.2"
                wait_for(lambda: server.client().hget("rdns:1:{a.z.test.}:A", "answer") == stored.encode())
                assert [answer_of(each.port, "a.z.test.") for each in (cut, node)] == [NEW] * 2
                assert answer_of(late.port, "other.test.") == OLD
            assert "a.z.test" in run(server.url, "ls")
            assert upstream.count("a.z.test.") == 2

    def test_a_worker_deletes_what_is_left(self, place: tuple[RedisServer, Changing, Upstream, Node]) -> None:
        """After a while, beside its work; what was stored since stays, and then the flush is over."""
        server, _, upstream, node = place
        client = server.client()
        client.copy("rdns:1:{other.test.}:A", "rdns:1:{left.z.test.}:A")
        flush = begin(server.url, ZONE)
        wait_for(lambda: answer_of(node.port, "a.z.test.") == NEW)
        wait_for(lambda: client.hget("rdns:1:{a.z.test.}:A", "answer") == b"a.z.test. 300 IN A 192.0.2.2")
        wait_for(lambda: not client.exists("rdns:1:{left.z.test.}:A"), SETTLED + 10)
        wait_for(lambda: not client.exists("rdns:1:{rdns:1:control}:flushing"))
        events: Any = client.xrange("rdns:1:control")
        assert json.loads(events[-1][1][b"event"])["of"] == flush
        assert len(client.keys("rdns:1:{*.}*")) == 2
        wait_for(lambda: "deleted 1 entries from Redis, of the flush of zone z.test." in node.log())
        assert upstream.count("a.z.test.") == 2

    def test_what_is_imported_counts(self, place: tuple[RedisServer, Changing, Upstream, Node]) -> None:
        """A snapshot from before a flush that somebody imports after it: it is wanted."""
        server, _, _, node = place
        kept = run(server.url, "export", "-")
        begin(server.url, ALL)
        done = command("cache", "import", "--replace", "-", "--redis", server.url, stdin=kept)
        assert done.returncode == 0, done.stderr
        assert [answer_of(node.port, name) for name in ("a.z.test.", "other.test.")] == [OLD] * 2


@pytest.mark.once
def test_with_nobody_there_nobody_is_waited_for(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to confirm, and nobody can: it is deleted, and said."""
    monkeypatch.setattr(Ear, "hear", lambda *_: pytest.fail("somebody is waited for"))
    client = redis_server.client()
    client.hset("rdns:1:{a.test.}:A", "info", INFO)
    browser = Browser(redis_server.url, "rdns")
    work = Flush(browser, Members(browser.redis, browser.names), ALL, 2.0)
    proof = work.run()
    assert (work.deleted, work.swept) == (1, True)
    assert proof.problems == ["no node has confirmed: none is running"]
    assert not client.exists("rdns:1:{rdns:1:control}:flushing")


@pytest.mark.once
def test_too_many_at_a_time_are_refused(redis_server: RedisServer) -> None:
    """With a sentence, and nothing is announced; the same once more is not another."""
    for number in range(MOST_UNDER_WAY):
        begin(redis_server.url, Scope(zone=parse_name(f"z{number}.test")))
    begin(redis_server.url, Scope(zone=parse_name("z0.test")))
    done = command("cache", "flush", "--zone", "more.test", "--redis", redis_server.url)
    assert done.returncode == 1
    assert "nothing has been flushed: 64 flushes are under way; try again in a moment" in done.stderr
    assert redis_server.client().xlen("rdns:1:control") == MOST_UNDER_WAY + 1


@pytest.mark.once
def test_in_a_redis_cluster(stack: ExitStack) -> None:
    """The list of flushes is in the slot of the stream, entries are elsewhere: it is the same."""
    cluster: RedisCluster = stack.enter_context(running_cluster(next(filter(None, KINDS.values())), 0))
    handler = Changing()
    upstream = stack.enter_context(Upstream(handler))
    node = stack.enter_context(Node([upstream.address], cluster.url))
    wait_for(lambda: "attached to Redis" in node.log(), 20)
    names = [f"n{number}.z.test." for number in range(6)]
    wait_for(lambda: addresses(ask(node.port, names[0])) == [OLD])
    for name in names:
        assert answer_of(node.port, name) == OLD
    wait_for(lambda: sum(int(client.dbsize()) for client in cluster.clients[:3]) >= len(names))
    handler.address = NEW
    begin(cluster.url, ZONE)
    wait_for(lambda: answer_of(node.port, names[0]) == NEW)
    late = stack.enter_context(Node([upstream.address], cluster.url))
    wait_for(lambda: "attached to Redis" in late.log(), 20)
    for name in names:
        assert [answer_of(each.port, name) for each in (late, node)] == [NEW] * 2
