"""What others write into Redis, or send as a reply, costs nobody time, steers no terminal and ends no command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import pytest
import redis
from support import Node, RedisServer, Upstream, answer, ask, clean_env, command, free_port, wait_for

from rdnscache.printable import printable
from rdnscache.store.contract import Names
from rdnscache.store.foreign_json import read_object
from rdnscache.store.scope import Scope

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

#: ESC, BEL, CR, DEL, CSI of Latin-1, a mark that turns the direction, and a second line.
NASTY = "a\x1b[2Jb\x07c\rd\x7fe\x9b31mf\u202eg\nh"
STEERING = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: 24 KB in one label, which IDNA would be at for minutes.
LONG_NAME = "é" * 12_000


def in_utf8(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return command(*args, env={"PYTHONIOENCODING": "utf-8"} | (env or {}))


def fits_a_terminal(done: subprocess.CompletedProcess[str]) -> str:
    """The output, in which nothing steers a terminal."""
    text = done.stdout + done.stderr
    assert STEERING.search(text) is None, text
    assert "Traceback" not in text, text
    return text


@pytest.mark.parametrize(
    "message",
    [
        f"? {json.dumps({'event': 'look', 'id': '1', 'name': LONG_NAME})}",
        f"1-1 {json.dumps({'event': 'flush', 'name': LONG_NAME})}",
        f"1-1 {json.dumps({'event': 'flush', 'zone': LONG_NAME, 'type': 'A' * 20_000})}",
        f"1-1 {json.dumps({'event': 'flush', 'name': 'a.' * 12_000})}",
    ],
    ids=["look", "flush", "zone", "labels"],
)
def test_a_long_name_in_a_message_hangs_no_worker(redis_server: RedisServer, upstream: Upstream, message: str) -> None:
    """After one PUBLISH of 24 KB both workers answer as before, and the log holds little of it."""
    with Node([upstream.address], redis_server.url, workers=2) as node:
        redis_server.client().publish("rdns:1:control", message)
        for number in range(20):
            assert ask(node.port, f"n{number}.odd.test").answer
        wait_for(lambda: "cannot be read" in node.log())
        assert len(node.log()) < 8_000


def test_long_names_among_the_hot_ones_delay_no_start(redis_server: RedisServer, upstream: Upstream) -> None:
    """A ZADD of long names and absurd scores: a node starts and is warm, `cache top` and the page go on."""
    client = redis_server.client()
    client.zadd("rdns:1:hot", {f"{{{LONG_NAME}.}}:A": 9e9, f"{{{'a.' * 9_000}}}:A": 8e9, "{b.test.}:A": float("inf")})
    client.zadd("rdns:1:hot", {f"{{{'é' * 60}{number}.}}:A": 7e9 for number in range(900)} | {"{a.test.}:A": 100})
    admin = f"127.0.0.1:{free_port()}"
    with Node([upstream.address], redis_server.url, args=("--warm-time", "300", "--admin", admin)) as node:
        assert ask(node.port, "a.test").answer
        with urllib.request.urlopen(f"http://{admin}/api/cluster", timeout=10) as page:
            assert {each["question"] for each in json.load(page)["hot"]} <= {"a.test. A"}
    top = in_utf8("cache", "top", "--redis", redis_server.url, "--limit", "1000")
    assert [line.split()[1:] for line in top.stdout.splitlines()[1:]] == [["a.test.", "A"]]


def test_only_our_own_form_is_read_from_redis() -> None:
    """A key or an event with a name that no node writes is none of ours."""
    names = Names("rdns")
    assert names.question("rdns:1:{a.test.}:A") is not None
    for odd in ("A.test.", "a.test", "a\\097.test.", "é.test.", f"{'a.' * 600}", f"{'a' * 100_000}."):
        assert names.question(f"rdns:1:{{{odd}}}:A") is None
        with pytest.raises(ValueError, match="not a name as nodes write it"):
            Scope.of({"event": "flush", "name": odd})
    assert names.question("rdns:1:{a.test.}:" + "A" * 100_000) is None


INSANE = [b"[]", b"1", b"", b"{", b"[" * 50_000, b'{"a":1e999}', b'{"a":NaN}', b'{"a":-Infinity}', b"\xff",
          b'{"a":1' + b"0" * 5000 + b"}", b'{"a":"' + b"x" * 200_000 + b'"}']  # fmt: skip


@pytest.mark.parametrize("raw", INSANE, ids=lambda raw: repr(raw[:10]))
def test_only_sane_objects_are_read(raw: bytes) -> None:
    """Numbers that are not finite, other JSON, deep nesting and too many octets are refused with a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        read_object(raw, 100_000)


