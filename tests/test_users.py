"""The users of deploy/redis/users.acl: what they may do is what rdnscache does, no less and no more."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support import (
    ROOT,
    Node,
    RedisServer,
    Upstream,
    ask,
    clean_env,
    command,
    default_handler,
    failure,
    free_port,
    wait_for,
)

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = [pytest.mark.once, pytest.mark.both]


DEPLOY = ROOT / "deploy"
#: Always allowed by Redis, what the test itself asks as `tester`, and what Valkey asks itself after a `script flush`.
NOT_COUNTED = {"hello", "auth", "info", "config|resetstat", "acl|log", "script|flush", "config|get", "persist",
               "client|kill"}  # fmt: skip
#: Allowed to the operator for use with redis-cli; and for redis-py, over TLS, with sentinels or in a cluster.
FOR_PEOPLE = {"get", "hget", "smembers"}


class Guarded:
    """A server run by deploy/redis/redis.sh, with a further user who may do everything."""

    def __init__(self, binary: str, folder: Path) -> None:
        shutil.copytree(DEPLOY / "redis", folder / "redis")
        with (folder / "redis/users.acl").open("a") as users:
            users.write("user tester on nopass ~* &* +@all\n")
        (folder / "valkey-server").symlink_to(binary)
        self.port = free_port()
        settings = {"NODE_PASSWORD": "for-nodes", "OPERATOR_PASSWORD": "for-people", "MEMORY": "64mb"}
        places = {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        words = ["sh", str(folder / "redis/redis.sh"), "start", "--port", str(self.port), "--bind", "127.0.0.1"]
        self.process = subprocess.Popen(words, env=settings | places, stdout=subprocess.DEVNULL)
        self.tester = self.client("tester", "any")
        wait_for(self._answers, 10)

    def _answers(self) -> bool:
        try:
            return bool(self.client("health", "any").ping())
        except redis.RedisError:
            return False

    def url(self, user: str, password: str) -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    def client(self, user: str | None, password: str | None) -> Any:
        once = Retry(NoBackoff(), 0)
        return redis.Redis(port=self.port, username=user, password=password, retry=once, driver_info=None)

    def used(self) -> set[str]:
        """The commands that were called since the last time, by clients and scripts."""
        stats = {name.removeprefix("cmdstat_") for name in self.tester.info("commandstats")}
        self.tester.config_resetstat()
        return stats - NOT_COUNTED

    def aged(self, key: str) -> bool:
        """Whether hot names have been aged, as they are where the key has no expiry."""
        self.tester.persist(key)
        return "cmdstat_zunionstore" in self.tester.info("commandstats")

    def refused(self, user: str) -> list[Any]:
        """What somebody tried and was not allowed to."""
        return [each for each in self.tester.acl_log() if each["username"] == user]

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return command(*words, env={"RDNSCACHE_REDIS": self.url("operator", "for-people")})


@contextmanager
def guarded(server: RedisServer, folder: Path) -> Iterator[Guarded]:
    found = Guarded(server.binary, folder)
    try:
        yield found
    finally:
        found.process.terminate()
        found.process.wait()


def allowed(user: str) -> set[str]:
    """The commands that users.acl allows somebody."""
    (line,) = re.findall(rf"^user {user} (.*)$", (DEPLOY / "redis/users.acl").read_text(), re.MULTILINE)
    words = line.split()
    assert "-@all" in words and not any(word.startswith("+@") for word in words)
    return {word[1:] for word in words if word.startswith("+")}


def dead_or_default(query: dns.message.Message, transport: str) -> Any:
    dead = query.question[0].name.labels[0] == b"dead"
    return failure(query) if dead else default_handler(query, transport)


def run_later(port: int, name: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "rdnscache", "query", "--server", f"127.0.0.1:{port}", name]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, env=clean_env(), cwd=ROOT)


def test_a_node_may_do_what_it_does_and_nothing_else(redis_server: RedisServer, tmp_path: Path) -> None:
    """As the user `node`, two nodes coalesce, store, discard and leave: refused nothing, and using all they may."""
    with guarded(redis_server, tmp_path) as server, Upstream(dead_or_default, delay=0.5) as upstream:
        url = server.url("node", "for-nodes")
        admin = free_port()
        page = ("--admin", f"127.0.0.1:{admin}", "--admin-token", "for-pages")
        bearer = {"Authorization": "Bearer for-pages"}
        env = {"RDNSCACHE_SECRET": "1:a-secret-of-thirty-two-characters",  # with one, Redis is asked for the time
               "RDNSCACHE_UPSTREAM_BUDGET": "1000/s"}  # fmt: skip
        with Node([upstream.address], url, args=page, env=env) as one, Node([upstream.address], url, env=env) as two:
            for node in (one, two):
                wait_for(lambda node=node: "attached to Redis" in node.log())
            server.tester.zadd("rdns:1:hot", {"{old.test.}:A": 1})  # without expiry: it is aged at once
            server.tester.script_flush()
            asking = [run_later(node.port, "both.test.") for node in (one, two)]
            assert [process.wait(10) for process in asking] == [0, 0]
            assert upstream.count("both.test.") == 1
            ask(one.port, "dead.test.", timeout=10)
            server.tester.hset("rdns:1:{bad.test.}:A", mapping={"info": "no", "wire": "no", "answer": "no"})
            ask(one.port, "bad.test.")
            wait_for(lambda: "not a usable entry" in one.log())
            for path in ("hour", "clients", "config", "cluster", "lookup?name=both.test"):  # the live page
                asked = urllib.request.Request(f"http://127.0.0.1:{admin}/api/{path}", headers=bearer)
                told = urllib.request.urlopen(asked, timeout=5).read()
                assert b"NOPERM" not in told and b"may not ask" not in told
            assert b"both.test." in told
            flush = urllib.request.Request(
                f"http://127.0.0.1:{admin}/api/flush", b'{"name": "both.test"}', bearer
            )  # fmt: skip
            assert b'"complete": true' in urllib.request.urlopen(flush, timeout=15).read()
            server.tester.client_kill_filter(user="node")
            for node in (one, two):
                wait_for(lambda node=node: node.log().count("attached to Redis") == 2)
            wait_for(lambda: server.tester.zscore("rdns:1:hot", "{both.test.}:A"), 25)
            wait_for(lambda: server.aged("rdns:1:hot"), 25)
            assert one.stop() == two.stop() == 0

        assert server.refused("node") == []
        assert server.used() == allowed("node") - NOT_COUNTED
        told = "refused: " + one.log() + two.log()
        assert "NOPERM" not in told and "without: " not in told


def test_an_operator_may_do_what_the_commands_do_and_nothing_else(redis_server: RedisServer, tmp_path: Path) -> None:
    """As the user `operator`, every command works, a flush with its proof too; and all the user may do is used."""
    with guarded(redis_server, tmp_path) as server, Upstream() as upstream:
        url = server.url("node", "for-nodes")
        with Node([upstream.address], url) as one, Node([upstream.address], url) as two:
            for node in (one, two):
                wait_for(lambda node=node: "attached to Redis" in node.log())
            for name in ("a.test.", "b.test.", "c.test."):
                ask(one.port, name)
            ask(one.port, "c.test.", "TYPE65400")  # listed where it is imported
            wait_for(lambda: len(server.cli("cache", "ls", "--jsonl").stdout.splitlines()) == 4)
            flushed = server.cli("cache", "flush", "a.test.")
            assert "confirmed by 2/2 nodes" in flushed.stdout, flushed.stdout + flushed.stderr
            assert server.cli("cluster", "status").returncode == 0
            assert server.cli("reload").returncode == 0
            assert one.stop() == two.stop() == 0
        server.tester.set("rdns:1:{led.test.}:A#lead", "lost.0:1:1", ex=3000)
        server.tester.zadd("rdns:1:nodes", {"lost.1a2b3c4d.0": time.time() - 60})
        told = json.dumps({"upstreams": [{"address": "192.0.2.53:53", "place": "192.0.2.53:53", "budget": 500}]})
        server.tester.set("rdns:1:node:lost.1a2b3c4d.0", told, ex=3000)
        server.used()
        snapshot = str(tmp_path / "snapshot")
        wanted = (
            ("cache get b.test", 0), ("cache stats", 0), ("cache top", 0),
            (f"cache export {snapshot}", 0), ("cache flush --all", 1),
            (f"cache import {snapshot}", 0), ("cache ls", 0), ("cluster members", 0), ("cluster forget lost", 0),
        )  # fmt: skip
        for words, code in wanted:
            done = server.cli(*words.split())
            assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"

        assert server.refused("operator") == []
        assert server.used() == allowed("operator") - FOR_PEOPLE


def test_users_are_refused_the_rest(redis_server: RedisServer, tmp_path: Path) -> None:
    """Nobody without a name gets in, and nobody gets at others' keys, the settings or everything at once."""
    with guarded(redis_server, tmp_path) as server:
        with pytest.raises(redis.AuthenticationError):
            server.client(None, None).ping()
        with pytest.raises(redis.AuthenticationError):
            server.client("node", "for-people").ping()
        for user, password in (("node", "for-nodes"), ("operator", "for-people"), ("health", "any")):
            client = server.client(user, password)
            forbidden = (
                "SET other 1", "FLUSHALL", "CONFIG GET *", "KEYS *", "ACL LIST", "PUBLISH other 1", "CLIENT LIST",
                "EVAL return(redis.call('SET','other','1')) 0",
            )  # fmt: skip
            for words in forbidden:
                with pytest.raises(redis.ResponseError, match=r"(?i)permission|ACL|can.t access"):
                    client.execute_command(*words.split())


