"""What the page's API tells of traffic: clients, types, times, the last hour, sampled queries; how it is bounded."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Node, RedisServer, Upstream, ask, free_port, page_status, request, wait_for

from rdnscache import metrics, outcomes
from rdnscache.admin.query_search import MOST, search
from rdnscache.audience import NETWORKS, ROOM, TOLD, WINDOW, Audience, client_text
from rdnscache.breath import go_on
from rdnscache.clients.busiest import Busiest
from rdnscache.dns.wire import Query, parse_query
from rdnscache.hour import COLUMNS, STEPS, Hour, read_steps, with_step
from rdnscache.metrics import BOUNDS, Board
from rdnscache.operator.hours import minutes_until, of_cluster, of_node, series
from rdnscache.operator.traffic import clients, l1_of, latency, order_of, percentiles, rcodes, types
from rdnscache.query_log import SAMPLES, Pace, QueryLog
from rdnscache.query_sample import KEPT, QueryRing, Sampled
from rdnscache.store.contract import Names
from rdnscache.store.hours import ADD, LIFETIME
from rdnscache.store.membership import Member
from rdnscache.worker_status import Durations

#: About processes and numbers, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

TOKEN = "sesame"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
LIFE = "1a2b3c4d"


def a_query(name: str = "a.test", rtype: str = "A", source: bytes = b"\xc0\0\2\1") -> Query:
    query = parse_query(dns.message.make_query(name, rtype).to_wire(), False)
    assert query is not None
    query.source = source
    return query


def sampled(number: int, name: bytes = b"\1a\4test\0", client: bytes = b"\xc0\0\2") -> Sampled:
    return Sampled(1000.0 + number, 0.5, 1, 0, -1, outcomes.L1, False, client, name)


class TestBounds:
    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=400))
    def test_who_comes_often_is_never_lost(self, events: list[tuple[int, int]]) -> None:
        """Above one in so many places of all, a key is in the table; and no count that is told is too high."""
        table, truth = Busiest(8), Counter[bytes]()
        for number, count in events:
            table.add(bytes([number]), count)
            truth[bytes([number])] += count
        told = table.most()
        assert len(table) <= 8
        assert table.total == truth.total()
        assert all(count <= truth[key] for key, count in told.items())
        assert list(told.values()) == sorted(told.values(), reverse=True)
        for key, count in truth.items():
            assert count <= table.total / 8 or key in table._counts

    def test_a_flood_of_addresses_hides_nobody(self) -> None:
        """20,000 addresses beside one that asks for a tenth: the table keeps its size, and that one is told."""
        audience = Audience("addresses", 0.0)
        for number in range(20_000):
            audience.count(0, number.to_bytes(4, "big"), 10)
            if number % 10 == 0:
                audience.count(0, b"\xc0\0\2\1", 10)
        told: Any = audience.told(1.0)
        assert told["asked"][0][0] == "192.0.2.1"
        assert len(told["asked"]) <= TOLD
        assert all(len(table) <= ROOM for table in audience._now.clients)
        assert len(json.dumps(told)) < 3000

    def test_few_looks_at_many_queries(self) -> None:
        """All of a few queries are looked at, of a million some thousands; what they stand for adds up."""
        pace = Pace()
        assert [pace.due(1) for _ in range(SAMPLES - 1)] == [1] * (SAMPLES - 1)
        looks = [pace.due(1) for _ in range(1_000_000)]
        assert sum(map(bool, looks)) < 12 * SAMPLES
        assert 900_000 < sum(looks) <= 1_000_000
        pace.turn()
        assert sum(bool(pace.due(1)) for _ in range(1_000_000)) <= 1.5 * SAMPLES
        for _ in range(2):
            pace.turn()
        assert [pace.due(1), pace.due(1)] == [1, 1] or pace.due(1) == 1

    def test_what_is_told_of_a_client(self) -> None:
        """Nothing, its network, or its address; each kind for itself, and types whoever asked."""
        source = b"\xc0\0\2\1"
        for shown, wanted in (("no", []), ("networks", [["192.0.2.0/24", 5]]), ("addresses", [["192.0.2.1", 5]])):
            audience = Audience(shown, 0.0)
            query_log = QueryLog(0, audience=audience)
            query_log.heat(b"", a_query(), 5)
            query_log.heat(a_query().key, a_query(rtype="MX", source=b""), 2)
            query_log.denied(source)
            query_log.limited(source)
            told: Any = audience.told(3.0)
            assert told["asked"] == wanted
            assert [count for _, count in told["denied"] + told["limited"]] == [1, 1] * bool(wanted)
            assert (told["types"], told["seconds"]) == ([["MX", 2]], 3.0)
        six = bytes.fromhex("20010db8000012340000000000000001")
        assert client_text(Audience(NETWORKS, 0.0).shown(six)) == "2001:db8:0:1200::/56"
        assert client_text(Audience(NETWORKS, 0.0).shown(b"\x7f\0\0\1")) == "127.0.0.1"
        assert client_text(b"") == ""
        assert client_text(bytes(15) + b"\1") == "::1"

    def test_windows_move_on(self) -> None:
        """Two windows are told together; what is older is gone."""
        audience = Audience("addresses", 0.0)
        audience.count(0, b"\x0a\0\0\1", 3)
        audience.turn(WINDOW)
        audience.count(0, b"\x0a\0\0\2", 2)
        told: Any = audience.told(WINDOW + 1)
        assert told["asked"] == [["10.0.0.1", 3], ["10.0.0.2", 2]]
        assert told["seconds"] == WINDOW + 1
        audience.turn(2 * WINDOW)
        told = audience.told(2 * WINDOW)
        assert (told["asked"], told["seconds"]) == ([["10.0.0.2", 2]], WINDOW)


class TestSample:
    def test_the_latest_are_kept(self) -> None:
        """A ring: what is written over is gone, the newest is read first, with what it was written with."""
        ring = QueryRing()
        assert list(ring.read()) == []
        long = b"\x3f" + b"x" * 63 + b"\x3f" + b"y" * 63 + b"\x3f" + b"z" * 63 + b"\x3d" + b"w" * 61 + b"\0"
        ring.write(sampled(0, long, bytes(range(16))))
        assert list(ring.read()) == [sampled(0, long, bytes(range(16)))]
        for number in range(KEPT + 10):
            ring.write(sampled(number))
        assert [int(each.time) for each in ring.read()] == list(range(1000 + KEPT + 9, 1009, -1))

    def test_one_of_so_many_is_kept(self) -> None:
        """As the log does, each by its own count; the client as far as it is shown."""
        ring = QueryRing()
        query_log = QueryLog(0, 3, ring, Audience("networks", 0.0))
        for number in range(9):
            query = a_query(f"n{number}.test")
            if query_log.due(1):
                query_log.watch(query, "udp", query.source)(outcomes.UPSTREAM)
        found = search([ring], "", go_on)
        assert [each["name"] for each in found["queries"]] == ["n8.test.", "n5.test.", "n2.test."]
        assert {each["client"] for each in found["queries"]} == {"192.0.2.0/24"}
        assert QueryLog(0, 1, ring).due(100) is False

    def test_words_are_looked_for(self) -> None:
        """All of them, in name, type, RCODE, layer, client or transport; at most so many are shown."""
        ring, other = QueryRing(), QueryRing()
        for number in range(KEPT):
            ring.write(sampled(number)._replace(rcode=3 if number % 2 else 0))
        other.write(sampled(5000, b"\3www\7EXample\0".lower(), b"\x0a\0\0"))
        assert len(search([ring, other], "", go_on)["queries"]) == MOST
        assert search([ring, other], "", go_on)["queries"][0]["name"] == "www.example."
        assert search([ring, other], "10.0.0 WWW udp", go_on)["queries"][0]["client"] == "10.0.0.0/24"
        found = search([ring, other], "NXDOMAIN a.test l1", go_on)
        assert {each["rcode"] for each in found["queries"]} == {"NXDOMAIN"}
        assert search([ring, other], "nxdomain www", go_on) == {"searched": KEPT + 1, "queries": []}


class TestHour:
    def counts(self, board: Board, **added: int) -> list[int]:
        row = board.row(0)
        for name, count in added.items():
            row[COLUMNS[name.replace("_", ".")][0]] += count
        return row.tolist()

    def test_minutes_of_a_worker(self) -> None:
        """What was counted in each; a quiet one is none, and of those that nobody took only an hour's are kept."""
        board = Board(1)
        hour = Hour(60.0, self.counts(board, l1=100))
        assert hour.note(90.0, self.counts(board, l1=5)) is None
        assert hour.note(121.0, self.counts(board, l1=5, rcode_SERVFAIL=2)) == (1, {"l1": 10, "rcode.SERVFAIL": 2})
        assert hour.note(185.0, self.counts(board)) is None
        for minute in range(100):
            hour.note(300.0 + 60 * minute, self.counts(board, l1=1))
        assert len(hour.pending) == STEPS
        assert hour.close() is None
        hour.note(6301.0, self.counts(board, seconds_3=7))
        assert hour.close() == (104, {"seconds.3": 7}) or hour.close() is None

    def test_a_successor_adds_to_the_minute(self) -> None:
        """Both have a part of it; what cannot be read counts as nothing; an hour is kept."""
        told = with_step(with_step(b"", (5, {"l1": 3})), (5, {"l1": 4, "denied": 1}))
        assert read_steps(told) == [(5, {"l1": 7, "denied": 1})]
        assert read_steps(b"[[1, {") == []
        for minute in range(6, 200):
            told = with_step(told, (minute, {"l1": 1}))
        assert len(read_steps(told)) == STEPS
        every = dict.fromkeys(COLUMNS, 10**12)
        for minute in range(STEPS):
            told = with_step(told, (1000 + minute, every))
        board = Board(1)
        board.tell_hour(0, told)
        assert board.hours() == [told]

    def test_a_node_adds_its_workers_up(self) -> None:
        """A number for each minute, a second; what was always 0 is not told."""
        wanted = minutes_until(time.time())
        told = with_step(b"", (wanted[-1], {"l1": 60, "rcode.NXDOMAIN": 30, "seconds.4": 2}))
        found = series(of_node([told, told, b""]), wanted)
        assert found["answers"] == {"l1": [0.0] * 59 + [2.0]}
        assert found["rcodes"] == {"NXDOMAIN": [0.0] * 59 + [1.0]}
        assert found["end"] == 60 * (wanted[-1] + 1)
        assert found["ms"]["p50"] == [0] * 59 + [0.75]
        assert series({}, wanted)["ms"] == {}

    def test_the_cluster_adds_up_in_redis(self, redis_server: RedisServer) -> None:
        """Whoever tells later adds; another type makes room; strange members are not read; each minute ends."""
        client, names = redis_server.client(), Names("hourly")
        wanted = range(100, 160)
        client.set(names.hour(159), "odd")
        for counts in (("l1", 6, "upstream", 3), ("l1", 6, "rcode.NOERROR", 60)):
            client.eval(ADD.source.decode(), 1, names.hour(159), *counts)
        client.zadd(names.hour(158), {"l1": 60, "<img>": 5, "flight": float("inf")})
        client.set(names.hour(157), "odd")
        found = series(of_cluster(client, names, wanted), wanted)
        assert found["answers"] == {"l1": [0.0] * 58 + [1.0, 0.2], "upstream": [0.0] * 59 + [0.05]}
        assert 0 < client.pttl(names.hour(159)) <= LIFETIME
        full = [part for name in COLUMNS for part in (name, 10**9)]
        client.eval(ADD.source.decode(), 1, names.hour(130), *full)
        assert client.memory_usage(names.hour(130)) < 2500


