"""Views: groups of clients with lists, records and upstreams of their own, over real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import dns.rrset
import pytest
from support import (
    Changing,
    Node,
    RedisServer,
    Reply,
    Upstream,
    addresses,
    answer,
    answer_of,
    ask,
    attached,
    command,
    free_port,
    numbers,
    wait_for,
)

#: Clients, by their addresses: of one view, of another, and of none.
KIDS, GUESTS, OTHER = "127.0.1.1", "127.0.2.1", "127.0.3.1"
NXDOMAIN = dns.rcode.NXDOMAIN


def rcode(node: Node, name: str, client: str, **how: Any) -> int:
    return int(ask(node.port, name, source=client, **how).rcode())


def first(node: Node, name: str, client: str, **how: Any) -> str:
    return answer_of(node.port, name, source=client, **how)


def answers_with(address: str, ttl: int = 300) -> Any:
    def handler(query: dns.message.Message, transport: str) -> Reply:
        return answer(query, f"{ttl} A {address}")

    return handler


@pytest.fixture
def options(tmp_path: Path) -> Path:
    """Two views that block different names, beside a policy of the node's own."""
    for name in ("kids", "guests", "all"):
        (tmp_path / f"{name}.txt").write_text(f"{name}.test\n||deep.{name}.test^\n")
    (tmp_path / "printer.hosts").write_text("192.0.2.7 printer.test\n")
    (tmp_path / "home.zone").write_text("cdn.home.test. 60 IN CNAME far.test.\n")
    file = tmp_path / "node.toml"
    file.write_text(f"""
block = ["{tmp_path}/all.txt"]
[[view]]
name = "kids"
clients = ["127.0.1.0/24"]
block = ["{tmp_path}/kids.txt"]
block_answer = "null"
records = ["{tmp_path}/home.zone"]
[[view]]
name = "guests"
clients = ["127.0.2.0/24", "127.0.1.9"]
block = ["{tmp_path}/guests.txt"]
hosts = ["{tmp_path}/printer.hosts"]
""")
    return file


@pytest.fixture
def node(options: Path, upstream: Upstream) -> Iterator[Node]:
    with Node([upstream.address], args=("--config", str(options))) as started:
        yield started


