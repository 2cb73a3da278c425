"""NXDOMAIN holds for a name, whatever type was asked for (RFC 2308 section 5)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from support import Node, RedisServer, Upstream, answer, ask, negative, wait_for

TYPES = ("A", "AAAA", "HTTPS", "TXT")
NXDOMAIN = dns.rcode.NXDOMAIN


class Zone:
    """Names that exist are in a set; all others do not."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)

    def __call__(self, query: dns.message.Message, transport: str) -> dns.message.Message:
        name = query.question[0].name.to_text().lower()
        if name in self.names:
            reply = answer(query, "300 A 192.0.2.1") if query.question[0].rdtype == 1 else negative(query, 0)
        else:
            reply = negative(query)
        return reply


def rcodes(node: Node, name: str, types: tuple[str, ...] = TYPES, **how: Any) -> set[int]:
    return {ask(node.port, name, rtype, **how).rcode() for rtype in types}


def test_one_upstream_query_for_all_types_of_a_name() -> None:
    """Within a worker: A, AAAA, HTTPS and TXT of a name that does not exist cost one query."""
    with Upstream(Zone()) as upstream, Node([upstream.address]) as node:
        assert rcodes(node, "no.example.") == {NXDOMAIN}
        assert upstream.total() == 1
        reply = ask(node.port, "No.Example.", "AAAA")
        assert reply.question[0].rdtype == 28 and reply.authority[0].rdtype == 6


def test_one_upstream_query_in_a_cluster(redis_server: RedisServer) -> None:
    """Across nodes: each asks another type, and finds the NXDOMAIN of the first in Redis."""
    with Upstream(Zone()) as upstream, ExitStack() as stack:
        nodes = [
            stack.enter_context(Node([upstream.address], redis_server.url, 1, ["--node-id", f"n{number}"]))
            for number in range(3)
        ]
        wait_for(lambda: all("attached to Redis" in node.log() for node in nodes))
        client = redis_server.client()
        assert rcodes(nodes[0], "no.example.", ("A",)) == {NXDOMAIN}
        wait_for(lambda: client.exists("rdns:1:{no.example.}:NXDOMAIN"))
        assert rcodes(nodes[1], "no.example.", ("AAAA",)) | rcodes(nodes[2], "no.example.", ("TXT",)) == {NXDOMAIN}
        assert upstream.total() == 1
        assert client.keys("rdns:1:{no.example.}*") == [b"rdns:1:{no.example.}:NXDOMAIN"]
        assert client.hget("rdns:1:{no.example.}:NXDOMAIN", "info").startswith(b"rcode=NXDOMAIN ttl=300")


def test_who_wants_no_recursion_gets_it_from_redis(redis_server: RedisServer) -> None:
    """RD=0 is answered from the cache: of another node as well."""
    with Upstream(Zone()) as upstream, ExitStack() as stack:
        one, two = (
            stack.enter_context(Node([upstream.address], redis_server.url, 1, ["--node-id", f"n{number}"]))
            for number in range(2)
        )
        wait_for(lambda: all("attached to Redis" in node.log() for node in (one, two)))
        rcodes(one, "no.example.", ("A",))
        wait_for(lambda: redis_server.client().exists("rdns:1:{no.example.}:NXDOMAIN"))
        assert rcodes(two, "no.example.", ("A", "AAAA"), flags=0) == {NXDOMAIN}
        assert upstream.total() == 1


def test_variants_and_classes_are_kept_apart() -> None:
    """DO and CD change the answer; so each asks once."""
    with Upstream(Zone()) as upstream, Node([upstream.address]) as node:
        for how in ({}, {"want_dnssec": True}, {"flags": dns.flags.RD | dns.flags.CD}):
            assert rcodes(node, "no.example.", **how) == {NXDOMAIN}
        assert upstream.total() == 3


def test_a_cname_in_front_of_it_says_that_the_name_exists() -> None:
    """NXDOMAIN with a CNAME is about the target (RFC 6604): the alias is asked for by each type."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = negative(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "CNAME", "gone.example."))
        return reply

    with Upstream(handler) as upstream, Node([upstream.address]) as node:
        assert rcodes(node, "alias.example.") == {NXDOMAIN}
        assert upstream.total() == len(TYPES)


def test_nodata_is_of_one_type() -> None:
    """NODATA says nothing of other types."""
    with Upstream(Zone("there.example.")) as upstream, Node([upstream.address]) as node:
        assert rcodes(node, "there.example.") == {dns.rcode.NOERROR}
        assert upstream.total() == len(TYPES)


def test_a_name_that_comes_to_life_is_not_denied_by_a_stale_entry(redis_server: RedisServer) -> None:
    """A positive answer takes the place of the NXDOMAIN for all types, in L1 and L2: no failure brings it back."""
    zone = Zone()
    words = ("--negative-ttl-max", "1", "--upstream-timeout", "0.2", "--upstream-deadline", "0.3")
    with Upstream(zone) as upstream, Node([upstream.address], redis_server.url, 1, words) as node:
        client = redis_server.client()
        wait_for(lambda: "attached to Redis" in node.log())
        assert rcodes(node, "young.example.", ("A",)) == {NXDOMAIN}
        zone.names.add("young.example.")
        wait_for(lambda: rcodes(node, "young.example.", ("A",)) == {dns.rcode.NOERROR})
        wait_for(lambda: not client.exists("rdns:1:{young.example.}:NXDOMAIN"))
        upstream.close()
        assert rcodes(node, "young.example.", ("AAAA",), timeout=5) == {dns.rcode.SERVFAIL}


@pytest.mark.parametrize("words", [(), ("--type", "TXT"), ("--rcode", "NXDOMAIN")])
def test_a_flush_of_the_name_forgets_it(redis_server: RedisServer, words: tuple[str, ...]) -> None:
    """Whatever type is named: it is of every type."""
    from rdnscache.dns.names import parse_name, rcode_number, type_number
    from rdnscache.operator.entries import Browser
    from rdnscache.store.scope import Scope

    with Upstream(Zone()) as upstream, Node([upstream.address], redis_server.url) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        rcodes(node, "no.example.", ("A",))
        client = redis_server.client()
        wait_for(lambda: client.exists("rdns:1:{no.example.}:NXDOMAIN"))
        scope = Scope(
            name=parse_name("no.example."),
            qtype=type_number("TXT") if "--type" in words else None,
            rcode=rcode_number("NXDOMAIN") if "--rcode" in words else None,
        )
        assert Browser(redis_server.url, "rdns").flush(scope) == 1