def member(worker: int = 0, age: float = 1.0, **told: Any) -> Member:
    return Member("n1", LIFE, worker, age, told)


class TestTraffic:
    def test_percentiles_lie_in_their_bucket(self) -> None:
        """Straight lines inside a bucket; what took longer than all bounds is at the last one."""
        buckets = [0.0] * (len(BOUNDS) + 1)
        assert percentiles(buckets) == {"answers": 0}
        buckets[4], buckets[-1] = 99, 1
        assert percentiles(buckets) == {"answers": 100, "p50": 0.753, "p90": 0.955, "p99": 1.0, "p99.9": 5000.0}

    def test_durations_of_the_last_minutes(self) -> None:
        """All answers, and those that were not in L1; those of before are left out."""
        row = Board(1).row(0)
        durations = Durations(0.0, row.tolist())
        metrics.observe(row, metrics.L1_SECONDS, 2e-5, 10)
        metrics.observe(row, metrics.COLUMN["answer_seconds.upstream"], 0.02, 2)
        durations.note(100.0, row.tolist())
        told = durations.told(100.0)
        assert (sum(told["all"]), sum(told["missed"]), told["all"][0], told["seconds"]) == (12, 2, 10, 100.0)
        for now in range(400, 1000, 2):
            durations.note(float(now), row.tolist())
        told = durations.told(1000.0)
        assert sum(told["all"]) == 0
        assert told["seconds"] <= 310

    def test_workers_are_put_together(self) -> None:
        """Sums over those that are there; the L1 of a node, and what it said last to an order."""
        audience = {"seconds": 300, "asked": [["192.0.2.0/24", 5]], "denied": [["::1", 1]], "types": [["A", 3]]}
        durations = {"seconds": 60, "all": [0, 4] + [0] * 15, "missed": [0] * 17}
        recent = {"replies.udp.NOERROR": 8, "replies.tcp.NOERROR": 2}
        told: dict[str, Any] = {
            "audience": audience, "durations": durations, "recent": recent, "recent_seconds": 5.0,
            "counters": {"l1_entries": 7, "l1_bytes": 9, "l1_evictions": 1},
            "config": {"l1_entries": 100, "l1_memory": 1000},
            "order": {"what": "reload", "events": ["1-0"], "time": 5.0, "refused": "no", "note": ""},
        }  # fmt: skip
        two = [member(0, **told), member(1, **told), member(2, age=60.0, **told)]
        found = clients(two)
        assert found["asked"] == [{"client": "192.0.2.0/24", "queries": 10}]
        assert (found["denied"], found["limited"]) == ([{"client": "::1", "queries": 2}], [])
        assert types(two) == {"A": 1.0}
        assert rcodes(two)["NOERROR"] == 4.0
        assert latency(two)["all"]["answers"] == 8
        assert l1_of(two[:2]) == {"entries": 14, "bytes": 18, "evictions": 2, "room_entries": 200, "room_bytes": 2000}
        assert order_of(two)["events"] == ["1-0"]

    @given(st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(
            st.sampled_from(["asked", "denied", "types", "seconds", "all", "missed", "events", "time"]), inner
        ), max_leaves=20,
    ))  # fmt: skip
    def test_whatever_somebody_tells(self, odd: Any) -> None:
        """Nothing raises, and what comes out can be JSON of a bounded size."""
        names = ("audience", "durations", "recent", "recent_seconds", "counters", "config", "order")
        found = [member(number, **dict.fromkeys(names, odd)) for number in range(3)]
        parts = (clients(found), types(found), rcodes(found), latency(found), l1_of(found), order_of(found))
        assert len(json.dumps(parts, allow_nan=False)) < 20_000


