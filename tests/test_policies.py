"""Names of one's own and blocked ones: real nodes, files, upstreams and Redis."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.reversename
import dns.rrset
import gevent
import pytest
from support import (
    Node,
    RedisServer,
    Reply,
    Upstream,
    addresses,
    answer_of,
    ask,
    attached,
    command,
    extended_errors,
    wait_for,
)

from rdnscache.cache import Cache
from rdnscache.decider import Decider
from rdnscache.dns.entry import Entry
from rdnscache.dns.names import parse_name
from rdnscache.dns.policy import failure_wire, without_records
from rdnscache.dns.question import question_key
from rdnscache.dns.wire import Query
from rdnscache.flights import Flight
from rdnscache.outcomes import JOINED
from rdnscache.policy.rules import Policy
from rdnscache.policy.verdict import Verdict

ZONE = """$ORIGIN office.test.
$TTL 600
@ IN SOA ns admin 1 3600 600 86400 60
@ IN NS ns
ns IN A 192.0.2.53
printer 120 IN A 192.0.2.77
printer IN TXT "second floor" "left"
* IN A 192.0.2.99
www IN CNAME printer
cdn IN CNAME edge.outside.test.
"""


class TestLocalRecords:
    def test_zone_file_text(self, tmp_path: Path) -> None:
        """What a zone has is answered, what it has not is denied, and nobody is asked."""
        file = tmp_path / "office.zone"
        file.write_text(ZONE)
        with Upstream() as upstream, Node([upstream.address], workers=2, args=("--records", str(file))) as node:
            reply = ask(node.port, "Printer.Office.test.")
            assert (reply.answer[0].ttl, addresses(reply)) == (120, ["192.0.2.77"])
            assert reply.flags & dns.flags.RA
            assert ask(node.port, "printer.office.test.", "TXT").answer[0][0].strings == (b"second floor", b"left")
            nodata = ask(node.port, "printer.office.test.", "AAAA")
            assert (nodata.rcode(), nodata.answer) == (dns.rcode.NOERROR, [])
            assert nodata.authority[0].name.to_text() == "office.test."
            assert answer_of(node.port, "any.office.test.") == "192.0.2.99"
            assert [each.rdtype for each in ask(node.port, "www.office.test.").answer] == [5, 1]
            assert upstream.total() == 0

    def test_an_alias_of_somebody_else_is_followed(self, tmp_path: Path) -> None:
        """Through the cache, like any question; the client has the whole chain."""
        file = tmp_path / "office.zone"
        file.write_text(ZONE)
        with Upstream() as upstream, Node([upstream.address], args=("--records", str(file))) as node:
            for _ in range(2):
                reply = ask(node.port, "cdn.office.test.")
                assert [(each.name.to_text(), each.rdtype) for each in reply.answer] == [
                    ("cdn.office.test.", 5), ("edge.outside.test.", 1),
                ]  # fmt: skip
            assert answer_of(node.port, "edge.outside.test.")
            assert upstream.count("edge.outside.test.") == upstream.total() == 1

    @pytest.mark.parametrize("up", [True, False])
    def test_an_alias_whose_flight_had_to_make_way(self, up: bool) -> None:
        """It has landed by then, and must not land once more."""
        key, target = question_key(parse_name("cdn.office.test"), 1, 1, 0), parse_name("edge.outside.test")
        record = b"\xc0\x0c\0\5\0\1\0\0\0\x3c" + len(target).to_bytes(2, "big") + target
        head = failure_wire(key, 0)
        verdict = Verdict(head[:6] + b"\0\1" + head[8:] + record, "local=office.zone:1", target=target)
        joined: list[Any] = []
        landed: list[Entry] = []

        def join(channel: Any, query: Query, client: Any, now: float) -> int:
            joined.append((channel, query))
            return int(JOINED)

        flights: Any = SimpleNamespace(
            join=join, land=lambda flight, entry, layer: landed.append(entry), leads_back=lambda key, flight: False
        )

        class Always(Policy):
            """Says the same of every question."""

            def __init__(self) -> None:
                pass

            def __bool__(self) -> bool:
                return True

            def of(self, asked: Any) -> Any:
                return verdict

        flight = Flight(key, 0.0, b"")
        flying = gevent.spawn(Decider(Always(), Cache(10, 1 << 20), "n1").decide, flight, flights)
        gevent.sleep(0)
        (errand, query), flight.up = joined[0], up
        errand.answer(query, None, Entry(query.key, without_records(query.key, 3), 0.0, 5, 0), 0)
        flying.join(5)
        assert flying.value
        assert len(landed) == up

    def test_a_hosts_file(self, tmp_path: Path) -> None:
        """Names to addresses, and addresses to the first name."""
        file = tmp_path / "hosts"
        file.write_text("192.0.2.5 nas.office.test nas  # a box\n2001:db8::5 nas.office.test\n")
        with Upstream() as upstream, Node([upstream.address], args=("--hosts", str(file))) as node:
            assert answer_of(node.port, "nas.office.test.") == "192.0.2.5"
            assert answer_of(node.port, "nas.") == "192.0.2.5"
            assert addresses(ask(node.port, "nas.office.test.", "AAAA")) == ["2001:db8::5"]
            reply = ask(node.port, dns.reversename.from_address("192.0.2.5"), "PTR")
            assert reply.answer[0][0].to_text() == "nas.office.test."
            assert upstream.total() == 0
            assert answer_of(node.port, "other.office.test.")
            assert upstream.total() == 1

    def test_records_in_the_configuration_itself(self, tmp_path: Path) -> None:
        """A text of several lines is no file's name."""
        file = tmp_path / "rdnscache.toml"
        file.write_text(
            'upstream = "192.0.2.53"\nhosts = "192.0.2.6 nas.test\\n"\n'
            'records = """\n$ORIGIN office.test.\n$TTL 600\nprinter A 192.0.2.77\n"""\n'
        )
        found = command("policy", "explain", "printer.office.test", "--config", str(file)).stdout
        assert "decided by: local=configuration:3" in found
        assert "192.0.2.6" in command("policy", "explain", "nas.test", "--config", str(file)).stdout
        file.write_text('upstream = "192.0.2.53"\nrecords = """\nx.test. A 192.0.2.7\nx.test. A no\n"""\n')
        done = command("serve", "--check", "--config", str(file))
        assert (done.returncode, "configuration, line 2" in done.stderr) == (2, True)

    def test_mistakes_are_told_with_file_and_line(self, tmp_path: Path) -> None:
        """One sentence; a node at work keeps what it had."""
        file = tmp_path / "office.zone"
        file.write_text("office.test. 60 IN A 192.0.2.1\nbad.office.test. 60 IN A 192.0.2.400\n")
        done = command("serve", "--check", "--upstream", "192.0.2.53", "--records", str(file))
        assert (done.returncode, f"{file}, line 2: " in done.stderr) == (2, True)
        file.write_text("a.test. 60 IN CNAME b.test.\nb.test. 60 IN CNAME a.test.\n")
        done = command("serve", "--check", "--upstream", "192.0.2.53", "--records", str(file))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        other = tmp_path / "other.zone"
        other.write_text("c.test. 60 IN A 192.0.2.1\nc.test. 60 IN CNAME d.test.\n")
        file.write_text("e.test. 60 IN A 192.0.2.1\n")
        files = ("--records", str(file), "--records", str(other))
        done = command("serve", "--check", "--upstream", "192.0.2.53", *files)
        assert f"{other}, line " in done.stderr
        file.write_text(ZONE)
        with Upstream() as upstream, Node([upstream.address], args=("--records", str(file))) as node:
            file.write_text("$INCLUDE other\n")
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "the old one stays" in node.log())
            assert "line 1" in node.log()
            assert answer_of(node.port, "printer.office.test.") == "192.0.2.77"

    def test_a_changed_file_is_read_again(self, tmp_path: Path) -> None:
        """Though no option has changed."""
        file = tmp_path / "hosts"
        file.write_text("192.0.2.5 nas.test\n")
        with Upstream() as upstream, Node([upstream.address], args=("--hosts", str(file))) as node:
            assert answer_of(node.port, "nas.test.") == "192.0.2.5"
            file.write_text("192.0.2.6 nas.test\n")
            node.reload()
            assert answer_of(node.port, "nas.test.") == "192.0.2.6"
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "nothing to change" in node.log())


