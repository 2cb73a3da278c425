"""`rdnscache check-redis`: what it finds in real servers, good and bad; and the users that docs/redis.md proposes."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from support import KINDS, ROOT, Node, RedisCluster, RedisServer, Upstream, ask, command, free_port, wait_for

from rdnscache.operator.audit import OK, WRONG, Facts, Finding, judge, needed, worst
from rdnscache.store.contract import Names
from rdnscache.store.heat import HEAT

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = [pytest.mark.once, pytest.mark.both]


GOOD = {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lfu", "hash-max-listpack-value": "2048"}


def asked_of(*words: str, url: str = "") -> subprocess.CompletedProcess[str]:
    return command(*words, env={"RDNSCACHE_REDIS": url} if url else None)


def check(url: str) -> tuple[int, dict[str, str], dict[str, str]]:
    """The exit code, the level of each subject, and its words."""
    done = asked_of("check-redis", url, "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    levels = {each["subject"]: each["level"] for each in found}
    return done.returncode, levels, {each["subject"]: each["text"] for each in found}


def user_line(name: str) -> str:
    """What docs/redis.md proposes."""
    (line,) = re.findall(rf"^user {name} (.*)$", (ROOT / "docs/redis.md").read_text(), re.MULTILINE)
    return line


def add_user(server: RedisServer, name: str, line: str) -> str:
    """Make a user, as far as this server knows the commands; the URL with that user."""
    client = server.client()
    words = [">secret" if word.startswith(">") else word for word in line.split()]
    client.execute_command("ACL", "SETUSER", name, *words)
    return f"redis://{name}:secret@127.0.0.1:{server.port}/0"


@pytest.fixture
def good(redis_server: RedisServer) -> RedisServer:
    """A server as it should be."""
    for name, value in GOOD.items():
        redis_server.client().config_set(name, value)
    return redis_server


class TestRealServers:
    def test_a_good_one(self, good: RedisServer) -> None:
        """As the user of the docs: nothing is missing, nothing is too much; and nothing is left behind."""
        client = good.client()
        client.zincrby("rdns:1:hot", 1, "{a.}:A")
        client.expire("rdns:1:hot", 1000)
        url = add_user(good, "node", user_line("node"))
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
        code, levels, words = check(url)

        assert code == 0, words
        assert {subject for subject, level in levels.items() if level == "note"} <= {"memory", "settings", "clock"}
        assert levels["rights"] == levels["privilege"] == levels["access"] == "ok"
        assert "CONFIG GET is not allowed" in words["settings"]
        admin = redis.Redis(port=good.port, password="other")
        wait_for(lambda: [key for key in admin.scan_iter() if key != b"rdns:1:hot"] == [])
        assert 900 < admin.ttl("rdns:1:hot") <= 1000

    def test_one_as_it_comes(self, redis_server: RedisServer) -> None:
        """No bound: risky. Everybody may do everything: on this machine, worth a note."""
        code, levels, _ = check(redis_server.tcp_url)

        assert code == 1
        assert levels["memory"] == "risky"
        assert levels["privilege"] == levels["access"] == levels["entries"] == "note"

    def test_docs_print_what_it_says(self, redis_server: RedisServer) -> None:
        """The table in docs/redis.md is what the command prints for such a server, but for numbers."""

        def lines(text: str) -> list[str]:
            words = [
                re.sub(r"[\d.]+|Valkey|Redis", "N", line).split()
                for line in text.splitlines()
                if " version " not in line
            ]
            return [" ".join(line) for line in words]

        (printed,) = re.findall(
            r"^(LEVEL  SUBJECT .*?)^\$ echo", (ROOT / "docs/redis.md").read_text(), re.MULTILINE | re.DOTALL
        )
        assert lines(asked_of("check-redis", "--redis", redis_server.tcp_url).stdout) == lines(printed)

    @pytest.mark.parametrize(
        ("policy", "level"),
        [
            ("allkeys-lfu", "ok"),
            ("allkeys-lru", "note"),
            ("noeviction", "risky"),
            ("volatile-ttl", "risky"),
            ("allkeys-random", "risky"),
        ],
    )
    def test_eviction(self, good: RedisServer, policy: str, level: str) -> None:
        """What a full cache does."""
        good.client().config_set("maxmemory-policy", policy)
        code, levels, _ = check(good.url)

        assert levels["eviction"] == level
        assert code == (1 if level == "risky" else 0)

    def test_a_full_one(self, good: RedisServer) -> None:
        """Nothing can be stored any more."""
        client = good.client()
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        code, levels, words = check(good.url)

        assert (code, levels["writing"]) == (2, "wrong")
        assert "maxmemory" in words["writing"]

    def test_one_that_saves(self, good: RedisServer) -> None:
        """A cache has nothing to keep, and what is kept undoes a flush."""
        good.client().config_set("save", "3600 1")
        code, levels, words = check(good.url)

        assert (code, levels["persistence"]) == (1, "risky")
        assert "save 3600 1" in words["persistence"]
        good.client().config_set("save", "")
        good.client().config_set("appendonly", "yes")
        assert check(good.url)[1]["persistence"] == "note"

    def test_a_replica(self, good: RedisServer) -> None:
        """Nothing can be stored there; the primary says how far its replica is behind."""
        with RedisServer(good.binary) as replica:
            replica.client().replicaof("127.0.0.1", good.port)
            wait_for(lambda: replica.client().info("replication")["master_link_status"] == "up", 20)
            code, levels, words = check(replica.url)
            assert (code, levels["role"]) == (2, "wrong")
            assert "writing" not in levels and "replica" in words["role"]
            wait_for(lambda: good.client().info("replication").get("slave0", {}).get("state") == "online", 20)
            code, levels, words = check(good.url)
            assert "with 1 replica" in words["role"]
            assert (code, levels["replicas"]) == (1, "risky")
            good.client().config_set("min-replicas-to-write", "1")
            assert "replicas" not in check(good.url)[1]

    def test_nobody_there(self) -> None:
        """One line, and exit code 2."""
        done = asked_of("check-redis", f"redis://127.0.0.1:{free_port()}")
        assert (done.returncode, done.stdout.splitlines()[1][:25]) == (2, "wrong  reachable  nothing")

    def test_a_wrong_password(self, redis_server: RedisServer) -> None:
        """The same."""
        redis_server.client().execute_command("ACL", "SETUSER", "node", "on", ">secret", "+@all", "~*")
        code, levels, words = check(f"redis://node:wrong@127.0.0.1:{redis_server.port}")
        assert (code, levels) == (2, {"reachable": "wrong"})
        assert words["reachable"].startswith("it ") and "password" in words["reachable"]

    @pytest.mark.parametrize(
        ("without", "named"),
        [("+hset", "HSET"), ("+evalsha", "EVALSHA"), ("+zincrby", "ZINCRBY"), ("&rdns:1:acks", "PUBLISH rdns:1:acks"),
         ("~rdns:1:node:*", "DEL rdns:1:node:*"), ("+subscribe", "SUBSCRIBE"), ("+script|load", "SCRIPT LOAD")],
    )  # fmt: skip
    def test_a_missing_right(self, good: RedisServer, without: str, named: str) -> None:
        """It is named."""
        line = " ".join(word for word in user_line("node").split() if word != without)
        code, levels, words = check(add_user(good, "node", line))
        assert (code, levels["rights"]) == (2, "wrong")
        assert named in words["rights"].removeprefix("not allowed, and needed: ").split(", ")

    def test_too_many_rights(self, good: RedisServer) -> None:
        """They are named, as far as that can be found out."""
        assert "FLUSHALL" in check(good.url)[2]["privilege"]
        url = add_user(good, "node", user_line("node") + " ~* &*")
        assert check(url)[2]["privilege"].startswith(
            "more is allowed than a node needs: keys of others, channels of others"
        )

    def test_access_without_a_password_is_tried(self, good: RedisServer) -> None:
        """Whatever we may do with our password; a user of the docs' own is not what is tried."""
        good.client().execute_command("ACL", "SETUSER", "all", "on", ">secret", "+@all", "~*", "&*")
        good.client().execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
        assert check(f"redis://all:secret@127.0.0.1:{good.port}")[1]["access"] == "ok"

    def test_a_cluster(self) -> None:
        """All primaries are looked at, and what is not well is said with the server's name."""
        binary = next(filter(None, KINDS.values()))
        with ExitStack() as stack:
            cluster = RedisCluster(stack, binary, 0)
            for client in cluster.clients[:3]:
                client.config_set("maxmemory-policy", "allkeys-lfu")
            for client in cluster.clients[:2]:
                client.config_set("maxmemory", "64mb")
            done = asked_of("check-redis", cluster.url)
            assert done.returncode == 1, done.stdout + done.stderr
            (risky,) = [line for line in done.stdout.splitlines() if line.startswith("risky")]
            assert f"127.0.0.1:{cluster.servers[2].port}: maxmemory is not set" in risky
            assert done.stdout.count(" rights ") == 1 and "ok     rights" in done.stdout

    def test_the_words_for_a_terminal(self, good: RedisServer) -> None:
        """A line for each finding."""
        done = asked_of("check-redis", url=good.url)
        assert done.returncode == 0, done.stdout
        for line in done.stdout.splitlines()[1:]:
            assert re.fullmatch(r"(ok|note|risky|wrong) +[a-z]+ +\S.*", line)