class TestPolicies:
    def test_each_view_has_its_own(self, node: Node, upstream: Upstream) -> None:
        """What one blocks others may have; what a view does not set is the node's own; a longer prefix counts."""
        for _ in range(2):  # the second time from L1
            assert first(node, "kids.test.", KIDS) == "0.0.0.0"
            assert rcode(node, "kids.test.", GUESTS) == rcode(node, "kids.test.", OTHER) == 0
            assert rcode(node, "guests.test.", GUESTS) == rcode(node, "guests.test.", "127.0.1.9") == NXDOMAIN
            assert rcode(node, "guests.test.", KIDS) == 0
            assert rcode(node, "all.test.", OTHER) == NXDOMAIN
            assert rcode(node, "all.test.", KIDS) == rcode(node, "all.test.", GUESTS) == 0
            assert first(node, "printer.test.", GUESTS) == "192.0.2.7"
            assert first(node, "printer.test.", OTHER) != "192.0.2.7"
            assert first(node, "kids.test.", KIDS, tcp=True) == "0.0.0.0"
            assert rcode(node, "kids.test.", GUESTS, tcp=True) == 0
        for name in ("kids.test.", "guests.test.", "all.test.", "printer.test."):
            assert upstream.count(name) == 1

    def test_a_question_is_asked_once_for_all(self, options: Path) -> None:
        """However many views wait for it at the same time; each has the answer by its own policy."""
        with Upstream(delay=0.3) as upstream, Node([upstream.address], args=("--config", str(options))) as node:
            clients = [KIDS, GUESTS, OTHER] * 20
            with ThreadPoolExecutor(len(clients)) as pool:
                found = list(pool.map(lambda client: first(node, "www.test.", client), clients))
            assert len({*found}) == 1
            assert upstream.total() == 1

    def test_two_nodes_share_what_views_differ_about(self, options: Path, redis_server: RedisServer) -> None:
        """Redis has what the upstream said, under the bare name; neither blocked nor local names get there."""
        with Upstream() as upstream:
            args = ("--config", str(options))
            with (
                Node([upstream.address], redis_server.url, 2, (*args, "--node-id", "n1")) as one,
                Node([upstream.address], redis_server.url, 2, (*args, "--node-id", "n2")) as two,
            ):
                wait_for(lambda: attached(one, 2) and attached(two, 2))
                for each in (one, two):
                    for client in (KIDS, GUESTS, OTHER):
                        assert rcode(each, "www.test.", client) == 0
                    assert first(each, "kids.test.", KIDS) == "0.0.0.0"
                    assert first(each, "printer.test.", GUESTS) == "192.0.2.7"
                wait_for(lambda: bool(redis_server.client().keys("*")))
                assert upstream.total() == 1
                entries = list(redis_server.client().scan_iter("rdns:1:{*}:A*"))
                assert entries == [b"rdns:1:{www.test.}:A"]

    def test_an_alias_of_a_blocked_name(self, options: Path) -> None:
        """Is blocked for those who may not have what it leads to, though all wait on one flight."""

        def cloaked(query: dns.message.Message, transport: str) -> Reply:
            reply = answer(query, "300 CNAME x.deep.kids.test.")
            reply.answer.append(dns.rrset.from_text("x.deep.kids.test.", 300, "IN", "A", "192.0.2.1"))
            return reply

        with (
            Upstream(cloaked, delay=0.2) as upstream,
            Node([upstream.address], args=("--config", str(options))) as node,
        ):
            for _ in range(2):
                with ThreadPoolExecutor(6) as pool:
                    found = list(pool.map(lambda each: ask(node.port, "shop.test.", source=each), [KIDS, GUESTS] * 3))
                assert {each.answer[0][0].to_text() for each in found[::2]} == {"0.0.0.0"}
                assert {len(each.answer) for each in found[1::2]} == {2}
            assert upstream.total() == 1

    def test_a_local_alias_is_followed(self, node: Node, upstream: Upstream) -> None:
        """Through the cache of all, and only in the view that has it."""
        for _ in range(2):
            reply = ask(node.port, "cdn.home.test.", source=KIDS)
            assert [each.name.to_text() for each in reply.answer] == ["cdn.home.test.", "far.test."]
        assert first(node, "far.test.", OTHER)
        assert upstream.count("far.test.") == upstream.total() == 1
        assert len(ask(node.port, "cdn.home.test.", source=GUESTS).answer) == 1

    def test_addresses_that_are_made(self, upstream: Upstream) -> None:
        """DNS64 in one view only, from the answers that all share; and a type that is left out in another."""

        def only_ipv4(query: dns.message.Message, transport: str) -> Reply:
            there = query.question[0].rdtype == 1 and "www" in query.question[0].name.to_text()
            return answer(query, *(["300 A 192.0.2.1"] if there else []))

        views = (
            '[{name="new", clients=["127.0.1.0/24"], dns64="yes"},'
            ' {name="old", clients=["127.0.2.0/24"], filter_types=["A"]},'
            ' {name="other", clients=["127.0.4.0/24"], dns64="2001:db8::/96"}]'
        )
        upstream.handler = only_ipv4
        with Node([upstream.address], args=("--view", views)) as node:
            for _ in range(2):
                assert addresses(ask(node.port, "www.test.", "AAAA", source=KIDS)) == ["64:ff9b::c000:201"]
                assert addresses(ask(node.port, "www.test.", "AAAA", source="127.0.4.1")) == ["2001:db8::c000:201"]
                assert ask(node.port, "www.test.", "AAAA", source=OTHER).answer == []
                assert ask(node.port, "none.test.", "AAAA", source=KIDS).answer == []
                assert ask(node.port, "www.test.", source=GUESTS).answer == []
                assert first(node, "www.test.", KIDS) == first(node, "www.test.", OTHER) == "192.0.2.1"
            assert (upstream.count("www.test."), upstream.count("www.test.", "AAAA")) == (1, 1)

    @pytest.mark.parametrize(("scope", "queries"), [(24, 2), (0, 1)])
    def test_networks_of_clients(self, options: Path, scope: int, queries: int) -> None:
        """Views share what is asked for one network, and what holds for all (RFC 7871)."""

        def by_network(query: dns.message.Message, transport: str) -> Reply:
            told = next(each for each in query.options if isinstance(each, dns.edns.ECSOption))
            reply = answer(query, f"300 A {told.address if scope else '203.0.113.1'}")
            reply.use_edns(0, payload=1232, options=[dns.edns.ECSOption(told.address, told.srclen, scope)])
            return reply

        with Upstream(by_network) as upstream:
            with Node([upstream.address], args=("--config", str(options), "--ecs", "forward")) as node:
                for network in ("192.0.2.0", "198.51.100.0"):
                    option = dns.edns.ECSOption(network, 24)
                    for client in (KIDS, GUESTS, OTHER, KIDS):
                        found = first(node, "www.test.", client, use_edns=0, options=[option])
                        assert found == (network if scope else "203.0.113.1")
                        assert first(node, "kids.test.", KIDS, use_edns=0, options=[option]) == "0.0.0.0"
                assert upstream.total() == queries

    def test_names_that_do_not_exist(self, options: Path) -> None:
        """Are denied for all types at once, in every view, with one query."""

        def nobody(query: dns.message.Message, transport: str) -> Reply:
            reply = dns.message.make_response(query, recursion_available=True)
            reply.set_rcode(dns.rcode.NXDOMAIN)
            reply.authority.append(dns.rrset.from_text("test.", 300, "IN", "SOA", "ns. host. 1 3600 600 86400 300"))
            return reply

        with Upstream(nobody) as upstream, Node([upstream.address], args=("--config", str(options))) as node:
            for client in (KIDS, GUESTS, OTHER):
                for rtype in ("A", "AAAA", "MX"):
                    assert rcode(node, "nobody.test.", client, rtype=rtype) == NXDOMAIN
            assert upstream.total() == 1

    def test_ttls_are_those_of_the_answer(self, options: Path) -> None:
        """A view that asks later has what is left, and nothing lives longer than what it was made of."""
        handler = Changing()

        def short(query: dns.message.Message, transport: str) -> Reply:
            reply = handler(query, transport)
            reply.answer[0].ttl = 2
            return reply

        with Upstream(short) as upstream, Node([upstream.address], args=("--config", str(options))) as node:
            began = time.monotonic()
            assert first(node, "www.test.", KIDS) == first(node, "www.test.", OTHER)
            handler.address = "192.0.2.2"
            wait_for(lambda: first(node, "www.test.", KIDS) == "192.0.2.2", 5)
            assert time.monotonic() - began >= 1.9
            assert first(node, "www.test.", GUESTS) == "192.0.2.2"
            assert upstream.total() == 2

    def test_stale_answers(self, options: Path) -> None:
        """When upstreams fail, each view has its own of what is left."""
        down = False

        def once(query: dns.message.Message, transport: str) -> Reply:
            return None if down else answer(query, "1 A 192.0.2.1")

        args = ("--config", str(options), "--upstream-timeout", "0.2", "--upstream-deadline", "0.5")
        with Upstream(once) as upstream, Node([upstream.address], args=args) as node:
            assert first(node, "www.test.", KIDS) == "192.0.2.1"
            down = True
            wait_for(lambda: ask(node.port, "www.test.", source=KIDS).answer[0].ttl == 30, 6)
            for client in (GUESTS, KIDS, OTHER):
                assert first(node, "www.test.", client) == "192.0.2.1"


