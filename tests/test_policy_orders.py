"""Orders about names and lists, the same on all nodes, with proof: real nodes, files, web servers and Redis."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Self

import dns.message
import dns.rcode
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from support import (
    Load,
    Node,
    RedisServer,
    Relay,
    Reply,
    Upstream,
    answer,
    answer_of,
    ask,
    attached,
    cluster,
    command,
    telling,
    wait_for,
)

from rdnscache.breath import go_on
from rdnscache.config import Config
from rdnscache.lists.exchange import Exchange
from rdnscache.lists.process import Librarian
from rdnscache.lists.shelf import Shelf
from rdnscache.lists.sources import ListSource
from rdnscache.operator.policy_status import lagging, policy_lines, policy_of
from rdnscache.policy.compiled_list import read_compiled
from rdnscache.policy.directives import Directives
from rdnscache.policy.list_version import Version
from rdnscache.policy.lists import Lists
from rdnscache.policy.name_table import NameTable
from rdnscache.store.contract import Names
from rdnscache.store.membership import Member
from rdnscache.store.policy_document import PolicyDocument, fetch_key, policy_key, read_document, sealed
from rdnscache.store.seal import Seal

NXDOMAIN, NOERROR = dns.rcode.NXDOMAIN, dns.rcode.NOERROR


def rcodes(*nodes: Node, name: str = "www.test.") -> set[dns.rcode.Rcode]:
    """What all workers answer, in all likelihood."""
    return {ask(node.port, name).rcode() for node in nodes for _ in range(12)}


def order(server: RedisServer, *words: str) -> str:
    """What a command about the policy says; it must be confirmed."""
    done = command("policy", *words, "--redis", server.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Web:
    """A web server with one text, which counts who asks."""

    def __init__(self, text: str) -> None:
        self.text, self.status, self.asked, self.unchanged = text, 200, 0, 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked += 1
                tag = f'"{hash(web.text)}"'
                if web.status == 200 and self.headers["If-None-Match"] == tag:
                    web.unchanged += 1
                    self.send_response(304)
                    self.end_headers()
                    return
                data = web.text.encode()
                self.send_response(web.status)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words: object) -> None:
                """Not at all."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/lists/ads.txt"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def web(text: str) -> Iterator[Web]:
    server = Web(text)
    try:
        yield server
    finally:
        server.close()


class Witness:
    """Asks every node for one name all the time, each query from a port of its own, which leads to any worker."""

    def __init__(self, nodes: Sequence[Node], name: str) -> None:
        #: When each query was sent, to which port, and what was answered.
        self.heard: list[tuple[float, int, dns.rcode.Rcode]] = []
        self._ports = [node.port for node in nodes]
        self._name = name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(15)

    def _run(self) -> None:
        while not self._stopping.wait(0.005):
            for port in self._ports:
                sent = time.monotonic()
                self.heard.append((sent, port, ask(port, self._name, timeout=5).rcode()))

    def since(self, moment: float, *nodes: Node, rounds: int = 12) -> set[dns.rcode.Rcode]:
        """What these nodes answer to queries sent after a moment, some more of them included."""
        last = time.monotonic()
        ports = [node.port for node in nodes]
        wait_for(lambda: sum(sent > last for sent, _, _ in list(self.heard)) >= rounds * len(self._ports), 20)
        return {rcode for sent, port, rcode in list(self.heard) if sent > moment and port in ports}


