"""How many entries there are, and which keys a step of Redis's own touches."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from support import ROOT, RedisServer, clean_env, command
from support.redis_cluster import RedisCluster, running_cluster
from support.servers import KINDS

from rdnscache.dns.names import parse_name
from rdnscache.errors import StoreDown
from rdnscache.operator.counting import SAMPLE, Counts
from rdnscache.operator.entries import Browser
from rdnscache.redis_url import parse
from rdnscache.store.connection import packed
from rdnscache.store.direct import Direct
from rdnscache.store.scope import Scope
from rdnscache.store.sweeping import CAREFUL, CONFIRMED

#: About commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

#: ARGV the first and the last of many entries: a quarter NXDOMAIN, a tenth in the zone z.test.
MANY = """
for i = ARGV[1], ARGV[2] do
  local name = 'n' .. i .. (i % 10 == 0 and '.z.test.' or '.test.')
  local kind, rcode = 'A', 'NOERROR'
  if i % 4 == 0 then kind, rcode = 'NXDOMAIN', 'NXDOMAIN' end
  local key = 'rdns:1:{' .. name .. '}:' .. kind
  local info = 'rcode=' .. rcode .. ' ttl=60 stale=60 stored=2026-11-27T00:00:00Z from=192.0.2.1 node=n1'
  redis.call('HSET', key, 'info', info, 'answer', '', 'wire', '-')
  redis.call('PEXPIRE', key, 100000)
