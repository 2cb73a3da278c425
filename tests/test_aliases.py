"""Aliases whose target the upstream leaves out, as servers do that answer for their own zones only: it is asked for."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from support import Node, RedisServer, Upstream, answer, ask, attached, command, key_of, negative, nodes_on, wait_for

from rdnscache.clients.subnets import ClientSubnets, SubnetTerms
from rdnscache.dns.question import subnet, with_subnet
from rdnscache.dns.subnet import NOBODY, parse_subnet
from rdnscache.dns.zones import Zones

NOERROR, NXDOMAIN, SERVFAIL = dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL
RECORDS = {
    "www.test.": ["600 CNAME web.test."],
    "web.test.": ["60 A 192.0.2.1"],
    "two.test.": ["300 CNAME www.test."],
    "gone.test.": ["300 CNAME nothing.test."],
    "bare.test.": ["300 CNAME txt.test."],
    "txt.test.": ["300 TXT text"],
    "out.test.": ["300 CNAME web.corp."],
    "inside.test.": ["300 CNAME web.closed."],
    "advert.test.": ["300 CNAME ads.blocked."],
    "ads.blocked.": ["300 A 203.0.113.1"],
    "failing.test.": ["300 CNAME servfail.test."],
    "slow.test.": ["300 CNAME silent.test."],
    "round.test.": ["300 CNAME about.test."],
    "about.test.": ["300 CNAME round.test."],
    **{f"n{number}.test.": [f"300 CNAME n{number + 1}.test."] for number in range(40)},
}


def only_its_own(query: dns.message.Message, transport: str) -> dns.message.Message | None:
    """Answers with the records of the name asked for, and nothing of what they lead to."""
    question = query.question[0]
    name = question.name.to_text().lower()
    if name == "silent.test.":
        return None
    if name == "servfail.test.":
        reply = dns.message.make_response(query)
        reply.set_rcode(SERVFAIL)
        return reply
    if name.endswith(".old.test."):
        reply = answer(query)
        reply.answer.append(dns.rrset.from_text("old.test.", 300, "IN", "DNAME", "test."))
        return reply
    records = [text for text in RECORDS.get(name, ()) if text.split()[1] in ("CNAME", question.rdtype.name)]
    if records:
        return answer(query, *records)
    return negative(query, NOERROR if name in RECORDS else NXDOMAIN)


def texts(reply: dns.message.Message) -> list[str]:
    """The answer, a record each."""
    return [f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rrset[0]}" for rrset in reply.answer]


def last(reply: dns.message.Message) -> str:
    """The data of the last record."""
    return str(reply.answer[-1][0])


def test_the_target_is_asked_for() -> None:
    """One query for each name; the whole is kept for the least TTL, and the target is a question of its own."""
    with Upstream(only_its_own) as upstream, Node([upstream.address]) as node:
        for _ in range(3):
            assert texts(ask(node.port, "www.test.")) == ["www.test. 600 CNAME web.test.", "web.test. 60 A 192.0.2.1"]
        assert texts(ask(node.port, "web.test.")) == ["web.test. 60 A 192.0.2.1"]
        found = texts(ask(node.port, "two.test."))
        assert [text.split()[0] for text in found] == ["two.test.", "www.test.", "web.test."]
        assert upstream.counts == {("www.test.", "A"): 1, ("web.test.", "A"): 1, ("two.test.", "A"): 1}
        assert texts(ask(node.port, "www.test.", "CNAME")) == ["www.test. 600 CNAME web.test."]


def test_a_dname_is_an_alias_too() -> None:
    """What it makes of the name asked for is asked."""
    with Upstream(only_its_own) as upstream, Node([upstream.address]) as node:
        found = texts(ask(node.port, "web.old.test."))
        assert found == ["old.test. 300 DNAME test.", "web.old.test. 300 CNAME web.test.", "web.test. 60 A 192.0.2.1"]


@pytest.mark.parametrize(("name", "rcode", "count"), [("gone.test.", NXDOMAIN, 1), ("bare.test.", NOERROR, 1)])
def test_what_the_target_lacks_the_alias_lacks(name: str, rcode: int, count: int) -> None:
    """The RCODE and the SOA are the target's (RFC 6604); a type that is there is answered."""
    with Upstream(only_its_own) as upstream, Node([upstream.address]) as node:
        for _ in range(2):
            found = ask(node.port, name)
            assert (found.rcode(), len(found.answer), len(found.authority)) == (rcode, count, 1)
        assert upstream.total() == 2
        assert len(ask(node.port, "bare.test.", "TXT").answer) == 2


