"""Control events that are lost, broken, too many or too large; and a Redis that goes back in time."""

from __future__ import annotations

import json
import signal
import time

import gevent
import pytest
from support import (
    Changing,
    Node,
    RedisServer,
    Relay,
    Server,
    Upstream,
    answer_of,
    ask,
    cluster,
    command,
    fill_all_workers,
    wait_for,
)

from rdnscache.store import forgetting
from rdnscache.store.forgetting import Forgetting

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = [pytest.mark.once, pytest.mark.both]

STREAM = "rdns:1:control"


def event(name: str) -> dict[str, str]:
    return {"event": json.dumps({"event": "flush", "name": name})}


class TestFlood:
    def test_of_flushes_of_everything_few_are_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A few in a row at once, all others together; each event belongs to one of them."""
        monkeypatch.setattr(forgetting, "AGAIN", 0.1)
        begun: list[list[bytes]] = []
        each = Forgetting(lambda events: begun.append(list(events)))
        ids = [b"%d-1" % number for number in range(500)]
        for event_id in ids:
            each.order([event_id])
        assert begun == [[event_id] for event_id in ids[: forgetting.IN_A_ROW]]
        while len(begun) == forgetting.IN_A_ROW:
            gevent.sleep(0.01)
        assert [event_id for events in begun for event_id in events] == ids

    @pytest.mark.parametrize("word", [b"\xff{", b'{"event": "flush"}', b'{"event": "flush", "name": 1}'])
    def test_all_are_confirmed(self, redis_server: RedisServer, word: bytes) -> None:
        """Those that are done together as well; and L1 is forgotten in the end."""
        handler = Changing()
        with Upstream(handler) as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            fill_all_workers(node, "old.test.", "192.0.2.1")
            handler.address = "192.0.2.2"
            redis = redis_server.client()
            redis.delete("rdns:1:{old.test.}:A")
            with redis.pubsub() as ear:
                ear.subscribe("rdns:1:acks")
                wait_for(lambda: ear.get_message(timeout=0.1))
                for number in range(1, 301):
                    redis.publish(STREAM, b"%d-1 " % number + word)
                confirmed: set[str] = set()

                def all_of_them() -> bool:
                    message = ear.get_message(timeout=0.1)
                    if message and message["type"] == "message":
                        confirmed.add(json.loads(message["data"])["event"])
                    return len(confirmed) == 300

                wait_for(all_of_them, 30)
            assert answer_of(node.port, "old.test.") == "192.0.2.2"


class TestMissed:
    def test_one_that_was_lost_is_noticed_by_the_next(self, redis_server: RedisServer) -> None:
        """Kept in the stream but never heard, and then another is announced: both are applied, in that order."""
        handler = Changing()
        with Upstream(handler) as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            for name in ("first.test.", "second.test."):
                fill_all_workers(node, name, "192.0.2.1")
            redis = redis_server.client()
            handler.address = "192.0.2.2"
            redis.delete("rdns:1:{first.test.}:A")
            redis.xadd(STREAM, event("first.test."))
            assert command("cache", "flush", "second.test", "--redis", redis_server.url).returncode == 0
            wait_for(lambda: "that were missed: first.test." in node.log())
            assert answer_of(node.port, "first.test.") == answer_of(node.port, "second.test.") == "192.0.2.2"
            assert node.log().count("attached to Redis") == 1

    def test_one_that_was_lost_is_noticed_without_another(self, redis_server: RedisServer) -> None:
        """The newest event is looked at with each heartbeat, also where there is one Redis only."""
        with Upstream() as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            redis_server.client().xadd(STREAM, event("silent.test."))
            wait_for(lambda: "that were missed: silent.test." in node.log(), 15)

    @pytest.mark.parametrize("what", ["too long", "no json", "no event", "a flood", "another type"])
    def test_what_cannot_be_read_means_everything(self, redis_server: RedisServer, what: str) -> None:
        """L1 is forgotten, nobody is cut off for good, and the next flush is confirmed."""
        relay, handler = Relay(redis_server.port), Changing()
        with Upstream(handler) as upstream, cluster([relay.url], upstream, 1) as (node,):
            assert command("cache", "flush", "first.test", "--redis", redis_server.url).returncode == 0
            fill_all_workers(node, "old.test.", "192.0.2.1")
            handler.address = "192.0.2.2"
            relay.cut()
            wait_for(lambda: "no Redis" in node.log())
            redis = redis_server.client()
            redis.delete("rdns:1:{old.test.}:A")
            if what == "another type":
                redis.set(STREAM, "rubbish")
            elif what == "a flood":
                pipeline = redis.pipeline(transaction=False)
                for number in range(20_000):
                    pipeline.xadd(STREAM, event(f"{number}.test."))
                pipeline.execute()
            else:
                raw = {"too long": "x" * 40_000_000, "no json": "{", "no event": "[]"}[what]
                redis.xadd(STREAM, {"event": raw})
            relay.heal()
            wait_for(lambda: node.log().count("attached to Redis") >= 2, 30)
            assert answer_of(node.port, "old.test.") == "192.0.2.2"
            flush = ("cache", "flush", "old.test", "--redis", redis_server.url)
            wait_for(lambda: command(*flush).returncode == 0, 30)
            assert node.log().count("attached to Redis") == 2 or what == "too long"  # which holds Redis up a little
        relay.close()

    def test_a_flood_of_messages_is_worked_off(self, redis_server: RedisServer) -> None:
        """Thousands of flushes, questions and rubbish at once: queries are answered, and a flush is confirmed."""
        with Upstream() as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            ask(node.port, "a.test.")
            pipeline = redis_server.client().pipeline(transaction=False)
            for number in range(3000):
                body = event(f"{number}.test.")["event"]
                pipeline.publish(STREAM, f"{int(time.time() * 1000)}-{number} {body}")
                pipeline.publish(STREAM, '? {"event": "look", "id": "1", "name": "a.test."}')
                pipeline.publish(STREAM, f"{number}-1 " + "[" * 500)
                pipeline.publish(STREAM, "x" * 100_000 if number < 50 else "x")
            pipeline.execute()
            assert ask(node.port, "b.test.", timeout=5).answer
            wait_for(lambda: command("cache", "flush", "--all", "--redis", redis_server.url).returncode == 0, 20)
            assert len(node.log()) < 100_000


@pytest.fixture
def saved(redis_server: RedisServer) -> Server:
    """A server that may be saved, and comes back as it was saved."""
    return Server(redis_server.binary, {})


def saved_before_a_flush(saved: Server, node: Node, handler: Changing) -> None:
    """Its file has an entry in it that is flushed afterwards; then it is killed."""
    answer_of(node.port, "www.flush.test.")
    wait_for(lambda: saved.client().exists("rdns:1:{www.flush.test.}:A"))
    saved.client().save()
    handler.address = "192.0.2.2"
    url = f"redis://127.0.0.1:{saved.port}"
    assert command("cache", "flush", "www.flush.test", "--redis", url).returncode == 0
    saved.kill()


class TestBackInTime:
    def test_a_flush_that_redis_has_lost_is_done_again(self, saved: Server) -> None:
        """Killed and back from an older file with the flushed entries in it: one worker sees to it, and all forget."""
        handler = Changing()
        with saved, Upstream(handler) as upstream:
            url = f"redis://127.0.0.1:{saved.port}"
            with cluster([url] * 2, upstream) as nodes:
                assert command("cache", "flush", "first.test", "--redis", url).returncode == 0
                for node in nodes:
                    for name in ("www.flush.test.", "kept.test."):
                        fill_all_workers(node, name, "192.0.2.1")
                wait_for(lambda: saved.client().exists("rdns:1:{www.flush.test.}:A"))
                saved.client().save()
                handler.address = "192.0.2.2"
                assert command("cache", "flush", "www.flush.test", "--redis", url).returncode == 0
                saved.end(signal.SIGKILL)
                saved.kill()
                saved.start()
                wait_for(lambda: any("flushed www.flush.test. again: 1 entries" in node.log() for node in nodes), 20)
                wait_for(lambda: all(node.log().count("attached to Redis") == 4 for node in nodes), 15)
                found = {answer_of(node.port, "www.flush.test.") for node in nodes for _ in range(20)}
                assert found == {"192.0.2.2"}
                assert {answer_of(node.port, "kept.test.") for node in nodes} == {"192.0.2.1"}
                assert sum(node.log().count("flushed www.flush.test. again") for node in nodes) == 1
                assert command("cache", "flush", "--all", "--redis", url).returncode == 0

    def test_a_file_from_before_the_first_flush(self, saved: Server) -> None:
        """There is no event at all in it, but there are entries."""
        handler = Changing()
        with saved, Upstream(handler) as upstream:
            url = f"redis://127.0.0.1:{saved.port}"
            with cluster([url], upstream, 1) as (node,):
                saved_before_a_flush(saved, node, handler)
                saved.start()
                wait_for(lambda: "again: 1 entries" in node.log(), 20)
                assert answer_of(node.port, "www.flush.test.") == "192.0.2.2"

    def test_where_they_cannot_be_deleted_redis_is_not_used(self, saved: Server) -> None:
        """A worker that cannot delete what was flushed goes on without Redis, asks upstreams, and tries again."""
        handler = Changing()
        with saved, Upstream(handler) as upstream:
            url = f"redis://127.0.0.1:{saved.port}"
            with cluster([url], upstream, 1) as (node,):
                saved_before_a_flush(saved, node, handler)
                saved.options["rename-command"] = "UNLINK|nobody-knows"
                saved.start()
                refused = "carrying on without: not all entries can be deleted"
                wait_for(lambda: refused in node.log(), 20)
                assert answer_of(node.port, "www.flush.test.") == "192.0.2.2"
                assert node.log().count("attached to Redis") == 1
                assert saved.client().exists("rdns:1:{www.flush.test.}:A")
                saved.kill()
                del saved.options["rename-command"]
                saved.start()
                wait_for(lambda: "again: 1 entries" in node.log(), 20)
                wait_for(lambda: node.log().count("attached to Redis") == 2, 20)
                assert answer_of(node.port, "www.flush.test.") == "192.0.2.2"

    def test_an_empty_redis_is_no_reason(self, redis_server: RedisServer) -> None:
        """Killed and back with nothing, or emptied: L1 is forgotten, and nothing is announced."""
        with Upstream() as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            for number, how in enumerate((redis_server.client().flushall, lambda: restart(redis_server)), 1):
                assert command("cache", "flush", "--all", "--redis", redis_server.url).returncode == 0
                fill_all_workers(node, "a.test.", "192.0.2.1")
                asked = upstream.count("a.test.")
                how()
                wait_for(lambda asked=asked: ask(node.port, "a.test.") and upstream.count("a.test.") > asked, 15)
                assert node.log().count("attached to Redis") == number
                assert "announced again" not in node.log()


def restart(server: RedisServer) -> None:
    server.kill()
    server.start()
