"""A flush that is confirmed is final: who is expected to confirm, whatever has become of the register."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gevent
import pytest
from support import (
    ROOT,
    Changing,
    ChaosRelay,
    Node,
    RedisServer,
    Relay,
    Upstream,
    alive,
    answer_of,
    ask,
    clean_env,
    cluster,
    command,
    fill_all_workers,
    members,
    wait_for,
)

from rdnscache import kernel
from rdnscache.kernel import Incarnation
from rdnscache.operator.cluster_status import summarize
from rdnscache.operator.members import Members
from rdnscache.operator.proof import Tally
from rdnscache.store.contract import Names
from rdnscache.store.membership import Ack, Member, read_roll, replaced
from rdnscache.store.register import Register
from rdnscache.store.steering import WorkerId
from rdnscache.store.sweeping import PAGE

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def flush(url: str, *words: str) -> tuple[int, dict[str, Any], str]:
    """The exit code of a flush, what it told, and its complaints."""
    done = command("cache", "flush", *(words or ("--all",)), "--json", "--wait", "1", "--redis", url)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def twins(*urls: str, upstream: Upstream) -> list[Node]:
    return [Node([upstream.address], url, args=("--node-id", "n1")) for url in urls]


def status(url: str) -> str:
    return command("cluster", "status", "--redis", url).stdout


class TestTwoNodesOfOneName:
    def test_both_have_to_confirm(self, redis_server: RedisServer) -> None:
        """A cloned machine: both are counted, by incarnation; cut off, the one that still has the old answer is missed.

        Both say so in their logs, so does `cluster status`, and one that leaves does not take the other along.
        """
        relay, handler = Relay(redis_server.port), Changing()
        with Upstream(handler) as upstream:
            near, far = twins(redis_server.url, relay.url, upstream=upstream)
            with near, far:
                for node in (near, far):
                    fill_all_workers(node, "www.flush.test.", "192.0.2.1")
                    wait_for(lambda node=node: "another node is called n1 too" in node.log(), 15)
                lives = {each["incarnation"] for each in members(redis_server.url)}
                names = {f"n1 ({life})" for life in lives}
                assert len(lives) == 2
                code, told, _ = flush(redis_server.url)
                assert (code, set(told["confirmed_ms"])) == (0, names)
                warnings = [f"{name}: another node is also named n1" for name in names]
                wait_for(lambda: all(warning in status(redis_server.url) for warning in warnings))  # with the next beat

                fill_all_workers(far, "www.flush.test.", "192.0.2.1")
                relay.cut()
                handler.address = "192.0.2.2"
                code, told, complaints = flush(redis_server.url, "www.flush.test")
                assert answer_of(far.port, "www.flush.test.") == "192.0.2.1"
                assert (code, len(told["confirmed_ms"]), len(told["missing"])) == (1, 1, 1), complaints
                assert set(told["confirmed_ms"]) | set(told["missing"]) == names

                relay.heal()
                wait_for(lambda: flush(redis_server.url)[0] == 0, 15)
                assert near.stop() == 0
                (left,) = wait_for(lambda: members(redis_server.url))
                assert left["incarnation"] in lives
                assert flush(redis_server.url)[0] == 0
        relay.close()

    def test_one_that_died_and_came_back_is_one(self, redis_server: RedisServer) -> None:
        """Killed with its workers, and started again: its earlier life is not waited for, whatever Redis loses."""
        with Upstream() as upstream:
            (first,) = twins(redis_server.url, upstream=upstream)
            with first:
                wait_for(lambda: len(members(redis_server.url)) == 1)
                (worker,) = first.children()
                os.kill(worker, signal.SIGSTOP)  # so that it cannot say goodbye
                os.kill(first.process.pid, signal.SIGKILL)
                first.process.wait()
                os.kill(worker, signal.SIGKILL)
                (dead,) = members(redis_server.url)
                (second,) = twins(redis_server.url, upstream=upstream)
                with second:
                    wait_for(lambda: "is gone: this node has replaced it" in second.log(), 10)
                    code, told, complaints = flush(redis_server.url)
                    assert (code, list(told["confirmed_ms"])) == (0, ["n1"]), complaints
                    assert len(members(redis_server.url)) == 1
                    # another node remembers the earlier life, and enters it again when Redis comes back empty
                    redis, place = redis_server.client(), f"n1.{dead['incarnation']}.0"
                    redis.zadd("rdns:1:nodes", {place: redis.time()[0] - 60})
                    wait_for(lambda: redis.zscore("rdns:1:nodes", place) is None)
                    assert flush(redis_server.url)[0] == 0

    def test_a_roll_and_a_restart_are_the_same_life(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """Successors of workers, and the next image, keep the incarnation; the register has no hole meanwhile."""
        file = tmp_path / "node.toml"
        file.write_text("ttl_max = 1000\n")
        with Upstream() as upstream, cluster([redis_server.url], upstream, 1, ("--config", str(file))) as (node,):
            (before,) = members(redis_server.url)
            holes: list[int] = []
            stop, redis = threading.Event(), redis_server.client()

            def watch() -> None:
                while not stop.wait(0.005):
                    if redis.zcard("rdns:1:nodes") != 2:  # the worker, and since when
                        holes.append(redis.zcard("rdns:1:nodes"))

            watcher = threading.Thread(target=watch)
            watcher.start()
            file.write_text("ttl_max = 77\n")
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "all workers use the new configuration" in node.log(), 20)
            (old,) = node.children()
            node.process.send_signal(signal.SIGUSR2)
            wait_for(lambda: node.log().count("attached to Redis") == 3, 30)
            wait_for(lambda: not alive(old), 20)
            stop.set()
            watcher.join()

            assert holes == []
            assert [each["incarnation"] for each in members(redis_server.url)] == [before["incarnation"]]
            assert flush(redis_server.url)[0] == 0


LIFE = Incarnation("1a2b3c4d", 0.0, os.getpid(), kernel.born(os.getpid()), "this boot", "this space")
#: A process that is not there, and this one.
DEAD, LIVING = {"pid": 1 << 22, "born": 7}, {"pid": os.getpid(), "born": kernel.born(os.getpid())}


@pytest.mark.parametrize(
    ("host", "told", "age", "up", "dead"),
    [
        ({"boot": "this boot", "space": "this space", **DEAD}, DEAD, 1.0, 1.0, True),
        ({"boot": "this boot", "space": "this space", **DEAD}, LIVING, 100.0, 100.0, False),
        ({"boot": "this boot", "space": "this space", **LIVING}, DEAD, 100.0, 100.0, False),
        ({"boot": "this boot", "space": "other", **LIVING}, LIVING, 100.0, 100.0, True),
        ({"boot": "this boot", "space": "other", **DEAD}, DEAD, 100.0, 1.0, False),
        ({"boot": "this boot", "space": "other", **DEAD}, {**DEAD, "twins": ["5e6f7a8b"]}, 100.0, 100.0, False),
        ({"boot": "other", "space": "other", **DEAD}, DEAD, 1e9, 100.0, True),
        ({"boot": "other", "space": "other", **DEAD}, DEAD, 10.0, 100.0, False),
        ({"boot": "", "space": "", **DEAD}, DEAD, 100.0, 100.0, True),
        ("rubbish", DEAD, 1e9, 1e9, False),
        ({"boot": "this boot", "space": "this space", "pid": 1e999, "born": None}, DEAD, 1e9, 1e9, False),
    ],
    ids=["both processes gone", "a worker lives", "its supervisor lives", "a container started again", "too soon",
         "it had a twin", "a machine booted since", "another machine", "not known", "rubbish", "odd numbers"],
)  # fmt: skip
def test_when_a_silent_namesake_is_dead(host: Any, told: dict[str, Any], age: float, up: float, dead: bool) -> None:
    """Where it can be known, or nothing else is likely; in doubt it is expected to confirm."""
    assert replaced(json.dumps({**told, "host": host}).encode(), LIFE, age, up) is dead
    assert not replaced(None, LIFE, 1e9, 1e9)
    assert not replaced(b"[" * 70_000, LIFE, 1e9, 1e9)


class TestAnIncompleteRegister:
    def test_nobody_is_not_everybody(self, redis_server: RedisServer) -> None:
        """No node: exit code 1 and a sentence."""
        done = command("cache", "flush", "--all", "--redis", redis_server.url)
        assert done.returncode == 1
        assert "confirmed by 0/0 nodes" in done.stdout
        assert done.stderr == "rdnscache: no node has confirmed: none is running\n"

    @pytest.mark.parametrize("how", ["flushall", "evicted", "restarted"])
    def test_everybody_is_waited_for(self, redis_server: RedisServer, how: str) -> None:
        """Redis emptied, the register gone, or a Redis back empty, and a flush at once: all workers of both confirm."""
        with Upstream() as upstream, cluster([redis_server.url] * 2, upstream) as nodes:
            flush(redis_server.url)
            if how == "flushall":
                redis_server.client().flushall()
            elif how == "evicted":
                redis_server.client().delete("rdns:1:nodes")
            else:
                redis_server.kill()
                redis_server.start()
            code, told, complaints = flush(redis_server.url)
            assert (code, set(told["confirmed_ms"])) == (0, {"n0", "n1"}), complaints
            assert len(nodes) == 2

    def test_who_is_cut_off_is_not_forgotten(self, redis_server: RedisServer) -> None:
        """FLUSHALL while a node is cut off: the others know of it, and a flush names it."""
        relay = Relay(redis_server.port)
        with Upstream() as upstream, cluster([redis_server.url, relay.url], upstream, 1) as (_, far):
            time_of_a_beat(redis_server)
            relay.cut()
            wait_for(lambda: "no Redis" in far.log())
            redis_server.client().flushall()
            code, told, _ = flush(redis_server.url)
            assert (code, list(told["confirmed_ms"]), list(told["missing"])) == (1, ["n0"], ["n1"])
        relay.close()

    def test_a_worker_that_is_not_listed_is_missed(self, redis_server: RedisServer) -> None:
        """A node tells how many workers it has; one of them stopped and lost from the register is named."""
        with Upstream() as upstream, cluster([redis_server.url], upstream) as (node,):
            stopped = node.children()[-1]
            os.kill(stopped, signal.SIGSTOP)
            try:
                redis = redis_server.client()
                places = [place for place in redis.zrange("rdns:1:nodes", 0, -1) if place != b"since"]
                told = {place: json.loads(redis.get(b"rdns:1:node:" + place) or b"{}") for place in places}
                (lost,) = [place for place in places if told[place]["pid"] == stopped]
                redis.zrem("rdns:1:nodes", lost)
                code, told, _ = flush(redis_server.url)
                number = lost.decode().rpartition(".")[2]
                assert (code, told["missing"]) == (1, {"n0": f"no confirmation from worker {number}"})
            finally:
                os.kill(stopped, signal.SIGCONT)
            wait_for(lambda: flush(redis_server.url)[0] == 0, 15)

    def test_reports_that_are_evicted_or_rubbish_hide_nobody(self, redis_server: RedisServer) -> None:
        """The register alone says who is there; what workers tell is read up to a bound."""
        with Upstream() as upstream, cluster([redis_server.url] * 2, upstream, 1):
            redis = redis_server.client()
            keys = redis.keys("rdns:1:node:*")
            redis.delete(keys[0])
            redis.set(keys[1], b"[" * 10_000_000)
            code, told, complaints = flush(redis_server.url)
            assert (code, set(told["confirmed_ms"])) == (0, {"n0", "n1"}), complaints
            for rubbish in ('{"workers": 1e999, "started": 1e400, "counters": []}', '{"workers": 99999999999}', "7"):
                redis.set(keys[0], rubbish)
                done = command("cluster", "status", "--redis", redis_server.url)
                assert "Traceback" not in done.stderr and done.stdout


def time_of_a_beat(server: RedisServer) -> None:
    """Until every worker has spoken again, and so has read the register as it is."""
    redis = server.client()
    (seconds, _), names = redis.time(), redis.zcard("rdns:1:nodes")
    wait_for(lambda: redis.zcount("rdns:1:nodes", seconds + 1, "+inf") >= names - 1, 10)


class TestWhileItDeletes:
    def test_what_is_still_in_redis_is_passed_over(self, redis_server: RedisServer) -> None:
        """Asked between the announcement and the deletion, a worker finds the old answer in Redis, and asks anew.

        Each flush is announced before anything is deleted, and once more when that is done.
        """
        handler = Changing()
        with Upstream(handler) as upstream, cluster([redis_server.url] * 2, upstream, 1) as nodes:
            redis, key = redis_server.client(), "rdns:1:{www.flush.test.}:A"
            answer_of(nodes[0].port, "www.flush.test.")
            wait_for(lambda: redis.exists(key))
            for start in range(0, 100_000, 5000):
                redis.mset({f"rdns:1:{{{number}.other.test.}}:A": "x" for number in range(start, start + 5000)})
            handler.address = "192.0.2.2"
            there: list[int] = []
            with redis.pubsub() as ear:
                ear.subscribe("rdns:1:control")
                working = threading.Thread(target=flush, args=(redis_server.url, "www.flush.test"))
                working.start()
                for message in ear.listen():
                    if message["type"] == "message":
                        there.append(redis.exists(key))
                        answer_of(nodes[1].port, "www.flush.test.")
                        if len(there) == 2:
                            break
                working.join()
            assert there == [1, 0]
            assert [answer_of(node.port, "www.flush.test.") for node in nodes] == ["192.0.2.2"] * 2

    def test_ctrl_c_says_what_was_done(self, redis_server: RedisServer) -> None:
        """Interrupted while it deletes over a slow network: the workers know, and a sentence tells how far it came."""
        with Upstream() as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            redis = redis_server.client()
            redis.mset({f"rdns:1:{{{number}.other.test.}}:A": "x" for number in range(40 * PAGE)})
            ask(node.port, "www.flush.test.")
            with ChaosRelay(redis_server.port) as relay:
                relay.delay(0.02)
                words = [sys.executable, "-m", "rdnscache", "cache", "flush", "--all", "--redis", relay.url]
                work = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=clean_env(), cwd=ROOT)
                wait_for(lambda: redis.dbsize() < 40 * PAGE, 20)
                work.send_signal(signal.SIGINT)
                _, complaints = work.communicate(timeout=20)
            assert work.returncode == 130
            assert complaints.startswith("rdnscache: interrupted: ")
            assert "entries deleted" in complaints and "every worker was told" in complaints
            assert redis.xlen("rdns:1:control") >= 1


def member(node: str, life: str, worker: int, age: float = 0.0, workers: int = 1) -> Member:
    return Member(node, life, worker, age, {"workers": workers})


@pytest.mark.pure
class TestTally:
    """Who counts, without any Redis."""

    def test_both_rounds_count(self) -> None:
        """Who confirmed one of them only, or left in between, has not confirmed; a late word for the first is none."""
        tally = Tally()
        everybody = [member(node, "1a2b3c4d", 0) for node in ("a", "b", "c", "d")]
        tally.expect(everybody)
        tally.begin("1-0", 0.0)
        for node in ("a", "c", "d"):
            tally.note(Ack("1-0", node, "1a2b3c4d", 0, 1, False), 0.1)
        assert tally.waiting()
        tally.close()
        tally.note(Ack("1-0", "b", "1a2b3c4d", 0, 1, False), 0.2)
        tally.expect(everybody[:3])
        tally.begin("2-0", 1.0)
        for node in ("a", "b", "d"):
            tally.note(Ack("2-0", node, "1a2b3c4d", 0, 0, False), 1.1)
        proof = tally.proof()
        assert set(proof.confirmed) == {"a", "d"} and set(proof.missing) == {"b", "c"}
        assert not proof.complete and proof.entries == 3
        assert tally.waiting()

    def test_who_attaches_meanwhile_counts(self) -> None:
        """It has learnt of both announcements before it could store anything."""
        tally = Tally()
        tally.begin("1-0", 0.0)
        tally.close()
        tally.expect([member("a", "1a2b3c4d", 0)])
        tally.begin("2-0", 1.0)
        tally.note(Ack("1-0", "a", "1a2b3c4d", 0, 0, True), 1.1)
        tally.note(Ack("2-0", "a", "1a2b3c4d", 0, 0, False), 1.1)
        assert tally.proof().complete and not tally.waiting()

    def test_a_node_that_is_ending_has_fewer_workers(self) -> None:
        """One of its two workers has said goodbye already: the other says that this is as it should be."""
        tally = Tally()
        tally.expect([replace(member("a", "1a2b3c4d", 1), told={"workers": 2, "leaving": True})])
        tally.begin("1-0", 0.0)
        tally.note(Ack("1-0", "a", "1a2b3c4d", 1, 0, False), 0.1)
        assert tally.proof().complete

    def test_every_worker_of_a_life_counts(self) -> None:
        """Those listed, and those its node says it has; another life of the same name is another node."""
        tally = Tally()
        first = member("a", "1a2b3c4d", 0, workers=2)
        tally.expect([first, replace(first, incarnation="5e6f7a8b"), member("b", "1a2b3c4d", 3, age=100.0)])
        tally.begin("1-0", 0.0)
        for life in ("1a2b3c4d", "5e6f7a8b"):
            tally.note(Ack("1-0", "a", life, 0, 0, False), 0.1)
        tally.note(Ack("1-0", "a", "5e6f7a8b", 1, 0, False), 0.3)
        proof = tally.proof()
        assert proof.confirmed == {"a (5e6f7a8b)": pytest.approx(0.3)}
        assert proof.missing == {"a (1a2b3c4d)": "no confirmation from worker 1", "b": "no report for 100 s"}


class TestManyWorkers:
    """Anybody who may write to Redis can enter thousands: they are read in steps."""

    ROLL: ClassVar[list[Any]] = [
        0, b"100", b"150.5", [part for number in range(2000) for part in (b"n1.%08x.0" % number, b"100")], 2000,
    ]  # fmt: skip

    def test_a_register_is_read_in_steps(self) -> None:
        """With a pause offered after each hundred."""
        steps: list[int] = []
        roll = read_roll(self.ROLL, lambda: steps.append(1))
        assert roll is not None
        assert len(roll.workers) == 2000
        assert len(steps) == 20

    def test_after_few_workers_of_our_name_is_asked(self) -> None:
        """2,000 that are silent since before we began cost 32 questions after a beat, not 2,000."""
        sent: list[Any] = []
        servers: Any = SimpleNamespace()
        servers.send = lambda command, done=None: sent.append((command, done))
        life = Incarnation("ffffffff", time.monotonic(), 1, 1)
        register = Register(Names("rdns"), WorkerId("n1", "ffffffff", 0), life, servers, lambda result: None)
        register.beat("{}")
        sent[-1][1]([self.ROLL])
        while not any(command[0] == b"GETRANGE" for command, _ in sent):
            gevent.sleep(0.01)
        assert sum(command[0] == b"GETRANGE" for command, _ in sent) == 32

    @pytest.mark.parametrize(("workers", "readings"), [(1, 64), (64, 64), (127, 33), (2000, 3)])
    def test_the_more_there_are_the_more_seldom_all_are_read(self, workers: int, readings: int) -> None:
        """In 64 beats, the first two of which know of nobody yet: Redis has no work that grows with their square."""
        sent: list[Any] = []
        servers: Any = SimpleNamespace(send=lambda command, done=None: sent.append((command, done)))
        life = Incarnation("ffffffff", time.monotonic(), 1, 1)
        register = Register(Names("rdns"), WorkerId("n1", "ffffffff", 0), life, servers, lambda result: None)
        told = [part for number in range(workers) for part in (b"n2.%08x.0" % number, b"100")]
        rolls: list[int] = []
        for _ in range(64):
            register.beat("{}")
            command, done = sent[-1]
            rolls.append(command[5])
            done([[0, b"100", b"150.5", told if command[5] else [], workers]])
            while register._reader is not None:
                gevent.sleep(0)
        assert rolls.count(2000) == readings
        assert rolls.count(0) == 64 - readings

    def test_nodes_are_compared_in_steps(self) -> None:
        """Each option of each node is one."""
        steps: list[int] = []
        told = {"config": {f"option{number}": number for number in range(50)}, "twins": ["x"]}
        summarize([Member(f"n{number}", "0" * 8, 0, 0.5, told) for number in range(100)], lambda: steps.append(1))
        assert len(steps) > 50 * 100

    def test_what_is_no_report_says_nothing(self) -> None:
        """Whatever a server answers in its place: an error, a list, a number."""
        members = Members(SimpleNamespace(), Names("rdns"))
        for raw in (None, [b"x"], 7, ValueError("no"), b"{", b""):
            assert members._part("n1.ffffffff.0", raw) == {}
        assert members._part("n1.ffffffff.0", b'{"workers": 2}') == {"workers": 2}
