"""Commands go by the node's configuration: named, in the environment, or where it usually is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import ROOT, Node, RedisServer, Upstream, command, wait_for

from rdnscache.cli import node_file
from rdnscache.config import options
from rdnscache.config_text import toml_name

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def test_commands_find_redis_and_the_node(redis_server: RedisServer, upstream: Upstream, tmp_path: Path) -> None:
    """Redis, prefix and port are those of the node's file; the command line and the environment beat it."""
    file = tmp_path / "node.toml"
    text = f"redis = '{redis_server.url}'\nprefix = 'mine'\nnode_id = 'n1'\nadmin_token = 'hidden'\n"
    file.write_text(text)
    with Node([upstream.address], redis_server.url, args=("--config", str(file))) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        file.write_text(text + f"listen = ['0.0.0.0:{node.port}', '192.0.2.1:53']\n")
        by_file = ("--config", str(file))
        assert "NOERROR" in command("query", "a.test", *by_file).stdout
        assert "NOERROR" in command("query", "a.test", env={"RDNSCACHE_LISTEN": f"127.0.0.1:{node.port}"}).stdout
        wait_for(lambda: "a.test" in command("cache", "ls", *by_file).stdout)
        assert "a.test" in command("cache", "ls", env={"RDNSCACHE_CONFIG": str(file)}).stdout
        assert command("cache", "ls", *by_file, "--prefix", "other").stdout == ""
        assert command("cache", "ls", *by_file, env={"RDNSCACHE_PREFIX": "other"}).stdout == ""
        (tmp_path / "names").write_text("b.test\n")
        assert "1 answered" in command("cache", "warm", str(tmp_path / "names"), *by_file).stdout
        assert "reachable" in command("check-redis", *by_file).stdout
        assert "reachable" in command("check-redis", "--redis", redis_server.url).stdout
        told = json.loads(command("cluster", "config", "n1", "--json", *by_file).stdout)
        assert (told["prefix"], told["workers"], told["admin_token"]) == ("mine", 1, "***")
        assert told["listen"] == [f"127.0.0.1:{node.port}"]
        assert told.keys() == {toml_name(option) for option in options()}
        assert command("cluster", "config", "n2", *by_file).returncode == 1


def test_a_slip_of_the_pen_is_pointed_out(redis_server: RedisServer) -> None:
    """A variable that is nobody's does not go unnoticed."""
    done = command("cache", "ls", "--redis", redis_server.url, env={"RDNSCACHE_PREFXI": "mine"})
    assert done.returncode == 0
    assert done.stderr.startswith("rdnscache: no option is called RDNSCACHE_PREFXI: did you mean RDNSCACHE_PREFIX?\n")


def test_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts where no file is named; one that is named and cannot be used is an error."""
    usual = tmp_path / "rdnscache.toml"
    monkeypatch.setattr(node_file, "USUAL", usual)
    assert node_file.node_settings(None, {}) == {}
    usual.write_text("redis = 'none'\nlisten = '[::]:53'\n")
    assert node_file.node_settings(None, {}) == {"url": "none", "server": "[::1]:53"}
    done = command("cache", "ls", "--config", str(tmp_path / "nobody.toml"))
    assert done.returncode == 2
    assert "nobody.toml cannot be read" in done.stderr


@pytest.mark.parametrize("page", ["configuration", "redis", "operations", "metrics"])
def test_examples_can_be_used(tmp_path: Path, page: str) -> None:
    """Every example of a file in the docs is a configuration, but for the files it names."""
    text = (ROOT / f"docs/{page}.md").read_text()
    for number, example in enumerate(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)):
        file = tmp_path / f"{number}.toml"
        has = "upstream" in example.partition("[[")[0]
        file.write_text(example if has else f'upstream = ["192.0.2.53"]\n{example}')
        done = command("check-config", str(file))
        assert done.returncode == 0, (example, done.stderr)