@pytest.mark.parametrize("piece", [b"1", b"[]", b'{"a":1}', b'""'])
def test_what_takes_long_to_read_is_not_read(piece: bytes) -> None:
    """Octets cost little, values much: few values of great length are read, many short ones are not."""
    assert read_object(b'{"a":"' + b"x" * 50_000 + b'"}', 64 << 10)["a"] == "x" * 50_000
    assert len(read_object(b'{"a":[' + b",".join([b"1"] * 3000) + b"]}", 64 << 10)["a"]) == 3000
    with pytest.raises(ValueError, match="more than 4000 values"):
        read_object(b'{"a":[' + b",".join([piece] * 4100) + b"]}", 1 << 20)


def report(**told: Any) -> str:
    base = {
        "node": "n1", "worker": 0, "pid": 1, "version": "1.0", "form": "plain", "started": time.time(), "workers": 1,
        "listen": ["127.0.0.1:53"], "config": {}, "time": time.time(), "redis_ms": 1.0, "redis_state": "attached",
        "counters": {"redis_attached": 1}, "recent": {"queries.udp": 10, "answers.l1": 10}, "recent_seconds": 6.0,
        "history": [], "slow": [], "upstreams": [{"address": "192.0.2.1:53", "ms": 1.0, "failures": 0, "rests": 0}],
    }  # fmt: skip
    return json.dumps(base | told)


ABSURD = [
    float("inf"),
    float("nan"),
    -float("inf"),
    10**400,
    1e300,
    -1e300,
    "x",
    None,
    [],
    {},
    True,
    NASTY,
    "y" * 10**5,
]


def introduce(client: redis.Redis, node: str, told: str) -> None:
    """Enter a worker in the register, and what it says of itself."""
    client.set(f"rdns:1:node:{node}.1a2b3c4d.0", told, ex=3600)
    client.zadd("rdns:1:nodes", {f"{node}.1a2b3c4d.0": time.time(), "since": time.time() - 100})


def test_absurd_reports_end_no_command(redis_server: RedisServer) -> None:
    """Whatever stands in a report: `cluster status` shows a table that fits a terminal, and its JSON is JSON."""
    client = redis_server.client()
    fields = ("version", "form", "started", "workers", "redis_ms", "redis_state", "counters", "recent", "history",
              "recent_seconds", "slow", "upstreams", "config")  # fmt: skip
    reports = {}
    for kind, value in enumerate(ABSURD):
        nested = {"counters": {"redis_attached": value}, "recent": {"queries.udp": value}, "history": [[value] * 8],
                  "slow": [{"time": value, "ms": value, "name": value}], "config": {"ttl_max": value},
                  "upstreams": [{"address": value, "ms": value, "rests": value}]}  # fmt: skip
        reports |= {f"n{kind}-{name}": report(**{name: value}) for name in fields}
        reports |= {f"d{kind}-{name}": report(**{name: told}) for name, told in nested.items()}
    for node, raw in reports.items():
        introduce(client, node, raw.replace("Infinity", "1e999"))
    text = fits_a_terminal(in_utf8("cluster", "status", "--redis", redis_server.url))
    assert max(map(len, text.splitlines())) < 600
    told = json.loads(
        in_utf8("cluster", "status", "--json", "--redis", redis_server.url).stdout, parse_constant=pytest.fail
    )
    assert {node["node"] for node in told} <= set(reports)


def test_values_of_others_steer_no_terminal(redis_server: RedisServer) -> None:
    """Escapes in entries, node names, versions and acknowledgements are shown as text, each on its own line."""
    client = redis_server.client()
    client.hset("rdns:1:{a.test.}:A", mapping={
        "info": f"rcode={NASTY} ttl=² stale=3600 stored={NASTY} from={NASTY} node={NASTY}", "answer": f"x {NASTY}",
        "wire": b"\0",
    })  # fmt: skip
    client.pexpire("rdns:1:{a.test.}:A", 100_000)
    introduce(client, NASTY, report(version=NASTY, form=NASTY))
    url = ("--redis", redis_server.url)
    for words in (
        ("cache", "ls"),
        ("cache", "get", "a.test"),
        ("cache", "stats"),
        ("cluster", "status"),
        ("cluster", "members"),
        ("cluster", "forget", NASTY),
        ("cache", "flush", "b.test", "--wait", "0.1"),
    ):
        fits_a_terminal(in_utf8(*words, *url))
        introduce(client, NASTY, report(version=NASTY, form=NASTY))
        fits_a_terminal(in_utf8(*words, *url, "--json"))
    assert len(in_utf8("cluster", "members", *url).stdout.splitlines()) == 2  # with the head


