"""Workers that hang, supervisors that die, and orders that come while somebody does."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import dns.message
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
    wait_for,
    wait_until_at_work,
)

from rdnscache.node.lifeline import AT_WORK, Lifeline

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def group(life: str, setting: str = "", before: str = "pass") -> subprocess.Popen[str]:
    """A parent whose one child says that it is at work and then lives as the text says; it logs to our pipe."""
    code = f"""
import logging, os, re, signal, sys, time
from rdnscache.node import children
from rdnscache.node.children import Child, ProcessGroup
children.{setting or "BEGINNING"}
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)

def live(line):
    {before}
    line.say("at work")
    {life}

group = ProcessGroup(hang_time=1.0)
group.children.append(Child("child", live))
group.catch_signals()
while not group.stops:
    group.go_on(3600.0)
    sys.stdout.flush()
group.finish(group.children, 0.0)
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=clean_env(), cwd=ROOT)


def said(process: subprocess.Popen[str], wanted: str) -> str:
    """The first line that has a pattern in it."""
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(wanted, line):
            return line
    raise AssertionError(f"{wanted} was never said")


class TestHanging:
    def test_a_stopped_worker_is_replaced(self, upstream: Upstream) -> None:
        """The log says what it was doing; a stopped process takes no signal but the last."""
        with ExecutedNode([upstream.address], "none", 2, ("--hang-time", "1")) as node:
            wait_until_at_work(node, 2)
            old = node.children()
            os.kill(old[0], signal.SIGSTOP)
            wait_for(lambda: not alive(old[0]), 15)
            wait_for(lambda: len(node.children()) == 2, 15)
            assert old[1] in node.children()
            assert re.search(r"worker \d hangs: it is stopped and has made no progress for \d\.\d s", node.log())
            for number in range(20):
                assert ask(node.port, f"a{number}.test", tries=5).answer
            assert node.stop() == 0

    @pytest.mark.parametrize("life", ["while True: pass", "re.match('(a+)+$', 'a' * 64 + 'b')"])
    def test_one_that_spins_is_replaced_and_leaves_its_stack(self, life: str) -> None:
        """In Python, and where the interpreter is held: a second one is started, and where the first was is said."""
        with group(life) as parent:
            try:
                assert "child hangs: it is running" in said(parent, "hangs")
                assert re.search(r"child was in .*<string>:\d+ live", said(parent, "was in"))
                assert "child was killed by SIGABRT; starting it again" in said(parent, "starting")
                assert "child hangs" in said(parent, "hangs")
            finally:
                parent.terminate()
                parent.wait(10)

    def test_one_that_never_begins_is_replaced(self) -> None:
        """It has longer for that, but not for ever."""
        with group("", "BEGINNING = 2.0", "os.kill(os.getpid(), signal.SIGSTOP)") as parent:
            try:
                assert "child hangs: it is stopped" in said(parent, "hangs")
                assert "child was killed by SIGKILL; starting it again" in said(parent, "starting")
            finally:
                parent.terminate()
                parent.wait(10)

    def test_a_slow_beginning_is_not_held_against_it(self) -> None:
        """Whoever took longer to begin than it may be silent later is not ended for that."""
        life = "time.sleep(0.5); line.beat(); time.sleep(0.5); os._exit(7)"
        with group(life, before="time.sleep(2.5)") as parent:
            try:
                assert "exited with 7" in said(parent, "child")
            finally:
                parent.terminate()
                parent.wait(10)

    def test_who_beats_is_left_alone(self) -> None:
        """However long it takes for anything else; and one that has not said yet that it is at work is not watched."""
        with group("line.beat(); [(line.beat(), time.sleep(0.2)) for _ in range(15)]; os._exit(7)") as parent:
            try:
                assert "exited with 7" in said(parent, "child")
            finally:
                parent.terminate()
                parent.wait(10)

    def test_a_node_that_was_stopped_as_a_whole_goes_on(self, upstream: Upstream) -> None:
        """As when a machine is suspended: the supervisor counts only the time in which it was awake itself."""
        with ExecutedNode([upstream.address], "none", 2, ("--hang-time", "1")) as node:
            wait_until_at_work(node, 2)
            workers = node.children()
            for pid in (node.process.pid, *workers):
                os.kill(pid, signal.SIGSTOP)
            time.sleep(4)  # the time that must not count
            for pid in (node.process.pid, *workers):
                os.kill(pid, signal.SIGCONT)
            after = time.monotonic() + 2.5
            while time.monotonic() < after:
                assert ask(node.port, "awake.test", tries=5).answer
            assert node.children() == workers
            assert "hangs" not in node.log()

    def test_it_can_be_left_to_itself(self, upstream: Upstream) -> None:
        """With 0 nobody is ended for being silent."""
        with ExecutedNode([upstream.address], "none", 2, ("--hang-time", "0")) as node:
            workers = node.children()
            os.kill(workers[0], signal.SIGSTOP)
            time.sleep(2.5)  # more than twice the least there is
            os.kill(workers[0], signal.SIGCONT)
            assert node.children() == workers
            assert node.stop() == 0

    def test_one_that_hangs_while_others_are_rolled(self, upstream: Upstream, tmp_path: Path) -> None:
        """A reload does not keep it from being noticed, and ends with all workers new."""
        file = tmp_path / "node.toml"
        file.write_text("ttl_max = 1000\n")
        with ExecutedNode([upstream.address], "none", 3, ("--config", str(file), "--hang-time", "1")) as node:
            wait_until_at_work(node, 3)
            old = node.children()
            os.kill(old[2], signal.SIGSTOP)
            file.write_text("ttl_max = 2000\n")
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "all workers use the new configuration" in node.log(), 30)
            wait_for(lambda: len(node.children()) == 3 and not set(node.children()) & set(old), 15)
            assert node.stop() == 0