class Place:
    """A node that samples, with a token, on Redis; and one that stands alone and tells nothing of clients."""

    def __init__(self, redis: RedisServer, ports: list[int], nodes: list[Node]) -> None:
        self.redis = redis
        self.ports = ports
        self.nodes = nodes

    def get(self, path: str, which: int = 0) -> Any:
        status, _, body = request(self.ports[which], path, HEADERS)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, told: Any, which: int = 0, headers: dict[str, str] = HEADERS) -> tuple[int, Any]:
        status, _, body = request(self.ports[which], path, headers, "POST", told)
        return status, json.loads(body)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    ports = [free_port(), free_port()]
    with RedisServer() as redis, Upstream() as upstream:
        args = ("--admin-token", TOKEN)
        one = ("--node-id", "n0", "--admin", f"127.0.0.1:{ports[0]}", "--admin-sample", "1", *args)
        two = ("--node-id", "n1", "--admin", f"127.0.0.1:{ports[1]}", "--admin-clients", "no", *args)
        with (
            Node([upstream.address], redis.url, 1, (*one, "--deny", "127.0.0.9")) as first,
            Node([upstream.address], "none", 1, two) as second,
        ):
            found = Place(redis, ports, [first, second])
            wait_for(lambda: page_status(ports[0])["redis"] == "ok" and page_status(ports[0])["nodes"])
            yield found


