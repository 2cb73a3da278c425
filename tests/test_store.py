"""What nodes share through Redis: entries, flushes, stale answers, failures."""

from __future__ import annotations

import contextlib
import gc

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from support import Handler, Node, RedisServer, Upstream, ask, attached, failure, wait_for

from rdnscache.errors import StoreDown
from rdnscache.redis_url import parse
from rdnscache.store.connection import Connection

pytestmark = pytest.mark.both


def with_ttl(ttl: int) -> Handler:
    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", "A", "192.0.2.7"))
        return reply

    return handler


class TestSharedEntries:
    def test_a_second_node_answers_from_redis_with_the_remaining_ttl(self, redis_server: RedisServer) -> None:
        """What one node asked, another answers without the upstream, with a TTL not above the original."""
        with (
            Upstream() as upstream,
            Node([upstream.address], redis=redis_server.url, args=("--node-id", "a")) as first,
            Node([upstream.address], redis=redis_server.url, args=("--node-id", "b")) as second,
        ):
            wait_for(lambda: attached(first) and attached(second))
            ask(first.port, "shared.example.")
            wait_for(lambda: redis_server.client().exists("rdns:1:{shared.example.}:A"))
            reply = ask(second.port, "shared.example.")

            assert reply.answer[0].ttl <= 300
            assert upstream.counts == {("shared.example.", "A"): 1}

    def test_a_cold_question_takes_one_script(self, redis_server: RedisServer) -> None:
        """Plain commands claim what nobody has asked for, as they cost Redis a third of the script; one fills it."""
        with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
            wait_for(lambda: attached(node))
            redis = redis_server.client()
            redis.config_resetstat()
            for number in range(10):
                ask(node.port, f"cold{number}.example.")
            wait_for(lambda: redis.exists(*(f"rdns:1:{{cold{number}.example.}}:A" for number in range(10))) == 10)
            assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 10
            assert redis.keys("*#lead") == []

    def test_an_entry_reads_as_the_contract_says(self, redis_server: RedisServer) -> None:
        """Three fields for people, an expiry of TTL plus stale window, and no OPT in the wire."""
        with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
            wait_for(lambda: attached(node))
            ask(node.port, "WWW.Read.example.")
            redis = redis_server.client()
            wait_for(lambda: redis.exists("rdns:1:{www.read.example.}:A"))
            fields = redis.hgetall("rdns:1:{www.read.example.}:A")

            assert set(fields) == {b"info", b"answer", b"wire"}
            assert fields[b"answer"] == b"www.read.example. 300 IN A 192.0.2.1"
            assert fields[b"info"].startswith(b"rcode=NOERROR ttl=300 stale=3600 stored=20")
            assert 3_800_000 < redis.pttl("rdns:1:{www.read.example.}:A") <= 3_900_000
            assert dns.message.from_wire(fields[b"wire"]).edns == -1

    def test_variants_of_a_question_are_entries_of_their_own(self, redis_server: RedisServer) -> None:
        """DO and CD are in the key."""
        with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
            wait_for(lambda: attached(node))
            ask(node.port, "v.example.", want_dnssec=True)
            ask(node.port, "v.example.", flags=dns.flags.RD | dns.flags.CD)
            redis = redis_server.client()

            wait_for(lambda: redis.exists("rdns:1:{v.example.}:A:do") and redis.exists("rdns:1:{v.example.}:A:cd"))
            assert not redis.exists("rdns:1:{v.example.}:A")

    def test_hostile_names_share_one_slot_and_collide_with_nobody(self, redis_server: RedisServer) -> None:
        """Labels with dot, brace and NUL end as escaped keys."""
        with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
            wait_for(lambda: attached(node))
            for name in ("a\\.b.example.", "a.b.example.", "}x.example.", "\\000.example."):
                ask(node.port, name)
            redis = redis_server.client()
            keys = {
                b"rdns:1:{a\\046b.example.}:A", b"rdns:1:{a.b.example.}:A",
                b"rdns:1:{\\125x.example.}:A", b"rdns:1:{\\000.example.}:A",
            }  # fmt: skip

            wait_for(lambda: keys <= set(redis.scan_iter("rdns:1:{*")))