end
"""
#: Keys that are like entries and are none, or not of z.test.
OTHERS = {
    "rdns:1:{xz.test.}:A", "rdns:1:{z.test.other.}:A", "rdns:1:{z.test.}:a", "rdns:1:{z.test}:A", "rdns:1:{z.test.}",
    "rdns:2:{z.test.}:A", "other:1:{z.test.}:A", "rdns:1:{Z.test.}:A", "rdns:1:{z.test.}:A#wait", "rdns:1:hot",
}  # fmt: skip


def fill(client: object, count: int) -> None:
    for first in range(0, count, 1000):
        client.eval(MANY, 0, first, min(first + 999, count - 1))  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with running_cluster(next(filter(None, KINDS.values())), 0) as found:
        yield found


def test_where_there_are_many_figures_are_estimates_that_say_so(redis_server: RedisServer) -> None:
    """Within what they say of themselves; with --exact each entry is counted, and one zone's as well."""
    client, count = redis_server.client(), SAMPLE + 14_000
    fill(client, count)
    client.set("other", 1)
    done = command("cache", "stats", "--redis", redis_server.url)
    assert done.stdout.startswith("about ") and f"of {count + 1:,} keys" in done.stdout
    told = json.loads(command("cache", "stats", "--json", "--redis", redis_server.url).stdout)
    assert told["exact"] is False and told["keys"] == count + 1 and SAMPLE <= told["looked_at"] <= SAMPLE + 500
    for part, truth in (("NXDOMAIN", count // 4), ("NOERROR", count * 3 // 4)):
        assert abs(told["rcodes"][part] - truth) <= 3 * told["margin"]
    exact = json.loads(command("cache", "stats", "--exact", "--json", "--redis", redis_server.url).stdout)
    assert exact["exact"] is True and exact["rcodes"] == {"NOERROR": count * 3 // 4, "NXDOMAIN": count // 4}
    zone = command("cache", "stats", "--exact", "--zone", "z.test", "--json", "--redis", redis_server.url).stdout
    assert json.loads(zone)["entries"] == count // 10


def test_a_margin_shrinks_with_what_was_looked_at() -> None:
    """None for all of them, and none where nothing is."""
    margins = [Counts(keys=1_000_000, looked=looked).margin for looked in (100, 10_000, 999_999)]
    assert margins == sorted(margins, reverse=True) and margins[-1] <= 1
    assert Counts(keys=10, looked=10, exact=True).margin == Counts().margin == 0


@pytest.mark.parametrize("steps", [CAREFUL, CONFIRMED])
def test_a_sweep_deletes_what_is_meant_and_nothing_else(redis_server: RedisServer, steps: Sequence[bytes]) -> None:
    """A zone with its claims, an RCODE, a type: whatever else looks like it stays, and so do values of other types."""
    client = redis_server.client()
    fill(client, 2000)
    client.hset("rdns:1:{z.test.}:AAAA", "info", "rcode=NOERROR ")
    client.set("rdns:1:{z.test.}:MX", "not an entry", ex=100)
    client.set("rdns:1:{n1.z.test.}:A#lead", "n1.0:1:1", ex=100)
    for key in OTHERS:
        client.set(key, "x")
    browser = Browser(redis_server.url, "rdns")
    nxdomain = Scope(zone=parse_name("z.test"), rcode=3)
    assert sum(step.deleted for step in browser.sweep(nxdomain, b"", steps)) == 100
    assert client.get("rdns:1:{n1.z.test.}:A#lead") == b"flushed"
    only = Scope(zone=parse_name("z.test"), qtype=28)
    assert sum(step.deleted for step in browser.sweep(only, b"", steps)) == 1
    assert sum(step.deleted for step in browser.sweep(Scope(zone=parse_name("z.test")), b"", steps)) == 101
    left = {key.decode() for key in client.scan_iter(count=1000)}
    assert left >= OTHERS and len(left) == len(OTHERS) + 1800 + 1
    assert sum(step.deleted for step in browser.sweep(Scope(), b"", steps)) == 1802


def test_a_name_of_a_cluster_is_found_by_its_slot(cluster: RedisCluster) -> None:
    """Its odd entries too, without a walk through all keys: looked at, and flushed with its claims."""
    for client in cluster.clients[:3]:
        client.config_resetstat()
    keys = [b"rdns:1:{a.test.}:A", b"rdns:1:{a.test.}:TYPE65400", b"rdns:1:{a.test.}:A:ecs=192.0.2.0/24"]
    owner = cluster.clients[cluster.owner(keys[0])]
    info = "rcode=NOERROR ttl=60 stale=60 stored=2026-11-27T00:00:00Z from=192.0.2.1 node=n1"
    for key in keys:
        owner.hset(key, mapping={"info": info, "wire": "-"})
        owner.expire(key, 100)
    owner.set("rdns:1:{a.test.}:MX#lead", "n1.0:1:1", ex=100)
    browser = Browser(cluster.url, "rdns")
    assert {view.key.encode() for view in browser.of_name(parse_name("a.test"), search=True)} == set(keys)
    assert browser.flush(Scope(name=parse_name("a.test"))) == 3
    assert owner.get("rdns:1:{a.test.}:MX#lead") == b"flushed" and owner.exists(*keys) == 0
    assert all("cmdstat_scan" not in client.info("commandstats") for client in cluster.clients[:3])


def test_one_server_needs_no_redis_py(redis_server: RedisServer) -> None:
    """Commands about one name load neither redis-py nor gevent nor a node's options, which take most of the time."""
    code = (
        "import sys; from rdnscache.cli import main\n"
        "try: main(['cache', 'get', 'a.test', '--redis', sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('redis', 'gevent', 'ssl', 'asyncio', 'rdnscache.config') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, redis_server.url]
    done = subprocess.run(words, env=clean_env(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_a_direct_connection_is_opened_again_and_says_who_it_is(redis_server: RedisServer, stack: ExitStack) -> None:
    """User, password and database as the URL has them; a connection that the server has closed is replaced."""
    client = redis_server.client()
    client.execute_command("ACL", "SETUSER", "some", "on", ">p w", "~*", "+@all")
    direct = Direct(parse(f"redis://some:p%20w@127.0.0.1:{redis_server.port}/3"), 5)
    assert direct.execute_command("ACL", "WHOAMI") == b"some"
    direct.set("a", b"1", ex=10)
    assert client.execute_command("INFO", "keyspace").get("db3")
    client.client_kill_filter(_type="normal", skipme=True)
    assert direct.pttl("a") > 0
    with pytest.raises(StoreDown, match=r"nothing can be reached at 127\.0\.0\.1:1: Connection refused"):
        Direct(parse("redis://127.0.0.1:1"), 5).dbsize()


def test_commands_are_packed_as_they_are() -> None:
    """Texts, octets and numbers; several commands one behind the other."""
    first, second = b"*2\r\n$3\r\nGET\r\n$3\r\n\xff\r\n\r\n", b"*3\r\n$1\r\nA\r\n$1\r\n1\r\n$3\r\n2.5\r\n"
    assert packed([("GET", b"\xff\r\n"), ("A", 1, 2.5)]) == first + second
