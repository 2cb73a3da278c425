"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import dns.message
import pytest
from support import Node, RedisServer, Upstream, answer, ask, command, free_port, wait_for

from rdnscache import __version__

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence on stderr that comes with exit code 2."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("rdnscache: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_the_command_loads_neither_gevent_nor_redis() -> None:
    """What the supervisor has loaded when it forks is free of both, and of what only commands and pages need."""
    banned = "('gevent', 'redis', 'ssl', 'idna', 'dnslib')"
    code = f"import sys, rdnscache.cli, rdnscache.node.supervisor; print([m for m in {banned} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "[]"


INTERRUPTED = """
import os, signal, sys
import rdnscache.__main__

class Interrupting:
    def find_spec(self, name, *more):
        if name == "rdnscache.cli":
            os.kill(os.getpid(), signal.SIGINT)

if sys.argv.pop() == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.meta_path.insert(0, Interrupting())
rdnscache.__main__.main()
"""


@pytest.mark.parametrize(("how", "code"), [("heard", -signal.SIGINT), ("ignored", 0)])
def test_ctrl_c_while_it_is_loaded(how: str, code: int) -> None:
    """It ends the command as it ends other programs, without a traceback; where it is ignored, that stays so."""
    words = [sys.executable, "-c", INTERRUPTED, "--version", how]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith("rdnscache ") == (code == 0)


def test_version() -> None:
    """--version tells the version, and which build of the hot modules runs."""
    result = command("--version")
    assert result.returncode == 0
    assert result.stdout.startswith(f"rdnscache {__version__} (")


@pytest.mark.parametrize("words", [(), ("serve",), ("query",), ("cache",), ("cache", "ls"), ("check-config",)])
def test_help(words: tuple[str, ...]) -> None:
    """Every command has --help and -h."""
    first, second = command(*words, "--help"), command(*words, "-h")
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout and "Usage:" in first.stdout


def test_unknown_key(tmp_path: Path) -> None:
    """A key nobody knows is refused, with a guess at what was meant."""
    file = tmp_path / "node.toml"
    file.write_text("upstreem = ['192.0.2.53']\n")
    for words in (("check-config", str(file)), ("serve", "--config", str(file))):
        sentence = refused(command(*words))
        assert "'upstreem'" in sentence and "'upstream'" in sentence


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--listen", "localhost:53"], "--listen"),
        (["--listen", "127.0.0.1"], "has no port"),
        (["--upstream", "192.0.2.53:99999"], "65535"),
        (["--admin", "here"], "--admin"),
        (["--redis", "http://127.0.0.1"], "--redis"),
        (["--workers", "many"], "whole number"),
        (["--ttl-min", "600", "--ttl-max", "60"], "ttl_min"),
        (["--upstream-timeout", "3", "--upstream-deadline", "1"], "upstream_timeout"),
        (["--upstream", "127.0.0.1:5399", "--listen", "127.0.0.1:5399"], "circles"),
        (["--listen", "127.0.0.1:5399", "--listen", "127.0.0.1:5399"], "twice"),
        (["--config", "/nonexistent/node.toml"], "cannot be read"),
        (["--upstream-file", "/nonexistent/upstreams"], "cannot be read"),
    ],
)
def test_unusable_options(args: list[str], part: str) -> None:
    """Bad values and contradictions: exit code 2, one sentence."""
    assert part in refused(command("serve", *([] if "--upstream" in args else ["--upstream", "192.0.2.53"]), *args))


def test_a_bad_environment() -> None:
    """The sentence names the variable."""
    assert "RDNSCACHE_WORKERS" in refused(command("serve", env={"RDNSCACHE_WORKERS": "0"}))


def test_a_taken_port(upstream: Upstream) -> None:
    """A port that somebody else has is refused, also when it is another node's."""
    with Node([upstream.address]) as node:
        for address in (f"127.0.0.1:{node.port}", upstream.address):
            args = ("--listen", address, "--upstream", "192.0.2.53", "--redis", "none")
            assert "cannot listen" in refused(command("serve", *args))


def test_a_redis_password_is_not_shown() -> None:
    """What goes wrong with a URL is told without its password."""
    assert "hunter2" not in refused(command("serve", "--upstream", "192.0.2.53", "--redis", "http://me:hunter2@host"))


def test_query(upstream: Upstream) -> None:
    """`query` prints the reply for people and as JSON, over UDP and TCP."""
    with Node([upstream.address]) as node:
        server = f"127.0.0.1:{node.port}"
        text = command("query", "cli.test", "--server", server)
        assert text.returncode == 0 and "192.0.2.1" in text.stdout and "NOERROR" in text.stdout
        for extra in ((), ("--tcp",), ("--do",), ("--cd",)):
            (found,) = json.loads(command("query", "cli.test", "a", "--server", server, "--json", *extra).stdout)
            assert (found["name"], found["type"], found["rcode"]) == ("cli.test.", "A", "NOERROR")
            assert len(found["answer"]) == 1 and "ra" in found["flags"]
        missing = json.loads(command("query", "cli.nx", "--jsonl", env={"RDNSCACHE_SERVER": server}).stdout)
        assert missing["rcode"] == "NXDOMAIN" and missing["authority"]


