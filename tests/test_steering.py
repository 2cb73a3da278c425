"""The commands that look into the shared cache, move it and fill it."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest
from support import Node, RedisServer, Upstream, ask, command, wait_for

from rdnscache.operator.entries import Browser

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
    """`nx…` does not exist, `ttlN.…` lives for N seconds, all others for 300."""
    reply = dns.message.make_response(query, recursion_available=True)
    name = query.question[0].name
    first = name.labels[0].decode()
    if first.startswith("nx"):
        reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.authority.append(dns.rrset.from_text("test.", 60, "IN", "SOA", "ns.test. root.test. 1 2 3 4 60"))
    else:
        ttl = int(first[3:]) if first.startswith("ttl") else 300
        rtype, data = ("AAAA", "2001:db8::1") if query.question[0].rdtype == 28 else ("A", "192.0.2.1")
        reply.answer.append(dns.rrset.from_text(name, ttl, "IN", rtype, data))
    return reply


@contextmanager
def filled(redis_server: RedisServer, *names: str) -> Iterator[tuple[Node, Upstream]]:
    """A node whose Redis holds these names."""
    with Upstream(handler) as upstream, Node([upstream.address], redis_server.url) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        for name in names:
            ask(node.port, name)
        wait_for(lambda: len(redis_server.client().keys("rdns:1:{*.}*")) == len(names))
        yield node, upstream


def listed(redis_server: RedisServer, *words: str) -> list[str]:
    done = command("cache", "ls", *words, "--jsonl", "--redis", redis_server.url)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["key"].partition("{")[2].partition("}")[0] for line in done.stdout.splitlines()]


def test_ls_shows_what_is_wanted(redis_server: RedisServer) -> None:
    """Filters narrow the list, --sort orders it, --limit ends it."""
    with filled(redis_server, "b.test.", "a.test.", "nx.test.", "ttl5.test.", "a.other."):
        assert set(listed(redis_server)) == {"b.test.", "a.test.", "nx.test.", "ttl5.test.", "a.other."}
        assert set(listed(redis_server, "*.test")) == {"b.test.", "a.test.", "nx.test.", "ttl5.test."}
        assert listed(redis_server, "--rcode", "nxdomain") == ["nx.test."]
        assert set(listed(redis_server, "--expiring", "60")) == {"nx.test.", "ttl5.test."}
        assert listed(redis_server, "--older", "100000") == []
        assert listed(redis_server, "--type", "AAAA") == []
        assert listed(redis_server, "--sort", "name") == ["a.other.", "a.test.", "b.test.", "nx.test.", "ttl5.test."]
        assert listed(redis_server, "--sort", "ttl", "--limit", "2") == ["ttl5.test.", "nx.test."]
        assert len(listed(redis_server, "--limit", "3")) == 3


def test_stats_count(redis_server: RedisServer) -> None:
    """By type, RCODE and state."""
    with filled(redis_server, "b.test.", "a.test.", "nx.test."):
        found = json.loads(command("cache", "stats", "--json", "--redis", redis_server.url).stdout)
        assert found == {
            "entries": 3, "exact": True, "types": {"A": 2, "NXDOMAIN": 1}, "rcodes": {"NOERROR": 2, "NXDOMAIN": 1},
            "states": {"fresh": 3},
        }  # fmt: skip
        assert command("cache", "stats", "--redis", redis_server.url).stdout.startswith("3 entries\n")


def test_a_snapshot_brings_back_what_was_exported(redis_server: RedisServer, tmp_path: Path) -> None:
    """Exported, flushed and imported: a new node answers without the upstream; a second import changes nothing."""
    file = str(tmp_path / "snapshot")
    url = ("--redis", redis_server.url)
    with filled(redis_server, "b.test.", "a.test.", "nx.test.") as (_, upstream):
        redis = redis_server.client()
        before = {key: redis.hgetall(key) for key in redis.keys("rdns:1:{*.}*")}
        assert command("cache", "export", file, *url).stderr == "exported 3 entries\n"
        assert command("cache", "flush", "--all", *url).returncode == 0
        assert command("cache", "import", file, *url).stdout == "stored 3, already there 0, refused 0\n"
        for fields in before.values():  # what is imported counts, whatever was flushed before
            fields[b"info"] += b" seen=" + redis.xrevrange("rdns:1:control", count=1)[0][0]
        assert {key: redis.hgetall(key) for key in redis.keys("rdns:1:{*.}*")} == before
        assert all(0 < redis.pttl(key) <= 3_900_000 for key in before)
        assert command("cache", "import", file, *url).stdout == "stored 0, already there 3, refused 0\n"
        assert command("cache", "import", file, "--replace", *url).stdout == "stored 3, already there 0, refused 0\n"
        with Node([upstream.address], redis_server.url, args=("--node-id", "other")) as second:
            wait_for(lambda: "attached to Redis" in second.log())
            assert ask(second.port, "a.test.").answer
        assert upstream.counts["a.test.", "A"] == 1


def test_others_have_their_turn_between_entries(redis_server: RedisServer) -> None:
    """A worker that looks into many entries for a page draws breath after each; what it shows is dnslib's reading."""
    breaths: list[int] = []
    with filled(redis_server, "a.example", "b.example", "c.example"):
        browser = Browser(redis_server.url, "rdns", None, lambda: breaths.append(1))
        browser.whole = True
        views = list(browser.find("*"))

    assert len(views) == len(breaths) == 3
    assert {len(view.answer) for view in views} == {1}