class TestRenewal:
    def test_an_entry_in_use_is_asked_for_anew(self, options: Path) -> None:
        """Shortly before its end, once, whoever of the views uses it; nobody waits."""
        with Upstream(answers_with("192.0.2.1", 10)) as upstream:
            with Node([upstream.address], args=("--config", str(options))) as node:
                until = time.monotonic() + 11
                while time.monotonic() < until:
                    for client in (KIDS, GUESTS, OTHER):
                        assert first(node, "www.test.", client) == "192.0.2.1"
                    time.sleep(0.1)
                assert upstream.total() == 2


class TestRoutes:
    def test_own_upstreams_are_kept_apart(self, tmp_path: Path, redis_server: RedisServer) -> None:
        """In L1, in Redis and in flights; and shared by nodes whose views ask the same servers."""
        file = tmp_path / "node.toml"
        with (
            Upstream(answers_with("192.0.2.1"), delay=0.2) as usual,
            Upstream(answers_with("192.0.2.2"), delay=0.2) as own,
        ):
            file.write_text(f"""
[[view]]
name = "guests"
clients = ["127.0.2.0/24"]
[[view.zone]]
name = "corp.test"
upstream = "{own.address}"
""")
            args = ("--config", str(file))
            with (
                Node([usual.address], redis_server.url, 1, (*args, "--node-id", "n1")) as one,
                Node([usual.address], redis_server.url, 1, (*args, "--node-id", "n2")) as two,
            ):
                wait_for(lambda: attached(one) and attached(two))
                with ThreadPoolExecutor(8) as pool:
                    asked = [(node, client) for node in (one, two) for client in (GUESTS, OTHER)] * 2
                    found = list(pool.map(lambda each: first(each[0], "www.corp.test.", each[1]), asked))
                assert found == ["192.0.2.2", "192.0.2.1"] * 4
                for node, client in asked:
                    assert first(node, "www.test.", client) == "192.0.2.1"
                assert (usual.count("www.corp.test."), own.count("www.corp.test.")) == (1, 1)
                assert (usual.count("www.test."), own.total()) == (1, 1)
                keys = sorted(key.decode() for key in redis_server.client().scan_iter("rdns:1:{www.corp.test.}:*"))
                assert len(keys) == 2
                assert keys[1].startswith("rdns:1:{www.corp.test.}:A:via=")
                listed = command("cache", "ls", "*corp.test.", "--redis", redis_server.url).stdout
                assert ":via=" in listed
                told = command("cache", "get", "www.corp.test", "--redis", redis_server.url).stdout
                assert told.count("192.0.2.2") == told.count("192.0.2.1") == 1
                done = command("cache", "flush", "www.corp.test", "--redis", redis_server.url)
                assert done.returncode == 0, done.stderr
                assert not list(redis_server.client().scan_iter("rdns:1:{www.corp.test.}:*"))
                assert first(one, "www.corp.test.", GUESTS) == "192.0.2.2"
                assert own.count("www.corp.test.") == 2

    def test_an_upstream_of_its_own_for_everything(self, tmp_path: Path) -> None:
        """And zones of which nothing leaves, in one view only."""
        with Upstream(answers_with("192.0.2.1")) as usual, Upstream(answers_with("192.0.2.2")) as own:
            view = f'{{name="guests", clients=["127.0.2.0/24"], upstream=["{own.address}"], zone=["closed.test=none"]}}'
            with Node([usual.address], workers=2, args=("--view", view)) as node:
                for _ in range(4):
                    assert first(node, "www.test.", GUESTS) == "192.0.2.2"
                    assert first(node, "www.test.", OTHER) == "192.0.2.1"
                    assert rcode(node, "a.closed.test.", GUESTS) == NXDOMAIN
                    assert rcode(node, "closed.test.", GUESTS) == 0
                    assert first(node, "a.closed.test.", OTHER) == "192.0.2.1"
                assert own.count("a.closed.test.") == 0
                assert own.count("www.test.") == usual.count("www.test.") == 1  # its workers ask each other

    def test_a_reload_changes_them(self, tmp_path: Path, redis_server: RedisServer) -> None:
        """Nothing that the servers before have said is answered any more."""
        file = tmp_path / "node.toml"

        def asks(server: Upstream) -> str:
            return f'[[view]]\nname = "guests"\nclients = ["127.0.2.0/24"]\nupstream = "{server.address}"\n'

        with (
            Upstream(answers_with("192.0.2.1")) as usual,
            Upstream(answers_with("192.0.2.2")) as second,
            Upstream(answers_with("192.0.2.3")) as third,
        ):
            file.write_text(asks(second))
            with Node([usual.address], redis_server.url, 1, ("--config", str(file))) as node:
                wait_for(lambda: attached(node))
                assert first(node, "www.test.", GUESTS) == "192.0.2.2"
                file.write_text(asks(third))
                node.reload()
                assert first(node, "www.test.", GUESTS) == "192.0.2.3"
                assert first(node, "www.test.", OTHER) == "192.0.2.1"
                file.write_text("# no views\n")
                node.reload()
                assert first(node, "www.test.", GUESTS) == "192.0.2.1"


