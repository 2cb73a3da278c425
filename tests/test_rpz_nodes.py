"""Response policy zones in real nodes: files, upstreams, clients."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from support import (
    Node,
    Reply,
    Upstream,
    addresses,
    answer_of,
    ask,
    command,
    extended_errors,
    free_port,
    numbers,
    wait_for,
    watched,
)
from support.peers import WHERE, needs_unbound

ZONE = """$TTL 300
@ SOA ns.rpz.example. root.rpz.example. 7 3600 600 86400 60
  NS localhost.
nx.test CNAME .
nodata.test 60 CNAME *.
drop.test CNAME rpz-drop.
tcp.test CNAME rpz-tcp-only.
pass.test CNAME rpz-passthru.
*.test CNAME rpz-passthru.
local.example A 192.0.2.200
to.example CNAME garden.example.
24.0.100.51.198.rpz-ip CNAME .
32.7.113.0.203.rpz-ip CNAME garden.example.
32.8.113.0.203.rpz-ip CNAME rpz-drop.
32.9.113.0.203.rpz-ip CNAME rpz-tcp-only.
"""
HEAD = "$TTL 300\n@ SOA ns.rpz.example. root.rpz.example. 7 3600 600 86400 60\n"
#: What the upstream says of names whose answers are looked at; of others it says 192.0.2.1.
ANSWERS = {
    "ip.example.": "198.51.100.7", "garden-ip.example.": "203.0.113.7", "drop-ip.example.": "203.0.113.8",
    "tcp-ip.example.": "203.0.113.9",
}  # fmt: skip


def handler(query: dns.message.Message, transport: str) -> Reply:
    reply = dns.message.make_response(query, recursion_available=True)
    name = query.question[0].name.to_text()
    if name == "cloaked.example.":
        reply.answer.append(dns.rrset.from_text(name, 300, "IN", "CNAME", "nx.test."))
        name = "nx.test."
    reply.answer.append(dns.rrset.from_text(name, 300, "IN", "A", ANSWERS.get(name, "192.0.2.1")))
    return reply


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rpz") / "ads.rpz"
    path.write_text(ZONE)
    return path


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(handler) as found:
        yield found


@pytest.fixture(scope="module")
def watched_node(upstream: Upstream, file: Path) -> Iterator[tuple[Node, int]]:
    with watched(upstream, "none", 2, "--rpz", str(file), "--special-names", "no-test") as found:
        yield found


@pytest.fixture(scope="module")
def node(watched_node: tuple[Node, int]) -> Node:
    return watched_node[0]


def silent(node: Node, name: str, tcp: bool = False) -> bool:
    """Whether a node says nothing of a name, while it answers others."""
    try:
        ask(node.port, name, tcp=tcp, timeout=0.7)
    except dns.exception.Timeout:
        return answer_of(node.port, "pass.test.") == "192.0.2.1"
    return False


class TestAnswers:
    @pytest.mark.parametrize(
        ("name", "rcode", "found"),
        [
            ("nx.test.", dns.rcode.NXDOMAIN, []), ("nodata.test.", dns.rcode.NOERROR, []),
            ("local.example.", dns.rcode.NOERROR, ["192.0.2.200"]), ("ip.example.", dns.rcode.NXDOMAIN, []),
            ("cloaked.example.", dns.rcode.NXDOMAIN, []),
        ],
    )  # fmt: skip
    def test_what_is_told(self, node: Node, name: str, rcode: dns.rcode.Rcode, found: list[str]) -> None:
        """The same from L1, with an Extended DNS Error, and the SOA of the zone in the additional section."""
        for _ in range(8):
            reply = ask(node.port, name, use_edns=0)
            assert (reply.rcode(), addresses(reply) if found else reply.answer) == (rcode, found)
            assert extended_errors(reply) == [15]
            assert [(each.rdtype, each[0].serial) for each in reply.additional] == [(6, 7)]

    def test_a_garden(self, node: Node, upstream: Upstream) -> None:
        """The alias is followed through the cache, for a name and for an address."""
        for name in ("to.example.", "garden-ip.example."):
            for _ in range(4):
                reply = ask(node.port, name)
                chain = [(each.name.to_text(), each.rdtype) for each in reply.answer]
                assert chain == [(name, 5), ("garden.example.", 1)]
        assert upstream.count("to.example.") == 0

    @pytest.mark.parametrize("name", ["drop.test.", "drop-ip.example."])
    def test_dropped(self, watched_node: tuple[Node, int], name: str) -> None:
        """Nothing is said, over UDP and TCP, the first time and from L1, by any worker; and it is counted."""
        node, port = watched_node
        before = numbers(port)["queries_policed_total.dropped"]
        for _ in range(3):
            assert silent(node, name)
        assert silent(node, name, tcp=True)
        assert numbers(port)["queries_policed_total.dropped"] == before + 4

    @pytest.mark.parametrize("name", ["tcp.test.", "tcp-ip.example."])
    def test_tcp_only(self, node: Node, name: str) -> None:
        """Over UDP a truncated reply without records, over TCP the answer; the first time and from L1."""
        for _ in range(4):
            short = ask(node.port, name)
            assert (short.flags & dns.flags.TC, short.answer) == (dns.flags.TC, [])
            assert addresses(ask(node.port, name, tcp=True)) == [ANSWERS.get(name, "192.0.2.1")]

    def test_who_decided_is_told(self, node: Node) -> None:
        """In a trace."""
        done = command("query", "nx.test", "--trace", "--server", f"127.0.0.1:{node.port}")
        assert "from=rpz=ads.rpz:4" in done.stdout


class TestClients:
    def test_who_asks(self, upstream: Upstream, tmp_path: Path) -> None:
        """A rule for a client holds for all names, those that others have brought into L1 as well, and for it alone."""
        file = tmp_path / "clients.rpz"
        rules = {
            "127.0.0.2": "CNAME .", "127.0.0.3": "CNAME rpz-drop.", "127.0.0.4": "CNAME rpz-tcp-only.",
            "127.0.0.5": "CNAME garden.example.", "127.0.0.6": "A 192.0.2.66",
        }  # fmt: skip
        lines = [f"32.{source[-1]}.0.0.127.rpz-client-ip {data}\n" for source, data in rules.items()]
        file.write_text("$TTL 60\n@ SOA ns root 7 3600 600 86400 60\n" + "".join(lines))
        with Node([upstream.address], workers=2, args=("--rpz", str(file))) as node:

            def asked(source: str, tcp: bool = False) -> dns.message.Message:
                query = dns.message.make_query("any.example.", "A", use_edns=0)
                send = dns.query.tcp if tcp else dns.query.udp
                return send(query, "127.0.0.1", 0.7, node.port, source=source)

            for _ in range(6):
                assert addresses(asked("127.0.0.1")) == ["192.0.2.1"]
                denied = asked("127.0.0.2")
                assert (denied.rcode(), extended_errors(denied)) == (dns.rcode.NXDOMAIN, [17])
                assert asked("127.0.0.2", tcp=True).rcode() == dns.rcode.NXDOMAIN
                assert asked("127.0.0.4").flags & dns.flags.TC
                assert addresses(asked("127.0.0.4", tcp=True)) == ["192.0.2.1"]
                for tcp in (False, True):
                    assert [each.rdtype for each in asked("127.0.0.5", tcp).answer] == [5, 1]
                assert addresses(asked("127.0.0.6")) == ["192.0.2.66"]
            for tcp in (False, True):
                with pytest.raises(dns.exception.Timeout):
                    asked("127.0.0.3", tcp)
            file.write_text("$TTL 60\n@ SOA ns root 8 3600 600 86400 60\n")
            wait_for(lambda: asked("127.0.0.2").rcode() == dns.rcode.NOERROR)

    def test_clients_that_pass(self, upstream: Upstream, tmp_path: Path) -> None:
        """Whom a zone lets pass is free of its other rules, of later zones and of lists, not of earlier zones; the
        upstream is asked once for all."""
        first, second, third = (tmp_path / f"{name}.rpz" for name in ("first", "second", "third"))
        first.write_text(HEAD + "first.example CNAME .\n32.9.113.0.203.rpz-ip CNAME .\n")
        second.write_text(
            HEAD + "32.2.0.0.127.rpz-client-ip CNAME rpz-passthru.\nsecond.example CNAME .\n"
            "32.3.0.0.127.rpz-client-ip CNAME *.\n24.0.100.51.198.rpz-ip CNAME .\nnx.test CNAME .\n"
        )
        third.write_text(HEAD + "third.example CNAME .\n8.0.0.0.127.rpz-client-ip CNAME rpz-tcp-only.\n")
        block = tmp_path / "block.txt"
        block.write_text("blocked.example\n")
        zones = [word for file in (first, second, third) for word in ("--rpz", str(file))]
        with Node([upstream.address], args=(*zones, "--block", str(block), "--special-names", "no-test")) as node:

            def asked(name: str, source: str) -> dns.message.Message:
                return dns.query.tcp(dns.message.make_query(name, "A"), "127.0.0.1", 5, node.port, source=source)

            names = ["second", "third", "blocked", "ip", "cloaked", "free"]
            before = [upstream.count(f"{name}.example.") for name in names]
            for _ in range(2):
                for name in names:
                    usual = asked(f"{name}.example.", "127.0.0.1")
                    passed = asked(f"{name}.example.", "127.0.0.2")
                    assert (usual.rcode() == dns.rcode.NXDOMAIN) == (name != "free")
                    assert passed.rcode() == dns.rcode.NOERROR
                    assert passed.answer
                    assert asked(f"{name}.example.", "127.0.0.3").rcode() == dns.rcode.NOERROR
                for name in ("first.example.", "tcp-ip.example."):
                    assert asked(name, "127.0.0.2").rcode() == dns.rcode.NXDOMAIN
            assert [upstream.count(f"{name}.example.") for name in names] == [count + 1 for count in before]
            second.write_text(HEAD + "second.example CNAME .\n")
            wait_for(lambda: asked("second.example.", "127.0.0.2").rcode() == dns.rcode.NXDOMAIN)


class TestCommands:
    def test_explain(self, tmp_path: Path) -> None:
        """Zone and line, what is answered, also to a client."""
        file = tmp_path / "ads.rpz"
        file.write_text(ZONE + "24.0.0.0.10.rpz-client-ip CNAME *.\n")
        args = ("--rpz", str(file), "--upstream", "192.0.2.53", "--special-names", "no-test")

        def explained(name: str, *more: str) -> str:
            done = command("policy", "explain", name, *args, *more)
            assert done.returncode == 0, done.stderr
            return str(done.stdout)

        assert "decided by: rpz=ads.rpz:4\n  answer: NXDOMAIN" in explained("nx.test")
        assert "is dropped" in explained("drop.test")
        assert "over TCP as usual" in explained("tcp.test")
        assert "192.0.2.200" in explained("local.example")
        assert "asked of: 192.0.2.53:53" in explained("other.example")
        assert "decided by: rpz=ads.rpz:16\n  answer: NOERROR" in explained("other.example", "--client", "10.0.0.7")
        file.write_text(ZONE + "32.7.0.0.10.rpz-client-ip CNAME rpz-passthru.\n")
        told = explained("nx.test", "--client", "10.0.0.7")
        assert "let pass by: rpz=ads.rpz\n  asked of: 192.0.2.53:53" in told

    def test_lists_and_check(self, tmp_path: Path) -> None:
        """How many rules, and how many lines are skipped."""
        file = tmp_path / "bad.rpz"
        file.write_text(ZONE + "x.rpz-nsip CNAME .\nbad line\n")
        listed = command("policy", "lists", "--upstream", "192.0.2.53", "--rpz", str(file)).stdout
        assert listed.split()[:9] == f"KIND HOLDS SKIPPED FILE rpz 12 rules 2 {file}".split()
        done = command("policy", "check", str(file))
        assert done.returncode == 1
        assert "line 16: " in done.stdout
        assert "12 rules, 2 lines" in done.stdout

    def test_secrets_are_not_shown(self, tmp_path: Path) -> None:
        """Where options are shown, and where they are refused."""
        secret, file = "c2VjcmV0c2VjcmV0", tmp_path / "key"
        file.write_text(secret + "\n")
        source = "axfr://192.0.2.1/rpz.example?tsig=key.example:hmac-sha256:{}"
        for text in (source.format(secret), source.format(f"file:{file}")):
            options = tmp_path / "node.toml"
            options.write_text(f'upstream = "192.0.2.53"\nrpz = "{text}"\n')
            shown = command("check-config", "--json", str(options)).stdout
            assert "tsig=key.example.:hmac-sha256:***" in shown
            assert secret not in shown + command("check-config", str(options)).stdout
        slips = ("sha256", "sha9"), ("rpz.example", ""), ("{}", "{}!"), ("{}", "{}&x=1")
        for text in (source.replace(*slip) for slip in slips):
            done = command("serve", "--check", "--rpz", text.format(secret))
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert secret not in done.stderr

    @pytest.mark.parametrize("kind", ["none", "a folder"])
    def test_a_zone_that_cannot_be_read(self, tmp_path: Path, kind: str) -> None:
        """One sentence, and the node does not start."""
        file = tmp_path / "zone"
        if kind == "a folder":
            file.mkdir()
        done = command("serve", "--check", "--upstream", "192.0.2.53", "--rpz", str(file))
        assert (done.returncode, done.stderr.count("\n"), f"{file} cannot be read" in done.stderr) == (2, 1, True)


UNBOUND = """server:
 interface: 127.0.0.1@{port}
 num-threads: 1
 do-daemonize: no
 username: ""
 chroot: ""
 pidfile: ""
 use-syslog: no
 do-not-query-localhost: no
 module-config: "respip iterator"
 local-zone: test. nodefault