class TestApi:
    @pytest.mark.parametrize("path", ["/api/clients", "/api/queries", "/api/config", "/api/lookup?name=a.test"])
    def test_what_is_private_wants_the_token(self, place: Place, path: str) -> None:
        """Names of clients and of what they asked for, and addresses of ours."""
        assert request(place.ports[0], path)[0] == 401
        assert request(place.ports[0], path, {"Authorization": "Bearer wrong"})[0] == 401
        assert request(place.ports[0], path, HEADERS)[0] == 200

    def test_traffic_is_told(self, place: Place) -> None:
        """RCODEs, types, times, L1 and Redis to everybody; clients to who has the token."""
        port = place.nodes[0].port
        for name in ("a.test", "b.test", "b.test", "c.nx"):
            ask(port, name, "MX" if name == "a.test" else "A", tries=3)
        assert ask(port, "a.test", source="127.0.0.9").rcode() == 5

        def complete() -> Any:
            told = page_status(place.ports[0])
            held, keys = sum(node["l1"]["entries"] for node in told["nodes"]), told["redis_memory"]["keys"]
            return told["latency"]["all"]["answers"] >= 4 and held >= 3 and keys >= 3 and told

        told = wait_for(complete, 15)
        assert told["rcodes"].keys() == set(metrics.RCODES)
        assert {"A", "MX"} <= told["types"].keys()
        assert told["latency"]["missed"]["p50"] > 0
        (node,) = told["nodes"]
        assert node["l1"]["room_entries"] == 100_000
        assert told["redis_memory"]["bytes"] > 0
        asked = wait_for(lambda: (found := place.get("/api/clients"))["asked"] and found["denied"] and found)
        assert asked["asked"][0]["client"] == "127.0.0.1"
        assert asked["denied"] == [{"client": "127.0.0.9", "queries": 1}]

    def test_sampled_queries_are_found(self, place: Place) -> None:
        """By words; a name that is HTML stays what it is, as text of JSON."""
        ask(place.nodes[0].port, "<b>.sampled.test", tries=3)
        ask(place.nodes[0].port, "plain.sampled.test", tries=3, tcp=True)
        found = wait_for(lambda: len((told := place.get("/api/queries?words=sampled.test"))["queries"]) == 2 and told)
        newest, other = found["queries"]
        assert (newest["name"], newest["transport"], newest["rcode"]) == ("plain.sampled.test.", "tcp", "NOERROR")
        assert other["name"] == "\\060b\\062.sampled.test."
        assert found["one_of"] == 1
        assert place.get("/api/queries?words=sampled.test+tcp")["queries"] == [newest]
        assert request(place.ports[0], f"/api/queries?words={'x' * 301}", HEADERS)[0] == 400
        assert place.get("/api/queries", 1) == {"node": "n1", "one_of": 0, "searched": 0, "queries": []}

    def test_clients_can_be_left_out(self, place: Place) -> None:
        """With --admin-clients no nothing is counted of them; types are."""
        ask(place.nodes[1].port, "a.test", "TXT", tries=3)
        wait_for(lambda: "TXT" in page_status(place.ports[1])["types"])
        assert place.get("/api/clients", 1)["asked"] == []
        assert page_status(place.ports[1])["shows_clients"] == "no"

    def test_the_effective_configuration(self, place: Place) -> None:
        """Every option, secrets masked, and which of them are as they are without being set."""
        told = {each["option"]: each for each in place.get("/api/config?node=n0")["options"]}
        assert told["admin_token"]["value"] == "***"
        assert TOKEN not in json.dumps(told)
        assert (told["admin_sample"]["value"], told["admin_sample"]["default"]) == (1, False)
        assert told["ttl_max"]["default"] is True
        assert place.get("/api/config", 1)["node"] == "n1"
        status, _, body = request(place.ports[0], "/api/config?node=nobody", HEADERS)
        assert (status, json.loads(body)["error"]) == (400, "no node is called nobody")

    def test_the_hour_is_told(self, place: Place) -> None:
        """By Redis what the cluster has counted; who is succeeded tells of the minute that has begun."""
        now = int(time.time()) // 60
        names, client = Names("rdns"), place.redis.client()
        client.eval(ADD.source.decode(), 1, names.hour(now - 10), "l1", 600, "seconds.0", 600)
        ask(place.nodes[0].port, "hour.test", tries=3)
        assert place.post("/api/restart", {})[0] == 200
        found = wait_for(lambda: (told := place.get("/api/hour"))["answers"] and told)
        assert 10.0 in found["answers"]["l1"]
        assert (found["step"], len(found["answers"]["l1"]), found["redis"]) == (60, 60, "ok")
        minutes = [names.hour(now + step) for step in (0, 1)]
        wait_for(lambda: any(client.zscore(minute, "upstream") for minute in minutes), 60)
        assert place.get("/api/hour", 1)["redis"] == "there is none"