class TestWhoIsInAView:
    def test_the_client_that_a_balancer_tells(self, options: Path, upstream: Upstream) -> None:
        """Over UDP and TCP; the balancer's own address counts for nothing."""
        args = ("--config", str(options), "--proxy-from", "::1")
        balanced = f"[::1]:{free_port()}"
        with Node([upstream.address], listen=[f"127.0.0.1:{free_port()}", balanced], args=args):
            server = balanced
            for how in ((), ("--tcp",)):
                told = command("query", "kids.test", "--server", server, "--client", KIDS, "--trace", *how).stdout
                assert "0.0.0.0" in told
                assert " view=kids" in told
                told = command("query", "kids.test", "--server", server, "--client", OTHER, "--trace", *how).stdout
                assert " view=default" in told
                assert "NOERROR" in told
                assert "0.0.0.0" not in told

    def test_listeners(self, tmp_path: Path, upstream: Upstream) -> None:
        """A view of a listener is for all who ask there, but for those whose network another view names."""
        (tmp_path / "kids.txt").write_text("kids.test\n")
        inner, outer = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        views = (
            f'[{{name="kids", listen=["{outer}"], block=["{tmp_path}/kids.txt"]}},'
            ' {name="staff", clients=["127.0.3.0/24"], block=[]}]'
        )
        with Node([upstream.address], listen=[inner, outer], args=("--view", views)) as node:
            port = int(outer.rpartition(":")[2])
            for tcp in (False, True):
                assert int(ask(port, "kids.test.", tcp=tcp).rcode()) == NXDOMAIN
                assert int(ask(port, "kids.test.", tcp=tcp, source=OTHER).rcode()) == 0
                assert int(ask(node.port, "kids.test.", tcp=tcp).rcode()) == 0

    def test_who_is_not_allowed(self, options: Path, upstream: Upstream) -> None:
        """Is refused, in a view or not."""
        args = ("--config", str(options), "--allow", "127.0.0.0/8", "--deny", "127.0.1.7")
        with Node([upstream.address], args=args) as node:
            assert rcode(node, "www.test.", "127.0.1.7") == dns.rcode.REFUSED
            assert rcode(node, "www.test.", KIDS) == 0