def test_query_without_a_reply() -> None:
    """Exit code 1 when nobody is there, 2 when the question makes no sense."""
    gone = command("query", "cli.test", "--server", f"127.0.0.1:{free_port()}")
    assert gone.returncode == 1 and gone.stderr.count("\n") == 1
    assert command("query", "a..b").returncode == 2
    assert command("query", "a.test", "NOTYPE").returncode == 2


def test_check_config(tmp_path: Path) -> None:
    """`check-config` prints what a node would use; passwords are masked."""
    file = tmp_path / "node.toml"
    file.write_text('upstream = ["192.0.2.53"]\nredis = "redis://me:hunter2@192.0.2.1:6379/0"\nworkers = 3\n')
    found = json.loads(command("check-config", str(file), "--json").stdout)
    assert found["upstream"] == ["192.0.2.53:53"]
    assert (found["workers"], found["ttl_max"], found["admin"]) == (3, 86400, None)
    text = command("check-config", str(file))
    assert text.returncode == 0 and "workers = 3" in text.stdout
    assert "hunter2" not in text.stdout + json.dumps(found)
    file.write_text("workers = [")
    assert "TOML" in refused(command("check-config", str(file)))


def test_cache(redis_server: RedisServer) -> None:
    """`cache ls`, `get` and `flush`; a flush reaches the L1 of every worker."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        return answer(query, f"300 A {address}")

    def all_have(name: str, wanted: str) -> bool:
        """By 40 clients, each from a port of its own: both workers."""
        replies = [ask(node.port, name) for _ in range(40)]
        return {str(reply.answer[0][0]) for reply in replies} == {wanted}

    address = "192.0.2.1"
    url = ("--redis", redis_server.url)
    with Upstream(handler) as upstream, Node([upstream.address], redis_server.url, workers=2) as node:
        numbers = iter(range(10_000))

        def listed() -> bool:
            name = f"n{next(numbers)}.other.test"
            ask(node.port, name)
            return bool(redis_server.client().keys(f"*{{{name}*"))

        wait_for(lambda: all(listed() for _ in range(8)), 10)
        assert all_have("www.cli.test", "192.0.2.1")

        rows = [json.loads(line) for line in command("cache", "ls", "*.cli.test", "--jsonl", *url).stdout.splitlines()]
        assert [(row["rcode"], row["state"]) for row in rows] == [("NOERROR", "fresh")]
        assert "www.cli.test" in command("cache", "ls", env={"RDNSCACHE_REDIS": redis_server.tcp_url}).stdout
        for words in (("www.cli.test",), ("WWW.cli.test.", "a")):
            result = command("cache", "get", *words, *url)
            assert result.returncode == 0 and "192.0.2.1" in result.stdout
        assert len(json.loads(command("cache", "get", "www.cli.test", "--json", *url).stdout)) == 1
        assert command("cache", "get", "www.cli.test", "MX", *url).returncode == 1
        assert command("cache", "get", "www.cli.test", "--prefix", "other", *url).returncode == 1

        address = "192.0.2.2"
        assert all_have("www.cli.test", "192.0.2.1")
        flushed = command("cache", "flush", "www.cli.test", *url)
        assert flushed.returncode == 0 and "1 entry" in flushed.stdout
        wait_for(lambda: all_have("www.cli.test", "192.0.2.2"))
        assert command("cache", "ls", "*.other.test", *url).stdout

        address = "192.0.2.3"
        assert json.loads(command("cache", "flush", "--all", "--json", *url).stdout)["flushed"] == "everything"
        wait_for(lambda: all_have("www.cli.test", "192.0.2.3"))
        assert command("cache", "ls", "*.other.test", *url).stdout == ""
        assert command("cache", "flush", *url).returncode == 2
        assert command("cache", "flush", "a.test", "--all", *url).returncode == 2


def test_cache_without_redis(tmp_path: Path) -> None:
    """No Redis there: exit code 1; none known: exit code 2. One sentence each."""
    down = command("cache", "ls", "--redis", f"unix://{tmp_path}/nobody.sock")
    assert down.returncode == 1 and down.stderr.startswith("rdnscache: Redis: ") and down.stderr.count("\n") == 1
    assert "--redis" in refused(command("cache", "ls", env={"XDG_RUNTIME_DIR": str(tmp_path)}))
    refused(command("cache", "ls", "--redis", "none"))


def test_cache_finds_the_embedded_server(upstream: Upstream) -> None:
    """Without --redis, the embedded server that runs here is used."""
    with Node([upstream.address], "embedded") as node:
        numbers = iter(range(10_000))

        def found() -> bool:
            ask(node.port, f"n{next(numbers)}.embedded.test")
            return "embedded.test" in command("cache", "ls", env={"XDG_RUNTIME_DIR": str(node.folder)}).stdout

        wait_for(found, 10)
