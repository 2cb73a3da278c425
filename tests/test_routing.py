"""Zones asked of servers of their own: real nodes, upstreams and Redis."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.reversename
import pytest
from support import (
    Node,
    RedisServer,
    Reply,
    Upstream,
    answer,
    answer_of,
    ask,
    attached,
    cluster,
    command,
    extended_errors,
    failure,
    fill_all_workers,
    free_port,
    wait_for,
)

USUAL, CORP = "192.0.2.1", "192.0.2.99"


def saying(address: str) -> Any:
    """A handler that tells which server has answered."""

    def handler(query: dns.message.Message, transport: str) -> Reply:
        return answer(query, f"300 A {address}")

    return handler


def stored(redis_server: RedisServer, name: str, rtype: str = "A") -> str:
    """The `info` of an entry, once it is there."""
    client = redis_server.client()
    key = f"rdns:1:{{{name}}}:{rtype}"
    wait_for(lambda: client.exists(key))
    return str(client.hget(key, "info").decode())


class TestWhoIsAsked:
    def test_the_longest_suffix_wins(self, redis_server: RedisServer) -> None:
        """Names of a zone are asked of its servers only, all others of none of them; the origin says the route."""
        with Upstream(saying(USUAL)) as usual, Upstream(saying(CORP)) as corp:
            zones = ("--zone", f"corp.test={corp.address}", "--zone", "www.corp.test=default", "--trace", "yes")
            with Node([usual.address], redis_server.url, 2, zones) as node:
                wait_for(lambda: attached(node, 2))
                expected = {
                    "test.": USUAL, "other.test.": USUAL, "notcorp.test.": USUAL, "corp.test.": CORP,
                    "a.b.Corp.Test.": CORP, "www.corp.test.": USUAL, "x.www.corp.test.": USUAL,
                }  # fmt: skip
                assert {name: answer_of(node.port, name) for name in expected} == expected
                assert (usual.total(), corp.total()) == (5, 2)
                info = stored(redis_server, "a.b.corp.test.")
                assert " from=127.0.0.1 " in info
                assert info.endswith(" route=corp.test.")
                assert " route=www.corp.test." in stored(redis_server, "x.www.corp.test.")
                assert "route=" not in stored(redis_server, "other.test.")
                shown = command("cache", "get", "a.b.corp.test", "--redis", redis_server.url).stdout
                assert "from 127.0.0.1 (route corp.test.)" in shown

    def test_a_network_is_its_reverse_zone(self) -> None:
        """PTR questions of private addresses go to the office's server."""

        def pointing(query: dns.message.Message, transport: str) -> Reply:
            return answer(query, "300 PTR host.corp.test.")

        with Upstream() as usual, Upstream(pointing) as corp:
            with Node([usual.address], args=("--zone", f"172.16.0.0/12={corp.address}")) as node:
                for address in ("172.16.0.1", "172.31.255.254"):
                    reply = ask(node.port, dns.reversename.from_address(address), "PTR")
                    assert reply.answer[0][0].to_text() == "host.corp.test."
                assert usual.total() == 0
                ask(node.port, dns.reversename.from_address("172.32.0.1"), "PTR")
                assert (usual.total(), corp.total()) == (1, 2)

    def test_the_ds_of_a_zone_is_asked_of_its_parent(self) -> None:
        """Whoever validates has to see whether the parent vouches for it."""
        with Upstream() as usual, Upstream() as corp:
            with Node([usual.address], args=("--zone", f"corp.test={corp.address}")) as node:
                ask(node.port, "corp.test.", "DS")
                ask(node.port, "corp.test.", "DNSKEY")
                assert (usual.count("corp.test.", "DS"), corp.count("corp.test.", "DNSKEY")) == (1, 1)
                assert usual.total() + corp.total() == 2

    def test_a_zone_has_its_own_times_policy_and_ttls(self, tmp_path: Path) -> None:
        """A silent server of a zone costs its clients what the zone says, and nobody else; TTLs likewise."""
        file = tmp_path / "node.toml"
        with Upstream(saying(USUAL)) as usual, Upstream(saying(CORP)) as corp, Upstream(lambda *_: None) as silent:
            file.write_text(
                f'[[zone]]\nname = "corp.test"\nupstream = ["{silent.address}", "{corp.address}"]\n'
                f'policy = "ordered"\nttl_max = 7\n'
                f'[[zone]]\nname = "slow.test"\nupstream = "{silent.address}"\ntimeout = 0.1\ndeadline = 0.3\n'
            )
            with Node([usual.address], args=("--config", str(file))) as node:
                reply = ask(node.port, "www.corp.test.", timeout=5)
                assert (reply.answer[0][0].to_text(), reply.answer[0].ttl) == (CORP, 7)
                assert silent.count("www.corp.test.") == 1
                assert ask(node.port, "www.slow.test.", timeout=1).rcode() == dns.rcode.SERVFAIL
                assert ask(node.port, "www.other.test.").answer[0].ttl == 300
                assert usual.total() == 1

    def test_zones_over_tcp(self) -> None:
        """The transport is part of the server's URL."""
        with Upstream() as usual, Upstream(saying(CORP)) as corp:
            with Node([usual.address], args=("--zone", f"corp.test=tcp://{corp.address}")) as node:
                assert answer_of(node.port, "www.corp.test.") == CORP
                assert corp.transports == ["tcp"]

    def test_the_environment(self) -> None:
        """Zones between spaces; servers between commas."""
        with Upstream() as usual, Upstream(saying(CORP)) as corp:
            env = {"RDNSCACHE_ZONE": f"a.test={corp.address} b.test=none"}
            with Node([usual.address], env=env) as node:
                assert answer_of(node.port, "www.a.test.") == CORP
                assert ask(node.port, "www.b.test.").rcode() == dns.rcode.NXDOMAIN
                assert usual.total() == 0