class TestOperation:
    def test_a_flush_reaches_what_views_keep(self, options: Path, redis_server: RedisServer) -> None:
        """The answers of all views are forgotten with that of the name, by name and by zone."""
        handler = Changing()
        with Upstream(handler) as upstream:
            with Node([upstream.address], redis_server.url, 2, ("--config", str(options))) as node:
                wait_for(lambda: attached(node, 2))
                for number, what in enumerate((("www.test",), ("--zone", "test"), ("--all",)), 2):
                    assert {first(node, "www.test.", each) for each in (KIDS, GUESTS) * 10} == {handler.address}
                    handler.address = f"192.0.2.{number}"
                    done = command("cache", "flush", *what, "--redis", redis_server.url)
                    assert done.returncode == 0, done.stderr
                    for client in (KIDS, GUESTS, OTHER) * 4:
                        assert first(node, "www.test.", client) == handler.address
                assert upstream.total() == 4

    def test_blocking_is_paused_for_all(self, options: Path, redis_server: RedisServer) -> None:
        """What operators order is in force in every view."""
        with Upstream() as upstream:
            with Node([upstream.address], redis_server.url, 2, ("--config", str(options))) as node:
                wait_for(lambda: attached(node, 2))

                def blocked() -> list[bool]:
                    kids = {first(node, "kids.test.", KIDS) == "0.0.0.0" for _ in range(20)}
                    guests = {rcode(node, "guests.test.", GUESTS) == NXDOMAIN for _ in range(20)}
                    return sorted(kids | guests)

                assert blocked() == [True]
                for order, expected in (("pause", [False]), ("resume", [True])):
                    done = command("policy", order, "--redis", redis_server.url)
                    assert done.returncode == 0, done.stderr
                    assert blocked() == expected

    def test_what_local_caches_hold(self, options: Path, redis_server: RedisServer) -> None:
        """`cache get` says for which views."""
        with Upstream() as upstream:
            with Node([upstream.address], redis_server.url, 1, ("--config", str(options))) as node:
                wait_for(lambda: attached(node))
                for client in (KIDS, GUESTS):
                    rcode(node, "kids.test.", client)
                told = command("cache", "get", "kids.test", "--redis", redis_server.url).stdout
                assert "kids.test. A view=kids" in told
                assert "kids.test. A view=guests" in told
                assert "block=kids.txt:1" in told

    def test_the_query_log(self, options: Path, upstream: Upstream) -> None:
        """Has the view of each query, hit or miss."""
        args = ("--config", str(options), "--log-queries", "1", "--log-format", "json")
        with Node([upstream.address], args=args) as node:
            for client in (KIDS, KIDS, OTHER):
                rcode(node, "www.test.", client)
            lines = [json.loads(line) for line in node.log().splitlines() if '"www.test."' in line]
            assert [line["view"] for line in lines] == ["kids", "kids", "default"]

    def test_a_reload_with_other_views(self, options: Path, upstream: Upstream) -> None:
        """Takes effect; wrong ones are refused, and the old stay."""
        with Node([upstream.address], args=("--config", str(options))) as node:
            assert first(node, "kids.test.", KIDS) == "0.0.0.0"
            text = options.read_text()
            options.write_text(text.replace("127.0.1.0/24", "127.0.3.0/24"))
            node.reload()
            assert rcode(node, "kids.test.", KIDS) == 0
            assert first(node, "kids.test.", KIDS) != "0.0.0.0"
            assert first(node, "kids.test.", OTHER) == "0.0.0.0"
            file = options.parent / "kids.txt"
            file.write_text("other.test\n")
            node.reload()
            assert first(node, "kids.test.", OTHER) != "0.0.0.0"

    def test_counters_add_up(self, options: Path, upstream: Upstream) -> None:
        """A query is counted once, whatever its view: as a hit, or with the layer of its flight."""
        port = free_port()
        with Node([upstream.address], args=("--config", str(options), "--admin", f"127.0.0.1:{port}")) as node:
            before = numbers(port)
            for client in (KIDS, GUESTS, OTHER, KIDS):
                rcode(node, "www.test.", client)
            rcode(node, "kids.test.", KIDS)
            names = [f"answers_total.{layer}" for layer in ("upstream", "l1", "local", "flight")]

            def more() -> list[float]:
                after = numbers(port)
                return [after[name] - before[name] for name in names]

            wait_for(lambda: sum(more()) == 5)  # counted after they are sent
            assert more() == [1, 3, 1, 0]


