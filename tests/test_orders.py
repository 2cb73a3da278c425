"""Orders to nodes, `reload` and `restart`: each node says how it went, and the command and the status tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import ExecutedNode, Node, RedisServer, Upstream, command, free_port, wait_for

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def test_each_node_says_how_a_reload_went(redis_server: RedisServer, tmp_path: Path) -> None:
    """One takes the change over, one refuses its broken file: exit code 1 and the reason, which the status keeps."""
    url = ("--redis", redis_server.url)
    files = [tmp_path / "n0.toml", tmp_path / "n1.toml"]
    for file in files:
        file.write_text("ttl_max = 1000\n")
    with (
        Upstream() as upstream,
        Node([upstream.address], redis_server.url, 1, ("--config", str(files[0]), "--node-id", "n0")) as good,
        Node([upstream.address], redis_server.url, 1, ("--config", str(files[1]), "--node-id", "bad")) as bad,
    ):
        wait_for(lambda: all("attached to Redis" in node.log() for node in (good, bad)))
        files[0].write_text("ttl_max = 77\nprefix = 'other'\n")
        files[1].write_text("ttl_max = 'soon'\n")
        done = command("reload", *url)
        assert done.returncode == 1
        assert done.stdout == "n0: reload done (needs a restart: prefix)\n"
        assert "bad has refused: ttl_max in" in done.stderr and "soon" in done.stderr
        again = command("reload", "--node", "n0", "--json", *url)
        assert (again.returncode, json.loads(again.stdout)) == (0, {"reload": ["n0"], "refused": {}, "silent": []})
        status = command("cluster", "status", *url).stdout
        assert "bad: it has refused a reload at " in status
        assert "n0: changed options that need a restart: prefix" in status
        assert "bad is there, and answers" in command("cluster", "forget", "bad", *url).stderr
        files[1].write_text("ttl_max = 77\n")
        assert command("reload", *url).returncode == 0
        wait_for(lambda: "refused" not in command("cluster", "status", *url).stdout)


def test_nobody_to_order_is_an_error(redis_server: RedisServer) -> None:
    """No node there at all, or none of that name."""
    for words in ((), ("--node", "n7")):
        done = command("reload", *words, "--redis", redis_server.url)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr in ("rdnscache: no node is running\n", "rdnscache: no node is called n7\n")


def test_a_restart_is_answered_by_the_next_image(redis_server: RedisServer, tmp_path: Path) -> None:
    """The command waits until the new workers are at work; a restart that is refused says why."""
    url, file = ("--redis", redis_server.url), tmp_path / "n.toml"
    file.write_text("")
    with Upstream() as upstream:
        args = ("--node-id", "a", "--config", str(file))
        with ExecutedNode([upstream.address], redis_server.url, 1, args) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            old = node.children()
            done = command("restart", *url)
            assert (done.returncode, done.stdout) == (0, "a: restart done\n"), done.stderr
            assert not set(old) & set(node.children())
            file.write_text(f"admin = '127.0.0.1:{free_port()}'\nnonsense = 3\n")
            refused = command("restart", *url)
            assert refused.returncode == 1
            assert "a has refused: " in refused.stderr and "nonsense" in refused.stderr