def test_forged_words_of_workers_end_no_command(redis_server: RedisServer) -> None:
    """What somebody says in a worker's name of its L1 is shown escaped; absurd numbers and odd fields end nothing."""
    client = redis_server.client()
    introduce(client, "n1", report())
    ear = client.pubsub()
    ear.subscribe("rdns:1:control")
    held = [{"key": NASTY, "rcode": NASTY, "origin": f"from={NASTY}", "ttl_left": each, "age": each, "state": NASTY}
            for each in (10**15, -1, None, "x", [])]  # fmt: skip

    def answer_forged() -> None:
        while not ended.is_set():
            message = ear.get_message(timeout=0.05)
            if message and message["type"] == "message" and message["data"].startswith(b"? "):
                asked = json.loads(message["data"][2:])["id"]
                told = {"event": asked, "node": "n1", "incarnation": "1a2b3c4d", "worker": 0}
                for each in [*held, {"node": NASTY}, 5, {"key": 5, "origin": 7}]:
                    client.publish("rdns:1:acks", json.dumps(told | {"held": [each]}))
                client.publish("rdns:1:acks", json.dumps(told | {"held": held}).replace("null", "1e999"))

    ended = threading.Event()
    forger = threading.Thread(target=answer_forged)
    forger.start()
    try:
        for words in ((), ("--json",)):
            done = in_utf8("cache", "get", "a.test", "--redis", redis_server.url, *words)
            fits_a_terminal(done)
            assert done.returncode == 0, done.stderr
    finally:
        ended.set()
        forger.join()


def test_a_reply_steers_no_terminal() -> None:
    """The text of an Extended DNS Error is the server's own; `query` shows it escaped."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = answer(query, '300 TXT "\\027[2J"')
        reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.BLOCKED, NASTY)])
        return reply

    with Upstream(handler) as upstream:
        text = fits_a_terminal(in_utf8("query", "a.test", "TXT", "--server", upstream.address))
        assert "\\x1b[2J" in text


@pytest.mark.parametrize("text", ["", "Bücher 日本 é", "a b-c_d.e\\f'\"", "\U0001f600"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Letters of any script are shown as they are."""
    assert printable(text) == text


WORDS = [("--help",), ("check-config", "{toml}"), ("cache", "ls"), ("cache", "export", "-"),
         ("cluster", "status", "--json")]  # fmt: skip


def test_closed_standard_streams_end_in_no_traceback() -> None:
    """No standard input is an empty one; without a standard error nothing is said there."""
    for words in ("cache warm - <&-", "cache warm - 2>&- <&-", "cache import - <&- --redis redis://127.0.0.1:1"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m rdnscache {words}"],
            capture_output=True, text=True, timeout=30, env=clean_env(), check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == (0 if "warm" in words else 1), (words, done)


@pytest.mark.parametrize("target", ["full", "closed", "pipe"])
def test_output_that_cannot_be_written(tmp_path: Path, target: str) -> None:
    """A full disk, a closed standard output, a reader that has gone: no traceback, and one sentence where one helps."""
    (tmp_path / "node.toml").write_text('upstream = ["192.0.2.1"]\n')
    with RedisServer() as server:
        client = server.client()
        fields = {"info": "rcode=NOERROR ttl=300 stale=0", "answer": "x", "wire": b"x"}
        client.hset("rdns:1:{a.test.}:A", mapping=fields)
        client.pexpire("rdns:1:{a.test.}:A", 300_000)
        env = clean_env({"RDNSCACHE_REDIS": server.url})
        for words in WORDS:
            args = " ".join(word.format(toml=tmp_path / "node.toml") for word in words)
            command = f"{sys.executable} -m rdnscache {args}"
            ends = {"full": f"{command} >/dev/full", "closed": f"{command} >&-", "pipe": f"{command} | true"}
            done = subprocess.run(
                ["bash", "-c", ends[target]], capture_output=True, text=True, timeout=30, env=env, check=False
            )
            assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
            if target == "full":
                assert done.returncode == 1, words
                assert done.stderr.count("cannot be written") == 1