class TestCommands:
    def test_explain(self, options: Path) -> None:
        """Says the view of a client, and what would happen there."""

        def explained(client: str, name: str = "kids.test") -> str:
            args = ("--client", client, "--config", str(options), "--upstream", "192.0.2.53")
            done = command("policy", "explain", name, *args)
            assert done.returncode == 0, done.stderr
            return str(done.stdout)

        assert "view: kids" in explained(KIDS)
        assert "block=kids.txt:1" in explained(KIDS)
        assert "view: guests" in explained("127.0.1.9")
        assert "192.0.2.53:53" in explained(GUESTS)
        assert "view: default" in explained(OTHER)
        assert "REFUSED" in explained("198.51.100.1")

    def test_explain_what_is_named_in_tls(self, options: Path) -> None:
        """It chooses the view before the network does; what is no host name is refused."""
        named = '{name = "office", tls_names = ["*.dns.example"], block = []}'
        args = ("--view", named, "--proxy-from", "loopback", "--upstream", "192.0.2.53", "--client", "127.0.0.1")

        done = command("policy", "explain", "kids.test", *args, "--tls-name", "Office.dns.example")
        assert "view: office" in done.stdout
        assert "view: default" in command("policy", "explain", "kids.test", *args, "--tls-name", "x.test").stdout
        done = command("policy", "explain", "kids.test", *args, "--tls-name", "a b")
        assert (done.returncode, "'a b' is not a host name" in done.stderr) == (2, True)
        done = command("policy", "explain", "kids.test", *args[:-2], "--tls-name", "office.dns.example")
        assert (done.returncode, "--tls-name goes with --client" in done.stderr) == (2, True)

    def test_check_config_shows_views(self, options: Path) -> None:
        """In a form that can be read again."""
        with options.open("a") as file:
            file.write('[[view.zone]]\nname = "corp.test"\nupstream = "192.0.2.1"\nttl_max = 60\n')
        options.write_text('upstream = "192.0.2.53"\n' + options.read_text())
        done = command("check-config", str(options))
        assert done.returncode == 0, done.stderr
        again = options.parent / "again.toml"
        views = done.stdout[done.stdout.index("[[view]]") :].replace("node.toml", "again.toml")
        again.write_text('upstream = "192.0.2.53"\n' + views)
        assert command("check-config", str(again)).stdout.endswith(views)
        assert "[[view.zone]]" in views
        told = json.loads(command("check-config", str(options), "--json").stdout)
        assert [each["name"] for each in told["view"]] == ["kids", "guests"]


def test_lists_of_views_are_listed(options: Path) -> None:
    """With those of the node."""
    done = command("policy", "lists", "--config", str(options), "--upstream", "192.0.2.53")
    assert all(f"{name}.txt" in done.stdout for name in ("kids", "guests", "all"))