class TestFailures:
    def test_a_stale_entry_answers_when_all_upstreams_fail(self, redis_server: RedisServer) -> None:
        """Past its TTL and without an upstream: TTL 30 and EDE 3, also on a node that never had it in L1."""
        timing = ("--upstream-timeout", "0.2", "--upstream-deadline", "0.2")
        upstream = Upstream(handler=with_ttl(1))
        with upstream, Node([upstream.address], redis=redis_server.url, args=timing) as first:
            wait_for(lambda: attached(first))
            ask(first.port, "old.example.")
            redis = redis_server.client()
            wait_for(lambda: 0 < redis.pttl("rdns:1:{old.example.}:A") <= 3_600_000)
            upstream.close()
            with Node([upstream.address], redis=redis_server.url, args=(*timing, "--node-id", "b")) as second:
                wait_for(lambda: attached(second))
                for node in (first, second):
                    reply = ask(node.port, "old.example.", use_edns=0, timeout=5)

                    assert [record.address for record in reply.answer[0]] == ["192.0.2.7"]
                    assert reply.answer[0].ttl == 30
                    assert [option.code for option in reply.options] == [dns.edns.EDECode.STALE_ANSWER]
            assert b"rcode=NOERROR" in redis.hget("rdns:1:{old.example.}:A", "info")

    def test_a_failure_is_shared_and_short(self, redis_server: RedisServer) -> None:
        """SERVFAIL that an upstream itself has said is an entry of five seconds where nothing better is."""
        with Upstream(lambda query, transport: failure(query)) as upstream:
            with Node([upstream.address], redis=redis_server.url) as node:
                wait_for(lambda: attached(node))
                reply = ask(node.port, "dead.example.", timeout=5)
                redis = redis_server.client()

                assert reply.rcode() == dns.rcode.SERVFAIL
                wait_for(lambda: 0 < redis.pttl("rdns:1:{dead.example.}:A") <= 5000)
                info = redis.hget("rdns:1:{dead.example.}:A", "info")
                assert info.startswith(b"rcode=SERVFAIL ttl=5 stale=0") and info.endswith(b" why=said")


class TestFlush:
    def test_a_flush_while_a_node_was_cut_off_is_applied_when_it_returns(self, redis_server: RedisServer) -> None:
        """The control stream tells what was missed: the L1 of a node that lost its connection forgets it too."""
        from rdnscache.dns.names import parse_name
        from rdnscache.operator.entries import Browser
        from rdnscache.operator.members import Members
        from rdnscache.store.scope import Scope

        counts = iter(range(1, 100))

        def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
            reply = dns.message.make_response(query)
            address = f"192.0.2.{next(counts)}"
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "A", address))
            return reply

        with Upstream(handler=handler) as upstream, Node([upstream.address], redis=redis_server.url) as node:
            wait_for(lambda: attached(node))
            first = ask(node.port, "gone.example.").answer
            redis = redis_server.client()
            wait_for(lambda: redis.exists("rdns:1:{gone.example.}:A"))
            redis.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
            browser, scope = Browser(redis_server.url, "rdns"), Scope(parse_name("gone.example."))
            browser.flush(scope)
            Members(browser.redis, browser.names).announce(scope.event())
            wait_for(lambda: attached(node, 2))
            second = ask(node.port, "gone.example.").answer

            assert first != second


def test_attempts_to_connect_leave_nothing_behind() -> None:
    """A worker's collector hardly ever runs by itself, and Redis may be away for a day."""
    place = parse("redis://127.0.0.1:1")
    gc.collect()
    gc.disable()
    try:
        for _ in range(30):
            with contextlib.suppress(StoreDown):
                Connection(place, 1)
        assert gc.collect() < 100
    finally:
        gc.enable()