class TestOrphans:
    def test_a_worker_that_hangs_does_not_outlive_its_supervisor(self, upstream: Upstream) -> None:
        """Killed when the others have had their time; nothing of the node is left then."""
        with ExecutedNode([upstream.address], "embedded", 2, ("--drain", "1", "--hang-time", "0")) as node:
            wait_for(lambda: len(node.children()) == 3)
            children = node.children()
            for pid in children[:2]:
                os.kill(pid, signal.SIGSTOP)
            node.process.kill()
            node.process.wait()
            wait_for(lambda: not any(map(alive, children)), 15)
            wait_for(lambda: relatives(node) == [], 10)
            assert "has outlived its supervisor and does not end: it is killed" in node.log()

    def test_what_is_in_flight_is_answered_first(self) -> None:
        """A supervisor that is killed takes no answer with it."""
        query = dns.message.make_query("late.test", "A")
        with Upstream(delay=1.0) as upstream, ExecutedNode([upstream.address], "none", 1) as node:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                sock.connect(("127.0.0.1", node.port))
                sock.send(query.to_wire())
                wait_for(lambda: upstream.count("late.test.") == 1)
                node.process.kill()
                assert dns.message.from_wire(sock.recv(4096)).answer

    def test_the_keeper_ends_with_its_node(self, upstream: Upstream) -> None:
        """It is there while the node is, over a restart the same one, and holds no socket."""
        with ExecutedNode([upstream.address], "none", 1) as node:
            (keeper,) = wait_for(lambda: relatives(node))
            node.process.send_signal(signal.SIGUSR2)
            wait_for(lambda: "the new process image takes over" in node.log(), 30)
            old = node.children()
            wait_for(lambda: not any(map(alive, old)), 30)
            assert relatives(node) == [keeper]
            links = [os.readlink(link) for link in Path(f"/proc/{keeper}/fd").iterdir() if link.exists()]
            assert not [link for link in links if "socket" in link]
            assert node.stop() == 0
            wait_for(lambda: not alive(keeper))

    def test_a_keeper_that_was_ended_is_replaced(self, upstream: Upstream) -> None:
        """When there is something to tell it."""
        with ExecutedNode([upstream.address], "none", 1) as node:
            (keeper,) = wait_for(lambda: relatives(node))
            os.kill(keeper, signal.SIGKILL)
            wait_for(lambda: not alive(keeper))
            os.kill(node.children()[0], signal.SIGKILL)
            wait_for(lambda: len(relatives(node)) == 1)


