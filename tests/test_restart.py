"""A node that restarts on the sockets it has."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import dns.rcode
import pytest
from support import (
    ROOT,
    ExecutedNode,
    RedisServer,
    Upstream,
    alive,
    ask,
    clean_env,
    command,
    free_port,
    status_of,
    steady_load,
    wait_for,
)

from rdnscache.address import Address
from rdnscache.node.handover import Handover
from rdnscache.node.sockets import bind_admin, bind_inner, bind_slots, leave_admin, leave_inner, leave_slots

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def restarts(node: ExecutedNode) -> int:
    return node.log().count("restarting: the new process image takes over")


def restart(node: ExecutedNode, workers: int) -> None:
    """Wait until the next image's workers are at work and the old ones gone."""
    old, pid, before = node.children(), node.process.pid, restarts(node)
    node.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: restarts(node) == before + 1, 20)
    servers = [child for child in old if b"\0serve\0" not in Path(f"/proc/{child}/cmdline").read_bytes()]
    wait_for(lambda: len(node.children()) == workers + len(servers), 20)
    wait_for(lambda: set(node.children()) & set(old) == set(servers), 20)
    assert node.process.pid == pid
    assert node.process.poll() is None


def test_no_query_is_lost_over_a_restart(redis_server: RedisServer) -> None:
    """Under steady load; the new workers are others, the process and its port are the same."""
    with (
        Upstream() as upstream,
        ExecutedNode([upstream.address], redis_server.url, 2) as node,
        steady_load(node.port) as load,
    ):
        wait_for(lambda: load.answered > 300)
        for _ in range(2):
            restart(node, 2)
        seen = load.answered
        wait_for(lambda: load.answered > seen + 300)
        load.finish()
        assert load.lost == 0
        assert node.stop() == 0


def test_the_embedded_redis_is_kept(upstream: Upstream) -> None:
    """What is cached there survives, and it still ends with its node."""
    with ExecutedNode([upstream.address], "embedded", 1) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        (path,) = node.folder.glob("rdnscache/*/redis.sock")
        ask(node.port, "kept.test")
        url = ("--redis", f"unix://{path}")
        wait_for(lambda: "kept.test" in command("cache", "ls", *url).stdout)
        restart(node, 1)
        assert "kept.test" in command("cache", "ls", *url).stdout
        assert ask(node.port, "kept.test").answer
        assert upstream.count("kept.test.") == 1
        children = node.children()
        assert len(children) == 2
        assert node.stop() == 0
        wait_for(lambda: not any(alive(pid) for pid in children))
        assert not path.exists()


def test_every_option_can_change(upstream: Upstream, tmp_path: Path) -> None:
    """Workers, addresses, the admin port: those that a reload cannot change."""
    file, ports = tmp_path / "node.toml", [free_port() for _ in range(3)]
    file.write_text(f'workers = 3\nadmin = "127.0.0.1:{ports[0]}"\n')
    with ExecutedNode([upstream.address], "none", 3, ("--config", str(file))) as node:
        # ExecutedNode gives --workers on the command line, which beats the file: so the file's counts for nothing
        assert len(node.children()) == 3
        file.write_text(f'admin = "127.0.0.1:{ports[1]}"\n')
        restart(node, 3)
        wait_for(lambda: can_connect(ports[1]))
        wait_for(lambda: not can_connect(ports[0]))
        for number in range(20):
            assert ask(node.port, f"a{number}.test", tries=3).answer


def test_more_workers_and_fewer(upstream: Upstream, tmp_path: Path) -> None:
    """A restart takes the number of workers from the file, and answers all the while."""
    file, port = tmp_path / "node.toml", free_port()
    words = [sys.executable, "-m", "rdnscache", "serve", "--config", str(file)]
    with (tmp_path / "log").open("wb") as log:
        node = start(file, words, log, port, upstream, 2)
        try:
            for workers in (4, 1):
                write(file, port, upstream, workers)
                before = (tmp_path / "log").read_text().count("restarting")
                node.send_signal(signal.SIGUSR2)
                wait_for(lambda before=before: (tmp_path / "log").read_text().count("restarting") > before, 20)
                wait_for(lambda workers=workers: len(children(node)) == workers, 20)
                for number in range(30):
                    assert ask(port, f"w{number}.test", tries=3).answer
            node.terminate()
            assert node.wait(15) == 0
        finally:
            node.kill()
            node.wait()


def write(file: Path, port: int, upstream: Upstream, workers: int) -> None:
    file.write_text(
        f'listen = ["127.0.0.1:{port}"]\nupstream = ["{upstream.address}"]\nredis = "none"\nworkers = {workers}\n'
    )


def start(
    file: Path, words: list[str], log: object, port: int, upstream: Upstream, workers: int
) -> subprocess.Popen[bytes]:
    write(file, port, upstream, workers)
    node = subprocess.Popen(words, stdout=log, stderr=log, env=clean_env(), cwd=ROOT)  # type: ignore[call-overload]
    wait_for(lambda: len(children(node)) == workers, 15)
    wait_for(lambda: ask(port, "first.test", tries=5).answer, 15)
    return node