class TestOrders:
    def test_under_load(self, redis_server: RedisServer) -> None:
        """Three nodes of two workers that are busy: no query sent after the confirmation is answered by the old policy,
        blocked or let through again, nor by a node that was cut off once it is back."""
        relay = Relay(redis_server.port)
        urls = [redis_server.url, redis_server.url, relay.url]
        with Upstream(telling) as upstream, cluster(urls, upstream) as nodes:
            *others, away = nodes
            with Load([node.port for node in nodes], 30) as load, Witness(nodes, "www.test.") as witness:
                for words, told in ((("block", "www.test"), NXDOMAIN), (("clear", "www.test"), NOERROR)):
                    assert "confirmed by 3/3 nodes" in order(redis_server, *words, "--wait", "20")
                    assert witness.since(time.monotonic(), *nodes) == {told}
                for words, told in ((("block", "www.test"), NXDOMAIN), (("clear", "www.test"), NOERROR)):
                    losses, times = away.log().count("no Redis"), away.log().count("attached to Redis")
                    relay.cut()
                    wait_for(lambda losses=losses: away.log().count("no Redis") >= losses + 2, 15)
                    done = command("policy", *words, "--wait", "2", "--redis", redis_server.url)
                    assert (done.returncode, "confirmed by 2/3 nodes" in done.stdout) == (1, True)
                    assert witness.since(time.monotonic(), *others) == {told}
                    relay.heal()
                    wait_for(lambda times=times: attached(away, times + 2), 20)
                    assert witness.since(time.monotonic(), *nodes) == {told}
            assert (load.lost, load.wrong) == ([], [])
        relay.close()

    def test_a_name_is_blocked_and_let_through_on_all_nodes(self, redis_server: RedisServer) -> None:
        """Once it is confirmed no worker has the old answer, in L1 or in a flight; and the upstream is asked once."""
        with Upstream() as upstream, cluster([redis_server.url] * 3, upstream) as nodes:
            assert rcodes(*nodes) == {NOERROR}
            assert "confirmed by 3/3 nodes" in order(redis_server, "block", "WWW.test", "deep.ads.test")
            assert rcodes(*nodes) == {NXDOMAIN}
            assert ask(nodes[0].port, "x.deep.ads.test.").rcode() == NXDOMAIN
            trace = command("query", "www.test", "--trace", "--server", f"127.0.0.1:{nodes[0].port}").stdout
            assert "from=block=cluster " in trace
            assert "block  www.test." in command("policy", "orders", "--redis", redis_server.url).stdout
            order(redis_server, "clear", "www.test")
            assert rcodes(*nodes) == {NOERROR}
            assert upstream.count("www.test.") == 1

    def test_an_answer_that_is_on_its_way(self, redis_server: RedisServer) -> None:
        """Who has asked before the order, and is answered after it, is told that the name is blocked."""
        arrived, go = threading.Event(), threading.Event()

        def slow(query: dns.message.Message, transport: str) -> Reply:
            arrived.set()
            go.wait(10)
            return answer(query, "60 A 192.0.2.1")

        with Upstream(slow) as upstream, Node([upstream.address], redis_server.url) as node:
            wait_for(lambda: attached(node))
            found: list[dns.rcode.Rcode] = []
            client = threading.Thread(target=lambda: found.append(ask(node.port, "www.test.", timeout=10).rcode()))
            client.start()
            assert arrived.wait(10)
            order(redis_server, "block", "www.test")
            go.set()
            client.join()
            assert found == [NXDOMAIN]

    def test_a_node_that_was_cut_off(self, redis_server: RedisServer) -> None:
        """It is named while it is away, and goes by the order before it answers anybody with Redis again."""
        relay = Relay(redis_server.port)
        with Upstream() as upstream, cluster([redis_server.url, relay.url], upstream) as (_, away):
            assert rcodes(away) == {NOERROR}
            relay.cut()
            wait_for(lambda: away.log().count("no Redis") >= 2)
            done = command("policy", "block", "www.test", "--wait", "0.2", "--redis", redis_server.url)
            assert done.returncode == 1
            assert "has not confirmed" in done.stderr
            relay.heal()
            wait_for(lambda: attached(away, 4), 15)
            assert rcodes(away) == {NXDOMAIN}
        relay.close()

    def test_blocking_is_paused_and_resumed(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """For all nodes, until somebody says so or for a time; local records are answered all the while."""
        block, hosts = tmp_path / "ads.txt", tmp_path / "hosts"
        block.write_text("www.test\n")
        hosts.write_text("192.0.2.5 nas.test\n")
        args = ("--block", str(block), "--hosts", str(hosts), "--list-dir", str(tmp_path))
        with Upstream() as upstream, cluster([redis_server.url] * 2, upstream, 1, args) as nodes:
            assert rcodes(*nodes) == {NXDOMAIN}
            assert "until it is resumed" in order(redis_server, "pause")
            assert rcodes(*nodes) == {NOERROR}
            assert answer_of(nodes[0].port, "nas.test.") == "192.0.2.5"
            order(redis_server, "resume")
            assert rcodes(*nodes) == {NXDOMAIN}
            order(redis_server, "pause", "--for", "1s")
            wait_for(lambda: rcodes(*nodes) == {NXDOMAIN})

    def test_who_starts_later(self, redis_server: RedisServer) -> None:
        """A node that starts after an order goes by it from its first answer with Redis on."""
        with Upstream() as upstream:
            done = command("policy", "block", "www.test", "--redis", redis_server.url)
            assert (done.returncode, "none is running" in done.stderr) == (1, True)
            with Node([upstream.address], redis_server.url) as node:
                wait_for(lambda: attached(node))
                assert rcodes(node) == {NXDOMAIN}

    def test_an_order_without_the_secret_is_not_believed(self, redis_server: RedisServer) -> None:
        """Nor can it be given by mistake: the command says what it lacks."""
        args = ("--secret", "a:0123456789abcdef0123")
        with Upstream() as upstream, cluster([redis_server.url], upstream, 1, args) as (node,):
            done = command("policy", "block", "www.test", "--redis", redis_server.url)
            assert (done.returncode, "give the node's --secret" in done.stderr) == (2, True)
            forged = sealed(PolicyDocument(1 << 50, blocked=("www.test.",)), b"", None)
            client = redis.Redis(port=redis_server.port)
            client.set(policy_key(Names("rdns")), forged)
            client.close()
            assert command("policy", "block", "x.test", *args, "--redis", redis_server.url).returncode == 0
            assert rcodes(node) == {NOERROR}
            assert ask(node.port, "x.test.").rcode() == NXDOMAIN

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("block", "a..b"), "a..b"),
            (("block", "."), "is no name to block or pass"),
            (("block", "a*b.test"), "is not a pattern here"),
            (("clear", "www.test"), "there is no order about www.test."),
            (("pause", "--for", "soon"), "not a time such as"),
            (("pause", "--for", "0"), "not a time such as"),
        ],
    )
    def test_what_cannot_be_ordered(self, redis_server: RedisServer, words: tuple[str, ...], said: str) -> None:
        """One sentence, and nothing is changed."""
        done = command("policy", *words, "--redis", redis_server.url)
        assert (done.returncode, said in done.stderr) == (2, True)
        assert "there are no orders" in command("policy", "orders", "--redis", redis_server.url).stderr


