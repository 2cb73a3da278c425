"""What a node tells systemd, and what it does with sockets that systemd gives it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support import ROOT, ExecutedNode, Upstream, answer_of, ask, clean_env, free_port, steady_load, wait_for

from rdnscache.node.systemd import Manager

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

#: What systemd does before it executes a service: sockets are 3 and what follows, and the process ID is told.
LAUNCH = """
import os, sys
names, count = sys.argv[1], len(sys.argv[1].split(":"))
given = [os.dup(int(fd)) for fd in sys.argv[2].split(",")]
given = [os.dup2(os.dup(fd), 100 + number, inheritable=False) for number, fd in enumerate(given)]
for number in range(count):
    os.dup2(100 + number, 3 + number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}
os.execv(sys.executable, [sys.executable, "-m", "rdnscache", *sys.argv[3:]])
"""


class Told:
    """The socket that NOTIFY_SOCKET names, and what has arrived there."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self.socket.setblocking(False)
        self._messages: list[str] = []

    @property
    def messages(self) -> list[str]:
        with suppress(BlockingIOError):
            while True:
                self._messages.append(self.socket.recv(4096).decode())
        return self._messages

    def count(self, line: str) -> int:
        return sum(line in message.split("\n") for message in self.messages)

    def wait(self, line: str, times: int = 1) -> None:
        wait_for(lambda: self.count(line) >= times, 20)


def test_systemd_hears_of_a_whole_life(upstream: Upstream, tmp_path: Path) -> None:
    """Ready once all workers are at work; each reload and restart from its beginning to its end; the end."""
    file = tmp_path / "node.toml"
    file.write_text("")
    address = str(tmp_path / "notify")
    told = Told(address)
    args = ("--config", str(file), "--linger", "1")
    with told.socket, ExecutedNode([upstream.address], "none", 2, args, {"NOTIFY_SOCKET": address}) as node:
        told.wait("READY=1")
        assert told.messages[-1] == "READY=1\nSTATUS=workers at work: 2 of 2"

        before = time.monotonic_ns() // 1000
        file.write_text("ttl_max = 1000\n")
        node.reload()
        told.wait("READY=1", 2)
        (begun,) = [each for each in told.messages if each.startswith("RELOADING=1\nMONOTONIC_USEC=")]
        assert before <= int(begun.split("\n")[1].partition("=")[2]) <= time.monotonic_ns() // 1000
        told.wait("STATUS=workers at work: 2 of 2", 2)

        file.write_text("ttl_max = 'no'\n")
        node.process.send_signal(signal.SIGHUP)
        told.wait("READY=1", 3)
        wait_for(lambda: "the last reload was refused: ttl_max" in told.messages[-1])

        file.write_text("ttl_max = 2000\n")
        node.process.send_signal(signal.SIGUSR2)
        told.wait("STATUS=workers at work: 2 of 2", 3)
        assert told.count("RELOADING=1") == 3
        assert node.process.poll() is None

        os.kill(node.children()[0], signal.SIGKILL)
        told.wait("STATUS=workers at work: 1 of 2")
        told.wait("STATUS=workers at work: 2 of 2", 4)

        assert node.stop() == 0
        (end,) = [each for each in told.messages if "STOPPING=1" in each]
        assert "EXTEND_TIMEOUT_USEC=9000000" in end  # linger, drain, and the margins of both kinds of children


def test_the_watchdog_is_told_that_the_supervisor_lives(upstream: Upstream) -> None:
    """From its start on, while it does nothing and through a restart; not if another process is meant."""
    address = f"@rdnscache-{secrets.token_hex(8)}"
    told = Told(address)
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
    with told.socket:
        with ExecutedNode([upstream.address], env=env) as node:
            told.wait("READY=1")
            told.wait("WATCHDOG=1", 5)
            node.process.send_signal(signal.SIGUSR2)
            told.wait("STATUS=workers at work: 1 of 1", 2)
            told.wait("WATCHDOG=1", told.count("WATCHDOG=1") + 5)
        seen = told.count("WATCHDOG=1")
        with ExecutedNode([upstream.address], env=env | {"WATCHDOG_PID": "1"}) as node:
            told.wait("READY=1", 3)
            assert node.stop() == 0
        assert told.count("WATCHDOG=1") == seen


