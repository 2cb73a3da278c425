"""What people are used to from other tools: words in any order, tables, JSON of one form, sentences for nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest
from support import Node, RedisServer, Upstream, answer, ask, command, free_port, says, wait_for

from rdnscache.cli.output import WIDEST, aligned
from rdnscache.cli.question_words import find_server, one_name, reverse_name, sort_out
from rdnscache.cli.status_table import status_lines
from rdnscache.operator.cluster_status import NodeStatus, summarize
from rdnscache.outcomes import LAYERS
from rdnscache.printable import natural
from rdnscache.store.membership import Member

#: About commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def told_by_type(query: dns.message.Message, transport: str) -> Any:
    """An upstream whose answers say what was asked for."""
    data = {"A": "A 192.0.2.1", "AAAA": "AAAA 2001:db8::1", "MX": "MX 10 mail.test.", "PTR": "PTR host.test."}
    kind = dns.rdatatype.to_text(query.question[0].rdtype)
    return answer(query, f"300 {data[kind]}") if kind in data else says(dns.rcode.NXDOMAIN)(query, transport)


class TestWords:
    @pytest.mark.parametrize(
        ("words", "names", "types"),
        [
            ("example.com", ["example.com"], []),
            ("example.com MX", ["example.com"], ["MX"]),
            ("MX example.com", ["example.com"], ["MX"]),
            ("aaaa example.com A", ["example.com"], ["aaaa", "A"]),
            ("mx", ["mx"], []),
            ("ns A", ["ns"], ["A"]),
            ("mx. A", ["mx."], ["A"]),
            ("TYPE65400 x.test", ["x.test"], ["TYPE65400"]),
        ],
    )
    def test_names_and_types(self, words: str, names: list[str], types: list[str]) -> None:
        """What is no type is a name, wherever it stands; and there is always one."""
        found = sort_out(words.split())
        assert (found.names, found.types) == (names, types)

    def test_as_with_dig(self) -> None:
        """Servers, flags and classes are known by their form; flags can be taken back."""
        found = sort_out(["@192.0.2.1#5353", "CH", "version.bind", "TXT", "+short", "+noshort", "+vc"])
        assert (found.servers, found.classes, found.names) == (["192.0.2.1#5353"], ["CH"], ["version.bind"])
        assert found.flags == {"short": False, "tcp": True}

    @pytest.mark.parametrize(
        ("words", "said"),
        [("+foo a.test", "'+foo' is not supported, only +short"), ("+trace a.test", "--trace"), ("", "give a NAME"),
         ("a.test b.test", "one NAME at a time"), ("a.test NOTYPE", "'NOTYPE' is not a DNS type")],
    )  # fmt: skip
    def test_what_is_refused(self, words: str, said: str) -> None:
        """One sentence says what is meant instead."""
        with pytest.raises(ValueError, match=said.replace("+", r"\+")):
            one_name(sort_out(words.split()).names)

    @pytest.mark.parametrize(
        ("text", "port", "host", "number"),
        [
            ("192.0.2.1", None, "192.0.2.1", 53),
            ("192.0.2.1", 5353, "192.0.2.1", 5353),
            ("192.0.2.1#5300", 5353, "192.0.2.1", 5300),
            ("192.0.2.1:5300", None, "192.0.2.1", 5300),
            ("2001:db8::1", 5353, "2001:db8::1", 5353),
            ("[2001:db8::1]:5300", None, "2001:db8::1", 5300),
        ],
    )
    def test_servers(self, text: str, port: int | None, host: str, number: int) -> None:
        """An address has its own port, or the one given, or 53."""
        (found,) = find_server(text, port)
        assert (found.host, found.port) == (host, number)

    def test_a_server_by_name(self) -> None:
        """All addresses the system has for it; a name that is none is refused before anybody is asked."""
        assert {each.port for each in find_server("localhost#5300", None)} == {5300}
        for text in ("1.2.3.4.5", "a b", "a:99999", "", "fe80::1%nosuch", "..", "a" * 300):
            with pytest.raises((ValueError, OSError)):
                find_server(text, None)

    def test_what_is_wrong_with_a_server(self) -> None:
        """It is said once, in one sentence."""
        with pytest.raises(ValueError, match=r"has a port above 65535$"):
            find_server("192.0.2.1#99999", None)
        with pytest.raises(ValueError, match=r"an optional port, nor a name$"):
            find_server("1.2.3", None)

    def test_addresses_backwards(self) -> None:
        """-x takes addresses of both families."""
        assert reverse_name("192.0.2.7") == "7.2.0.192.in-addr.arpa."
        assert reverse_name("2001:db8::1").endswith(".8.b.d.0.1.0.0.2.ip6.arpa.")
        with pytest.raises(ValueError, match="is not an address"):
            reverse_name("192.0.2")


class TestTables:
    def test_columns_stand_below_each_other(self) -> None:
        """A long row further down moves nothing but itself, and no column gets too wide."""
        rows = [("a", "1", "x"), ("b" * 20, "200", "y")]
        assert list(aligned(("NAME", ">TTL", "DATA"), rows)) == [
            "NAME                  TTL  DATA",
            "a                       1  x",
            "bbbbbbbbbbbbbbbbbbbb  200  y",
        ]
        (head, _) = aligned(("NAME", "DATA"), [("c" * 200, "x")])
        assert head == "NAME".ljust(WIDEST) + "  DATA"

    def test_nothing_is_no_table(self) -> None:
        """Without rows there is no head either."""
        assert not list(aligned(("NAME", "DATA"), []))

    @pytest.mark.parametrize("name", ["n1", "rdnscache-7d9f8b6c5d-abcd1"])
    def test_status_fits_a_terminal(self, name: str) -> None:
        """80 columns, with all layers by their names in the metrics, also with the long names of pods."""
        upstreams = [{"address": "192.0.2.53:53", "ms": 22.5, "rests": 0}, {"address": "b", "ms": 0, "rests": 3}]
        node = NodeStatus(
            name, True, 0.1, version="0.1.0 (compiled)", uptime=9e5, workers=4, workers_present=4, attached=4,
            redis_ms=0.2, redis_state="attached", detachments=10, events_missed=2, wakes_lost=3, qps=12345.0,
            shares=dict.fromkeys(LAYERS, 1.0), upstreams=upstreams,
        )  # fmt: skip
        gone = NodeStatus("gone", False, 44.0, version="0.1.0 (compiled)")
        lines = list(status_lines([node, *[node] * 5, gone]))

        assert max(map(len, lines)) <= 80
        assert any(line.split()[2:] == list(LAYERS) for line in lines)
        assert any(line.startswith("gaps: ") for line in lines)
        assert "gone: silent for 44 s" in lines


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Node, RedisServer]]:
    """A node, and the Redis it fills."""
    with RedisServer() as redis_server, Upstream(told_by_type) as upstream:
        with Node([upstream.address], redis_server.url, 1, ("--node-id", "n1")) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            yield node, redis_server


def spoken(redis_server: RedisServer, *words: str) -> subprocess.CompletedProcess[str]:
    return command(*words, "--redis", redis_server.url)


class TestQuery:
    def test_like_dig(self, served: tuple[Node, RedisServer]) -> None:
        """@server, -p, -x, +short, types before and behind the name, several of them, a server by its name."""
        node, _ = served
        for words in (
            (f"@127.0.0.1#{node.port}", "AAAA", "www.test", "+short"),
            ("@127.0.0.1", "-p", str(node.port), "www.test", "AAAA", "--short"),
            (f"@localhost:{node.port}", "www.test", "-t", "AAAA", "+short"),
            ("--server", "localhost", "--port", str(node.port), "+short", "+tcp", "aaaa", "www.test"),
        ):
            done = command("query", *words)
            assert (done.stdout, done.stderr) == ("2001:db8::1\n", "")
        done = command("query", f"@127.0.0.1#{node.port}", "-x", "203.0.114.7", "+short")
        assert done.stdout == "host.test.\n"
        done = command("query", "@127.0.0.1", "-p", str(node.port), "A", "www.test", "MX", "AAAA", "+short")
        assert done.stdout.splitlines() == ["192.0.2.1", "10 mail.test.", "2001:db8::1"]

    def test_json_is_an_array_however_many(self, served: tuple[Node, RedisServer]) -> None:
        """With --jsonl a line for each; and what is no answer goes to standard error in short form."""
        node, _ = served
        server = f"@127.0.0.1#{node.port}"
        for types in (("A",), ("A", "MX")):
            found = json.loads(command("query", server, "www.test", *types, "--json").stdout)
            assert [each["type"] for each in found] == list(types)
            lines = command("query", server, "www.test", *types, "--jsonl").stdout.splitlines()
            assert [json.loads(line)["type"] for line in lines] == list(types)
        done = command("query", server, "TXT", "nx.test", "+short")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "rdnscache: nx.test. TXT: NXDOMAIN\n")

    @pytest.mark.parametrize(
        "words", [("+foo", "a.test"), ("a.test", "b.test"), ("-x", "1.2.3"), ("@a", "@b", "a.test"), ("@..", "a.test")]
    )
    def test_one_sentence(self, words: tuple[str, ...]) -> None:
        """For whatever cannot be meant."""
        done = command("query", *words)
        assert done.returncode in (1, 2) and done.stdout == ""
        assert done.stderr.startswith("rdnscache: ") and done.stderr.count("\n") == 1


class TestFlush:
    def test_several_names_and_types(self, served: tuple[Node, RedisServer]) -> None:
        """All of them are gone and nothing else, confirmed as one."""
        node, redis_server = served
        for name in ("one.test.", "two.test.", "three.test."):
            for rtype in ("A", "AAAA", "MX"):
                ask(node.port, name, rtype)
        client = redis_server.client()
        wait_for(lambda: len(client.keys("rdns:1:{*e.test.}:*")) + len(client.keys("rdns:1:{two.test.}:*")) == 9)
        told = json.loads(spoken(redis_server, "cache", "flush", "one.test", "two.test", "A", "MX", "--json").stdout)

        assert (told["entries"], list(told["confirmed_ms"])) == (4, ["n1"])
        assert told["flushed"] == "one.test., type A; one.test., type MX; two.test., type A; two.test., type MX"
        assert client.exists("rdns:1:{one.test.}:AAAA", "rdns:1:{two.test.}:AAAA", "rdns:1:{three.test.}:A") == 3
        done = spoken(redis_server, "cache", "flush", "--zone", "one.test", "--zone", "three.test", "AAAA")
        assert "2 entries in Redis" in done.stdout, done.stdout + done.stderr
        assert client.exists("rdns:1:{two.test.}:AAAA", "rdns:1:{three.test.}:A") == 2

    @pytest.mark.parametrize(
        "words",
        [("a.test", "+short"), ("@a", "a.test"), ("A", "--all"), ("*.test", "a.test"), ("--wait", "nan", "a.test")],
    )
    def test_what_is_no_flush(self, served: tuple[Node, RedisServer], words: tuple[str, ...]) -> None:
        """Nothing is deleted for what cannot be read."""
        assert spoken(served[1], "cache", "flush", *words).returncode == 2

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("*.a.test",), "'*' is not a pattern here: --zone NAME is NAME and all below it; in a name write \\042"),
            (("www?.a.test",), "'?' is not a pattern here"),
            (("[a-c].test",), "'[' is not a pattern here"),
            (("--zone", "a?.test"), "'?' is not a pattern here"),
            ((".a.test",), "'.a.test' begins with a dot: --zone a.test is that name and all below it"),
        ],
    )
    def test_patterns_have_a_hint(self, served: tuple[Node, RedisServer], words: tuple[str, ...], said: str) -> None:
        """What would be a pattern elsewhere is not taken for the name of a host."""
        done = spoken(served[1], "cache", "flush", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr

    def test_a_name_may_have_any_octet(self, served: tuple[Node, RedisServer]) -> None:
        """Written with a backslash it is no pattern."""
        done = spoken(served[1], "cache", "flush", "\\042.test", "\\?.test")
        assert "flushed \\042.test.; \\063.test." in done.stdout, done.stderr


class TestLists:
    def test_entries_below_their_heads(self, served: tuple[Node, RedisServer]) -> None:
        """With names and types as people write them; the keys of Redis are in the JSON."""
        node, redis_server = served
        ask(node.port, "listed.test.", "MX")
        wait_for(lambda: redis_server.client().exists("rdns:1:{listed.test.}:MX"))
        head, row = spoken(redis_server, "cache", "ls", "listed.*").stdout.splitlines()

        assert head.split() == ["NAME", "TYPE", "RCODE", "STATE", "TTL", "ANSWER"]
        assert row.split()[:4] == ["listed.test.", "MX", "NOERROR", "fresh"] and row.endswith("10 mail.test.")
        assert head.index("ANSWER") == row.index("10 mail.test.")
        (told,) = json.loads(spoken(redis_server, "cache", "ls", "listed.*", "--json").stdout)
        assert told["key"] == "rdns:1:{listed.test.}:MX"
        assert json.loads(spoken(redis_server, "cache", "ls", "listed.*", "--jsonl").stdout)["key"] == told["key"]

    def test_each_list_has_a_head(self, served: tuple[Node, RedisServer]) -> None:
        """Of the same form everywhere, with rows below it."""
        node, redis_server = served
        for _ in range(300):
            ask(node.port, "hot.test.")
        wait_for(lambda: spoken(redis_server, "cache", "top", "--json").stdout != "[]\n", 30)
        spoken(redis_server, "policy", "block", "ads.test")
        for words, head in {
            "cluster members": "WORKER HEARD",
            "cache top": "QUERIES/S QUESTION",
            "check-redis": "LEVEL SUBJECT FINDING",
            "policy orders": "ORDER ABOUT",
        }.items():
            first, second, *_ = spoken(redis_server, *words.split()).stdout.splitlines()
            assert first.split() == head.split()
            assert second
        spoken(redis_server, "policy", "clear", "ads.test")

    @pytest.mark.parametrize("option", ["--limit", "--older", "--expiring"])
    def test_numbers_of_any_size(self, served: tuple[Node, RedisServer], option: str) -> None:
        """None ends in a traceback."""
        done = spoken(served[1], "cache", "ls", option, "9" * 30)
        assert done.returncode in (0, 2)
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("cache", "ls"), "there are no entries"),
            (("cache", "ls", "*.none.test"), "no entry matches *.none.test"),
            (("cache", "top"), "no question"),
            (("cluster", "members"), "no worker is running"),
            (("cluster", "status"), "no node is running"),
            (("policy", "orders"), "there are no orders and no lists"),
        ],
    )
    def test_nothing_is_said(self, redis_server: RedisServer, words: tuple[str, ...], said: str) -> None:
        """To a person, on standard error; what reads the list gets an empty one."""
        done = spoken(redis_server, *words)
        assert done.stdout == ""
        assert done.stderr.startswith(f"rdnscache: {said}") and done.stderr.count("\n") == 1
        if words != ("policy", "orders"):
            told = spoken(redis_server, *words, "--json")
            assert (json.loads(told.stdout), told.stderr) == ([], "")
            assert spoken(redis_server, *words, "--jsonl").stdout == ""

    @pytest.mark.parametrize(
        "words", [("cache", "stats"), ("cache", "flush", "a.test", "--wait", "0.1"), ("reload",), ("policy", "orders")]
    )
    def test_one_thing_is_an_object(self, redis_server: RedisServer, words: tuple[str, ...]) -> None:
        """On one line with --jsonl."""
        told = json.loads(spoken(redis_server, *words, "--json").stdout)
        line = spoken(redis_server, *words, "--jsonl").stdout
        assert isinstance(told, dict) and line.count("\n") == 1
        assert json.loads(line).keys() == told.keys()

    def test_no_such_node_has_no_options(self, redis_server: RedisServer) -> None:
        """Programs get an empty object, people a sentence."""
        done = spoken(redis_server, "cluster", "config", "nope", "--json")
        assert (json.loads(done.stdout), done.stderr) == ({}, "rdnscache: no node is called nope\n")

    def test_checked_lists(self, tmp_path: Path) -> None:
        """What `policy check` reports of files is there for programs as well."""
        for name, text in (("good", "a.test\nb.test\n"), ("bad", "a.test\n???\n")):
            (tmp_path / name).write_text(text)
        done = command("policy", "check", str(tmp_path / "good"), str(tmp_path / "bad"), "--json")
        good, bad = json.loads(done.stdout)
        assert done.returncode == 1 and good == {
            "kind": "block", "file": str(tmp_path / "good"), "names": 2, "passed_over": 0, "remarks": [],
        }  # fmt: skip
        assert bad["passed_over"] == 1 and [each["line"] for each in bad["remarks"]] == [2]
        lines = command("policy", "check", str(tmp_path / "good"), str(tmp_path / "bad"), "--jsonl").stdout.splitlines()
        assert [json.loads(line) for line in lines] == [good, bad]


def test_nodes_are_in_the_order_of_their_numbers() -> None:
    """As people count, and whatever digits a name has."""
    names = ["node-1", "node-4", "node-10", "node-010", "node-10a", "node-" + "9" * 5000, "n\u0661"]
    mixed = [Member(name, "0" * 8, worker, 0.0, {}) for name in reversed(names[:3]) for worker in (10, 9)]
    assert sorted(names, key=natural)[:3] == ["node-1", "node-4", "node-10"]
    assert [each.node for each in summarize(mixed)] == names[:3]


class TestWarm:
    def test_nobody_is_there(self, tmp_path: Path) -> None:
        """It is said at once, not after a timeout for each name."""
        names = tmp_path / "names"
        names.write_text("".join(f"n{number}.test\n" for number in range(5000)))
        done = command("cache", "warm", str(names), "--server", f"127.0.0.1:{free_port()}")
        assert done.returncode == 1 and done.stdout == ""
        assert "cannot be asked: Connection refused" in done.stderr

    def test_everything_is_refused(self, tmp_path: Path) -> None:
        """A node that does not answer this client is not asked thousands of times more."""
        names = tmp_path / "names"
        names.write_text("".join(f"n{number}.test\n" for number in range(5000)))
        with Upstream(says(dns.rcode.REFUSED)) as upstream:
            done = command("cache", "warm", str(names), "--server", upstream.address, "--rate", "1000")
            assert done.returncode == 1 and "refuses our queries" in done.stderr
            assert upstream.total() < 500
