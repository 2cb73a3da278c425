"""Telling the whole cluster something: flushes and their proof, what was missed, reloads."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import (
    Changing,
    Node,
    RedisServer,
    Relay,
    Upstream,
    answer_of,
    ask,
    cluster,
    command,
    fill_all_workers,
    steady_load,
    wait_for,
)

from rdnscache.dns.names import parse_name
from rdnscache.store.contract import Names
from rdnscache.store.scope import Scope


class TestFlushProof:
    def test_all_workers_of_all_nodes_confirm(self, redis_server: RedisServer) -> None:
        """3 nodes of 2 workers, the name in every L1: after the command, none of them answers with it any more."""
        handler = Changing()
        with Upstream(handler) as upstream, cluster([redis_server.url] * 3, upstream) as nodes:
            for node in nodes:
                fill_all_workers(node, "www.flush.test.", "192.0.2.1")
                fill_all_workers(node, "kept.test.", "192.0.2.1")
            handler.address = "192.0.2.2"
            done = command("cache", "flush", "www.flush.test", "--redis", redis_server.url)
            found = {answer_of(node.port, "www.flush.test.") for node in nodes for _ in range(20)}

            assert done.returncode == 0, done.stderr
            match = re.search(r"1 entry in Redis, 6 in local caches; confirmed by 3/3 nodes, (\d+) ms", done.stdout)
            assert match, done.stdout
            assert found == {"192.0.2.2"}
            assert answer_of(nodes[0].port, "kept.test.") == "192.0.2.1"
            print(f"a flush over 3 nodes of 2 workers was confirmed within {match[1]} ms")

    def test_a_node_that_does_not_confirm_is_named(self, redis_server: RedisServer) -> None:
        """A stopped worker: exit code 1, its node's name and worker; once it goes on, it applies the flush."""
        handler = Changing()
        with Upstream(handler) as upstream, cluster([redis_server.url] * 2, upstream, 1, ("--hang-time", "0")) as nodes:
            for node in nodes:
                fill_all_workers(node, "www.flush.test.", "192.0.2.1")
            handler.address = "192.0.2.2"
            (worker,) = nodes[1].children()
            os.kill(worker, signal.SIGSTOP)
            try:
                done = command("cache", "flush", "--all", "--wait", "0.5", "--redis", redis_server.url)
                data = command("cache", "flush", "--all", "--wait", "0.5", "--json", "--redis", redis_server.url)
            finally:
                os.kill(worker, signal.SIGCONT)
            assert done.returncode == data.returncode == 1
            assert "confirmed by 1/2 nodes" in done.stdout
            assert "n1 has not confirmed" in done.stderr
            assert list(json.loads(data.stdout)["missing"]) == ["n1"]
            wait_for(lambda: answer_of(nodes[1].port, "www.flush.test.") == "192.0.2.2")

    @pytest.mark.parametrize(
        ("words", "gone"),
        [
            (("a.zone.test",), {"a.zone.test. A", "a.zone.test. AAAA"}),
            (("a.zone.test", "--type", "AAAA"), {"a.zone.test. AAAA"}),
            (("--zone", "zone.test"), {"zone.test. A", "a.zone.test. A", "a.zone.test. AAAA"}),
            (("--zone", "zone.test", "--type", "A"), {"zone.test. A", "a.zone.test. A"}),
            (("--all",), {"zone.test. A", "a.zone.test. A", "a.zone.test. AAAA", "ozone.test. A", "other.test. A"}),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_what_is_meant_is_asked_again_and_nothing_else(
        self, redis_server: RedisServer, words: tuple[str, ...], gone: set[str]
    ) -> None:
        """The upstream hears again exactly the questions that were flushed."""
        questions = [("zone.test.", "A"), ("a.zone.test.", "A"), ("a.zone.test.", "AAAA"), ("ozone.test.", "A"),
                     ("other.test.", "A")]  # fmt: skip
        with Upstream() as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            for name, rtype in questions:
                ask(node.port, name, rtype)
            wait_for(lambda: len(redis_server.client().keys("rdns:1:{*.}*")) == len(questions))
            done = command("cache", "flush", *words, "--redis", redis_server.url)
            assert done.returncode == 0, done.stderr
            before = dict(upstream.counts)
            for name, rtype in questions:
                ask(node.port, name, rtype)
            asked = {
                f"{name} {rtype}" for (name, rtype), count in upstream.counts.items() if count > before[name, rtype]
            }

            assert asked == gone

    def test_failures_can_be_flushed(self, redis_server: RedisServer) -> None:
        """--rcode SERVFAIL: the failed question is asked again at once, the good one is not."""
        handler = Changing()
        with Upstream(handler) as upstream, cluster([redis_server.url], upstream, 1) as (node,):
            ask(node.port, "good.test.")
            handler.rcode = dns.rcode.SERVFAIL
            assert ask(node.port, "bad.test.").rcode() == dns.rcode.SERVFAIL
            wait_for(lambda: len(redis_server.client().keys("rdns:1:{*.}*")) == 2)
            handler.rcode = dns.rcode.NOERROR
            done = command("cache", "flush", "--rcode", "servfail", "--redis", redis_server.url)

            assert "1 entry in Redis, 1 in local caches" in done.stdout, done.stderr
            assert answer_of(node.port, "bad.test.") == "192.0.2.1"
            answer_of(node.port, "good.test.")
            assert upstream.counts["good.test.", "A"] == 1

    def test_a_flight_does_not_bring_back_what_was_flushed(self, redis_server: RedisServer) -> None:
        """A leader and a follower are up during the flush: both clients are answered, the second is asked for anew."""
        handler, patient = Changing(), ("--upstream-timeout", "9", "--upstream-deadline", "9")
        with Upstream(handler, delay=3.0) as upstream, cluster([redis_server.url] * 2, upstream, 1, patient) as nodes:
            found: list[str] = []
            clients = [
                threading.Thread(target=lambda node=node: found.append(answer_of(node.port, "up.test.", timeout=15)))
                for node in nodes
            ]
            for client in clients:
                client.start()
            redis = redis_server.client()
            wait_for(lambda: redis.scard("rdns:1:{up.test.}:A#wait") == 1)
            wait_for(lambda: upstream.count("up.test.") == 1)  # a busy machine may read it late
            handler.address = "192.0.2.2"
            done = command("cache", "flush", "up.test", "--redis", redis_server.url)
            for client in clients:
                client.join()
            assert done.returncode == 0, done.stderr
            assert sorted(found) == ["192.0.2.1", "192.0.2.2"]
            assert [answer_of(node.port, "up.test.", timeout=5) for node in nodes] == ["192.0.2.2"] * 2
            assert upstream.counts["up.test.", "A"] == 2

    def test_after_a_partition_no_flushed_answer_is_served(self, redis_server: RedisServer) -> None:
        """The node that was cut off is named; back again, its first answer is the new one, and so are all others."""
        handler = Changing()
        relay = Relay(redis_server.port)
        try:
            urls = [redis_server.tcp_url, relay.url]
            with Upstream(handler) as upstream, cluster(urls, upstream, 1) as (near, far):
                for node in (near, far):
                    fill_all_workers(node, "www.flush.test.", "192.0.2.1")
                relay.cut()
                wait_for(lambda: "no Redis" in far.log())
                handler.address = "192.0.2.2"
                done = command("cache", "flush", "www.flush.test", "--wait", "0.3", "--redis", redis_server.url)
                assert done.returncode == 1
                assert "n1" in done.stderr
                assert answer_of(far.port, "www.flush.test.") == "192.0.2.1"  # it could not know
                relay.heal()
                wait_for(lambda: far.log().count("attached to Redis") == 2 and "flushed 1 entries" in far.log())
                assert {answer_of(far.port, "www.flush.test.") for _ in range(50)} == {"192.0.2.2"}
        finally:
            relay.close()

    def test_a_trimmed_stream_empties_the_local_cache(self, redis_server: RedisServer) -> None:
        """What was missed can no longer be known, so everything is forgotten."""
        handler = Changing()
        relay = Relay(redis_server.port)
        try:
            with Upstream(handler) as upstream, cluster([relay.url], upstream, 1) as (node,):
                assert command("cache", "flush", "first.test", "--redis", redis_server.url).returncode == 0
                fill_all_workers(node, "www.flush.test.", "192.0.2.1")
                relay.cut()
                wait_for(lambda: "no Redis" in node.log())
                handler.address = "192.0.2.2"
                redis = redis_server.client()
                redis.delete("rdns:1:{www.flush.test.}:A", "rdns:1:control")
                relay.heal()
                wait_for(lambda: node.log().count("attached to Redis") == 2)
                assert answer_of(node.port, "www.flush.test.") == "192.0.2.2"
        finally:
            relay.close()

    @pytest.mark.parametrize(
        "words",
        [
            (), ("a.test", "--all"), ("a.test", "--zone", "test"), ("--type", "A"), ("a..test",),
            ("a.test", "--type", "X"), ("--rcode", "FINE"), ("--rcode", "BADVERS"), ("--zone", "a b\\"), ("*.a.test",),
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_what_cannot_be_meant_is_refused(self, words: tuple[str, ...]) -> None:
        """Exit code 2 and one sentence; nothing is asked of Redis."""
        done = command("cache", "flush", *words, "--redis", "redis://127.0.0.1:1")
        assert done.returncode == 2
        assert "Error: " in done.stderr


LABELS = st.lists(st.sampled_from(["a", "b", "ab", "a.b", "\\"]), min_size=0, max_size=4)


@given(LABELS, LABELS)
def test_a_zone_holds_itself_and_what_is_below(name: list[str], zone: list[str]) -> None:
    """Label by label, whatever is in them; the root holds everything."""

    def wire(labels: list[str]) -> bytes:
        return b"".join(bytes((len(label),)) + label.encode() for label in labels) + b"\0"

    below = len(name) >= len(zone) and name[len(name) - len(zone) :] == zone
    assert Scope(zone=wire(zone)).holds(wire(name) + b"\0\1\0\1\0", 0) == below


@given(
    st.none() | st.just("www.example."), st.none() | st.just("example."), st.none() | st.integers(0, 65535),
    st.none() | st.integers(0, 15),
)  # fmt: skip
def test_a_scope_survives_being_told(name: str | None, zone: str | None, qtype: int | None, rcode: int | None) -> None:
    """What a worker reads is what was meant."""
    scope = Scope(parse_name(name) if name else None, parse_name(zone) if zone else None, qtype, rcode)
    assert Scope.of(json.loads(json.dumps(scope.event()))) == scope
    assert scope.pattern(Names("rdns")).startswith("rdns:1:{")


@pytest.mark.once  # about processes
class TestReload:
    def test_workers_change_one_by_one_and_no_query_is_lost(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """SIGHUP with a changed file, under steady load: each query gets a reply, and the new value counts."""
        file = tmp_path / "node.toml"
        file.write_text("ttl_max = 1000\n")
        with Upstream() as upstream:
            args = ("--config", str(file))
            with Node([upstream.address], redis_server.url, 2, args) as node, steady_load(node.port) as load:
                wait_for(lambda: load.answered > 500)
                old = node.children()
                file.write_text("ttl_max = 77\n")
                node.process.send_signal(signal.SIGHUP)
                wait_for(lambda: "all workers use the new configuration" in node.log(), 20)
                seen = load.answered
                wait_for(lambda: load.answered > seen + 500)
                load.finish()

                assert load.lost == 0
                assert "ttl_max: 1000 -> 77" in node.log()
                assert not set(old) & set(node.children())
                assert len(node.children()) == 2
                assert ask(node.port, "fresh.test.").answer[0].ttl <= 77

    def test_a_broken_file_is_refused_and_the_old_one_goes_on(self, tmp_path: Path) -> None:
        """One sentence in the log, the same workers."""
        file = tmp_path / "node.toml"
        file.write_text("ttl_max = 1000\n")
        with Upstream() as upstream, Node([upstream.address], workers=1, args=("--config", str(file))) as node:
            old = node.children()
            for text in ("ttl_max = 'soon'", "ttl_max = ", "tl_max = 3"):
                file.write_text(text)
                refusals = node.log().count("the old one stays")
                node.process.send_signal(signal.SIGHUP)
                wait_for(lambda refusals=refusals: node.log().count("the old one stays") == refusals + 1)
            file.unlink()
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: node.log().count("the old one stays") == 4)
            assert node.children() == old

    def test_what_needs_a_restart_says_so(self, tmp_path: Path) -> None:
        """A listen address in the file changes nothing while running."""
        file = tmp_path / "node.toml"
        file.write_text("workers = 1\nprefix = 'one'\n")
        with Upstream() as upstream, Node([upstream.address], args=("--config", str(file))) as node:
            file.write_text("prefix = 'two'\n")
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "prefix: one -> two, in effect after a restart" in node.log())
            wait_for(lambda: "nothing to change" in node.log())

    def test_the_command_reaches_every_node_through_redis(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """`rdnscache reload`: all nodes read their files again; with --node, one."""
        file = tmp_path / "node.toml"
        file.write_text("ttl_max = 1000\n")
        args = ("--config", str(file))
        with Upstream() as upstream, cluster([redis_server.url] * 2, upstream, 1, args) as nodes:
            file.write_text("ttl_max = 77\n")
            done = command("reload", "--node", "n1", "--redis", redis_server.url)
            assert done.stdout == "n1: reload done\n"
            wait_for(lambda: "all workers use" in nodes[1].log(), 20)
            assert "all workers use" not in nodes[0].log()
            told = command("reload", "--redis", redis_server.url).stdout
            assert told == "n0: reload done\nn1: reload done (nothing to change)\n"
            wait_for(lambda: "all workers use" in nodes[0].log() and "nothing to change" in nodes[1].log(), 20)
            assert command("reload", "--node", "n7", "--redis", redis_server.url).returncode == 1