def test_forged_and_damaged_lines_are_refused(redis_server: RedisServer, tmp_path: Path) -> None:
    """What would not count in Redis does not get there; the good lines do. Another file is no snapshot at all."""
    file = tmp_path / "snapshot"
    with filled(redis_server, "a.test.", "b.test."):
        assert command("cache", "export", str(file), "--redis", redis_server.url).returncode == 0
        redis = redis_server.client()
        redis.flushall()
        head, *lines = file.read_text().splitlines()
        good = json.loads(lines[0])
        wire = base64.b64decode(good["wire"])
        forged = [
            good | {"key": "{bank.test.}:A"},  # an answer to another question
            good | {"key": "{A.TEST.}:A"},
            good | {"key": "control"},
            good | {"key": good["key"] + "#lead"},
            good | {"left_ms": 10**12},
            good | {"left_ms": True},
            good | {"left_ms": -1},
            good | {"info": "rcode=NOERROR ttl=9999999 stale=9999999 x"},
            good | {"info": 7},
            good | {"wire": base64.b64encode(wire[:-1]).decode()},
            good | {"wire": "!!!!"},
            {"key": good["key"]},
            ["a"],
        ]
        text = [json.dumps(each) for each in forged] + [
            "{",
            "[" * 5000,
            "x" * 300_000,
            "\ud800".encode("utf-8", "replace").decode(),
        ]
        file.write_text("\n".join([head, *text, "", *lines]) + "\n\n")  # a blank line is none that is refused
        done = command("cache", "import", str(file), "--json", "--redis", redis_server.url)
        counts = json.loads(done.stdout)

        assert done.returncode == 1
        assert counts["stored"] == 2
        assert counts["refused"] == len(text)
        assert {key.decode() for key in redis.keys("*:{*")} == {"rdns:1:{a.test.}:A", "rdns:1:{b.test.}:A"}
        for other in ("", "not a snapshot\n", '{"rdnscache": "snapshot", "version": "99"}\n', "[" * 100_000):
            file.write_text(other)
            refused = command("cache", "import", str(file), "--redis", redis_server.url)
            assert refused.returncode == 2, other[:20]
            assert refused.stderr == "rdnscache: this file is not a snapshot that this version can read\n"


def test_a_packed_snapshot_is_read(redis_server: RedisServer, tmp_path: Path) -> None:
    """gzip, a byte order mark, CRLF and blank lines change nothing; of a damaged file, what comes before counts."""
    file, packed = tmp_path / "snapshot", tmp_path / "snapshot.gz"
    url = ("--redis", redis_server.url)
    with filled(redis_server, "a.test.", "b.test."):
        assert command("cache", "export", str(file), *url).returncode == 0
    text = file.read_text()
    packed.write_bytes(gzip.compress(("\ufeff\n" + text.replace("\n", "\r\n\r\n")).encode()))
    redis_server.client().flushall()
    done = command("cache", "import", str(packed), *url)
    assert (done.stdout, done.returncode) == ("stored 2, already there 0, refused 0\n", 0), done.stderr
    whole = gzip.compress(text.encode()) + gzip.compress(random.Random(1).randbytes(9_000).hex().encode())
    packed.write_bytes(whole[:-4_000])
    redis_server.client().flushall()
    done = command("cache", "import", str(packed), *url)
    assert done.returncode == 2 and "damaged" in done.stderr and "2 entries" in done.stderr, done.stderr
    assert len(redis_server.client().keys("*:{*")) == 2