def test_commands_work_in_a_nodes_container(redis_server: RedisServer, tmp_path: Path) -> None:
    """With the URL of the user `node`, as `kubectl exec` finds it: looking, flushing of each kind, orders, the page."""
    admin = free_port()
    page = ("--node-id", "n1", "--admin", f"127.0.0.1:{admin}", "--admin-token", "for-pages")
    with guarded(redis_server, tmp_path) as server, Upstream() as upstream:
        url = server.url("node", "for-nodes")
        with Node([upstream.address], url, args=page) as one:
            wait_for(lambda: "attached to Redis" in one.log())
            for words in (
                ("cache", "flush", "a.test"), ("cache", "flush", "--zone", "test"), ("cache", "flush", "--all"),
                ("cache", "flush", "--rcode", "NXDOMAIN"), ("cache", "ls"), ("cache", "stats"), ("cache", "top"),
                ("cache", "export", "-"), ("cluster", "status"), ("cluster", "config", "n1"), ("reload",),
                ("policy", "block", "x.test"), ("policy", "orders"), ("policy", "clear", "x.test"),
            ):  # fmt: skip
                done = command(*words, env={"RDNSCACHE_REDIS": url})
                assert done.returncode == 0, (words, done.stderr)
            for scope in ({"zone": "test"}, {"rcode": "NXDOMAIN"}, {"all": True}, {"name": "a.test", "type": "A"}):
                flush = urllib.request.Request(
                    f"http://127.0.0.1:{admin}/api/flush", json.dumps(scope).encode(),
                    {"Authorization": "Bearer for-pages"},
                )  # fmt: skip
                assert b'"complete": true' in urllib.request.urlopen(flush, timeout=15).read()
        assert server.refused("node") == []
