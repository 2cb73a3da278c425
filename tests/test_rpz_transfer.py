"""Response policy zones of a real nsd, in real nodes: transferred, notified, shared with the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.tsig
import pytest
from support import Node, RedisServer, Upstream, ask, command, free_port, wait_for
from support.nsd import Nsd, needs_nsd

from rdnscache.dns.notify import NotifiedZone, answer_notify, is_notify
from rdnscache.dns.tsig import Key
from rdnscache.dns.wire import Query, parse_query

KEY = ("key.example", "hmac-sha256", "c2VjcmV0c2VjcmV0c2VjcmV0")
NXDOMAIN = dns.rcode.NXDOMAIN


def text(serial: int, *rules: str) -> str:
    head = f"$ORIGIN rpz.example.\n$TTL 60\n@ SOA ns root {serial} 3600 600 86400 60\n NS localhost.\n"
    return head + "".join(f"{rule}\n" for rule in rules)


def option(server: Nsd, key: tuple[str, str, str] | None = KEY) -> tuple[str, str]:
    tsig = f"?tsig={':'.join(key)}" if key else ""
    return "--rpz", f"axfr://127.0.0.1:{server.port}/rpz.example{tsig}"


def blocked(node: Node, name: str) -> bool:
    return ask(node.port, name).rcode() == NXDOMAIN


@needs_nsd
class TestNodes:
    @pytest.mark.parametrize("key", [None, KEY])
    def test_notified(self, tmp_path: Path, key: tuple[str, str, str] | None) -> None:
        """A change of the zone is in force a moment after its server has told, in all workers, L1 included."""
        port = free_port()
        with Nsd("rpz.example", text(1, "a.test CNAME ."), key, notify=port) as server, Upstream() as upstream:
            args = (*option(server, key), "--special-names", "no-test", "--list-dir", str(tmp_path))
            with Node([upstream.address], workers=2, args=args, listen=f"127.0.0.1:{port}") as node:
                assert all(blocked(node, "a.test.") for _ in range(10))
                assert all(not blocked(node, "b.test.") for _ in range(10))
                server.publish(text(2, "b.test CNAME ."))
                wait_for(lambda: server.serial() == 2)
                since = time.monotonic()
                wait_for(lambda: all(blocked(node, "b.test.") and not blocked(node, "a.test.") for _ in range(10)))
                print(f"in force after {time.monotonic() - since:.2f} s")
                trace = command("query", "b.test", "--trace", "--server", f"127.0.0.1:{node.port}").stdout
                assert "from=rpz=rpz.example:b.test." in trace
                assert KEY[2] not in node.log()

    def test_a_cluster(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """One node is told, and all go by what it brings; a server that is away changes nothing."""
        upstream = Upstream()
        port = free_port()
        with upstream, Nsd("rpz.example", text(1, "a.test CNAME ."), KEY, notify=port) as server:
            args = (*option(server), "--special-names", "no-test")
            with (
                Node([upstream.address], redis_server.url, 1,
                     (*args, "--list-dir", str(tmp_path / "1"), "--node-id", "n1"), listen=f"127.0.0.1:{port}") as one,
                Node([upstream.address], redis_server.url, 1,
                     (*args, "--list-dir", str(tmp_path / "2"), "--node-id", "n2")) as two,
            ):  # fmt: skip
                for node in (one, two):
                    wait_for(lambda node=node: blocked(node, "a.test."))
                server.publish(text(2, "b.test CNAME ."))
                for node in (one, two):
                    wait_for(lambda node=node: blocked(node, "b.test.") and not blocked(node, "a.test."))
            server.process.terminate()
            server.process.wait(5)
            with Node([upstream.address], args=(*args, "--list-dir", str(tmp_path / "3"))) as alone:
                assert "the zone transfer failed" in alone.log()
                assert not blocked(alone, "b.test.")

    def test_begun_anew(self, tmp_path: Path) -> None:
        """A node whose server is away has the zone that it had."""
        with Upstream() as upstream:
            with Nsd("rpz.example", text(1, "a.test CNAME ."), KEY) as server:
                args = (*option(server), "--special-names", "no-test", "--list-dir", str(tmp_path))
                listen = f"127.0.0.1:{free_port()}"
                with Node([upstream.address], args=args, listen=listen) as node:
                    assert blocked(node, "a.test.")
                listed = command("policy", "lists", "--upstream", "192.0.2.53", *option(server)).stdout
                assert "1 rule" in listed
                found = command("policy", "explain", "a.test", "--upstream", "192.0.2.53", *option(server)).stdout
                assert "rpz=rpz.example:a.test." in found
            with Node([upstream.address], args=args, listen=listen) as node:
                assert blocked(node, "a.test.")


def notify(name: str = "rpz.example.", key: dns.tsig.Key | None = None) -> dns.message.Message:
    message = dns.message.make_query(name, "SOA")
    message.set_opcode(dns.opcode.NOTIFY)
    message.flags |= 0x0400
    if key is not None:
        message.use_tsig(key)
    return message


def query_of(wire: bytes, source: bytes = b"\xc0\0\2\1") -> Query:
    query = parse_query(wire, False)
    assert query is not None
    query.source = source
    return query


NOW = 1_800_000_000
ALGORITHMS = ("hmac-md5", "hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")


class TestNotify:
    """Who is believed; no network."""

    @staticmethod
    def zones(algorithm: str = "hmac-sha256") -> list[NotifiedZone]:
        key = Key(b"\3key\7example\0", algorithm, b"secret")
        return [NotifiedZone("word", b"\3rpz\7example\0", b"\xc0\0\2\1", key)]

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_signed(self, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """From anywhere; the reply is signed as well, as dnspython finds."""
        monkeypatch.setattr(time, "time", lambda: float(NOW))
        name = f"{algorithm}.sig-alg.reg.int." if algorithm == "hmac-md5" else algorithm
        key = dns.tsig.Key("key.example.", b"secret", name)
        message = notify("RPZ.example.", key)
        query = query_of(message.to_wire(), b"\xc0\0\2\x09")
        assert is_notify(query)
        reply, words = answer_notify(query, self.zones(algorithm), NOW)
        assert words == ["word"]
        read = dns.message.from_wire(reply, key, message.mac)
        assert (read.had_tsig, read.rcode(), read.opcode(), read.id) == (True, 0, dns.opcode.NOTIFY, message.id)
        assert read.question == message.question
        assert message.is_response(read)
        for late in (NOW - 400, NOW + 400):
            assert answer_notify(query, self.zones(algorithm), late)[1] == []

    @pytest.mark.parametrize(
        ("change", "rcode"),
        [
            (lambda: notify(key=dns.tsig.Key("key.example.", b"other", "hmac-sha256")), 9),
            (lambda: notify(key=dns.tsig.Key("other.example.", b"secret", "hmac-sha256")), 9),
            (lambda: notify(key=dns.tsig.Key("key.example.", b"secret", "hmac-sha512")), 9),
            (lambda: notify("other.example."), 9),
            (lambda: dns.message.from_text("opcode NOTIFY\n;QUESTION\nrpz.example. IN A\n"), 1),
            (lambda: dns.message.from_text("opcode NOTIFY\n"), 1),
        ],
    )  # fmt: skip
    def test_not_believed(self, change: Callable[[], dns.message.Message], rcode: int) -> None:
        """Other keys, zones and questions, though the address is the server's."""
        reply, words = answer_notify(query_of(change().to_wire()), self.zones(), int(time.time()))
        assert (words, dns.message.from_wire(reply).rcode()) == ([], rcode)

    def test_by_address(self) -> None:
        """Without a signature the server's own address counts."""
        wire = notify().to_wire()
        for source, told in ((b"\xc0\0\2\1", True), (bytes(10) + b"\xff\xff\xc0\0\2\1", True), (b"\xc0\0\2\2", False)):
            reply, words = answer_notify(query_of(wire, source), self.zones(), NOW)
            assert (words, dns.message.from_wire(reply).rcode()) == ((["word"], 0) if told else ([], 5))

    def test_cut_short(self) -> None:
        """Nothing raises, wherever a message ends or is changed."""
        wire = notify(key=dns.tsig.Key("key.example.", b"secret", "hmac-sha256")).to_wire()
        for size in range(12, len(wire)):
            assert answer_notify(query_of(wire[:size], b""), self.zones(), int(time.time()))[1] == []
        for at in range(12, len(wire)):
            changed = wire[:at] + bytes((wire[at] ^ 0x81,)) + wire[at + 1 :]
            assert answer_notify(query_of(changed, b""), self.zones(), int(time.time()))[1] == []