def relatives(node: ExecutedNode) -> list[int]:
    """Processes of a node that are neither its supervisor nor children of that."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid, words = int(folder.name), (folder / "cmdline").read_bytes().split(b"\0")
            if node.listen[0].encode() in words and pid != node.process.pid and alive(pid):
                found.append(pid)
    return sorted(set(found) - set(node.children()))


class TestOrders:
    def test_any_worker_that_is_alive_takes_them(self, redis_server: RedisServer, upstream: Upstream) -> None:
        """The first worker hangs; an order is carried out, once, though two others pass it on."""
        with ExecutedNode([upstream.address], redis_server.url, 3, ("--hang-time", "0")) as node:
            wait_for(lambda: node.log().count("attached to Redis") == 3, 10)
            first = min(node.children(), key=lambda pid: worker_of(redis_server, pid))
            os.kill(first, signal.SIGSTOP)
            try:
                for count in (1, 2):
                    assert command("reload", "--redis", redis_server.url).returncode == 0
                    wait_for(lambda count=count: node.log().count("nothing to change") == count, 10)
                    held = node.log().count("nothing to change")
                    assert held == count
            finally:
                os.kill(first, signal.SIGCONT)
            # the worker that was stopped passes both on now, and they are known
            wait_for(lambda: ask(node.port, "after.test", tries=5).answer)
            assert command("reload", "--redis", redis_server.url).returncode == 0
            wait_for(lambda: node.log().count("nothing to change") == 3, 10)

    def test_one_restart_for_one_order(self, redis_server: RedisServer, upstream: Upstream) -> None:
        """The next image knows what was carried out already, when words of old workers still wait."""
        with ExecutedNode([upstream.address], redis_server.url, 3) as node:
            wait_for(lambda: node.log().count("attached to Redis") == 3, 10)
            old = node.children()
            assert command("restart", "--redis", redis_server.url).returncode == 0
            wait_for(lambda: not any(map(alive, old)), 60)
            wait_for(lambda: node.log().count("attached to Redis") == 6, 20)
            assert node.log().count("the new process image takes over") == 1


def worker_of(server: RedisServer, pid: int) -> int:
    """The number of the worker with a process ID, as it told the cluster."""
    with server.client() as client:
        for key in client.keys("rdns:1:node:*"):
            told = json.loads(client.get(key) or b"{}")
            if told.get("pid") == pid:
                return int(told["worker"])
    raise AssertionError(f"{pid} is no worker")


class TestLifeline:
    def test_both_ends(self) -> None:
        """Words in their order, beats as a number; the same for whoever inherits the parent's end."""
        line = Lifeline()
        for word in (AT_WORK, "reload 1-0", "x" * 1000):
            line.say(word)
            line.beat()
        assert line.hear() == [AT_WORK, "reload 1-0", "x" * 200]
        assert line.beats == 3
        other = Lifeline(*(os.dup(fd) for fd in line.fds))
        line.beat()
        assert other.beats == 4
        assert other.stack() == ""
        line.hold()
        assert other.hear() is None
        for each in (line, other):
            each.close()

    def test_nobody_waits(self) -> None:
        """What does not fit into the pipe is lost, whole words of it; a parent that is gone is none of our business."""
        line = Lifeline()
        for number in range(100_000):
            line.say(f"word {number}")
        words = line.hear() or []
        assert words[:2] == ["word 0", "word 1"]
        assert all(re.fullmatch(r"word \d+", word) for word in words)
        line.take()
        line.say("anybody?")
        line.close()