class TestOrders:
    @pytest.mark.parametrize("path", ["/api/reload", "/api/restart", "/api/forget"])
    def test_they_want_the_token(self, place: Place, path: str) -> None:
        """And POST, and an object with a name of a node, if with any."""
        assert place.post(path, {}, headers={})[0] == 401
        assert request(place.ports[0], path, HEADERS)[0] == 405
        for told in ([1], {"node": 1}, {"node": ""}, {"node": "x" * 300}):
            status, found = place.post(path, told)
            assert status == 400, found
        assert place.post(path, {"node": "nobody"}) == (400, {"error": "no node is called nobody"})

    def test_a_reload_is_followed_by_its_event(self, place: Place) -> None:
        """At once it is said who has to do it; how it went is told with each node, by the same event."""
        before = place.nodes[0].log().count("nothing to change")
        status, told = place.post("/api/reload", {})
        assert (status, told["ordered"], told["nodes"]) == (200, "reload", ["n0"])

        def answered() -> bool:
            orders = [node["order"] for node in page_status(place.ports[0])["nodes"]]
            return any(told["event"] in each["events"] and not each["refused"] for each in orders if each)

        wait_for(answered, 30)
        assert place.nodes[0].log().count("nothing to change") == before + 1

    def test_our_own_node_needs_no_redis(self, place: Place) -> None:
        """A restart of the node that is asked; others cannot be told."""
        pid = place.nodes[1].process.pid
        status, told = place.post("/api/restart", {"node": "n1"}, 1)
        assert (status, told["nodes"]) == (200, ["n1"])

        def answered() -> bool:
            try:
                orders = [node["order"] for node in page_status(place.ports[1])["nodes"]]
            except OSError:  # asked of a worker that was about to end
                return False
            return any(told["event"] in each["events"] and each["what"] == "restart" for each in orders if each)

        wait_for(answered, 60)
        assert place.nodes[1].process.pid == pid
        assert place.post("/api/restart", {"node": "n0"}, 1)[0] == 503

    def test_a_node_that_is_there_is_not_forgotten(self, place: Place) -> None:
        """One that is gone is, with its workers."""
        status, told = place.post("/api/forget", {"node": "n0"})
        assert (status, told["error"]) == (400, "n0 still runs and answers: end it first")
        client = place.redis.client()
        client.zadd("rdns:1:nodes", {f"gone.{LIFE}.0": time.time() - 60})
        assert place.post("/api/forget", {"node": "gone"}) == (200, {"forgotten": "gone", "workers": 1})
        assert client.zscore("rdns:1:nodes", f"gone.{LIFE}.0") is None