@pytest.mark.parametrize("path", ["/nowhere/notify", "@nobody-listens", "vsock:2:1", "relative", "/" + "x" * 200, ""])
def test_a_manager_that_cannot_be_told_is_no_hindrance(path: str) -> None:
    """Its socket is gone, or of a kind we do not speak to: nothing is raised, and nobody waited for."""
    manager = Manager({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"})
    manager.tell(1, 1)
    manager.reloading("reading")
    manager.reloaded("reload", "it\nis broken")
    manager.stopping(1.0)
    assert manager.beat() > 0


@pytest.mark.parametrize("given", ["", "no", "-1", "0", "\u0663", "1e6", "9" * 500])
def test_a_watchdog_that_makes_no_sense_is_none(given: str) -> None:
    """No number, or none that a pause can be made of, never makes a beat due at every turn."""
    assert Manager({"NOTIFY_SOCKET": "@nobody-listens", "WATCHDOG_USEC": given}).beat() >= 3600.0


class GivenNode(ExecutedNode):
    """A node that systemd would have given these sockets."""

    def __init__(self, given: Sequence[socket.socket], *args: object, **others: object) -> None:
        self.given = given
        super().__init__(*args, **others)  # type: ignore[arg-type]

    def _start(self, words: list[str], env: dict[str, str], open_files: int | None) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            return launched(self.given, words, env, log.fileno())


def launched(given: Sequence[socket.socket], words: Sequence[str], env: dict[str, str], log: int
) -> subprocess.Popen[bytes]:  # fmt: skip
    fds = [sock.fileno() for sock in given]
    names = ":".join(f"name{number}" for number in range(len(fds)))
    command = [sys.executable, "-c", LAUNCH, names, ",".join(map(str, fds)), *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_env(env), cwd=ROOT,
                            pass_fds=fds)  # fmt: skip


@contextmanager
def opened(*places: tuple[str, int, bool]) -> Iterator[list[socket.socket]]:
    """Sockets for (address, port, whether TCP), as systemd opens them with ReusePort=yes."""
    with ExitStack() as stack:
        found = []
        for host, port, tcp in places:
            kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
            sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            if tcp:
                sock.listen()
            found.append(sock)
        yield found


def test_given_sockets_are_served(upstream: Upstream) -> None:
    """UDP, TCP and the admin port: workers share what is given, and later images, with more of them, do as well."""
    port, admin = free_port(), free_port()
    place = "127.0.0.1"
    with (
        opened((place, port, False), (place, port, True), (place, admin, True)) as given,
        GivenNode(
            given, [upstream.address], workers=2, args=("--admin", f"{place}:{admin}"), listen=f"{place}:{port}"
        ) as node,
        steady_load(port) as load,
    ):
        for _ in range(2):
            assert {answer_of(port, f"a{number}.test") for number in range(10)} == {"192.0.2.1"}
            assert ask(port, "a.test", tcp=True).answer
            with socket.create_connection((place, admin), 5) as http:
                http.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert b" 200 " in http.recv(100)
            before, times = node.children(), node.log().count("restarting")
            node.process.send_signal(signal.SIGUSR2)
            wait_for(lambda times=times: node.log().count("restarting") > times, 20)
            wait_for(lambda before=before: len(node.children()) == 2 and not set(before) & set(node.children()), 20)
        load.finish()
        assert load.lost == 0
        assert node.stop() == 0


def test_a_socket_for_each_worker(upstream: Upstream) -> None:
    """As many as there are workers: each has its own, and what is not given is bound beside."""
    port, place = free_port(), "127.0.0.1"
    with (
        opened((place, port, False), (place, port, False)) as given,
        GivenNode(given, [upstream.address], workers=2, listen=f"{place}:{port}") as node,
    ):
        assert all(ask(port, f"a{number}.test").answer for number in range(20))
        assert ask(port, "a.test", tcp=True).answer
        assert node.stop() == 0


@pytest.mark.parametrize(
    ("places", "problem"),
    [
        (
            [("127.0.0.2", 0, False)],
            "systemd passes a socket for 127.0.0.2:{} (UDP), which is not an address of --listen",
        ),
        ([("127.0.0.1", 1, False)] * 2, "systemd passes 2 sockets for 127.0.0.1:{} (UDP), but only 1 can be served"),
        ([("::", 0, True)], "socket 'name0' of systemd is for IPv4 and IPv6 at once"),
    ],
)
def test_what_cannot_be_served_is_refused(places: list[tuple[str, int, bool]], problem: str, tmp_path: Path) -> None:
    """A socket nobody would read from would lose its clients' queries, so the node says so and ends with 2."""
    port = free_port()
    words = ["serve", "--listen", f"127.0.0.1:{port}", "--upstream", "192.0.2.1", "--redis", "none", "--workers", "1"]
    with opened(*((host, number and port, tcp) for host, number, tcp in places)) as given:
        with (tmp_path / "log").open("wb") as log:
            assert launched(given, words, {}, log.fileno()).wait(20) == 2
        assert problem.format(given[0].getsockname()[1]) in (tmp_path / "log").read_text()


def test_sockets_of_other_kinds_are_refused(tmp_path: Path) -> None:
    """A path, or a connection that has been accepted already, is nothing that can be listened on."""
    words = ["serve", "--upstream", "192.0.2.1", "--redis", "none"]
    ours, its = socket.socketpair()
    connected = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(connected.getsockname())
    accepted, _ = connected.accept()
    with ours, its, connected, client, accepted:
        for sock, problem in ((its, "is not for UDP or TCP"), (accepted, "must not say Accept=yes")):
            with (tmp_path / "log").open("wb") as log:
                assert launched([sock], words, {}, log.fileno()).wait(20) == 2
            assert problem in (tmp_path / "log").read_text()


def test_a_restart_does_not_give_up_a_given_socket(upstream: Upstream, tmp_path: Path) -> None:
    """systemd keeps it open, so queries would go on arriving there: the node stays as it is and says why."""
    file, port, place = tmp_path / "node.toml", free_port(), "127.0.0.1"
    file.write_text(f'listen = ["{place}:{port}"]\nworkers = 2\nupstream = ["{upstream.address}"]\nredis = "none"\n')
    told = Told(str(tmp_path / "notify"))
    with opened(*[(place, port, False)] * 2) as given, told.socket, (tmp_path / "log").open("wb") as log:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "RDNSCACHE_CONFIG": str(file)}
        process = launched(given, ["serve"], env, log.fileno())
        try:
            told.wait("READY=1")
            file.write_text(file.read_text().replace("workers = 2", "workers = 1"))
            process.send_signal(signal.SIGUSR2)
            told.wait("READY=1", 2)
            wait_for(lambda: f"systemd passes 2 sockets for {place}:{port} (UDP)" in told.messages[-1])
            assert ask(port, "a.test").answer
            process.terminate()
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