def test_the_flags_are_those_of_both() -> None:
    """DO is asked for the target too, and AD holds only where it holds for both."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message | None:
        reply = only_its_own(query, transport) or answer(query)
        if query.question[0].name.to_text().lower() in authentic and query.ednsflags & dns.flags.DO:
            reply.flags |= dns.flags.AD
        return reply

    for names, wanted in (({"www.test.", "web.test."}, True), ({"www.test."}, False), ({"web.test."}, False)):
        authentic = names
        with Upstream(handler) as upstream, Node([upstream.address]) as node:
            found = ask(node.port, "www.test.", want_dnssec=True)
            assert (last(found), bool(found.flags & dns.flags.AD)) == ("192.0.2.1", wanted)


def test_circles_and_long_chains_end() -> None:
    """A circle is told at once, whoever asks for a part of it; nobody is asked without end."""
    with Upstream(only_its_own) as upstream, Node([upstream.address]) as node:
        began = time.monotonic()
        assert ask(node.port, "round.test.").rcode() == SERVFAIL
        assert ask(node.port, "about.test.").rcode() == SERVFAIL
        assert ask(node.port, "n0.test.").rcode() == SERVFAIL
        assert time.monotonic() - began < 2
        assert upstream.total() < 20
        assert ask(node.port, "n38.test.").rcode() == NXDOMAIN


def test_a_target_that_fails_fails_the_alias_in_time() -> None:
    """SERVFAIL, within the deadline of one question."""
    args = ("--upstream-timeout", "0.5", "--upstream-deadline", "1.5")
    with Upstream(only_its_own) as upstream, Node([upstream.address], args=args) as node:
        assert ask(node.port, "failing.test.").rcode() == SERVFAIL
        began = time.monotonic()
        found = ask(node.port, "slow.test.")
        assert (found.rcode(), found.answer) == (SERVFAIL, [])
        assert time.monotonic() - began < 2.5


def test_the_target_goes_its_own_way(tmp_path: Path) -> None:
    """To the servers of its zone; a zone that must not leave does not; a blocked target blocks, and is not asked."""
    blocked = tmp_path / "blocked"
    blocked.write_text("ads.blocked\n")
    with Upstream(only_its_own) as upstream, Upstream(lambda query, _: answer(query, "60 A 192.0.2.9")) as corp:
        args = ("--zone", f"corp={corp.address}", "--zone", "closed=none", "--block", str(blocked))
        with Node([upstream.address], args=args) as node:
            assert last(ask(node.port, "out.test.")) == "192.0.2.9"
            assert ask(node.port, "inside.test.").rcode() == NXDOMAIN
            assert ask(node.port, "advert.test.").rcode() == NXDOMAIN
            asked = {name for name, _ in upstream.counts}
            assert asked == {"out.test.", "inside.test.", "advert.test."}
            assert set(corp.counts) == {("web.corp.", "A")}


def test_once_for_the_cluster(redis_server: RedisServer) -> None:
    """Each name on the way is asked once by all nodes; Redis keeps each as the upstream said it."""
    with Upstream(only_its_own, delay=0.05) as upstream, nodes_on(redis_server.url, upstream, 3) as nodes:
        for node in nodes:
            found = texts(ask(node.port, "two.test."))
            assert [text.split()[0] for text in found] == ["two.test.", "www.test.", "web.test."]
        assert {name: count for (name, _), count in upstream.counts.items()} == {
            "two.test.": 1, "www.test.": 1, "web.test.": 1,
        }  # fmt: skip
        stored = redis_server.client().hget("rdns:1:{two.test.}:A", "answer")
        assert stored == b"two.test. 300 IN CNAME www.test."


def test_who_wants_no_recursion_gets_what_is_there(redis_server: RedisServer) -> None:
    """RD=0: the alias alone where the target is not known, and that is not kept for others."""
    with Upstream(only_its_own) as upstream, nodes_on(redis_server.url, upstream, 2) as (one, two):
        assert len(ask(one.port, "www.test.").answer) == 2
        command("cache", "flush", "web.test.", "--redis", redis_server.url)
        wait_for(lambda: not redis_server.client().exists("rdns:1:{web.test.}:A"))
        assert texts(ask(two.port, "www.test.", flags=0))[0].endswith("CNAME web.test.")
        assert last(ask(two.port, "www.test.")) == "192.0.2.1"


def test_warmed_names_are_whole(redis_server: RedisServer) -> None:
    """A node that loads the hottest names does not answer with the alias alone."""
    with Upstream(only_its_own) as upstream, ExitStack() as stack:
        one = stack.enter_context(Node([upstream.address], redis_server.url))
        wait_for(lambda: attached(one))
        for _ in range(50):
            ask(one.port, "www.test.")
        two = stack.enter_context(Node([upstream.address], redis_server.url, args=("--node-id", "two")))
        wait_for(lambda: attached(two))
        assert len(ask(two.port, "www.test.").answer) == 2


def test_who_wait_for_each_other_do_not_wait_long() -> None:
    """Both parts of a circle asked for at once: each flight would wait for the other."""
    with Upstream(only_its_own, delay=0.3) as upstream, Node([upstream.address]) as node, ThreadPoolExecutor() as pool:
        began = time.monotonic()
        replies = pool.map(lambda name: ask(node.port, name), ("round.test.", "about.test."))
        assert [reply.rcode() for reply in replies] == [SERVFAIL, SERVFAIL]
        assert time.monotonic() - began < 2


@pytest.mark.pure
def test_networks_of_clients_are_told_to_who_may_know_them() -> None:
    """The servers of the target hear of one only where the terms are those of the alias."""
    terms = SubnetTerms(True, 24, 56)
    zones = {b"\4same\0": terms, b"\5other\0": SubnetTerms(True, 16, 48)}
    subnets = ClientSubnets(Zones(None, zones))
    network = parse_subnet("192.0.2.0/24")
    asked = with_subnet(key_of("www.same."), network)
    for target, wanted in (("web.same.", network), ("web.other.", NOBODY), ("web.test.", b"")):
        assert subnet(subnets.of_target(asked, with_subnet(key_of(target), network))) == wanted
    assert subnet(subnets.of_target(key_of("www.test."), key_of("web.same."))) == NOBODY
    assert subnets.of_target(key_of("www.test."), key_of("web.test.")) == key_of("web.test.")
