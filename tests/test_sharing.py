"""One node's trouble is not the cluster's: which failures are shared, who believes them, and who leads."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import dns.edns
import dns.message
import dns.rcode
import pytest
from support import (
    Node,
    RedisServer,
    Upstream,
    answer,
    ask,
    default_handler,
    failure,
    free_port,
    nodes_on,
    refusing,
    wait_for,
)

pytestmark = pytest.mark.once

NOERROR, SERVFAIL, REFUSED = dns.rcode.NOERROR, dns.rcode.SERVFAIL, dns.rcode.REFUSED
QUICK = ("--upstream-timeout", "0.3", "--upstream-deadline", "0.9", "--warm", "0")


def rcode(node: Node, name: str) -> int:
    return ask(node.port, name, timeout=8).rcode()


def broken(query: dns.message.Message, transport: str) -> dns.message.Message:
    return failure(query)


def silent(query: dns.message.Message, transport: str) -> None:
    return None


@pytest.mark.parametrize("sick", ["closed", "silent", "refuses", "servfail"])
def test_a_failure_of_one_node_fails_no_name_for_others(redis_server: RedisServer, sick: str) -> None:
    """Its upstream closed, silent, refusing or failing: a node with another one answers right after."""
    handler: Callable[..., object] = {"silent": silent, "refuses": refusing}.get(sick, broken)
    with Upstream() as good, Upstream(handler) as bad:  # type: ignore[arg-type]
        address = f"127.0.0.1:{free_port()}" if sick == "closed" else bad.address
        with nodes_on(redis_server.url, [address, good.address], args=QUICK) as (ill, well):
            for number in range(6):
                assert rcode(ill, f"x{number}.sick.") == (REFUSED if sick == "refuses" else SERVFAIL)
                assert rcode(well, f"x{number}.sick.") == NOERROR


def test_what_an_upstream_says_of_a_name_is_shared(redis_server: RedisServer) -> None:
    """SERVFAIL from an upstream that both nodes ask: it hears the question once, and `info` says why."""
    with Upstream(broken) as upstream, nodes_on(redis_server.url, [upstream.address] * 2, args=QUICK) as (one, two):
        assert rcode(one, "bogus.example.") == SERVFAIL
        client = redis_server.client()
        info = wait_for(lambda: client.hget("rdns:1:{bogus.example.}:A", "info"))
        assert rcode(two, "bogus.example.") == SERVFAIL
        assert upstream.count("bogus.example.") == 1
        assert f"from={upstream.address} node=n0 why=said".encode() in info


def test_silence_about_a_name_is_shared(redis_server: RedisServer) -> None:
    """The upstream answers other questions and never this one: the second node does not wait for it as well."""

    def handler(query: dns.message.Message, transport: str) -> object:
        return None if query.question[0].name.to_text().startswith("dead") else default_handler(query, transport)

    with Upstream(handler) as upstream, nodes_on(redis_server.url, [upstream.address] * 2, args=QUICK) as (one, two):  # type: ignore[arg-type]
        waiting = threading.Thread(target=rcode, args=(one, "dead.example."))
        waiting.start()
        for number in range(8):
            rcode(one, f"alive{number}.example.")
        waiting.join()
        client = redis_server.client()
        info = wait_for(lambda: client.hget("rdns:1:{dead.example.}:A", "info"))
        asked = upstream.count("dead.example.")
        assert rcode(two, "dead.example.") == SERVFAIL
        assert upstream.count("dead.example.") == asked
        assert b" why=silent" in info


def test_an_upstream_that_cannot_be_reached_is_nobody_elses_business(redis_server: RedisServer) -> None:
    """Nothing is stored of it, and the claim is given back."""
    with nodes_on(redis_server.url, [f"127.0.0.1:{free_port()}"], args=QUICK) as (ill,):
        reply = ask(ill.port, "away.example.", timeout=8, use_edns=0)
        assert reply.rcode() == SERVFAIL
        assert [int(option.code) for option in reply.options] == [dns.edns.EDECode.NO_REACHABLE_AUTHORITY]
        assert redis_server.client().keys("rdns:1:{away*") == []


def test_a_follower_does_not_wait_for_a_leader_that_cannot_reach_anybody(redis_server: RedisServer) -> None:
    """Of names asked of a sick and a healthy node at once, all are answered at the healthy one, long before the sick
    one gives up."""
    with Upstream() as good:
        words = ("--upstream-timeout", "1", "--upstream-deadline", "30", "--warm", "0", "--drain", "0")
        with nodes_on(redis_server.url, [f"127.0.0.1:{free_port()}", good.address], args=words) as (ill, well):
            found: list[int] = []
            sent = [dns.message.make_query(f"y{number}.sick.", "A").to_wire() for number in range(20)]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(("127.0.0.1", ill.port))
                for query in sent:
                    sock.send(query)
            threads = [
                threading.Thread(target=lambda number=number: found.append(rcode(well, f"y{number}.sick.")))
                for number in range(20)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert found == [NOERROR] * 20


def test_a_node_that_recovers_leads_again(redis_server: RedisServer) -> None:
    """After its first answer it claims as before."""
    with Upstream() as good:
        port = free_port()
        with nodes_on(redis_server.url, [f"127.0.0.1:{port}", good.address], args=QUICK) as (ill, well):
            for number in range(4):
                rcode(ill, f"z{number}.sick.")
            wait_for(lambda: "questions are left to other nodes" in ill.log())
            with Upstream(port=port) as back:
                wait_for(lambda: rcode(ill, f"r{time.monotonic()}.sick.") == NOERROR, 20)
                wait_for(lambda: "asks upstreams itself again" in ill.log())
                rcode(ill, "again.sick.")
                wait_for(lambda: redis_server.client().exists("rdns:1:{again.sick.}:A"))
                assert rcode(well, "again.sick.") == NOERROR
                assert back.count("again.sick.") + good.count("again.sick.") == 1


def test_the_first_nodes_failure_gives_way_to_an_answer(redis_server: RedisServer) -> None:
    """A node that does not believe another's failure asks, and what it stores is believed by both."""
    with Upstream(broken) as bad, Upstream(lambda query, transport: answer(query, "300 A 192.0.2.9")) as good:
        with nodes_on(redis_server.url, [bad.address, good.address], args=QUICK) as (ill, well):
            assert rcode(ill, "better.example.") == SERVFAIL
            client = redis_server.client()
            wait_for(lambda: client.exists("rdns:1:{better.example.}:A"))
            assert rcode(well, "better.example.") == NOERROR
            wait_for(lambda: b"rcode=NOERROR" in client.hget("rdns:1:{better.example.}:A", "info"))
            assert good.count("better.example.") == 1
