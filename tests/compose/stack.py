"""The stack of docker-compose.yml as the test handles it."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from engine import Engine, Failed
from images import ROOT

SUBNET, RANGE, UPSTREAM = "172.30.53.0/24", "172.30.53.128/25", "172.30.53.2"
SERVICES = ("upstream", "redis", "node", "balancer", "prometheus")


def free_port() -> int:
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                return free_port()
    return port


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class Stack:
    def __init__(self, engine: Engine, images: dict[str, str]) -> None:
        self.engine = engine
        self.port, self.prometheus = free_port(), free_port()
        settings = images | {
            "UPSTREAM": UPSTREAM,
            "UPSTREAM_ADDRESS": UPSTREAM,
            "UPSTREAM_SUBNET": SUBNET,
            "NODE_RANGE": RANGE,
            "LOG_QUERIES": "50",
            "DNS_PORT": f"127.0.0.1:{self.port}",
            "PROMETHEUS_PORT": f"127.0.0.1:{self.prometheus}",
        }
        env_file = engine.folder / "env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        files = (ROOT / "docker-compose.yml", ROOT / "tests/compose/compose.test.yml")
        self.command = [*engine.compose(), "--project-name", "rdnscache-test", "--env-file", str(env_file)]
        self.command += ["--ansi", "never", "--profile", "observability"]  # or `down` leaves Prometheus behind
        for file in files:
            self.command += ["--file", str(file)]

    def compose(self, *words: str) -> str:
        return self.engine.run(*self.command, *words)

    def up(self, nodes: int) -> None:
        self.compose("up", "--detach", "--no-build", "--scale", f"node={nodes}", *SERVICES)

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "10")

    def ids(self, service: str = "node") -> list[str]:
        """Its containers, those that have ended too."""
        return self.compose("ps", "--all", "--quiet", service).split()

    def docker(self, *words: str) -> str:
        return self.engine.run("docker", *words)

    def stop(self, container: str) -> tuple[float, int]:
        """As `docker stop` with the service's own period: how long it takes, and the exit code."""
        began = time.monotonic()
        self.docker("stop", container)
        took = time.monotonic() - began
        return took, int(self.docker("inspect", "--format", "{{.State.ExitCode}}", container))

    def asked(self, names: Iterable[str]) -> Counter[int]:
        """How many of these names the upstream has heard how often."""
        (container,) = self.ids("upstream")
        heard = Counter(self.docker("logs", container).split())
        return Counter(heard[name] for name in names)

    def metrics(self, container: str) -> dict[str, float]:
        """A node's own figures: `name{labels}` and value."""
        code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9153/metrics').read().decode())"
        lines = self.docker("exec", container, "python3", "-c", code).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def total(self, *names: str) -> float:
        """The sum of some figures over all nodes."""
        return sum(figures[name] for figures in map(self.metrics, self.ids()) for name in names)

    def redis_cli(self, *words: str) -> str:
        """Read with redis-cli inside the container."""
        return self.compose("exec", "-T", "redis", "sh", "/deploy/redis.sh", "cli", *words)

    def cli(self, *words: str) -> str:
        return self.compose("run", "--rm", "-T", "cli", *words)

    def ask_prometheus(self, path: str, **query: str) -> Any:
        """What its HTTP API says; None when it says nothing."""
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return json.load(reply)["data"]
        except (OSError, ValueError, KeyError):
            return None

    def targets(self) -> Counter[str]:
        """How many of Prometheus' targets are in which state."""
        told = self.ask_prometheus("targets") or {"activeTargets": []}
        return Counter(target["health"] for target in told["activeTargets"])

    def address(self, container: str) -> str:
        """On the network that nodes and the balancer share."""
        told = json.loads(self.docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
        (found,) = [network["IPAddress"] for name, network in told.items() if name.endswith("_front")]
        return str(found)

    def clients(self) -> set[str]:
        """Who has asked for names, as the nodes' query logs say."""
        logs = self.compose("logs", "--no-color", "node")
        return set(re.findall(r"query client=(\S+) transport=\w+ name=(?!id\.server)", logs))

    def logs(self) -> str:
        try:
            return self.compose("logs", "--no-color", "--tail", "40")
        except Failed as error:
            return str(error)
