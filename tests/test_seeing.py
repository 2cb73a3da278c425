"""What a node shows of itself: metrics, readiness, traces, logs, hot names."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import (
    ROOT,
    Node,
    RedisServer,
    Reply,
    Upstream,
    ask,
    command,
    default_handler,
    failure,
    free_port,
    get,
    numbers,
    status_of,
    wait_for,
    wait_until_at_work,
    watched,
)
from support.certificates import Authority

from rdnscache import metrics, outcomes
from rdnscache.dns.wire import parse_query
from rdnscache.metrics import BOUNDS, SERVER_ROOM, Board, observe
from rdnscache.query_log import HEAT_ROOM, HOTTEST, QueryLog
from rdnscache.store.heat import HALF_LIFE, HEAT, KEPT, LIFETIME, rate
from rdnscache.store.steering import STEP
from rdnscache.worker_status import History

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


DASHBOARD = ROOT / "deploy" / "grafana" / "rdnscache.json"
TRACE = dns.edns.GenericOption(dns.edns.OptionType.make(65300), b"")
KEY = b"\x01a\x04test\0\0\1\0\1\0"


def trace_of(reply: Any) -> dict[str, str]:
    """The words of a reply's Extended DNS Error."""
    (option,) = [option for option in reply.options if isinstance(option, dns.edns.EDEOption)]
    return dict(word.split("=", 1) for word in (option.text or "").split())


def test_the_numbers_of_all_workers_add_up(upstream: Upstream) -> None:
    """Whichever worker answers, /metrics is the node's: queries by transport, replies by RCODE, answers by layer."""
    with watched(upstream, "none", 3) as (node, port):
        before = numbers(port)
        for _ in range(2):
            for number in range(20):
                ask(node.port, f"a{number}.test")
            ask(node.port, "b.nx")
            ask(node.port, "a1.test", tcp=True)
            ask(node.port, "a1.test", "ANY")

        def grown() -> dict[str, float]:
            after = numbers(port)
            return {name: value - before.get(name, 0) for name, value in after.items()}

        wait_for(lambda: grown()["queries_total.udp"] == 44)
        found = grown()
        assert found["queries_total.tcp"] == 2
        assert found["replies_total.NOERROR.udp"] == 42
        assert found["replies_total.NXDOMAIN.udp"] == 2
        assert found["replies_total.NOERROR.tcp"] == 2
        assert sum(found[f"answers_total.{layer}"] for layer in outcomes.LAYERS) == 46
        assert found["answers_total.local"] == 2
        assert found[f"upstream_queries_total.{upstream.address}"] == upstream.total() == 21
        assert found[f"upstream_seconds_count.{upstream.address}"] == 21
        timed = sum(value for name, value in found.items() if name.startswith("answer_seconds_count."))
        assert timed >= 44  # and those that workers asked each other