class TestNone:
    def test_nothing_leaves(self, redis_server: RedisServer) -> None:
        """No query to an upstream, no key in Redis; what other zones below have is asked of those."""
        with Upstream(saying(USUAL)) as usual, Upstream(saying(CORP)) as corp:
            zones = ("--zone", "closed.test=none", "--zone", f"open.inner.closed.test={corp.address}")
            with Node([usual.address], redis_server.url, 2, zones) as node:
                wait_for(lambda: attached(node, 2))
                for flags in (dns.flags.RD, 0):
                    reply = ask(node.port, "a.closed.test.", flags=flags)
                    assert reply.rcode() == dns.rcode.NXDOMAIN
                    assert reply.flags & dns.flags.RA
                    assert reply.authority[0].name.to_text() == "closed.test."
                    assert not extended_errors(reply)
                for name in ("closed.test.", "inner.closed.test."):  # they exist: RFC 8020
                    reply = ask(node.port, name)
                    assert (reply.rcode(), reply.answer, len(reply.authority)) == (dns.rcode.NOERROR, [], 1)
                assert ask(node.port, "closed.test.", "DS").rcode() == dns.rcode.NOERROR
                assert answer_of(node.port, "www.open.inner.closed.test.") == CORP
                stored(redis_server, "www.open.inner.closed.test.")
                assert (usual.total(), corp.total()) == (0, 1)
                assert not [key for key in redis_server.client().scan_iter("rdns:1:{*") if "open" not in str(key)]

    def test_over_tcp_and_with_do(self) -> None:
        """The same to everybody."""
        with Upstream() as usual, Node([usual.address], args=("--zone", "closed.test=none")) as node:
            assert ask(node.port, "a.closed.test.", tcp=True).rcode() == dns.rcode.NXDOMAIN
            assert ask(node.port, "a.closed.test.", want_dnssec=True).rcode() == dns.rcode.NXDOMAIN
            assert usual.total() == 0


class TestFaults:
    def test_dead_servers_of_a_zone_are_no_trouble_for_others(self, redis_server: RedisServer) -> None:
        """Claims for all other names are made as before, and their answers are stored."""
        with Upstream(saying(USUAL)) as usual:
            dead = f"127.0.0.1:{free_port()}"
            args = ("--zone", f"dead.test={dead}", "--upstream-deadline", "0.6", "--upstream-timeout", "0.2")
            with Node([usual.address], redis_server.url, 1, args) as node:
                wait_for(lambda: attached(node))
                names = itertools.count()

                def unfit() -> bool:
                    reply = ask(node.port, f"n{next(names)}.dead.test.")
                    assert reply.rcode() == dns.rcode.SERVFAIL
                    return "no upstream of the zone dead.test. can be reached" in node.log()

                wait_for(unfit)
                assert answer_of(node.port, "www.fine.test.") == USUAL
                stored(redis_server, "www.fine.test.")
                assert usual.total() == 1

    @pytest.mark.parametrize("same", [True, False])
    def test_a_failure_is_believed_by_those_with_the_same_route(self, redis_server: RedisServer, same: bool) -> None:
        """Who asks other servers for that zone finds out by itself."""
        with Upstream(lambda query, transport: failure(query)) as corp, Upstream(saying(USUAL)) as usual:
            zone = ("--zone", f"corp.test={corp.address}")
            with (
                Node([usual.address], redis_server.url, 1, (*zone, "--node-id", "n1")) as first,
                Node([usual.address], redis_server.url, 1, (*(zone if same else ()), "--node-id", "n2")) as second,
            ):
                wait_for(lambda: attached(first) and attached(second))
                assert ask(first.port, "www.corp.test.").rcode() == dns.rcode.SERVFAIL
                assert " route=corp.test. why=said" in stored(redis_server, "www.corp.test.")
                asked = corp.count("www.corp.test.")
                found = ask(second.port, "www.corp.test.").rcode()
                assert found == (dns.rcode.SERVFAIL if same else dns.rcode.NOERROR)
                assert (corp.count("www.corp.test."), usual.total()) == (asked, 0 if same else 1)


