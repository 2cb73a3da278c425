"""Several Redis servers instead of one: with sentinels, or as a Redis Cluster."""

from __future__ import annotations

import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from bench.system import free_port
from chaos.cluster import NODES, ChaosError, Cluster, Outcome, Process, wait_for
from chaos.faults import Fault
from chaos.proofs import Backward
from rdnscache.store.contract import Names

#: Milliseconds after which a silent server counts as down.
DOWN_AFTER = 1000
SERVICE = "mymaster"
#: Maximum seconds of an election; bytes by which a replica may lag.
ELECTION, NEAR = 20.0, 2000


class Topology(ABC):
    """Servers on ports of their own. `url` is the `--redis` of nodes."""

    url: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers: dict[int, Process] = {}

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def primary(self) -> int:
        """The port of the primary that has the control stream."""

    @abstractmethod
    def replicas(self) -> list[int]:
        """The ports of its replicas."""

    def close(self) -> None:
        for server in self.servers.values():
            if hasattr(server, "process"):
                server.kill()

    def signal(self, port: int, how: signal.Signals) -> None:
        os.kill(self.servers[port].process.pid, how)

    def _server(self, binary: str, *options: object) -> int:
        port = free_port()
        folder = self._folder / str(port)
        folder.mkdir()
        words = ["--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        words += ["--repl-diskless-sync-delay", 0, *options]
        self.servers[port] = Process([binary, *map(str, words)], self._folder / f"{port}.log")
        self.servers[port].start()
        self._listening(port)
        return port

    @staticmethod
    def _listening(port: int) -> None:
        def answers() -> bool:
            try:
                return bool(client(port).ping())
            except redis.RedisError:
                return False

        wait_for(answers, 10, f"the server on port {port} does not answer")


def client(port: int) -> Any:
    return redis.Redis(port=port, socket_timeout=2, socket_connect_timeout=2)


class Sentinels(Topology):
    """A primary, two replicas, three sentinels."""

    def start(self) -> None:
        server, sentinel = shutil.which("redis-server"), shutil.which("redis-sentinel")
        if not server or not sentinel:
            raise ChaosError("there is no redis-server or redis-sentinel here")
        first = self._server(server)
        for _ in range(2):
            self._server(server, "--replicaof", f"127.0.0.1 {first}")
        self._ports = [self._sentinel(sentinel, first) for _ in range(3)]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/{SERVICE}"
        wait_for(self._ready, 20, "the sentinels do not find each other")

    def _sentinel(self, binary: str, primary: int) -> int:
        port = free_port()
        file = self._folder / f"sentinel-{port}.conf"
        monitor = f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
        times = f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\nsentinel failover-timeout {SERVICE} 4000\n"
        file.write_text(f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n{monitor}{times}")
        self.servers[port] = Process([binary, str(file), "--sentinel"], self._folder / f"{port}.log")
        self.servers[port].start()
        self._listening(port)
        return port

    def _ready(self) -> bool:
        states = [client(port).sentinel_masters()[SERVICE] for port in self._ports]
        return all(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2 for state in states)

    def primary(self) -> int:
        return int(client(self._ports[0]).sentinel_get_master_addr_by_name(SERVICE)[1])

    def replicas(self) -> list[int]:
        return [port for port in self.servers if port not in (self.primary(), *self._ports)]


class Shards(Topology):
    """Three primaries with a third of the slots each, and a replica of the one with the control stream."""

    def start(self) -> None:
        binary = shutil.which("redis-server")
        if not binary:
            raise ChaosError("there is no redis-server here")
        buses = [free_port() for _ in range(4)]
        told: tuple[object, ...] = ("--cluster-enabled", "yes", "--cluster-node-timeout", DOWN_AFTER)
        told += ("--cluster-replica-validity-factor", 0, "--cluster-require-full-coverage", "no")
        told += ("--repl-ping-replica-period", 1)
        self._ports = [self._server(binary, *told, "--cluster-port", bus) for bus in buses]
        self.url = f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self._ports[:3])}"
        thirds = [0, 5461, 10923, 16384]
        for number, port in enumerate(self._ports):
            if number < 3:
                self._tell(port, "ADDSLOTSRANGE", thirds[number], thirds[number + 1] - 1)
            self._tell(port, "SET-CONFIG-EPOCH", number + 1)
            self._tell(port, "MEET", "127.0.0.1", self._ports[0], buses[0])
        wait_for(lambda: all(self._tell(port, "NODES").count(b"\n") == 4 for port in self._ports), 20, "no cluster")
        wait_for(self._replicates, 20, "no replica")
        wait_for(lambda: all(self._ready(port) for port in self._ports), 20, "the cluster is not ready")

    def _tell(self, port: int, *words: object) -> Any:
        return client(port).execute_command("CLUSTER", *words)

    def _replicates(self) -> bool:
        try:
            return bool(self._tell(self._ports[3], "REPLICATE", self._tell(self.primary(), "MYID").decode()))
        except redis.RedisError:  # it has not been met yet
            return False

    def _ready(self, port: int) -> bool:
        replicas = sum(len(row) - 3 for row in self._tell(port, "SLOTS"))
        return b"cluster_state:ok" in self._tell(port, "INFO") and replicas == 1

    def primary(self) -> int:
        slot = key_slot(Names("rdns").control)
        for port in self._ports:
            try:
                rows = self._tell(port, "SLOTS")
            except redis.RedisError:  # it is down
                continue
            return next(int(row[2][1]) for row in rows if row[0] <= slot <= row[1])
        raise ChaosError("no server of the cluster answers")

    def replicas(self) -> list[int]:
        return [self._ports[3]]


class Elected(Cluster):
    """The same nodes and clients, with servers that can fail over."""

    def __init__(self, rate: float, topology: Callable[[Path], Topology]) -> None:
        super().__init__(rate)
        self.servers = topology(self.folder)

    def start_redis(self) -> list[str]:
        self.servers.start()
        self.url = self.servers.url
        return [self.url] * NODES

    def stop_redis(self) -> None:
        self.servers.close()


def fail_over(cluster: Cluster) -> Outcome:
    """Kill the primary with the control stream; the replica that takes over has missed the last flush."""
    assert isinstance(cluster, Elected)
    servers, backward = cluster.servers, Backward(cluster)
    primary, replicas = servers.primary(), servers.replicas()
    wait_for(lambda: all(_caught_up(primary, port) for port in replicas), 10, "the replicas do not catch up")
    for port in replicas:
        servers.signal(port, signal.SIGSTOP)
    client(primary).execute_command("CLIENT", "KILL", "TYPE", "replica")  # else the kernel would deliver it
    backward.flush()
    servers.servers[primary].kill()
    for port in replicas:
        servers.signal(port, signal.SIGCONT)
    backward.watch(lambda: servers.primary() != primary, ELECTION)
    return backward.outcome()


def _caught_up(primary: int, replica: int) -> bool:
    told = client(primary).info("replication"), client(replica).info("replication")
    return int(told[0]["master_repl_offset"]) - int(told[1].get("slave_repl_offset", 0)) < NEAR


#: Rows with a cluster of their own.
ELECTIONS: tuple[tuple[Fault, Callable[[Path], Topology]], ...] = (
    (
        Fault("sentinel", "the primary dies after a flush its replicas missed, and sentinels elect another", fail_over),
        Sentinels,
    ),
    (Fault("cluster", "a primary of a Redis Cluster dies after a flush its replica missed", fail_over), Shards),
)