class TestLists:
    def test_a_changed_file_is_noticed(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """Without a reload, on all nodes that have it; a name that is not in it any more is answered again."""
        file = tmp_path / "ads.txt"
        file.write_text("www.test\n")
        args = ("--block", str(file), "--list-dir", str(tmp_path))
        with Upstream() as upstream, cluster([redis_server.url] * 2, upstream, 1, args) as nodes:
            assert rcodes(*nodes) == {NXDOMAIN}
            file.write_text("other.test\n")
            wait_for(lambda: rcodes(*nodes) == {NOERROR}, 20)
            assert rcodes(*nodes, name="other.test.") == {NXDOMAIN}
            shown = json.loads(command("policy", "orders", "--json", "--redis", redis_server.url).stdout)
            assert shown["lists"][f"block {file}"]["names"] == 1
            version = shown["lists"][f"block {file}"]["version"][:8]
            status = ("cluster", "status", "--redis", redis_server.url)
            wait_for(lambda: f"list block {file}: version {version} on 2 nodes" in command(*status).stdout)

    def test_a_changed_file_without_redis(self, tmp_path: Path) -> None:
        """The workers of a node that stands alone change to it as well."""
        file = tmp_path / "ads.txt"
        file.write_text("www.test\n")
        args = ("--block", str(file), "--list-dir", str(tmp_path))
        with Upstream() as upstream, Node([upstream.address], workers=2, args=args) as node:
            assert rcodes(node) == {NXDOMAIN}
            file.write_text("other.test\n")
            wait_for(lambda: rcodes(node) == {NOERROR})
            node.reload()
            assert rcodes(node, name="other.test.") == {NXDOMAIN}

    def test_a_list_from_the_web_is_fetched_once(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """By one node for all; a start without network and Redis has the last copy."""
        folders = [tmp_path / "a", tmp_path / "b"]
        with Upstream() as upstream, web("||ads.test^\n") as server:
            args = [("--block", server.url, "--list-dir", str(each), "--node-id", each.name) for each in folders]
            with (
                Node([upstream.address], redis_server.url, args=args[0]) as one,
                Node([upstream.address], redis_server.url, args=args[1]) as two,
            ):
                wait_for(lambda: rcodes(one, two, name="x.ads.test.") == {NXDOMAIN}, 20)
                assert server.asked == 1
        with Upstream() as upstream, Node([upstream.address], redis_server.url, args=args[1]) as two:
            assert rcodes(two, name="x.ads.test.") == {NXDOMAIN}

    def test_a_list_that_cannot_be_fetched(self, tmp_path: Path) -> None:
        """The node starts all the same and says so; what it had stays."""
        with Upstream() as upstream, web("||ads.test^\n") as server:
            server.status = 500
            args = ("--block", server.url, "--list-dir", str(tmp_path))
            with Node([upstream.address], args=args) as node:
                assert rcodes(node, name="ads.test.") == {NOERROR}
                assert "answers 500" in node.log()
                assert "there is none yet" in node.log()


class TestLibrarian:
    """The process's work, round by round."""

    @staticmethod
    def librarian(folder: Path, place: str, server: RedisServer | None, node: str = "n1") -> Librarian:
        url = server.url if server is not None else None
        shelf = Shelf(folder, node, url or "")
        folder.mkdir(exist_ok=True)
        exchange = Exchange(Config(), url, shelf, go_on) if url is not None else None
        if exchange is not None:
            exchange.proves = False
        return Librarian(shelf, (ListSource("block", place),), 86400.0, exchange, go_on)

    @staticmethod
    def blocked(librarian: Librarian) -> list[str]:
        """Which of some names its lists block."""
        versions = librarian.shelf.noted().values()
        tables = [read_compiled(librarian.shelf.map(each.digest))[1] for each in versions]  # type: ignore[arg-type]
        names = {"one": b"\3one\4test\0", "two": b"\3two\4test\0"}
        found = [table for table in tables if isinstance(table, NameTable)]
        return [word for word, name in names.items() if any(table.find(name) for table in found)]

    def test_a_new_version_reaches_everybody(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """One fetches it when it is due; what is the same as before is not passed on; a failure keeps the old one."""
        with web("one.test\n") as server, redis.Redis(port=redis_server.port) as client:
            pair = [self.librarian(tmp_path / node, server.url, redis_server, node) for node in ("n1", "n2")]
            for each in pair:
                each.round()
            assert ([self.blocked(each) for each in pair], server.asked) == ([["one"]] * 2, 1)
            due = fetch_key(Names("rdns"), f"block {server.url}")
            for text, status, expected in (("two.test\n", 200, ["two"]), ("one.test\n", 503, ["two"])):
                server.text, server.status = text, status
                client.delete(due)
                for each in pair:
                    each.held[0].next_fetch = 0.0
                    each.round()
                pair[0].round()
                assert [self.blocked(each) for each in pair] == [expected] * 2
            assert server.asked == 3
            assert 0 < client.ttl(due) < 60  # it is tried again before long

    def test_what_has_not_changed(self, tmp_path: Path) -> None:
        """A server is asked whether it has, and sends nothing when it has not."""
        with web("one.test\n") as server:
            librarian = self.librarian(tmp_path, server.url, None)
            for _ in range(3):
                librarian.held[0].next_fetch = 0.0
                librarian.round()
            assert (server.asked, server.unchanged, self.blocked(librarian)) == (3, 2, ["one"])

    def test_the_file_that_was_changed_last_counts(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """Two nodes with different files of one name do not take turns."""
        file = tmp_path / "ads.txt"
        file.write_text("one.test\n")
        first = self.librarian(tmp_path / "a", str(file), redis_server, "n1")
        first.round()
        file.write_text("two.test\n")
        second = self.librarian(tmp_path / "b", str(file), redis_server, "n2")
        second.round()
        first.held[0].stamp = None  # as if it were on another machine: of the old file it knows
        assert first.exchange is not None
        first.exchange.meet([f"block {file}"], first.held_versions(), first._take)
        assert first.held[0].version == second.held[0].version

    def test_an_older_file_moved_in_its_place(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """What somebody brings back counts, while the node runs and at its next start, however old it is."""
        file, before = tmp_path / "ads.txt", tmp_path / "ads.txt.before"
        for anew in (False, True):
            file.write_text("one.test\n")
            before.write_text("two.test\n")
            os.utime(before, (1e9, 1e9))
            librarian = self.librarian(tmp_path / "a", str(file), redis_server)
            librarian.round()
            assert self.blocked(librarian) == ["one"]
            before.replace(file)
            if anew:
                librarian = self.librarian(tmp_path / "a", str(file), redis_server)
            librarian.round()
            assert self.blocked(librarian) == ["two"]

    def test_redis_has_lost_it(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """Orders and lists are put back by who has them."""
        file = tmp_path / "ads.txt"
        file.write_text("one.test\n")
        librarian = self.librarian(tmp_path / "a", str(file), redis_server)
        librarian.round()
        command("policy", "block", "two.test", "--redis", redis_server.url)
        librarian.round()
        with redis.Redis(port=redis_server.port) as client:
            client.flushall()
            assert librarian.exchange is not None
            librarian.exchange._next_look = 0.0
            librarian.round()
            shown = json.loads(command("policy", "orders", "--json", "--redis", redis_server.url).stdout)
            assert (shown["blocked"], len(shown["lists"])) == (["two.test."], 1)
            other = self.librarian(tmp_path / "b", str(file), redis_server, "n2")
            other.held[0].stamp = None
            assert other.exchange is not None
            other.exchange.meet([f"block {file}"], {}, other._take)
            assert other.held[0].version == librarian.held[0].version

    def test_what_nobody_has_signed_is_not_kept(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """With a secret: the copy of the orders stays what it was, and is put back in place of what is not believed."""
        secret = "a:0123456789abcdef0123"
        shelf, names = Shelf(tmp_path, "n1", redis_server.url), Names("rdns")
        exchange = Exchange(Config(secret=(secret,)), redis_server.url, shelf, go_on)
        order = command("policy", "block", "a.test", "--secret", secret, "--redis", redis_server.url)
        assert "blocked a.test." in order.stdout
        exchange.meet([], {}, lambda word, version: None)
        with redis.Redis(port=redis_server.port) as client:
            client.set(policy_key(names), PolicyDocument(1 << 50, blocked=("b.test.",)).text())
            exchange.meet([], {}, lambda word, version: None)
            for raw in (client.get(policy_key(names)), shelf.kept_orders()):
                assert read_document(raw, policy_key(names), Seal((secret,))).blocked == ("a.test.",)

    def test_a_list_that_somebody_has_changed_in_redis(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """What is not what was announced is not used."""
        file = tmp_path / "ads.txt"
        file.write_text("one.test\n")
        self.librarian(tmp_path / "a", str(file), redis_server).round()
        with redis.Redis(port=redis_server.port) as client:
            (part,) = client.keys("rdns:1:{list *")
            client.setrange(part, 100, b"\xff\xff")
        other = self.librarian(tmp_path / "b", str(tmp_path / "none"), redis_server, "n2")
        assert other.exchange is not None
        other.exchange.meet([f"block {file}"], {}, other._take)
        assert list((tmp_path / "b").glob("*.list")) == []


class TestStatus:
    @given(
        st.lists(
            st.recursive(
                st.none() | st.integers() | st.text(max_size=5),
                lambda inner: st.dictionaries(st.sampled_from(["version", "paused", "lists", "a"]), inner),
            ),
            max_size=4,
        )
    )
    def test_whatever_workers_tell(self, told: list[object]) -> None:
        """Nothing that somebody may have put into Redis raises."""
        nodes = [SimpleNamespace(node="n", policy=policy_of([Member("n", "0" * 8, 0, 0.0, {"policy": each})]))
                 for each in told]  # fmt: skip
        for node in nodes:
            assert isinstance(lagging(node, nodes), list)
        assert isinstance(policy_lines(nodes), list)

    def test_who_lags(self) -> None:
        """By the orders, or by a list; a node that is just changing says so."""

        def node(*told: tuple[int, str]) -> SimpleNamespace:
            workers = [Member("n", "0" * 8, number, 0.0, {"policy": {"version": version, "lists": {"block a": text}}})
                       for number, (version, text) in enumerate(told)]  # fmt: skip
            return SimpleNamespace(node="n", policy=policy_of(workers))

        nodes = [node((2, "aa"), (2, "aa")), node((2, "aa")), node((1, "aa"), (2, "bb"))]
        assert [lagging(each, nodes) for each in nodes[:2]] == [[], []]
        assert lagging(nodes[2], nodes) == [
            "uses older orders about names than others",
            "has version changing of the list block a, elsewhere aa",
        ]
        assert policy_lines(nodes) == ["list block a: version aa on 2, version changing on 1 nodes"]


class TestDocument:
    @given(st.binary(max_size=300))
    def test_any_octets(self, raw: bytes) -> None:
        """What cannot be read is refused, and nothing else happens."""
        for seal in (None, Seal(("a:0123456789abcdef0123",))):
            with pytest.raises(ValueError):
                read_document(raw, b"key", seal)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["version", "paused_until", "blocked", "passed", "lists", "block x", "digest", "check"]
                    ),
                    inner,
                )
            ),
        )
    )
    def test_any_json(self, told: object) -> None:
        """JSON of any form is a document, or refused."""
        try:
            found = read_document(json.dumps(told).encode(), b"key", None)
        except ValueError:
            return
        found.directives(0.0)

    def test_it_is_read_as_it_was_written(self) -> None:
        """Signed or not."""
        version = Version("0" * 32, "f" * 32, 1e9, 5, 500)
        document = PolicyDocument(7, -1.0, ("a.test.",), ("b.test.",), {"block x": version})
        for seal in (None, Seal(("a:0123456789abcdef0123",))):
            assert read_document(sealed(document, b"key", seal), b"key", seal) == document
        assert document.paused(time.time())
        assert document.next(0.0).version == 8

    def test_the_longest_order_decides(self) -> None:
        """A name that passes below one that is blocked, and the other way round; paused, nothing is blocked."""
        orders = Directives(frozenset({b"\4test\0", b"\1b\1a\4test\0"}), frozenset({b"\1a\4test\0"}))
        found = {name: Lists((), orders).find(name) for name in (b"\1x\4test\0", b"\1a\4test\0", b"\1b\1a\4test\0")}
        assert [each is not None and each.passes for each in found.values()] == [False, True, False]
        assert Lists((), Directives(orders.blocked, paused=True)).find(b"\1x\4test\0") is None