class TestTheUsersOfTheDocs:
    def test_the_check_tries_what_is_allowed(self) -> None:
        """All of it, and nothing else."""
        commands = needed(Names("rdns"), "mark")
        of_two = ("MEMORY", "SCRIPT")
        words = [command[:2] if command[0] in of_two else command[:1] for command in commands]
        tried = {"|".join(map(str, each)).lower() for each in words}
        allowed = {word[1:] for word in user_line("node").split() if word.startswith("+")}
        assert tried == allowed - {"dbsize", "info"}  # the page does without, and says so

    def test_a_node(self, good: RedisServer, upstream: Upstream) -> None:
        """Is refused nothing: it leads, stores, discards, tells what is hot, and says goodbye."""
        client = good.client()
        url = add_user(good, "node", user_line("node"))
        with Node([upstream.address], url) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            client.hset("rdns:1:{bad.test.}:A", mapping={"info": "no", "wire": "no", "answer": "no"})
            for name in ("a.test.", "bad.test."):
                ask(node.port, name)
                wait_for(lambda name=name: client.hexists(f"rdns:1:{{{name}}}:A", "wire"))
            told = redis.Redis.from_url(url, driver_info=None)
            for _ in range(2):
                told.eval(HEAT.source.decode(), 1, "rdns:1:hot", "{a.test.}:A", "3")
                client.persist("rdns:1:hot")
            assert node.stop() == 0
            assert "NOPERM" not in node.log() and "carrying on without" not in node.log()
        assert [each for each in client.acl_log() if each["username"] == "node"] == []
        assert client.keys("rdns:1:node:*") == []

    def test_an_operator(self, good: RedisServer, upstream: Upstream, tmp_path: Path) -> None:
        """Every command of a person works."""
        url = add_user(good, "operator", user_line("operator"))
        client = good.client()
        with Node([upstream.address], good.url, args=("--node-id", "n1")) as node:
            wait_for(lambda: client.keys("rdns:1:node:n1.*.0"))
            ask(node.port, "a.test.")
            wait_for(lambda: client.exists("rdns:1:{a.test.}:A"))
            client.set("rdns:1:{a.test.}:A#lead", "lost", ex=100)
            file = str(tmp_path / "snapshot")
            for words in ("cache ls", "cache get a.test", "cache stats", "cache top", f"cache export {file}",
                          "cache flush a.test", f"cache import {file}", "cluster members", "cluster status",
                          "reload", "cluster forget nobody"):  # fmt: skip
                done = asked_of(*words.split(), url=url)
                assert done.returncode in (0, 1) and "Redis:" not in done.stderr, (words, done.stderr)
        assert [each for each in client.acl_log() if each["username"] == "operator"] == []


