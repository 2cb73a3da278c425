"""What a shell is told when somebody presses Tab."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, RedisServer, clean_env, command, wait_for

from rdnscache.cli.completion import MOST

#: About commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

NAMES = ("www.example.com.", "mail.example.com.", "www.other.test.")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A Redis with some entries and the workers of two nodes; beside them what others could have put there."""
    with RedisServer() as server:
        client = server.client()
        for name in (*NAMES, "$(touch pwned).test.", "a b.test.", "\\036.test.", "\x1b[2J."):
            client.hset(f"rdns:1:{{{name}}}:A", "info", "x")
        for number in range(3 * MOST):
            client.hset(f"rdns:1:{{x{number}.test.}}:A", "info", "x")
        workers = ("n1.1a2b3c4d.0", "n1.1a2b3c4d.1", "other.1a2b3c4d.0", "$(x).1a2b3c4d.0")
        client.zadd("rdns:1:nodes", dict.fromkeys(workers, 1))
        yield server.url


def offered(*words: str, env: dict[str, str] | None = None) -> list[str]:
    """What bash is told for the last of the words."""
    told = {"_RDNSCACHE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("rdnscache", *words)),
            "COMP_CWORD": str(len(words))}  # fmt: skip
    done = command(env=told | (env or {}))
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("cache", "get", "www"), ["www.example.com.", "www.other.test."]),
        (("cache", "get", "WWW.E"), ["www.example.com."]),
        (("cache", "get", "www.example.com", "AA"), ["AAAA"]),
        (("cache", "ls", "ma"), ["mail.example.com."]),
        (("cache", "flush", "--zone", "www.o"), ["www.other.test."]),
        (("cache", "flush", "--rcode", "NX"), ["NXDOMAIN", "NXRRSET"]),
        (("cache", "flush", "www.o"), ["www.other.test."]),
        (("query", "+sh"), ["+short"]),
        (("query", "www.o"), ["www.other.test."]),
        (("policy", "explain", "www.o"), ["www.other.test."]),
        (("query", "--type", "HT"), ["HTTPS"]),
        (("policy", "block", "www.o"), ["www.other.test."]),
        (("cluster", "config", ""), ["n1", "other"]),
        (("reload", "--node", "o"), ["other"]),
        (("clu",), ["cluster"]),
    ],
)
def test_what_is_offered(url: str, words: tuple[str, ...], wanted: list[str]) -> None:
    """Nodes, types and names, each where it can stand."""
    wait_for(lambda: offered(*words, env={"RDNSCACHE_REDIS": url}) == wanted, 30)  # a busy machine may be too late


def test_it_has_an_end(url: str) -> None:
    """Only so many names, and none that a shell or a terminal would make something of."""
    wait_for(lambda: len(offered("cache", "get", "x", env={"RDNSCACHE_REDIS": url})) == MOST, 30)
    for begun in ("", "$", "a", "\\"):
        found = offered("cache", "get", begun, env={"RDNSCACHE_REDIS": url})
        assert all(each.replace(".", "").isalnum() for each in found)


def test_it_is_silent(url: str, tmp_path: Path) -> None:
    """Without a Redis, with one that says nothing, with a broken file or a misspelt variable: no word, and an end."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for redis in (f"redis://127.0.0.1:{mute.getsockname()[1]}/0", "redis://127.0.0.1:1/0", "none", "nonsense://"):
            assert offered("cache", "get", "www", env={"RDNSCACHE_REDIS": redis}) == []
    broken = tmp_path / "broken.toml"
    broken.write_text("redis = [")
    assert offered("cache", "get", "www", env={"RDNSCACHE_CONFIG": str(broken), "RDNSCACHE_REDDIS": "x"}) == []
    file = tmp_path / "node.toml"
    file.write_text(f'redis = "{url}"\n')
    wait_for(lambda: offered("cache", "get", "mail", env={"RDNSCACHE_CONFIG": str(file)}) == ["mail.example.com."], 30)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str) -> None:
    """Each shell has one, and can read it."""
    text = command(env={"_RDNSCACHE_COMPLETE": f"{shell}_source"}).stdout
    assert "rdnscache" in text
    if found := shutil.which(shell):
        assert subprocess.run([found, "-n"], input=text, text=True, capture_output=True, check=False).returncode == 0


def test_by_any_way_to_call_it() -> None:
    """The variable has the same name however the command was found."""
    told = {"_RDNSCACHE_COMPLETE": "bash_complete", "COMP_WORDS": "rdnscache clu", "COMP_CWORD": "1"}
    words = [sys.executable, "-m", "rdnscache"]
    done = subprocess.run(words, env=clean_env() | told, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "plain,cluster\n"