rpz:
 name: rpz.example.
 zonefile: {zone}
forward-zone:
 name: .
 forward-addr: {upstream}
remote-control:
 control-enable: no
"""


@needs_unbound
def test_the_same_as_unbound(node: Node, upstream: Upstream, file: Path, tmp_path: Path) -> None:
    """Of one zone, for one upstream: RCODE and addresses, also of what is dropped and truncated."""
    zone, config, port = tmp_path / "zone", tmp_path / "unbound.conf", free_port()
    zone.write_text("$ORIGIN rpz.example.\n" + file.read_text())
    place = upstream.address.replace(":", "@")
    config.write_text(UNBOUND.format(port=port, zone=zone, upstream=place))
    program = shutil.which("unbound", path=WHERE)
    assert program is not None
    names = ["nx", "nodata", "pass", "other", "deep.below", "tcp", "drop"]
    asked = [f"{name}.test." for name in names] + ["local.example.", "plain.example.", "cloaked.example.", *ANSWERS]

    def told(where: int, name: str, tcp: bool) -> object:
        try:
            reply = ask(where, name, tcp=tcp, timeout=0.6)
        except (dns.exception.Timeout, EOFError):
            return "nothing"
        found = [rdata.to_text() for rrset in reply.answer if rrset.rdtype == 1 for rdata in rrset]
        return reply.rcode(), found, bool(reply.flags & dns.flags.TC)

    with subprocess.Popen([program, "-d", "-c", str(config)], stderr=subprocess.DEVNULL) as unbound:
        try:
            wait_for(lambda: told(port, "pass.test.", False) != "nothing", 10)
            for name in asked:
                for tcp in (False, True) if name.endswith("test.") else (False,):  # its cache lets answers pass
                    assert told(node.port, name, tcp) == told(port, name, tcp), (name, tcp)
        finally:
            unbound.terminate()
