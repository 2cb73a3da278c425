"""What a flush needs, reaches and says: rights, names without a search, nodes of another version, interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import (
    ROOT,
    Changing,
    Node,
    RedisServer,
    Upstream,
    answer_of,
    ask,
    clean_env,
    command,
    fill_all_workers,
    wait_for,
)

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

#: ARGV the first and the last of many entries.
MANY = """
for i = ARGV[1], ARGV[2] do redis.call('HSET', 'rdns:1:{n' .. i .. '.test.}:A', 'info', '-', 'wire', '-') end
"""
#: A node of a release in which entries have another form.
LATER = """
import sys
from rdnscache.store import contract
contract.VERSION = "2"
from rdnscache.cli import main
main(sys.argv[1:])
"""


class LaterNode(Node):
    executed = True

    def _start(self, words: list[str], env: dict[str, str], open_files: int | None) -> Any:
        with self._log.open("wb") as log:
            return subprocess.Popen([sys.executable, "-c", LATER, *words], stdin=subprocess.DEVNULL, stdout=log,
                                    stderr=log, env=clean_env(env), cwd=ROOT)  # fmt: skip


def start(stack: ExitStack, kind: type[Node], upstream: Upstream, server: RedisServer, name: str) -> Node:
    node = stack.enter_context(kind([upstream.address], redis=server.url, args=("--node-id", name)))
    wait_for(lambda: "attached to Redis" in node.log())
    return node


def test_two_versions_of_the_contract_side_by_side(redis_server: RedisServer, stack: ExitStack) -> None:
    """A command of either hears of all nodes, flushes what both have in Redis, and nobody answers with it any more."""
    handler, client = Changing(), redis_server.client()
    upstream = stack.enter_context(Upstream(handler))
    kinds = (("old1", Node), ("old2", Node), ("new", LaterNode))
    nodes = [start(stack, kind, upstream, redis_server, name) for name, kind in kinds]
    for words in ([sys.executable, "-m", "rdnscache"], [sys.executable, "-c", LATER]):
        handler.address = "192.0.2.1"
        for node in nodes:
            fill_all_workers(node, "www.flush.test.", "192.0.2.1")
        wait_for(lambda: client.exists("rdns:1:{www.flush.test.}:A", "rdns:2:{www.flush.test.}:A") == 2)
        handler.address = "192.0.2.2"
        flush = [*words, "cache", "flush", "www.flush.test", "--redis", redis_server.url]
        done = subprocess.run(flush, capture_output=True, text=True, env=clean_env(), cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 entries in Redis, 3 in local caches; confirmed by 3/3 nodes" in done.stdout
        assert {answer_of(node.port, "www.flush.test.") for node in nodes} == {"192.0.2.2"}
        command("cache", "flush", "--all", "--redis", redis_server.url)
    status = command("cluster", "status", "--redis", redis_server.url).stdout
    assert "new: the form of entries (contract) is '2', elsewhere '1'" in status


def test_a_name_is_not_searched_for(redis_server: RedisServer, stack: ExitStack) -> None:
    """Whatever its type, class, flags: it is gone, and the keys of all others were not walked through."""
    client = redis_server.client()
    node = start(stack, Node, stack.enter_context(Upstream()), redis_server, "n1")
    for rtype in ("A", "AAAA", "TYPE65400"):
        for wanted in (False, True):
            ask(node.port, "odd.test.", rtype, want_dnssec=wanted)
    ask(node.port, "odd.test.", "A", rdclass="HS")
    ask(node.port, "other.test.", "TYPE65400")
    entries = "rdns:1:{*.test.}:*"
    wait_for(lambda: len(client.keys(entries)) == 8)
    client.config_resetstat()
    found = command("cache", "get", "odd.test", "--redis", redis_server.url)
    assert "TYPE65400" in found.stdout
    done = command("cache", "flush", "odd.test", "--redis", redis_server.url)
    assert "7 entries in Redis" in done.stdout, done.stdout + done.stderr
    assert client.keys(entries) == [b"rdns:1:{other.test.}:TYPE65400"]
    listed = command("cache", "ls", "other.test", "--redis", redis_server.url)
    assert "TYPE65400" in listed.stdout
    assert client.info("commandstats")["cmdstat_scan"]["calls"] == 1  # to see whether it may be done


def test_what_is_imported_is_found_by_its_name(redis_server: RedisServer, stack: ExitStack, tmp_path: Path) -> None:
    """An entry of a type without a mnemonic that comes from a snapshot is flushed with its name."""
    client, url = redis_server.client(), ("--redis", redis_server.url)
    node = start(stack, Node, stack.enter_context(Upstream()), redis_server, "n1")
    ask(node.port, "odd.test.", "TYPE65400")
    ask(node.port, "odd.test.", "A")
    wait_for(lambda: len(client.keys("rdns:1:{odd.test.}:*")) == 2)
    file = str(tmp_path / "snapshot")
    assert "exported 2 entries" in command("cache", "export", file, *url).stderr
    client.flushall()
    assert "stored 2, already there 0, refused 0" in command("cache", "import", file, *url).stdout
    assert "stored 0, already there 2, refused 0" in command("cache", "import", file, *url).stdout
    assert "2 entries in Redis" in command("cache", "flush", "odd.test", *url).stdout


def test_when_the_index_is_full_names_are_searched_for(redis_server: RedisServer, stack: ExitStack) -> None:
    """What it does not list is found and deleted all the same."""
    client = redis_server.client()
    node = start(stack, Node, stack.enter_context(Upstream()), redis_server, "n1")
    ask(node.port, "odd.test.", "TYPE65400")
    wait_for(lambda: client.exists("rdns:1:{odd.test.}:TYPE65400"))
    assert client.zscore("rdns:1:{odd}:entries", "rdns:1:{odd.test.}:TYPE65400") > time.time()
    later = time.time() + 1000
    client.zadd("rdns:1:{odd}:entries", {f"rdns:1:{{n{number}.test.}}:TYPE9": later for number in range(10_000)})
    client.zrem("rdns:1:{odd}:entries", "rdns:1:{odd.test.}:TYPE65400")
    ask(node.port, "last.test.", "TYPE65400")
    wait_for(lambda: client.zscore("rdns:1:{odd}:entries", "more") is not None)
    assert "1 entry in Redis" in command("cache", "flush", "odd.test", "--redis", redis_server.url).stdout


@pytest.mark.parametrize("lacks", ["unlink", "scan", "publish", "xadd", "subscribe"])
def test_without_the_right_nothing_is_deleted(redis_server: RedisServer, stack: ExitStack, lacks: str) -> None:
    """Whatever the user may not do is found out first, and said in a sentence with where to read on."""
    client = redis_server.client()
    client.hset("rdns:1:{a.test.}:A", mapping={"info": "-", "wire": "-"})
    client.execute_command("ACL", "SETUSER", "some", "on", ">pass", "~*", "&*", "+@all", f"-{lacks}")
    url = f"redis://some:pass@127.0.0.1:{redis_server.port}"
    done = command("cache", "flush", "--all", "--redis", url)
    assert done.returncode == 1
    assert done.stderr.startswith("rdnscache: Redis: ") and "the user may not do this" in done.stderr
    assert "docs/redis.md" in done.stderr and done.stderr.count("\n") == 1
    assert client.exists("rdns:1:{a.test.}:A") == 1


def test_redis_in_words(redis_server: RedisServer, tmp_path: Path) -> None:
    """No number of an error, no word of its protocol: what is in the way, and what to do."""
    redis_server.client().execute_command("ACL", "SETUSER", "some", "on", ">pass", "~*", "+@all")
    where = f"127.0.0.1:{redis_server.port}"
    for url, words in (
        ("redis://127.0.0.1:1", "nothing can be reached at 127.0.0.1:1: Connection refused"),
        (f"unix://{tmp_path}/none", "nothing can be reached at"),
        ("redis://redis.invalid", "nothing can be reached at redis.invalid:6379: Name or service not known"),
        (f"redis://some:wrong@{where}", "it does not take this user and password"),
    ):
        done = command("cache", "ls", "--redis", url)
        assert done.returncode == 1
        assert words in done.stderr and "Err" not in done.stderr


def test_a_flush_that_fails_on_its_way_says_how_far_it_came(redis_server: RedisServer) -> None:
    """Redis goes while entries are deleted: a sentence, and what has been told to whom."""
    client = redis_server.client()
    for first in range(0, 100_000, 1000):
        client.eval(MANY, 0, first, first + 999)
    words = [sys.executable, "-m", "rdnscache", "cache", "flush", "--all", "--redis", redis_server.url]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=clean_env(), cwd=ROOT) as flush:
        wait_for(lambda: client.xlen("rdns:1:control") == 1)
        wait_for(lambda: client.dbsize() < 100_000, 20)
        redis_server.kill()
        _, said = flush.communicate(timeout=60)
    assert flush.returncode == 1
    assert "entries are deleted, not all that were meant" in said, said


def test_ctrl_c_says_what_was_done(redis_server: RedisServer) -> None:
    """What is left is told to be for the nodes, of which there are none yet: the next one knows of it."""
    client = redis_server.client()
    for first in range(0, 100_000, 1000):
        client.eval(MANY, 0, first, first + 999)
    words = [sys.executable, "-m", "rdnscache", "cache", "flush", "--all", "--redis", redis_server.url]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=clean_env(), cwd=ROOT) as flush:
        wait_for(lambda: client.dbsize() < 99_000, 20)
        os.kill(flush.pid, signal.SIGINT)
        _, said = flush.communicate(timeout=60)
    assert flush.returncode == 130
    assert said.startswith("rdnscache: interrupted: ")
    assert said.endswith("every worker was told, none was waited for; the nodes delete the rest\n"), said
    assert list(client.hgetall("rdns:1:{rdns:1:control}:flushing")) == [b'{"event": "flush"}']