def children(process: subprocess.Popen[bytes]) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def test_what_cannot_run_is_not_begun(upstream: Upstream, tmp_path: Path) -> None:
    """A broken file, an address that is taken: a sentence in the log, and the node goes on with what it has."""
    file = tmp_path / "node.toml"
    file.write_text("")
    with (
        ExecutedNode([upstream.address], "none", 1, ("--config", str(file))) as node,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        workers = node.children()
        for text, problem in (
            ("ttl_max = 'no'\n", "not restarted, since the new process image would not run: ttl_max in"),
            (f'admin = "127.0.0.1:{taken.getsockname()[1]}"\n', "cannot listen on 127.0.0.1:"),
        ):
            file.write_text(text)
            node.process.send_signal(signal.SIGUSR2)
            wait_for(lambda problem=problem: problem in node.log(), 20)
        assert node.children() == workers
        assert ask(node.port, "a.test").answer


def test_the_command_reaches_the_nodes(redis_server: RedisServer, upstream: Upstream) -> None:
    """`rdnscache restart` says which nodes it told; a node that is not there is an error."""
    with ExecutedNode([upstream.address], redis_server.url, 1, ("--node-id", "a")) as node:
        wait_for(lambda: "attached to Redis" in node.log())
        wait_for(lambda: json.loads(command("cluster", "members", "--json", "--redis", redis_server.url).stdout))
        assert command("restart", "--node", "b", "--redis", redis_server.url).returncode == 1
        assert restarts(node) == 0
        assert command("restart", "--redis", redis_server.url).stdout == "a: restart done\n"
        wait_for(lambda: restarts(node) == 1, 20)
        wait_for(lambda: node.log().count("attached to Redis") == 2, 20)


def test_serve_can_be_checked_without_serving(tmp_path: Path) -> None:
    """`serve --check` says whether a node could run with these options."""
    words = ("--upstream", "192.0.2.1", "--redis", "none")
    done = command("serve", "--check", "--listen", "127.0.0.1:0", *words)
    assert (done.returncode, done.stdout) == (0, "a node could run with these options\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--listen", "--admin"):
            listen = () if option == "--listen" else ("--listen", "127.0.0.1:0")
            done = command("serve", "--check", option, f"127.0.0.1:{port}", *listen, *words)
            assert done.returncode == 2
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    done = command("serve", "--check", "--upstream", "nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def can_connect(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_handover_gives_back_the_same_sockets() -> None:
    """By place: a socket for each worker; new ones where there are more, those left over are closed."""
    listen, admin = (Address("127.0.0.1", 0), Address("127.0.0.1", 0)), Address("127.0.0.1", free_port())
    slots, bound = bind_slots(listen, 2, Handover())
    inner, places = bind_inner(2, Handover())
    listener = bind_admin(admin, Handover())
    handover = Handover()
    leave_slots(slots, listen, handover)
    leave_inner(inner, handover)
    leave_admin(listener, admin, handover)
    old = [sock.detach() for slot in (*slots, *inner) for sock in (*slot.udp, *slot.tcp)] + [listener.detach()]
    again, bound_again = bind_slots(listen, 3, handover)
    inner_again, places_again = bind_inner(1, handover)
    assert bound_again == bound
    assert places_again == places[:1]
    assert bind_admin(admin, handover).fileno() in old
    assert {sock.fileno() for slot in again[:2] for sock in slot.udp + slot.tcp} <= set(old)
    assert not {sock.fileno() for sock in again[2].udp + again[2].tcp} & set(old)
    unused = [fd for fds in handover.sockets.values() for fd in fds]
    assert len(unused) == 2
    handover.close()
    for fd in unused:
        assert not Path(f"/proc/self/fd/{fd}").exists()
    for slot in (*again, *inner_again):
        slot.close()


def test_a_node_lingers_for_its_balancer(upstream: Upstream) -> None:
    """Told to end, it answers on for the time it was given, but says that it is leaving; then it ends in good order."""
    admin = free_port()
    with ExecutedNode([upstream.address], "none", 1, ("--linger", "3", "--admin", f"127.0.0.1:{admin}")) as node:
        wait_for(lambda: status_of(admin, "/readyz") == 200)
        node.process.send_signal(signal.SIGTERM)
        wait_for(lambda: status_of(admin, "/readyz") == 503)
        assert ask(node.port, "id.server", "TXT", rdclass="CH").rcode() == dns.rcode.SERVFAIL
        assert ask(node.port, "still.test").answer
        assert ask(node.port, "still.test", tcp=True).answer
        assert status_of(admin, "/healthz") == 200
        assert node.process.wait(10) == 0


def test_a_second_signal_ends_the_lingering(upstream: Upstream) -> None:
    """Whoever cannot wait for --linger sends SIGTERM twice."""
    with ExecutedNode([upstream.address], "none", 1, ("--linger", "60")) as node:
        node.process.send_signal(signal.SIGTERM)
        wait_for(lambda: ask(node.port, "id.server", "TXT", rdclass="CH").rcode() == dns.rcode.SERVFAIL)
        node.process.send_signal(signal.SIGTERM)
        node.process.wait(10)


def test_an_end_on_the_way_is_no_failure(upstream: Upstream, tmp_path: Path) -> None:
    """Told to end while new workers begin, for a new version or configuration, a node ends and blames nothing."""
    file = tmp_path / "node.toml"
    for number, begins in (
        (signal.SIGUSR2, "the new process image takes over"),
        (signal.SIGHUP, "ttl_max: 86400 -> 1234"),
    ):
        file.write_text("")
        with ExecutedNode([upstream.address], "none", 2, ("--config", str(file))) as node:
            file.write_text("ttl_max = 1234\n")
            node.process.send_signal(number)
            wait_for(lambda node=node, begins=begins: begins in node.log(), 30)
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(30) == 0
            assert "ERROR" not in node.log() and "told to end" in node.log()
