"""A Redis Cluster of real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from redis.crc import key_slot

from .ports import free_port
from .servers import Server
from .waiting import wait_for


class RedisCluster:
    """Three primaries with a third of the slots each, and a replica of one of them."""

    def __init__(self, stack: ExitStack, binary: str, replicated: int) -> None:
        self.replicated = replicated
        self.servers = [stack.enter_context(Server(binary, self._options())) for _ in range(4)]
        self.primaries, self.replica = self.servers[:3], self.servers[3]
        self.clients: list[Any] = [server.client() for server in self.servers]
        thirds = [0, 5461, 10923, 16384]
        for number, client in enumerate(self.clients):
            if number < 3:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", thirds[number], thirds[number + 1] - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port, self.bus_port(0))
        self.ids = [client.execute_command("CLUSTER", "MYID").decode() for client in self.clients]
        wait_for(lambda: all(self._knows(client) == 4 for client in self.clients), 20)
        wait_for(lambda: self._replicates(replicated), 20)
        wait_for(lambda: all(self._state(client) == (True, 1) for client in self.clients), 20)
        self.url = f"valkey+cluster://127.0.0.1:{self.servers[1].port},127.0.0.1:{self.servers[2].port}"

    def _options(self) -> dict[str, str]:
        return {
            "cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-port": str(free_port()),
            "cluster-require-full-coverage": "no", "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1",
        }  # fmt: skip

    def bus_port(self, number: int) -> int:
        return int(self.clients[number].config_get("cluster-port")["cluster-port"])

    def _knows(self, client: Any) -> int:
        return len(client.execute_command("CLUSTER", "NODES").splitlines())

    def _replicates(self, primary: int) -> bool:
        try:
            return bool(self.clients[3].execute_command("CLUSTER", "REPLICATE", self.ids[primary]))
        except Exception:  # it is not known yet
            return False

    def _state(self, client: Any) -> tuple[bool, int]:
        """Whether a node considers the cluster healthy, and how many replicas it knows."""
        replicas = sum(len(row) - 3 for row in client.execute_command("CLUSTER", "SLOTS"))
        return b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), replicas

    def owner(self, key: bytes) -> int:
        """The primary that has a key."""
        return min(key_slot(key) * 3 // 16384, 2)

    def move(self, slot: int, keys: list[bytes], source: int, target: int) -> None:
        """As redis-cli --cluster reshard does it."""
        self.clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        self.clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target])
        there = ("127.0.0.1", self.servers[target].port, "", 0, 5000, "KEYS", *keys)
        self.clients[source].execute_command("MIGRATE", *there)

    def settle(self, slot: int, target: int) -> None:
        for number in (target, *(number for number in range(3) if number != target)):
            self.clients[number].execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.ids[target])


@contextmanager
def running_cluster(binary: str | None, replicated: int) -> Iterator[RedisCluster]:
    """With a replica of the primary `replicated`."""
    if binary is None:
        pytest.skip("this server is not installed")
    with ExitStack() as stack:
        yield RedisCluster(stack, binary, replicated)