def test_a_small_file_of_a_huge_content_fills_no_memory(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte of gzip: what `import` and `warm` read with needs less than 200 MB."""
    head = b'{"rdnscache": "snapshot", "version": "1"}\n'
    packed = tmp_path / "bomb.gz"
    with gzip.open(packed, "wb", 1) as file:
        file.write(head)
        for _ in range(64):
            file.write(bytes(16 << 20))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (200 << 20,) * 2)\n"
        "from rdnscache.files import read_lines, unpacked\n"
        "print([len(line) for line in read_lines(unpacked(open(sys.argv[1], 'rb')), 100_000)])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(packed)], capture_output=True, text=True, check=True)
    assert done.stdout == f"[{len(head) - 1}, 100001]\n"
    assert "line 1" in command("cache", "warm", str(packed)).stderr


def test_warm_asks_for_a_list(redis_server: RedisServer) -> None:
    """Every line once, types and comments understood; a list that cannot be read asks nothing."""
    with filled(redis_server) as (node, upstream):
        server = ("--server", f"127.0.0.1:{node.port}", "--rate", "1000")
        done = command(
            "cache", "warm", "-", *server, stdin="a.test\nA.test. a\n# comment\n\nb.test AAAA # why\nnx.test\n"
        )
        assert done.stdout == "3 answered, 0 refused, 0 failed, 0 silent\n", done.stderr
        assert upstream.counts == {("a.test.", "A"): 1, ("b.test.", "AAAA"): 1, ("nx.test.", "A"): 1}
        for bad in ("a.test\nb..test\n", "a.test A A\n", "a.test WHAT\n", "new.test\n1,google.com\n"):
            refused = command("cache", "warm", "-", *server, stdin=bad)
            assert refused.returncode == 2
            assert "line " in refused.stderr
        assert sum(upstream.counts.values()) == 3
        ranked = "1,a.test\n2,c.test\n3,d.test\n"
        done = command("cache", "warm", "-", *server, "--format", "csv", "--limit", "2", stdin=ranked)
        assert done.stdout == "2 answered, 0 refused, 0 failed, 0 silent\n", done.stderr
        assert ("d.test.", "A") not in upstream.counts


def test_warm_says_that_nobody_can_be_asked() -> None:
    """An address to which there is no way: exit code 2 and one sentence."""
    done = command("cache", "warm", "-", "--server", "255.255.255.255", stdin="a.test\n")
    assert done.returncode == 2
    assert done.stderr.startswith("rdnscache: 255.255.255.255:53 cannot be asked") and done.stderr.count("\n") == 1


def test_warm_says_who_did_not_answer() -> None:
    """No answer from upstream: failed, and exit code 1."""

    def refusing(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.REFUSED)
        return reply

    with Upstream(refusing) as upstream, Node([upstream.address]) as node:
        done = command("cache", "warm", "-", "--server", f"127.0.0.1:{node.port}", "--json", stdin="a.test\n")
        assert json.loads(done.stdout) == {"answered": 0, "refused": 1, "failed": 0, "silent": 0}
        assert done.returncode == 1


@pytest.mark.parametrize("words", [("status",), ("members",), ("forget", "n9")])
def test_an_empty_cluster_is_said_to_be_empty(redis_server: RedisServer, words: tuple[str, ...]) -> None:
    """Nobody there: a sentence or an empty list, no traceback."""
    done = command("cluster", *words, "--redis", redis_server.url)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if words == ("members",) else 1)


def test_status_tells_of_nodes_rates_and_differences(redis_server: RedisServer) -> None:
    """Two nodes, one with another TTL limit; after one is killed it is missed until it is forgotten."""
    url = ("--redis", redis_server.url)
    with (
        Upstream(handler) as upstream,
        Node([upstream.address], redis_server.url, 2, ("--node-id", "a")) as first,
        Node([upstream.address], redis_server.url, 1, ("--node-id", "b", "--ttl-max", "77")) as second,
    ):
        wait_for(lambda: first.log().count("attached to Redis") == 2 and "attached to Redis" in second.log())
        found = {each["node"]: each for each in json.loads(command("cluster", "status", "--json", *url).stdout)}
        assert set(found) == {"a", "b"}
        assert (found["a"]["workers_present"], found["a"]["attached"]) == (2, 2)
        remarks = found["a"]["remarks"] + found["b"]["remarks"]
        assert len(remarks) == 2  # of two nodes nobody can say which one is wrong
        assert "ttl_max" in remarks[0]
        table = command("cluster", "status", *url)
        assert table.returncode == 0
        assert upstream.address in table.stdout
        (worker,) = second.children()
        os.kill(worker, signal.SIGSTOP)  # so that it cannot say goodbye
        second.process.kill()
        second.process.wait()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: command("cluster", "status", *url).returncode == 1, 20)
        assert "silent for" in command("cluster", "status", *url).stdout
        assert command("cluster", "forget", "b", *url).stdout == "forgot b: 1 worker\n"
        assert command("cluster", "status", *url).returncode == 0
        first.stop()
        assert json.loads(command("cluster", "members", "--json", *url).stdout) == []