class TestReload:
    def test_a_changed_route_is_forgotten_by_the_cluster(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """Redis and every worker's L1, those of other nodes as well; what is in no changed zone stays."""
        file = tmp_path / "node.toml"
        with Upstream(saying(USUAL)) as usual, Upstream(saying(CORP)) as corp:
            file.write_text("")
            with cluster([redis_server.url] * 2, usual, 2, ("--config", str(file))) as nodes:
                for node in nodes:
                    fill_all_workers(node, "www.corp.test.", USUAL)
                    fill_all_workers(node, "www.kept.test.", USUAL)
                file.write_text(f'[[zone]]\nname = "corp.test"\nupstream = "{corp.address}"\n')
                nodes[0].reload()
                wait_for(lambda: "flushed zone corp.test." in nodes[0].log())
                assert "confirmed by" in nodes[0].log()
                fill_all_workers(nodes[0], "www.corp.test.", CORP)
                nodes[1].reload()
                wait_for(lambda: "flushed zone corp.test." in nodes[1].log())
                fill_all_workers(nodes[1], "www.corp.test.", CORP)
                for node in nodes:
                    fill_all_workers(node, "www.kept.test.", USUAL)
                assert usual.count("www.kept.test.") == 1
                assert " route=corp.test." in stored(redis_server, "www.corp.test.")
                told = json.loads(command("cluster", "status", "--json", "--redis", redis_server.url).stdout)
                assert not [remark for node in told for remark in node["remarks"] if "zone" in remark]

    def test_a_zone_that_closes_leaves_nothing_behind(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """`none` after a reload: what had been asked before is answered no more."""
        file = tmp_path / "node.toml"
        file.write_text("")
        with Upstream(saying(USUAL)) as usual:
            with Node([usual.address], redis_server.url, 1, ("--config", str(file))) as node:
                wait_for(lambda: attached(node))
                assert answer_of(node.port, "www.closed.test.") == USUAL
                stored(redis_server, "www.closed.test.")
                file.write_text('zone = ["closed.test=none"]\n')
                node.reload()
                wait_for(lambda: "flushed zone closed.test." in node.log())
                assert not redis_server.client().exists("rdns:1:{www.closed.test.}:A")
                assert ask(node.port, "www.closed.test.").rcode() == dns.rcode.NXDOMAIN

    def test_a_restart_forgets_them_as_well(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """SIGUSR2: the next image of the node flushes what its configuration asks of others."""
        file = tmp_path / "node.toml"
        file.write_text("")
        with Upstream(saying(USUAL)) as usual, Upstream(saying(CORP)) as corp:
            with Node([usual.address], redis_server.url, 1, ("--config", str(file))) as node:
                wait_for(lambda: attached(node))
                assert answer_of(node.port, "www.corp.test.") == USUAL
                stored(redis_server, "www.corp.test.")
                file.write_text(f'zone = ["corp.test={corp.address}"]\n')
                node.process.send_signal(signal.SIGUSR2)
                wait_for(lambda: "flushed zone corp.test." in node.log(), 20)
                wait_for(lambda: answer_of(node.port, "www.corp.test.") == CORP)

    def test_redis_is_away_meanwhile(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """The flush is made up for when it is back."""
        file = tmp_path / "node.toml"
        file.write_text("")
        with Upstream(saying(USUAL)) as usual, Upstream(saying(CORP)) as corp:
            with Node([usual.address], redis_server.url, 1, ("--config", str(file))) as node:
                wait_for(lambda: attached(node))
                assert answer_of(node.port, "www.corp.test.") == USUAL
                stored(redis_server, "www.corp.test.")
                redis_server.kill()
                file.write_text(f'zone = ["corp.test={corp.address}"]\n')
                node.reload()
                wait_for(lambda: "but Redis is away, so it cannot be flushed" in node.log(), 20)
                assert answer_of(node.port, "www.corp.test.") == CORP
                redis_server.start()
                wait_for(lambda: "flushed zone corp.test. since its servers have changed" in node.log(), 30)
