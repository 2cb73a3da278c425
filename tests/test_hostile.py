"""What somebody who can reach Redis, an upstream or the command line might try."""

from __future__ import annotations

import threading

import dns.message
import dns.rrset
import pytest
from support import Node, RedisServer, Upstream, ask, attached, wait_for

from rdnscache import config
from rdnscache.errors import ConfigError

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "junk", ["hello", "1-1 junk", '1-1 {"event": "flush", "name": 7}', "1-1 " + "[" * 100_000, '1-1 {"event": "new"}']
)
def test_a_stray_control_message_is_passed_over(redis_server: RedisServer, junk: str) -> None:
    """Whatever is published there, the worker goes on, and attaches again after it lost the connection."""
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
        wait_for(lambda: attached(node))
        redis = redis_server.client()
        redis.publish("rdns:1:control", junk)
        redis.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
        wait_for(lambda: attached(node, 2))
        ask(node.port, "still.example.")

        wait_for(lambda: redis.exists("rdns:1:{still.example.}:A"))


def test_a_key_of_another_type_in_place_of_the_control_stream_is_passed_over(redis_server: RedisServer) -> None:
    """Control events cannot be read then; everything else works."""
    redis_server.client().set("rdns:1:control", "mine")
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
        wait_for(lambda: attached(node))
        ask(node.port, "still.example.")

        wait_for(lambda: redis_server.client().exists("rdns:1:{still.example.}:A"))


@pytest.mark.parametrize("suffix", ["#lead", "#wait"])
@pytest.mark.parametrize("forge", ["string", "list"])
def test_a_forged_claim_stops_nobody(redis_server: RedisServer, suffix: str, forge: str) -> None:
    """A claim or a follower list without expiry, or of another type, keeps no question from being answered."""
    key = "rdns:1:{forged.example.}:A" + suffix
    redis = redis_server.client()
    if forge == "string":
        redis.set(key, "somebody")
    else:
        redis.rpush(key, "somebody")
    with Upstream() as upstream, Node([upstream.address], redis=redis_server.url) as node:
        wait_for(lambda: attached(node))
        reply = ask(node.port, "forged.example.", timeout=2)

        assert [record.address for record in reply.answer[0]] == ["192.0.2.1"]
        wait_for(lambda: redis.exists("rdns:1:{forged.example.}:A"))


def test_a_claim_that_is_forged_again_and_again_stops_nobody(redis_server: RedisServer) -> None:
    """Somebody takes the lead of a name every few milliseconds and never fills: the upstream is asked all the same."""
    over = threading.Event()
    client = redis_server.client()

    def hold() -> None:
        while not over.wait(0.01):
            client.set("rdns:1:{held.example.}:A#lead", "n9.0:00000000:1", px=1400)

    holding = threading.Thread(target=hold)
    words = ["--upstream-deadline", "0.5", "--upstream-timeout", "0.5"]
    with Upstream() as upstream, Node([upstream.address], redis_server.url, args=words) as node:
        wait_for(lambda: attached(node))
        holding.start()
        try:
            reply = ask(node.port, "held.example.", timeout=8)
        finally:
            over.set()
            holding.join()

        assert [record.address for record in reply.answer[0]] == ["192.0.2.1"]
        assert upstream.count("held.example.") == 1


def test_a_reply_cut_inside_a_record_is_asked_for_over_tcp() -> None:
    """TC is believed even when the rest cannot be read."""

    def handler(query: dns.message.Message, transport: str) -> bytes | dns.message.Message:
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "A", "192.0.2.9"))
        if transport == "tcp":
            return reply
        wire = bytearray(reply.to_wire())
        wire[2] |= 0x02
        return bytes(wire[:-20])

    with Upstream(handler=handler) as upstream, Node([upstream.address]) as node:
        reply = ask(node.port, "cut.example.")

        assert [record.address for record in reply.answer[0]] == ["192.0.2.9"]


@pytest.mark.parametrize("word", ["..", ".", ".hidden", "a/b", "", "a b"])
def test_a_node_id_is_no_path(word: str) -> None:
    """The embedded server's folder is named after it, and removed at the end."""
    with pytest.raises(ConfigError):
        config.load(None, {"node_id": word, "upstream": ("192.0.2.53",)} | ({"node_id": "/"} if not word else {}), {})