class TestBlocking:
    @pytest.mark.parametrize(
        ("answered", "rcode", "found"),
        [
            ("nxdomain", dns.rcode.NXDOMAIN, []), ("null", dns.rcode.NOERROR, ["0.0.0.0"]),
            ("refused", dns.rcode.REFUSED, []), ("192.0.2.80", dns.rcode.NOERROR, ["192.0.2.80"]),
        ],
    )  # fmt: skip
    def test_what_blocked_names_are_told(
        self, tmp_path: Path, answered: str, rcode: dns.rcode.Rcode, found: list[str]
    ) -> None:
        """With an Extended DNS Error that says so, and a SOA by which a denial is kept; nobody is asked."""
        file = tmp_path / "ads.txt"
        file.write_text("# a list\nads.test\n||tracker.test^\n")
        args = ("--block", str(file), "--block-answer", answered)
        with Upstream() as upstream, Node([upstream.address], args=args) as node:
            for name in ("ads.test.", "ADS.test.", "deep.tracker.test."):
                for _ in range(2):
                    reply = ask(node.port, name, use_edns=0)
                    assert (reply.rcode(), addresses(reply) if found else []) == (rcode, found)
                    assert extended_errors(reply) == [15]
                    if rcode == dns.rcode.NXDOMAIN:
                        assert reply.authority[0].rdtype == 6
            trace = command("query", "ads.test", "--trace", "--server", f"127.0.0.1:{node.port}").stdout
            assert "layer=l1 " in trace  # a verdict is kept like an answer, whatever it says
            assert upstream.total() == 0
            assert answer_of(node.port, "www.ads.test.")  # a plain line is that name only
            assert "block list" in node.log()

    def test_names_never_to_be_blocked(self, tmp_path: Path) -> None:
        """A pass list and an exception in a list beat every block."""
        block, never = tmp_path / "block.txt", tmp_path / "pass.txt"
        block.write_text("||shop.test^\n@@||pay.shop.test^\n")
        never.write_text("img.shop.test\n")
        args = ("--block", str(block), "--pass", str(never))
        with Upstream() as upstream, Node([upstream.address], args=args) as node:
            assert ask(node.port, "www.shop.test.").rcode() == dns.rcode.NXDOMAIN
            assert answer_of(node.port, "pay.shop.test.")
            assert answer_of(node.port, "img.shop.test.")
            assert upstream.total() == 2

    def test_an_alias_of_a_blocked_name(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """A site's own name that leads to an advertiser is blocked as well, from an upstream, Redis, or L1."""

        def cloaked(query: dns.message.Message, transport: str) -> Reply:
            reply = dns.message.make_response(query, recursion_available=True)
            name = query.question[0].name
            reply.answer.append(dns.rrset.from_text(name, 300, "IN", "CNAME", "x.tracker.test."))
            reply.answer.append(dns.rrset.from_text("x.tracker.test.", 300, "IN", "A", "192.0.2.1"))
            return reply

        file = tmp_path / "ads.txt"
        file.write_text("||tracker.test^\n")
        with Upstream(cloaked) as upstream:
            args = ("--block", str(file))
            with (
                Node([upstream.address], redis_server.url, 1, (*args, "--node-id", "n1")) as one,
                Node([upstream.address], redis_server.url, 1, ("--node-id", "n2")) as two,
                Node([upstream.address], redis_server.url, 1, (*args, "--node-id", "n3")) as three,
            ):
                wait_for(lambda: all(attached(node) for node in (one, two, three)))
                for _ in range(2):
                    assert ask(one.port, "metrics.shop.test.").rcode() == dns.rcode.NXDOMAIN
                wait_for(lambda: redis_server.client().exists("rdns:1:{metrics.shop.test.}:A"))
                assert len(ask(two.port, "metrics.shop.test.").answer) == 2  # Redis keeps what the upstream said
                assert ask(three.port, "metrics.shop.test.").rcode() == dns.rcode.NXDOMAIN
                assert upstream.total() == 1

    def test_a_name_is_blocked_and_unblocked(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """By a reload: whatever the node had in L1, and in Redis, is no answer any more; and the other way round."""
        file = tmp_path / "ads.txt"
        file.write_text("other.test\n")
        with Upstream() as upstream:
            with Node([upstream.address], redis_server.url, 2, ("--block", str(file))) as node:
                wait_for(lambda: attached(node, 2))
                assert answer_of(node.port, "www.test.")
                file.write_text("www.test\n")
                node.reload()
                assert {ask(node.port, "www.test.").rcode() for _ in range(20)} == {dns.rcode.NXDOMAIN}
                file.write_text("other.test\n")
                node.reload()
                assert {ask(node.port, "www.test.").rcode() for _ in range(20)} == {dns.rcode.NOERROR}
                assert upstream.count("www.test.") == 1

    def test_who_blocked_it_is_told(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """List and line, in a trace and where L1 is looked at."""
        file = tmp_path / "ads.txt"
        file.write_text("\n\nads.test\n")
        with Upstream() as upstream, Node([upstream.address], redis_server.url, 1, ("--block", str(file))) as node:
            wait_for(lambda: attached(node))
            server = f"127.0.0.1:{node.port}"
            for _ in range(2):
                assert "from=block=ads.txt:3" in command("query", "ads.test", "--trace", "--server", server).stdout
            assert "block=ads.txt:3" in command("cache", "get", "ads.test", "--redis", redis_server.url).stdout


class TestCommands:
    def test_explain(self, tmp_path: Path) -> None:
        """What would happen, and why: local, blocked, passed, or asked of whom."""
        block, hosts = tmp_path / "ads.txt", tmp_path / "hosts"
        block.write_text("||ads.test^\n@@||good.ads.test^\n")
        hosts.write_text("192.0.2.5 nas.test\n")
        args = (
            "--upstream",
            "192.0.2.53",
            "--block",
            str(block),
            "--hosts",
            str(hosts),
            "--zone",
            "corp.test=192.0.2.7",
        )

        def explained(name: str) -> str:
            done = command("policy", "explain", name, *args)
            assert done.returncode == 0, done.stderr
            return str(done.stdout)

        assert "block=ads.txt:1" in explained("www.ads.test")
        assert "local=hosts:1" in explained("nas.test")
        assert "192.0.2.53:53" in explained("good.ads.test")
        assert "192.0.2.7:53 (zone corp.test.)" in explained("a.corp.test")
        told = json.loads(command("policy", "explain", "www.ads.test", "--json", *args).stdout)
        assert told["answer"] == ["NXDOMAIN"]
        assert command("policy", "explain", "a..b", *args).returncode == 2

    def test_lists_and_check(self, tmp_path: Path) -> None:
        """How many names, and what is not understood."""
        file = tmp_path / "ads.txt"
        file.write_bytes(b"ads.test\nbad name here!\n/regular.*/\n\xff\xfe\n||com^\n")
        done = command("policy", "check", str(file))
        assert done.returncode == 1
        assert "line 5" in done.stdout
        assert "1 name" in done.stdout
        listed = command("policy", "lists", "--upstream", "192.0.2.53", "--block", str(file)).stdout
        assert "1 name" in listed
        assert command("policy", "check", str(tmp_path / "none")).returncode == 2


@pytest.mark.parametrize("kind", ["none", "a folder", "a FIFO", "a damaged gzip file"])
def test_a_list_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    """One sentence, and the node does not start; nothing is waited for."""
    file = tmp_path / "list"
    if kind == "a folder":
        file.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(file)
    elif kind == "a damaged gzip file":
        file.write_bytes(b"\x1f\x8b" + b"\0" * 20)
    done = command("serve", "--check", "--upstream", "192.0.2.53", "--block", str(file))
    assert (done.returncode, done.stderr.count("\n"), f"{file} cannot be read" in done.stderr) == (2, 1, True)