def test_metrics_keep_to_the_conventions(upstream: Upstream, redis_server: RedisServer) -> None:
    """Every family has help and a kind, names and units are Prometheus' own, histograms are whole."""
    with watched(upstream, redis_server.url) as (node, port):
        for number in range(5):
            ask(node.port, f"a{number % 3}.test")
        text = get(port, "/metrics")
        if promtool := shutil.which("promtool"):
            done = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout + done.stderr) == (0, "")
    families = list(text_string_to_metric_families(text))
    assert len(families) > 25
    for family in families:
        assert re.fullmatch(r"rdnscache_[a-z][a-z0-9_]*", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        assert not re.search(r"_(ms|milliseconds|micros|kb|mb|count|bucket|sum)$", family.name)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
            check_histogram(family)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert sample.value >= 0


def check_histogram(family: Any) -> None:
    """Buckets only grow, and the last is the count."""
    series: dict[tuple[tuple[str, str], ...], list[float]] = {}
    counts = {}
    for sample in family.samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            series.setdefault(labels, []).append(sample.value)
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    for labels, buckets in series.items():
        assert len(buckets) == len(BOUNDS) + 1
        assert buckets == sorted(buckets)
        assert buckets[-1] == counts[labels]


def expressions() -> Iterator[str]:
    """Every query of the dashboard, its variables filled in."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def test_the_dashboard_asks_for_what_there_is(
    upstream: Upstream, redis_server: RedisServer, tmp_path: Path
) -> None:  # fmt: skip
    """Every metric, label and label value in the dashboard is one of /metrics; every metric is in the dashboard."""
    paper = Authority(tmp_path).sign("client.test")
    zone = f"corp.test=tls://127.0.0.1:{free_port()}#dns.test?cert={paper.certificate}&key={paper.key}"
    with watched(upstream, redis_server.url, 1, "--upstream-budget", "1000/s", "--zone", zone) as (node, port):
        ask(node.port, "a.test")
        text = get(port, "/metrics")
    asked = set()
    for expression in expressions():
        for name, matchers in re.findall(r"(rdnscache_\w+)\{([^}]*)\}", expression):
            asked.add(name)
            assert re.search(rf"^{name}[ {{]", text, re.M), name
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                for value in values.split("|"):
                    assert label == "instance" or f'{label}="{value}"' in text
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    there = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    assert there - shown == {"rdnscache_build_info"}


@pytest.mark.skipif(not shutil.which("prometheus"), reason="there is no prometheus here")
def test_prometheus_answers_every_query_of_the_dashboard(
    upstream: Upstream, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A real Prometheus scrapes a node and finds something for each expression of the dashboard."""
    if redis_server.binary != shutil.which("redis-server"):
        pytest.skip("once is enough")
    with watched(upstream, redis_server.url, 1, "--upstream-budget", "1000/s") as (node, port):
        own = free_port()
        config = {"scrape_configs": [{"job_name": "rdnscache", "scrape_interval": "1s", "scrape_timeout": "1s",
                                      "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}  # fmt: skip
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                 f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log, cwd=tmp_path,
            )  # fmt: skip
        try:
            wait_for(lambda: status_of(own, "/-/ready") == 200, 20)

            def found(expression: str) -> Any:
                ask(node.port, "a.test")
                ask(node.port, f"n{found.asked}.test")  # type: ignore[attr-defined]
                found.asked += 1  # type: ignore[attr-defined]
                told = json.loads(get(own, "/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
                assert told["status"] == "success", (expression, told)
                return told["data"]["result"]

            found.asked = 0  # type: ignore[attr-defined]
            for expression in expressions():
                assert wait_for(lambda expression=expression: found(expression), 20), expression
        finally:
            process.terminate()
            process.wait(20)


def test_replaced_workers_are_counted(upstream: Upstream) -> None:
    """By what befell them; a worker that another has succeeded is none of them."""
    # with a shorter time, a worker that a busy machine makes wait would hang as well
    with watched(upstream, "none", 2, "--hang-time", "3") as (node, port):

        def replaced() -> tuple[float, float]:
            found = numbers(port)
            return found["workers_replaced_total.died"], found["workers_replaced_total.hung"]

        assert replaced() == (0, 0)
        wait_until_at_work(node, 2)
        old = node.children()
        os.kill(old[0], signal.SIGKILL)
        wait_for(lambda: replaced() == (1, 0), 15)
        os.kill(old[1], signal.SIGSTOP)
        wait_for(lambda: replaced() == (1, 1), 15)
        wait_for(lambda: len(node.children()) == 2 and not set(node.children()) & set(old), 15)
        new = node.children()
        node.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: len(node.children()) == 2 and not set(node.children()) & set(new), 30)
        assert replaced() == (0, 0)


def test_ready_when_warm(upstream: Upstream, redis_server: RedisServer) -> None:
    """A new node has the hottest names in L1 before it says that it is ready, and asks no upstream for them."""
    client = redis_server.client()
    with watched(upstream, redis_server.url, 1, "--node-id", "a") as (first, _):
        for number in range(30):
            ask(first.port, f"hot{number}.test")
        wait_for(lambda: len(client.keys("rdns:1:{hot*")) == 30)
    client.zadd("rdns:1:hot", {f"{{hot{number}.test.}}:A": 1000 - number for number in range(30)})
    client.zadd("rdns:1:hot", {"{gone.test.}:A": 9999, "nonsense": 9998, "{a.b}:A": 9997})
    asked = upstream.total()
    with watched(upstream, redis_server.url, 2, "--node-id", "b", "--warm", "23") as (second, port):
        assert numbers(port)["warm"] == 2
        wait_for(lambda: numbers(port)["l1_entries"] == 40)  # two workers, 23 names each, of which three are none
        for number in range(20):
            assert trace_of(ask(second.port, f"hot{number}.test", options=[TRACE]))["layer"] == "l1"
        assert trace_of(ask(second.port, "hot20.test", options=[TRACE]))["layer"] == "l2"
    assert upstream.total() == asked


def test_what_is_no_entry_is_not_fetched_for_warming(upstream: Upstream, redis_server: RedisServer) -> None:
    """Of what stands among the hottest names, only what has the size of an entry is read; the rest is warm."""
    client = redis_server.client()
    with watched(upstream, redis_server.url) as (node, _):
        ask(node.port, "a1.test")
        wait_for(lambda: client.exists("rdns:1:{a1.test.}:A"))
    for field in ("wire", "info"):
        for number in range(20):
            odd = {"info": "x", "wire": "x"} | {field: b"x" * (1 << 20)}
            client.hset(f"rdns:1:{{{field}{number}.test.}}:A", mapping=odd)
            client.zadd("rdns:1:hot", {f"{{{field}{number}.test.}}:A": 2000})
    client.zadd("rdns:1:hot", {"{a1.test.}:A": 1000})
    before = client.info("stats")["total_net_output_bytes"]
    with watched(upstream, redis_server.url) as (_, port):
        assert client.info("stats")["total_net_output_bytes"] < before + (1 << 20)
        wait_for(lambda: numbers(port)["l1_entries"] == 1)


def test_ready_without_redis_when_the_time_is_over(upstream: Upstream) -> None:
    """Redis is not there: not ready at first, then ready all the same."""
    port = free_port()
    nowhere = f"redis://127.0.0.1:{free_port()}"
    with Node([upstream.address], nowhere, 1, ("--admin", f"127.0.0.1:{port}", "--warm-time", "1.5")) as node:
        assert "starting" not in get(port, "/healthz")
        assert status_of(port, "/readyz") == 503
        assert ask(node.port, "a.test").rcode() == dns.rcode.NOERROR  # it serves meanwhile
        wait_for(lambda: status_of(port, "/readyz") == 200)


def test_an_answer_tells_where_it_came_from(upstream: Upstream, redis_server: RedisServer) -> None:
    """`query --trace`: upstream, L1, another node's entry in Redis; nothing for those who do not ask."""
    with (
        watched(upstream, redis_server.url, 1, "--node-id", "a") as (first, _),
        watched(upstream, redis_server.url, 1, "--node-id", "b") as (second, port),
    ):
        for layer in ("upstream", "l1"):
            told = trace_of(ask(first.port, "a.test", options=[TRACE]))
            assert told == {"layer": layer, "worker": "a.0", "age": "0", "ttl": "300", "from": "127.0.0.1", "node": "a"}
        wait_for(lambda: redis_server.client().exists("rdns:1:{a.test.}:A"))
        told = trace_of(ask(second.port, "a.test", tcp=True, options=[TRACE]))
        assert (told["layer"], told["worker"], told["node"]) == ("l2", "b.0", "a")
        wait_for(lambda: numbers(port)["upstream_queries_saved_total.other_node"] == 1)
        assert ask(first.port, "a.test", use_edns=0).options == ()
        refused = ask(first.port, "cold.test", flags=0, options=[TRACE])
        assert (refused.rcode(), trace_of(refused)["layer"]) == (dns.rcode.REFUSED, "local")
        done = command("query", "a.test", "--server", f"127.0.0.1:{first.port}", "--trace")
        assert "layer=l1 worker=a.0 age=" in done.stdout
        told = json.loads(
            command("query", "a.test", "--server", f"127.0.0.1:{second.port}", "--trace", "--jsonl").stdout
        )
        assert told["extended"][0].startswith("EDE 0 (Other): layer=l1 worker=b.0")


def test_a_trace_beside_a_reason(upstream: Upstream) -> None:
    """The trace goes along with the Extended DNS Error there is; with traces off there is the error alone."""

    def bogus(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = failure(query)
        reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS)])
        return reply

    upstream.handler = bogus
    for extra, text in ((), "layer=failure"), (("--trace", "no"), ""):
        with watched(upstream, "none", 1, *extra) as (node, _):
            (option,) = ask(node.port, "a.test", options=[TRACE]).options
            assert option.code == dns.edns.EDECode.DNSSEC_BOGUS
            assert (option.text or "").startswith(text)
            assert bool(option.text) == bool(text)


def test_the_query_log(upstream: Upstream) -> None:
    """One of N queries is logged, with client, question, RCODE, layer and time; as text or as JSON."""
    with watched(upstream, "none", 1, "--log-queries", "3", "--log-format", "json") as (node, _):
        for _ in range(9):
            ask(node.port, "a.test")
            ask(node.port, "b.nx", tcp=True)

        def lines() -> list[dict[str, Any]]:
            found = [json.loads(line) for line in node.log().splitlines() if line.startswith("{")]
            return [line for line in found if line["message"] == "query" and line["name"] in ("a.test.", "b.nx.")]

        wait_for(lambda: len(lines()) >= 5)
        seen = {(line["name"], line["transport"], line["rcode"], line["layer"]) for line in lines()}
        assert ("a.test.", "udp", "NOERROR", "l1") in seen
        assert ("b.nx.", "tcp", "NXDOMAIN", "l1") in seen
        assert all(line["client"] == "127.0.0.1" and line["type"] == "A" and line["ms"] >= 0 for line in lines())
        assert len(lines()) <= 7
    with watched(upstream, "none", 1, "--log-queries", "1") as (node, _):
        ask(node.port, "c.test")
        wait_for(
            lambda: "query client=127.0.0.1 transport=udp name=c.test. type=A rcode=NOERROR layer=up" in node.log()
        )


def test_the_hottest_names(upstream: Upstream, redis_server: RedisServer) -> None:
    """What is asked most comes first, summed over nodes; `warm --top` asks for it again."""
    client = redis_server.client()
    with (
        watched(upstream, redis_server.url, 1, "--node-id", "a") as (first, _),
        watched(upstream, redis_server.url, 1, "--node-id", "b") as (second, _),
    ):
        for node, times in ((first, 30), (second, 12)):
            for number in range(times):
                ask(node.port, "hot.test")
                if number % 3 == 0:
                    ask(node.port, "mild.test", "AAAA")
        wait_for(lambda: client.zscore("rdns:1:hot", "{hot.test.}:A") == 42, 25)
        assert client.zscore("rdns:1:hot", "{mild.test.}:AAAA") == 14
        told = command("cache", "top", "--json", "--redis", redis_server.url)
        assert [each["question"] for each in json.loads(told.stdout)][:2] == ["hot.test. A", "mild.test. AAAA"]
        assert "hot.test. A" in command("cache", "top", "--redis", redis_server.url).stdout.splitlines()[1]
        server = ("--server", f"127.0.0.1:{first.port}")
        done = command("cache", "warm", "--top", "2", *server, "--redis", redis_server.url)
        assert (done.returncode, done.stdout) == (0, "2 answered, 0 refused, 0 failed, 0 silent\n")
    assert command("cache", "warm", "--redis", redis_server.url).returncode == 2


def test_only_what_is_answered_and_no_health_check_is_hot(redis_server: RedisServer) -> None:
    """Questions of class CH, and names that only fail, are not among the hottest; the rate is right from the start."""

    def handler(query: dns.message.Message, transport: str) -> Reply:
        return failure(query) if "dead" in str(query.question[0].name) else default_handler(query, transport)

    client = redis_server.client()
    with (
        Upstream(handler) as up,
        watched(up, redis_server.url, 1, "--node-id", "a") as (node, _),
    ):
        for _ in range(50):
            ask(node.port, "hot.test")
            ask(node.port, "dead.test")
            ask(node.port, "id.server", "TXT", rdclass="CH")
        wait_for(lambda: client.zscore("rdns:1:hot", "{hot.test.}:A"), 25)
        told = json.loads(command("cache", "top", "--json", "--redis", redis_server.url).stdout)
        assert told == [{"question": "hot.test. A", "qps": 5.0}]


@pytest.mark.parametrize("minutes", [1, 3, 600])
def test_a_steady_rate_is_told_as_it_is(redis_server: RedisServer, minutes: int) -> None:
    """However long it has lasted; and once nobody asks any more, it falls."""
    client = redis_server.client()
    for _ in range(min(minutes, 10) * 6):
        heat(client, "steady", 300)
        client.pexpire("hot", LIFETIME - 10_000)
    found = rate(client.zscore("hot", "steady"), client.zscore("hot", "seconds"), client.pttl("hot"))
    assert found == pytest.approx(30, rel=0.1)
    client.pexpire("hot", LIFETIME - 300_000)
    found = rate(client.zscore("hot", "steady"), client.zscore("hot", "seconds"), client.pttl("hot"))
    assert 0 < found < 2


def heat(client: Any, *told: str | int) -> None:
    client.eval(HEAT.source.decode(), 1, "hot", *told)


def test_hot_names_cool_down(redis_server: RedisServer) -> None:
    """A minute ago counts half, by Redis' own time; the coldest beyond the bound are forgotten."""
    client = redis_server.client()
    heat(client, "a", 80, "b", 8)
    assert client.pttl("hot") > LIFETIME - 5000
    heat(client, "a", 20)
    assert client.zscore("hot", "a") == 100
    client.pexpire("hot", LIFETIME - HALF_LIFE * 1000)  # as if a minute had passed
    heat(client, "c", 1)
    assert client.zscore("hot", "a") == pytest.approx(50, rel=0.01)
    assert client.zscore("hot", "b") == pytest.approx(4, rel=0.01)
    assert client.zscore("hot", "c") == 1
    assert client.pttl("hot") > LIFETIME - 5000
    client.zadd("hot", {f"n{number}": number + 100 for number in range(KEPT + 50)})
    client.pexpire("hot", LIFETIME - 100_000)
    heat(client, "d", 1)
    assert client.zcard("hot") == KEPT + 2  # with the weight of the seconds
    assert client.zscore("hot", "a") is None
    client.set("hot", "something else")
    heat(client, "e", 5)
    assert client.zrange("hot", 0, -1, withscores=True) == [(b"e", 5.0), (b"seconds", 10.0)]
    client.persist("hot")
    heat(client, "e", 5)
    assert client.zscore("hot", "e") == 10
    assert client.pttl("hot") > 0


def test_what_a_journal_counts() -> None:
    """The hottest of an interval, the largest first; a flood of names does not grow it without end."""
    query_log = QueryLog(0)
    query = parse_query(dns.message.make_query("a.test", "A").to_wire(), False)
    assert query is not None
    query_log.heat(KEY, query, 3)
    query_log.heat(KEY, query, 4)
    query_log.heat(b"", query, 9)
    for number in range(HEAT_ROOM + 500):
        query_log.heat(number.to_bytes(4, "big") + KEY, query, 1)
    query_log.heat(KEY, query, 1)
    query_log.turn()
    assert query_log.hottest[0] == (KEY, 8)
    assert len(query_log.hottest) == HOTTEST
    query_log.turn()
    assert query_log.hottest == []
    assert not any(query_log.due(1) for _ in range(100))
    every_fifth = QueryLog(5)
    assert [every_fifth.due(1) for _ in range(12)].count(True) == 2
    assert [every_fifth.due(64) for _ in range(3)] == [True, True, True]


def test_history_in_steps_of_the_wall_clock() -> None:
    """Counts are spread over the time they fell in, which may reach into several steps; so those of workers add up."""
    counts = [0] * 200
    history = History(100.0, counts)
    for wall, l1 in ((102.0, 6), (104.0, 10), (106.0, 20), (117.0, 75), (90.0, 80)):
        counts = list(counts)
        counts[metrics.ANSWERS + outcomes.L1] = l1
        history.note(wall, counts)
    told = [(step[0] * STEP, step[1]) for step in history.told()]
    assert told == [(100, 15.0), (105, 25.0), (110, 25.0), (115, 10.0), (90, 5.0)]


def test_upstreams_come_and_go() -> None:
    """What a reload removed is not shown; its place, emptied, is had by another when nobody counts there any more."""
    board = Board(2)

    def shown() -> dict[str, float]:
        return {each.labels[0][1]: each.value for each in board.samples() if each.metric.name == "upstream_queries"}

    def count(server: str) -> None:
        board.row(1)[board.block(server) + metrics.SERVER_QUERIES] += 1

    board.make_room(["a", "b"])
    count("a")
    count("b")
    board.make_room(["b", "c"])
    count("a")  # a worker of before
    assert shown() == {"b": 1, "c": 0}
    board.make_room(["d", "c", "c"])
    assert shown() == {"d": 0, "c": 0}
    count("b")
    board.make_room(["b", "c"])
    assert shown() == {"b": 2, "c": 0}
    for number in range(3 * SERVER_ROOM):
        board.make_room([f"n{number}", "c"])
        count(f"n{number}")
        assert shown() == {f"n{number}": 1, "c": 0}


def test_the_board() -> None:
    """Histograms by their bounds, upstreams in places of their own and the last one for the rest, whole reports."""
    board = Board(2)
    row = board.row(1)
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 99.0):
        observe(row, metrics.L1_SECONDS, seconds, 2)
    (sample,) = [each for each in board.samples() if each.metric.key == "answer_seconds.l1"]
    assert sample.buckets[:2] == (4, 2)
    assert sample.buckets[-1] == 2
    assert sample.value == pytest.approx(2 * (99 + BOUNDS[0] * 2.01), abs=1e-6)
    board.make_room(f"192.0.2.{number}:53" for number in range(SERVER_ROOM + 5))
    for number in (0, SERVER_ROOM - 2, SERVER_ROOM - 1, SERVER_ROOM + 4):
        board.row(0)[board.block(f"192.0.2.{number}:53") + metrics.SERVER_QUERIES] += 1
    asked = {each.labels[0][1]: each.value for each in board.samples() if each.metric.name == "upstream_queries"}
    assert len(asked) == SERVER_ROOM
    assert asked["192.0.2.0:53"] == asked[f"192.0.2.{SERVER_ROOM - 2}:53"] == 1
    assert asked["other"] == 2
    assert board.told() == [b"", b""]
    board.tell(1, b"one")
    board.tell(1, b"three")
    assert board.told() == [b"", b"three"]
    board.tell(1, bytes(1 << 20))
    assert board.told() == [b"", b""]
