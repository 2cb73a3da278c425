"""With a secret, nobody who can write to Redis decides what a node answers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    Node,
    RedisServer,
    Upstream,
    addresses,
    answer,
    ask,
    clean_env,
    command,
    free_port,
    numbers,
    wait_for,
)
from support.samples import INFO, WIRE

from rdnscache.config import load, options
from rdnscache.config_text import plain
from rdnscache.errors import ConfigError
from rdnscache.logs import Throttled
from rdnscache.store.decoding import read_wake
from rdnscache.store.seal import TOLERANCE, Seal

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


FIRST, SECOND = "1:the-first-secret-of-all", "2:the-second-secret-of-all"
ENTRY = "rdns:1:{a.example.}:A"
NAME = b"rdns:1:{www.example.com.}:A"
#: When INFO says that it was stored.
MADE = 1795417200.0


def moment(ago: float) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago)).encode()


def forged_wire() -> bytes:
    """The answer that nobody must hear."""
    query = dns.message.make_query("a.example.", "A", id=0)
    return answer(query, "300 A 203.0.113.66").to_wire()


def info_of(ago: float = 0) -> bytes:
    return b"rcode=NOERROR ttl=300 stale=3600 stored=" + moment(ago) + b" from=192.0.2.53 node=evil"


@contextmanager
def signing(server: RedisServer, upstream: Upstream, *secrets: str, node_id: str = "n1") -> Iterator[tuple[Node, int]]:
    """A node with secrets, attached; and its admin port."""
    admin = free_port()
    args = ["--admin", f"127.0.0.1:{admin}", "--node-id", node_id]
    with Node([upstream.address], server.url, 1, args, {"RDNSCACHE_SECRET": " ".join(secrets)}) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        yield node, admin


def stored_entry(client: redis.Redis, key: str = ENTRY) -> dict[bytes, bytes]:
    found: Any = client.hgetall(key)
    return found


@pytest.mark.pure
class TestTheSeal:
    def test_what_is_signed_is_believed(self) -> None:
        """As it is, under its own key, and with any of the secrets."""
        mac = Seal((FIRST,)).sign(NAME, INFO, WIRE)
        for secrets in ((FIRST,), (SECOND, FIRST)):
            assert Seal(secrets).problem(NAME, INFO, WIRE, mac, 0.0, MADE) == ""
        assert Seal((SECOND,)).problem(NAME, INFO, WIRE, mac, 0.0, MADE) != ""
        assert Seal(("1:another secret with it",)).problem(NAME, INFO, WIRE, mac, 0.0, MADE) != ""

    @settings(max_examples=500)
    @given(st.integers(0, 3), st.integers(0, 10**9))
    def test_no_bit_may_change(self, which: int, at: int) -> None:
        """Of key, info, wire and MAC."""
        seal = Seal((FIRST,))
        parts = [NAME, INFO, WIRE, seal.sign(NAME, INFO, WIRE)]
        changed = bytearray(parts[which])
        changed[at // 8 % len(changed)] ^= 1 << at % 8
        parts[which] = bytes(changed)

        assert seal.problem(parts[0], parts[1], parts[2], parts[3], 0.0, MADE) != ""

    @settings(max_examples=200)
    @given(st.binary(max_size=80) | st.none() | st.integers(), st.binary(max_size=80), st.binary(max_size=80))
    def test_nothing_else_fits(self, mac: object, info: bytes, wire: bytes) -> None:
        """Whatever is written there, nothing is believed and nothing raises."""
        seal = Seal((FIRST,))
        assert seal.problem(NAME, info, wire, mac, 0.0, MADE) != ""
        assert seal.problem(NAME, INFO, WIRE, mac, 0.0, MADE) != ""

    def test_octets_do_not_move_between_the_parts(self) -> None:
        """The same octets, cut elsewhere, are another entry."""
        seal = Seal((FIRST,))
        mac = seal.sign(NAME, INFO, b"one\ntwo")
        assert seal.problem(NAME, INFO, b"one\ntwo", mac, 0.0, MADE) == ""
        assert seal.problem(NAME, INFO + b"\none", b"two", mac, 0.0, MADE) != ""

    @pytest.mark.parametrize(
        ("age", "since", "believed"),
        [
            (0, 0, True), (300, 300, True), (0, TOLERANCE, True), (0, TOLERANCE + 1, False),
            (300, 300 + TOLERANCE + 1, False), (0, -TOLERANCE, True), (0, -TOLERANCE - 1, False),
        ],
    )  # fmt: skip
    def test_the_time_is_signed_too(self, age: float, since: float, believed: bool) -> None:
        """An entry is as old as its expiry says and its signed time says; clocks may differ by the tolerance."""
        seal = Seal((FIRST,))
        mac = seal.sign(NAME, INFO, WIRE)
        assert (seal.problem(NAME, INFO, WIRE, mac, age, MADE + since) == "") is believed

    def test_the_form_of_a_mac(self) -> None:
        """As the contract says, so that other programs can make one."""
        import hashlib

        key = hashlib.blake2b(b"the-first-secret-of-all", digest_size=32, person=b"rdnscache key").digest()
        parameters = {"digest_size": 16, "key": key, "salt": b"1", "person": b"rdnscache entry"}
        digest = hashlib.blake2b(NAME + b"\n" + INFO + b"\n" + WIRE, **parameters).hexdigest()  # type: ignore[arg-type]
        assert Seal((FIRST,)).sign(NAME, INFO, WIRE) == b"1:" + digest.encode()

    def test_a_wake_message_with_and_without(self) -> None:
        """A node that has no secret reads both."""
        assert read_wake(b"key\ninfo\n" + WIRE) == (b"key", b"info", WIRE, None)
        assert read_wake(b"key\ninfo\n1:00ff\n" + WIRE) == (b"key", b"info", WIRE, b"1:00ff")


FORGERIES = ("corrupt", "truncated", "foreign", "future", "replayed", "question", "key", "id", "forged", "missing")


def forge(kind: str, good: dict[bytes, bytes], seal: Seal) -> dict[bytes, bytes]:
    """What somebody makes of a good entry, without the secret but for what a node has signed once."""
    key, wire = ENTRY.encode(), forged_wire()
    future, past = info_of(-4000), info_of(5000)
    evil = {b"info": info_of(), b"answer": b"-", b"wire": wire}
    match kind:
        case "corrupt":
            at = good[b"wire"].rindex(bytes((192, 0, 2, 1)))
            return good | {b"wire": good[b"wire"][:at] + bytes((203, 0, 113, 66))}
        case "truncated":
            return good | {b"wire": good[b"wire"][:-1]}
        case "foreign":
            return evil | {b"mac": Seal(("1:a secret of their own",)).sign(key, evil[b"info"], wire)}
        case "future":
            return evil | {b"info": future, b"mac": seal.sign(key, future, wire)}
        case "replayed":
            return evil | {b"info": past, b"mac": seal.sign(key, past, wire)}
        case "question":
            other = answer(dns.message.make_query("b.example.", "A", id=0), "300 A 203.0.113.66").to_wire()
            return evil | {b"wire": other, b"mac": seal.sign(key, evil[b"info"], other)}
        case "key":
            return evil | {b"mac": seal.sign(b"rdns:1:{b.example.}:A", evil[b"info"], wire)}
        case "id":
            return evil | {b"mac": b"9" + seal.sign(key, evil[b"info"], wire)[1:]}
        case "forged":
            return evil | {b"mac": b"1:" + b"00" * 16}
        case _:
            return evil


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_entry_is_a_miss_and_replaced(redis_server: RedisServer, upstream: Upstream, kind: str) -> None:
    """The client hears the upstream's answer, which takes the place of what was in Redis.

    Only what is no entry for anybody is deleted: the disbelief of one node, whose clock may be wrong, costs the others
    nothing.
    """
    client, seal = redis_server.client(), Seal((FIRST,))
    with signing(redis_server, upstream, FIRST) as (node, _):
        ask(node.port, "a.example.")
        wait_for(lambda: client.exists(ENTRY))
        good = stored_entry(client)
    assert set(good) == {b"info", b"answer", b"wire", b"mac"}
    assert good[b"mac"] == seal.sign(ENTRY.encode(), good[b"info"], good[b"wire"])
    with signing(redis_server, upstream, FIRST, node_id="n2") as (node, admin):
        client.delete(ENTRY)
        client.hset(ENTRY, mapping=forge(kind, good, seal))
        client.pexpire(ENTRY, 3_900_000)
        assert addresses(ask(node.port, "a.example.")) == ["192.0.2.1"]

        wait_for(lambda: b"node=n2" in stored_entry(client).get(b"info", b""))
        healed = stored_entry(client)
        assert healed[b"mac"] == seal.sign(ENTRY.encode(), healed[b"info"], healed[b"wire"])
        assert upstream.count("a.example.") == 2
        broken = kind in ("truncated", "question")
        found = wait_for(lambda: (n := numbers(admin)) and n["store_discards_total"] + n["store_forged_total"] and n)
        assert (found["store_discards_total"], found["store_forged_total"]) == (broken, not broken)
        assert ("not a usable entry" if broken else "not using") in node.log()


def test_a_node_whose_clock_disagrees_with_most_shares_with_nobody(
    redis_server: RedisServer, upstream: Upstream
) -> None:
    """Entries of four others that seem made ten minutes too early: it says so, answers, and leaves theirs alone."""
    client, seal = redis_server.client(), Seal((FIRST,))
    with signing(redis_server, upstream, FIRST) as (node, _):
        for number in range(2, 7):
            name = f"c{number}.example."
            wire = dns.message.make_response(dns.message.make_query(name, "A", id=0))
            wire.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.77"))
            wire.flags |= dns.flags.RA
            key = f"rdns:1:{{{name}}}:A"
            info = info_of(600).replace(b"node=evil", f"node=n{number}".encode())
            fields = {"info": info, "wire": wire.to_wire(), "mac": seal.sign(key.encode(), info, wire.to_wire())}
            client.hset(key, mapping=fields)
            client.pexpire(key, 3_900_000)
            assert addresses(ask(node.port, name)) == ["192.0.2.1"]
        assert "this host's clock differs from most nodes'" in node.log()
        assert b"node=n6" in stored_entry(client, "rdns:1:{c6.example.}:A")[b"info"]


def test_a_good_entry_is_shared(redis_server: RedisServer, upstream: Upstream) -> None:
    """Between nodes with the same secret the upstream is asked once."""
    with (
        signing(redis_server, upstream, FIRST) as (one, _),
        signing(redis_server, upstream, FIRST, node_id="n2") as (
            two,
            admin,
        ),
    ):
        ask(one.port, "a.example.")
        wait_for(lambda: redis_server.client().exists(ENTRY))
        assert addresses(ask(two.port, "a.example.")) == ["192.0.2.1"]
        assert upstream.count("a.example.") == 1
        assert numbers(admin)["store_forged_total"] == 0


def test_a_forged_wake_up_wakes_nobody(redis_server: RedisServer) -> None:
    """A follower goes on following; the true wake-up comes with a MAC."""
    client, key = redis_server.client(), ENTRY.encode()
    with Upstream(delay=1.0) as upstream:
        with (
            signing(redis_server, upstream, FIRST) as (one, _),
            signing(redis_server, upstream, FIRST, node_id="n2") as (two, admin),
        ):
            asking = [
                subprocess.Popen(
                    [sys.executable, "-m", "rdnscache", "query", "--jsonl", "--server", f"127.0.0.1:{node.port}",
                     "a.example"],
                    stdout=subprocess.PIPE, text=True, env=clean_env(),
                )
                for node in (one, two)
            ]  # fmt: skip
            channels = wait_for(lambda: client.smembers(ENTRY + "#wait"))
            old = info_of(5000)
            for message in (
                key + b"\n" + info_of() + b"\n" + forged_wire(),
                key + b"\n" + info_of() + b"\n1:" + b"00" * 16 + b"\n" + forged_wire(),
                key + b"\n" + old + b"\n" + Seal((FIRST,)).sign(key, old, forged_wire()) + b"\n" + forged_wire(),
            ):
                for channel in channels:
                    assert client.publish(channel, message) == 1
            for process in asking:
                (record,) = json.loads(process.communicate(timeout=10)[0])["answer"]
                assert record.endswith(" A 192.0.2.1")
            assert upstream.count("a.example.") == 1
            told = [numbers(admin)] if b"n2" in next(iter(channels)) else []
            assert all(found["store_forged_total"] == 3 and found["wakes_received_total"] == 1 for found in told)


def test_a_new_secret_without_a_miss(redis_server: RedisServer, upstream: Upstream) -> None:
    """First everybody checks with the new one, then everybody signs with it; what the old one signed stays good."""
    client = redis_server.client()
    steps = ((FIRST,), (FIRST, SECOND), (SECOND, FIRST))
    for number, secrets in enumerate(steps):
        with signing(redis_server, upstream, *secrets, node_id=f"n{number}") as (node, admin):
            for name in ("a", "b", "c")[: number + 1]:
                assert addresses(ask(node.port, f"{name}.example.")) == ["192.0.2.1"]
                wait_for(lambda name=name: client.exists(f"rdns:1:{{{name}.example.}}:A"))
            assert numbers(admin)["store_forged_total"] == 0
    assert upstream.total() == 3
    signers = [stored_entry(client, f"rdns:1:{{{name}.example.}}:A")[b"mac"][:2] for name in ("a", "b", "c")]
    assert signers == [b"1:", b"1:", b"2:"]


def test_nodes_with_different_secrets_do_not_share_but_answer(redis_server: RedisServer, upstream: Upstream) -> None:
    """Each asks the upstream for itself."""
    with (
        signing(redis_server, upstream, FIRST) as (one, _),
        signing(redis_server, upstream, SECOND, node_id="n2") as (
            two,
            _,
        ),
    ):
        for node in (one, two):
            assert addresses(ask(node.port, "a.example.", timeout=5)) == ["192.0.2.1"]
            wait_for(lambda: redis_server.client().exists(ENTRY))
        assert upstream.count("a.example.") == 2


def test_a_node_without_a_secret_uses_what_is_signed(redis_server: RedisServer, upstream: Upstream) -> None:
    """While a secret is brought in node by node, those that have none yet go on as before."""
    with signing(redis_server, upstream, FIRST) as (one, _), Node([upstream.address], redis_server.url) as two:
        wait_for(lambda: "attached to Redis" in two.log())
        ask(one.port, "a.example.")
        wait_for(lambda: redis_server.client().exists(ENTRY))
        assert addresses(ask(two.port, "a.example.")) == ["192.0.2.1"]
        assert upstream.count("a.example.") == 1


class TestPeople:
    def test_what_is_not_signed_is_marked(self, redis_server: RedisServer, upstream: Upstream) -> None:
        """`cache get` with the secret says so; and what is signed is shown as it is, whatever the text beside says."""
        client = redis_server.client()
        env = {"RDNSCACHE_REDIS": redis_server.url}
        with signing(redis_server, upstream, FIRST) as (node, _):
            for name in ("a.example.", "b.example."):
                ask(node.port, name)
                wait_for(lambda name=name: client.exists(f"rdns:1:{{{name}}}:A"))
        client.hset(ENTRY, "answer", "a.example. 300 IN A 203.0.113.66")
        client.hdel("rdns:1:{b.example.}:A", "mac")
        with_secret = env | {"RDNSCACHE_SECRET": FIRST}
        found = [
            json.loads(command("cache", "get", f"{name}.example", "--json", env=with_secret).stdout) for name in "ab"
        ]

        assert [(view["state"], view["answer"]) for (view,) in found] == [
            ("fresh", ["a.example. 300 IN A 192.0.2.1"]),
            ("not signed", ["b.example. 300 IN A 192.0.2.1"]),
        ]
        assert json.loads(command("cache", "get", "b.example", "--json", env=env).stdout)[0]["state"] == "fresh"
        snapshot = command("cache", "export", "-", env=with_secret).stdout
        assert len(snapshot.splitlines()) == 2 and "a.example" in snapshot

    def test_an_import_signs(self, redis_server: RedisServer, upstream: Upstream, tmp_path: Path) -> None:
        """Nodes with a secret believe what was imported with it; without, the command refuses with a sentence."""
        client = redis_server.client()
        env = {"RDNSCACHE_REDIS": redis_server.url}
        file = str(tmp_path / "snapshot")
        with Node([upstream.address], redis_server.url) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            ask(node.port, "a.example.")
            wait_for(lambda: client.exists(ENTRY))
        client.pexpire(ENTRY, 3_850_000)
        assert command("cache", "export", file, env=env).returncode == 0
        lines = Path(file).read_text().splitlines()
        told = json.loads(lines[1])
        told["info"] = told["info"].replace(" stored=20", " stored=19")  # the file has lain somewhere for long
        Path(file).write_text(f"{lines[0]}\n{json.dumps(told)}\n")
        client.delete(ENTRY)
        with signing(redis_server, upstream, FIRST) as (node, admin):
            wait_for(lambda: client.keys("rdns:1:node:n1.*.0"))
            refused = command("cache", "import", file, env=env)
            assert (refused.returncode, refused.stdout) == (2, "")
            assert refused.stderr == "rdnscache: n1 accepts only signed entries: give the node's --secret\n"
            assert not client.exists(ENTRY)
            done = command("cache", "import", file, "--secret", FIRST, env=env)
            assert done.stdout == "stored 1, already there 0, refused 0\n", done.stderr
            assert 240 <= ask(node.port, "a.example.").answer[0].ttl <= 250
            assert numbers(admin)["store_forged_total"] == 0
        assert upstream.count("a.example.") == 1


@pytest.mark.pure
class TestTheOption:
    def test_secrets_in_a_file(self, tmp_path: Path) -> None:
        """One a line, and comments; nobody is shown more than their IDs."""
        file = tmp_path / "secrets"
        file.write_text(f"# since spring\n{SECOND.replace(' ', '-')}\n\n{FIRST.replace(' ', '-')}\n")
        found = load(None, {"upstream": ("192.0.2.1",), "secret": (f"file:{file}",)}, {})
        assert [secret[:2] for secret in found.secret] == ["2:", "1:"]
        (option,) = [each for each in options() if each.name == "secret"]
        assert plain(option, found.secret) == ["2:***", "1:***"]

    @pytest.mark.parametrize(
        "raw", ["", "no-id-at-all-in-here", "1:short", "1:0123456789abcdef 1:fedcba9876543210", "a b:0123456789abcdef",
                "file:/nowhere/at/all", "12345678901234567:0123456789abcdef", ":0123456789abcdef"],
    )  # fmt: skip
    def test_what_is_no_secret_is_refused_and_not_repeated(self, raw: str) -> None:
        """It goes to logs and terminals."""
        with pytest.raises(ConfigError) as refused:
            load(None, {"upstream": ("192.0.2.1",), "secret": (raw,)}, {})
        assert "0123456789" not in str(refused.value) and "no-id" not in str(refused.value)


def test_a_flood_of_warnings_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """With how many there were; the last are said when it is time."""
    throttled = Throttled(logging.getLogger("test"))
    with caplog.at_level("WARNING"):
        for number in range(1000):
            throttled.warn(f"w{number}", 100.0 + number / 1000)
        throttled.catch_up(104.0)
        assert caplog.messages == ["w0"]
        throttled.catch_up(105.1)
        throttled.catch_up(200.0)
    assert caplog.messages == ["w0", "w999 (and 998 more like it)"]
