"""Docker for the test: the one that can be reached, or our own, which lives in a temporary folder and ends with us."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

#: What is passed on to docker and compose. Nothing else, or a variable of the shell's would beat the test's own.
KEPT = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG")
START, END = 30.0, 30.0


class Failed(Exception):
    """A command did not do what it should, or something needed is missing."""


class Engine:
    """Runs docker and compose. `folder` is for whatever the test leaves until its end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-compose-"))
        self.env = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._daemon: subprocess.Popen[bytes] | None = None
        self._packet_rules = ""

    def __enter__(self) -> Self:
        try:
            if subprocess.run(["docker", "info"], env=self.env, capture_output=True, check=False).returncode:
                self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def _start(self) -> None:
        if os.getuid() or not shutil.which("dockerd"):
            raise Failed("no Docker can be reached; to start one for the test, dockerd and root are needed")
        self._packet_rules = self.run("iptables-save")
        self.env["DOCKER_HOST"] = f"unix://{self.folder}/docker.sock"
        command = ["dockerd", "--host", self.env["DOCKER_HOST"], "--bridge", "none"]
        for name in ("data-root", "exec-root", "pidfile"):
            command += [f"--{name}", str(self.folder / name)]
        with (self.folder / "dockerd.log").open("wb") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START
        while subprocess.run(["docker", "info"], env=self.env, capture_output=True, check=False).returncode:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"dockerd does not start:\n{(self.folder / 'dockerd.log').read_text()[-2000:]}")
            time.sleep(0.2)

    def _end(self) -> None:
        if self._daemon is not None:
            self._daemon.terminate()  # it ends its containerd and whatever still runs
            try:
                self._daemon.wait(END)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            subprocess.run(["iptables-restore"], input=self._packet_rules, text=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str, env: dict[str, str] | None = None, timeout: float = 600) -> str:
        """What a command prints. Raises Failed with what it says."""
        done = subprocess.run(
            command, env=self.env | (env or {}), capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            said = done.stdout[-1500:] + done.stderr[-6000:]
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
        return done.stdout

    def works(self, *command: str, env: dict[str, str] | None = None) -> bool:
        try:
            self.run(*command, env=env, timeout=120)
        except (Failed, OSError, subprocess.TimeoutExpired):
            return False
        return True

    def compose(self) -> Sequence[str]:
        """How compose is called here."""
        for command in (("docker", "compose"), ("docker-compose",)):
            if self.works(*command, "version"):
                return command
        raise Failed("docker compose is needed")

    def builder(self) -> str:
        """A docker that can build with BuildKit: a newer one without its plugin buildx cannot."""
        for folder in self.env["PATH"].split(":"):
            path = f"{folder}/docker"
            if os.access(path, os.X_OK) and self.works(path, "build", "--help", env={"DOCKER_BUILDKIT": "1"}):
                return path
        raise Failed("docker build needs BuildKit: install docker-buildx")
