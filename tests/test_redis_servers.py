"""A Redis server as a worker uses it, alone or as one of a cluster: when it is left alone, and whom that concerns."""

from __future__ import annotations

import json
import subprocess
import sys

from support import ROOT, RedisServer

#: In a process of its own: links are greenlets. `argv` are the ports of two servers, each with half of the slots.
SCENE = """
import gevent.monkey
gevent.monkey.patch_all()
import json, sys, gevent
from redis.crc import key_slot
from rdnscache import metrics
from rdnscache.errors import StoreDown
from rdnscache.metrics import Board
from rdnscache.redis_url import parse
from rdnscache.store.cluster import RedisCluster
from rdnscache.store.contract import Names
from rdnscache.store.flushes import Flushes
from rdnscache.store.server import ServerSettings
from rdnscache.store.servers import LinkSettings

class Events:
    def pushed(self, channel, payload): pass
    def opened(self): pass
    def attaching(self): pass
    def detached(self): pass
    def stream_back(self): pass

counters = Board.scrap()
settings = ServerSettings(LinkSettings("n", (), 10.0, 0.05), counters, lambda: 0.0)
ports = [int(port) for port in sys.argv[1:]]
hosts = [("127.0.0.1", port) for port in ports]
cluster = RedisCluster(parse(f"redis+cluster://127.0.0.1:{ports[0]}"), Names("rdns"), settings, Events(), Flushes())
cluster._apply("127.0.0.1", [[0, 8191, [b"127.0.0.1", ports[0]]], [8192, 16383, [b"127.0.0.1", ports[1]]]])
cluster.attaching()
cluster._deaf_until = 1e18  # the ear is not what this is about
first, second = (cluster._shards[host] for host in hosts)

def until(condition):
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.005)

def key_in(shard):
    return next(b"k%d" % n for n in range(1000) if cluster._slots[key_slot(b"k%d" % n)] is shard)

def ask(shard):
    return cluster.ask(lambda told: None, ((b"GET", key_in(shard)),))

def fail(shard):
    cluster.refused(key_in(shard), "no answer")
    gevent.sleep(0.04)  # what is closer together counts once

until(lambda: first.attached and second.attached)
"""


def play(redis_server: RedisServer, second_redis: RedisServer, script: str) -> dict[str, object]:
    ports = str(redis_server.port), str(second_redis.port)
    command = [sys.executable, "-c", SCENE + script, *ports]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_good_answers_make_up_for_failures(redis_server: RedisServer, second_redis: RedisServer) -> None:
    """A shard that fails now and then, with many good answers in between, is never left alone; three in a row are."""
    script = """
for _ in range(4):
    fail(first)
    for _ in range(20):
        ask(first)
rare = first.usable()
for _ in range(3):
    fail(first)
print(json.dumps({"rare": rare, "often": first.usable(), "opened": counters[metrics.BREAKER_OPENED]}))
"""
    assert play(redis_server, second_redis, script) == {"rare": True, "often": False, "opened": 1}


def test_a_slow_shard_is_left_alone_by_itself(redis_server: RedisServer, second_redis: RedisServer) -> None:
    """While one is stopped, questions of its slots go without; all others are answered, and the store stays in use."""
    script = """
first.send((b"CLIENT", b"PAUSE", b"1500", b"ALL"))
gevent.sleep(0.02)
late = 0
while first.usable():
    late += ask(first) is None
    gevent.sleep(0.04)
during = {"store": cluster.usable(), "state": cluster.state, "alone": cluster.left_alone, "other": ask(second)}
try:
    ask(first)
except StoreDown as problem:
    during["own"] = str(problem)
until(first.usable)
print(json.dumps({"late": late, **during, "again": ask(first), "alone after": cluster.left_alone}))
"""
    assert play(redis_server, second_redis, script) == {
        "late": 3,
        "store": True,
        "state": "attached",
        "alone": 1,
        "other": [None],
        "own": "the part of the cluster that has it is away",
        "again": [None],
        "alone after": 0,
    }


def test_a_probe_is_a_claim_in_slots_of_the_shard(redis_server: RedisServer, second_redis: RedisServer) -> None:
    """A shard left alone is probed with a key of its own, and used again although nobody asks it anything."""
    script = """
for _ in range(3):
    fail(second)
left = second.usable()
until(second.usable)
print(json.dumps({"left": left, "slot": cluster._slots[key_slot(second._probe_name())] is second}))
"""
    assert play(redis_server, second_redis, script) == {"left": False, "slot": True}