def found(**changed: Any) -> dict[str, Finding]:
    """What is said of a good server, but for some facts."""
    facts: dict[str, Any] = {
        "hello": {"server": "redis", "version": "7.2.4", "role": "master", "mode": "standalone"},
        "info": {"maxmemory": 1 << 26, "maxmemory_policy": "allkeys-lfu", "used_memory": 1 << 20},
        "settings": {"hash-max-listpack-value": "2048", "save": "", "appendonly": "no"},
        "encrypted": True, "password": True, "lets_anyone_in": False, "asked": True, "clock": 0.01,
        "pings": [0.0002] * 100,
    }  # fmt: skip
    return {finding.subject: finding for finding in judge(Facts(**facts | changed))}


@pytest.mark.pure
class TestJudging:
    def test_a_good_one(self) -> None:
        """Far away, and everything in order."""
        findings = found()
        assert worst(list(findings.values())) == OK
        assert findings["memory"].text == "maxmemory is 64 MB, 1 % used"

    @pytest.mark.parametrize(
        ("changed", "subject", "level"),
        [
            ({"hello": {"server": "redis", "version": "6.2.14"}}, "version", "wrong"),
            ({"hello": {"server": "valkey", "version": "7.2.5"}}, "version", "wrong"),
            ({"hello": {"server": "valkey", "version": "8.1.0"}}, "version", "ok"),
            ({"hello": {"server": "other", "version": "1.0"}}, "version", "note"),
            ({"hello": {}}, "version", "note"),
            ({"hello": {"server": "redis", "version": "8.0.1", "mode": "sentinel"}}, "role", "wrong"),
            ({"info": {"slave0": {"lag": 0}}}, "role", "ok"),
            ({"info": {"slave0": {"lag": 0}, "slave1": {"lag": 30}}}, "role", "note"),
            ({"info": {}}, "memory", "note"),
            ({"info": {}, "settings": {"maxmemory": "0", "maxmemory-policy": "noeviction"}}, "memory", "risky"),
            ({"settings": {"appendonly": "yes"}}, "persistence", "note"),
            ({"settings": {}}, "settings", "note"),
            ({"pings": [0.0002] * 98 + [0.2] * 2}, "latency", "risky"),
            ({"pings": [0.01] * 100}, "latency", "note"),
            ({"clock": 5.0}, "clock", "note"),
            ({"clock": -301.0}, "clock", "risky"),
            ({"clock": None}, "clock", "note"),
            ({"encrypted": False}, "way", "risky"),
            ({"verified": False}, "way", "risky"),
            ({"encrypted": False, "local": True}, "way", "ok"),
            ({"lets_anyone_in": True}, "access", "risky"),
            ({"lets_anyone_in": True, "local": True}, "access", "note"),
            ({"lets_anyone_in": None}, "access", "note"),
            ({"excess": ["FLUSHALL"]}, "privilege", "risky"),
            ({"excess": ["FLUSHALL"], "local": True}, "privilege", "note"),
            ({"refused": {"SET": "MISCONF Redis is configured to save"}}, "writing", "wrong"),
            ({"problem": "Timeout connecting to server"}, "reachable", "wrong"),
        ],
    )  # fmt: skip
    def test_each_fact(self, changed: dict[str, Any], subject: str, level: str) -> None:
        """Has its level."""
        assert found(**changed)[subject].level == level

    def test_the_worst_counts(self) -> None:
        """For the exit code."""
        assert worst([Finding(OK, "a", ""), Finding(WRONG, "b", ""), Finding("risky", "c", "")]) == WRONG
        assert worst([]) == OK
