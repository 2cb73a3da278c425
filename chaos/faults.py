"""The faults, a function each, which returns when the cause of the fault is removed; then the recovery is timed."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from chaos import proofs
from chaos.cluster import WORKERS, ChaosError, Cluster, Outcome, wait_for
from chaos.flushes import Storm

#: Seconds for which Redis is stopped; for which it is full, far or tampered with; for which a node is cut off.
PAUSE, LONG, BRIEF, CUT = 3.0, 5.0, 1.5, 10.0
#: Seconds of repeated short stops of Redis, and of Redis and the workers; seconds between them.
BLINK, STUMBLE, APART = 0.04, 0.15, 1.2
#: How many flushes are a storm.
FLUSHES = 2000
#: Seconds until a restart: at least as long as one by hand takes.
DOWN = 1.0


@dataclass(frozen=True)
class Fault:
    name: str
    text: str
    strike: Callable[[Cluster], Outcome | None]


def quiet(cluster: Cluster) -> None:
    time.sleep(LONG)


def kill_node(cluster: Cluster) -> None:
    """Not the first node, here and below: a soak follows its memory."""
    node = random.choice(cluster.nodes[1:])
    node.kill()
    time.sleep(DOWN)
    node.start()


def kill_worker(cluster: Cluster) -> None:
    os.kill(random.choice(cluster.workers(random.choice((1, 2)))), signal.SIGKILL)


def kill_redis(cluster: Cluster) -> None:
    cluster.redis.kill()
    time.sleep(DOWN)
    cluster.redis.start()


def pause_redis(cluster: Cluster) -> None:
    os.kill(cluster.redis.process.pid, signal.SIGSTOP)
    try:
        time.sleep(PAUSE)
    finally:
        os.kill(cluster.redis.process.pid, signal.SIGCONT)


def blink_redis(cluster: Cluster) -> None:
    _stop_now_and_then(BLINK, [cluster.redis.process.pid])


def stumble(cluster: Cluster) -> None:
    _stop_now_and_then(
        STUMBLE,
        [cluster.redis.process.pid, *(pid for node in range(len(cluster.nodes)) for pid in cluster.workers(node))],
    )


def _stop_now_and_then(seconds: float, pids: Sequence[int]) -> None:
    """Stop processes repeatedly, as a busy machine does."""
    ends = time.monotonic() + 2 * LONG
    while time.monotonic() < ends:
        try:
            _signal(pids, signal.SIGSTOP)
            time.sleep(seconds)
        finally:
            _signal(pids, signal.SIGCONT)
        time.sleep(APART)


def _signal(pids: Sequence[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signum)


def fill_redis(cluster: Cluster) -> None:
    with cluster.redis_client() as admin:
        before = admin.config_get("maxmemory*")
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", 1)  # existing entries stay, and no more can be added
        time.sleep(LONG)
        for name in ("maxmemory", "maxmemory-policy"):
            admin.config_set(name, before[name])


def command(*words: str) -> Callable[[Cluster], None]:
    def strike(cluster: Cluster) -> None:
        with cluster.redis_client() as admin:
            admin.execute_command(*words)

    return strike


def far_redis(cluster: Cluster) -> None:
    for node in range(len(cluster.nodes)):
        cluster.line(node, "delay", 0.05)  # in each direction
        cluster.line(node, "loss", 0.05)
    time.sleep(2 * LONG)
    heal_lines(cluster)


def heal_lines(cluster: Cluster) -> None:
    for node in range(len(cluster.nodes)):
        cluster.line(node, "heal")


def cut_node(cluster: Cluster) -> None:
    """Cut a node off from Redis. When it is back, it must not answer with entries flushed meanwhile."""
    node, log = 2, cluster.nodes[2]
    cluster.line(node, "hole")
    ends = time.monotonic() + CUT
    wait_for(lambda: not log.attached(), 5, "the node does not see that it is cut off")
    if f"n{node}" not in cluster.change():
        raise ChaosError("a node that is cut off has confirmed a flush")
    time.sleep(max(ends - time.monotonic(), 0))
    cluster.line(node, "heal")
    wait_for(lambda: log.attached() == WORKERS, 15, "the node does not attach again")
    cluster.raise_floor(node)


def meddle(cluster: Cluster) -> None:
    """Write rubbish into entries, claims and channels."""
    ends = time.monotonic() + (BRIEF if cluster.brief else LONG)
    with cluster.redis_client() as admin:
        while time.monotonic() < ends:
            for key in admin.scan_iter("rdns:1:{*", count=200):
                _spoil(admin, key)
            for channel in admin.pubsub_channels("rdns:1:*"):
                for junk in (b"", b"\0\n\0\n\0", b"9-9 {", b'9-9 {"event": 1}', os.urandom(40)):
                    admin.publish(channel, junk)
            time.sleep(0.2)


def _spoil(admin: redis.Redis, key: bytes) -> None:
    how = random.randrange(8)
    try:
        if how == 0:
            admin.set(key, b"rubbish", px=20_000)
        elif how == 1 and not key.endswith((b"#lead", b"#wait")):
            admin.hset(key, "wire", os.urandom(60))
        elif how == 2:
            admin.persist(key)
        elif how == 3:
            admin.delete(key)
            admin.sadd(key, b"rubbish")
            admin.pexpire(key, 20_000)
    except redis.ResponseError:
        return  # of another type by now


def fail_over(words: str) -> Fault:
    """A fault by a command of the user, which has REDIS_PORT in its environment."""

    def strike(cluster: Cluster) -> None:
        env = os.environ | {"REDIS_PORT": str(cluster.redis_port)}
        subprocess.run(shlex.split(words), check=True, env=env)

    return Fault("failover", f"`{words}`", strike)


def storm(count: int) -> Fault:
    text = "flushes at random moments; workers, links, nodes and Redis killed, stopped or cut off at some of them"
    return Fault("flushes", text, lambda cluster: Storm(cluster).run(count))


QUIET = Fault("quiet", "nothing", quiet)
FAULTS = (
    Fault("node", "a node is killed and started again 1 s later", kill_node),
    Fault("worker", "a worker is killed", kill_worker),
    Fault("redis", "Redis is killed and started again, empty, 1 s later", kill_redis),
    Fault("pause", "Redis is stopped (SIGSTOP) for 3 s", pause_redis),
    Fault("blink", "Redis stops for 40 ms, again and again, for 10 s", blink_redis),
    Fault("stumble", "Redis and all workers stop for 150 ms, again and again, for 10 s", stumble),
    Fault("full", "Redis is full for 5 s and evicts nothing", fill_redis),
    Fault("scripts", "SCRIPT FLUSH", command("SCRIPT", "FLUSH")),
    Fault("flushall", "FLUSHALL", command("FLUSHALL")),
    Fault("kill-normal", "CLIENT KILL TYPE normal", command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")),
    Fault("kill-pubsub", "CLIENT KILL TYPE pubsub", command("CLIENT", "KILL", "TYPE", "pubsub")),
    Fault("far", "Redis is 100 ms away and 5 % of packets are lost, for 10 s", far_redis),
    Fault("cut", "a node is cut off from Redis for 10 s, while names are flushed", cut_node),
    Fault("rubbish", "somebody writes rubbish into keys and channels for 5 s", meddle),
)
#: Faults around a flush.
PROOFS = (
    Fault(
        "late",
        "all workers of a node are stopped (SIGSTOP) while they lead, until the flush and their leases are over",
        proofs.paused_worker,
    ),
    Fault(
        "partition",
        "a node is cut off while it leads; what it sent arrives when the flush and its leases are over",
        proofs.partition,
    ),
    Fault("old-redis", "Redis is killed and comes back as it was before the last flush", proofs.old_redis),
    Fault("clone", "a second node has the name of the first; then it is stopped", proofs.cloned_node),
    Fault("sick", "the upstream of one node is silent for 8 s, then answers SERVFAIL for 8 s", proofs.sick_node),
)
