"""The admin port among those who are slow, greedy, curious or somebody else's page."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Node, RedisServer, Upstream, ask, free_port, page_status, request, wait_for

from rdnscache.admin.http import MAX_BODY, MAX_HEAD, MAX_OF_CLIENT, REQUEST_TIME, BadRequest, body_size, parse_head
from rdnscache.admin.page_status import MAX_MEMBERS
from rdnscache.admin.server import MAX_NAME
from rdnscache.admin.tokens import ATTEMPT_TIME, ATTEMPTS, CLIENTS_KEPT, Attempts, is_one_of, shown_token
from rdnscache.breath import Breath
from rdnscache.operator import cluster_status as status
from rdnscache.operator.cluster_status import MAX_REMARKS, summarize
from rdnscache.operator.members import Members
from rdnscache.store.contract import Names
from rdnscache.store.membership import Member

#: An incarnation.
LIFE = "1a2b3c4d"

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

TOKEN = "sesame"
LOCAL = "127.0.0.1"


class Place:
    """Two nodes with an admin port each, on all addresses: the first with a token, the second without."""

    def __init__(self, redis: RedisServer, ports: list[int], nodes: list[Node]) -> None:
        self.redis = redis.client()
        self.ports = ports
        self.nodes = nodes


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    ports = [free_port(), free_port()]
    hosts = ("--admin-host", "dns.example, other.example")
    with RedisServer() as redis, Upstream() as upstream:
        with (
            Node([upstream.address], redis.url, 1, ("--node-id", "n0", "--admin", f"0.0.0.0:{ports[0]}",
                                                    "--admin-token", TOKEN, "--hang-time", "0", *hosts)) as one,
            Node([upstream.address], redis.url, 1, ("--node-id", "n1", "--admin", f"0.0.0.0:{ports[1]}")) as two,
        ):  # fmt: skip
            found = Place(redis, ports, [one, two])
            wait_for(lambda: len(page_status(ports[0])["nodes"]) == 2, 10)
            yield found


def raw(port: int, data: bytes) -> bytes:
    """Everything that is said to these octets, up to the end of the connection."""
    with socket.create_connection((LOCAL, port), 20) as sock:
        sock.sendall(data)
        found = b""
        while more := sock.recv(65536):
            found += more
        return found


def status_line(port: int, data: bytes) -> bytes:
    return raw(port, data).partition(b"\r\n")[0]


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


class TestSlow:
    @pytest.mark.parametrize(
        "start", [b"", b"GET /healthz HT", b"POST /api/flush HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
    )
    def test_half_open_connections_do_not_silence_health(self, place: Place, start: bytes) -> None:
        """Three hundred who send nothing, part of a head, or part of a body; the oldest of them give way."""
        port = place.ports[0]
        with ExitStack() as stack:
            held = [stack.enter_context(socket.create_connection((LOCAL, port), 5)) for _ in range(300)]
            for sock in held:
                sock.sendall(start)
            for path in ("/healthz", "/readyz", "/metrics", "/api/cluster"):
                assert request(port, path)[0] == 200
            wait_for(lambda: sum(map(is_open, held)) <= MAX_OF_CLIENT)
            assert is_open(held[-1])

    def test_a_request_has_to_arrive_in_time(self, place: Place) -> None:
        """However little at a time it comes: after a few seconds the connection is closed, with a word if it began."""
        with ExitStack() as stack:
            silent, drip = (stack.enter_context(socket.create_connection((LOCAL, place.ports[0]), 5)) for _ in "ab")
            silent.settimeout(REQUEST_TIME + 10)
            drip.settimeout(0.2)
            said, began = b"", time.monotonic()
            while b"HTTP/1.1 408" not in said and time.monotonic() < began + REQUEST_TIME + 10:
                try:
                    drip.sendall(b"G")
                    said += drip.recv(4096)
                except TimeoutError:
                    continue
            assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert silent.recv(1) == b""

    def test_who_does_not_read_is_closed(self, place: Place) -> None:
        """Its answer is thrown away, and others are answered meanwhile."""
        with ExitStack() as stack:
            slow = []
            for _ in range(50):
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                sock.connect((LOCAL, place.ports[0]))
                sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                slow.append(sock)
            assert request(place.ports[0], "/readyz")[0] == 200

    def test_a_client_that_only_stopped_sending_is_answered(self, place: Place) -> None:
        """Half a connection is enough for an answer."""
        with socket.create_connection((LOCAL, place.ports[0]), 5) as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as file:
                assert file.read().startswith(b"HTTP/1.1 200 OK\r\n")


class TestSizes:
    @pytest.mark.parametrize(
        ("data", "line"),
        [
            (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, b"HTTP/1.1 431 Request Header Fields Too Large"),
            (b"GET /" + b"x" * 100_000, b"HTTP/1.1 431 Request Header Fields Too Large"),
            (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", b"HTTP/1.1 431 Request Header Fields Too Large"),
            (b"POST /api/flush HTTP/1.1\r\nContent-Length: 10001\r\n\r\n", b"HTTP/1.1 413 Content Too Large"),
            (b"POST /api/flush HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
            (b"POST /api/flush HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 501 Not Implemented"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
            (b"GET http://a/ HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
            (b"GET /healthz HTTP/1.0\n\n", b"HTTP/1.1 200 OK"),
            (b"HEAD /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK"),
            (b"OPTIONS /api/flush HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
            (b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        ],
    )
    def test_what_is_no_request_of_ours_is_told_so(self, place: Place, data: bytes, line: bytes) -> None:
        """Too long, in a form that is not taken, or nothing that we have: a status, and an end."""
        assert status_line(place.ports[0], data) == line

    def test_a_body_may_be_announced(self, place: Place) -> None:
        """`Expect: 100-continue`, as curl has it for a long body."""
        head = f"POST /api/flush HTTP/1.1\r\nHost: {LOCAL}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        with socket.create_connection((LOCAL, place.ports[0]), 5) as sock:
            sock.sendall(head.encode())
            assert sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"{}")
            assert sock.recv(4096).startswith(b"HTTP/1.1 401 Unauthorized\r\n")

    @given(st.binary(max_size=300) | st.text(alphabet="GET /:\r\n\0azHTP1.", max_size=60).map(str.encode))
    def test_any_octets_are_read_or_refused(self, data: bytes) -> None:
        """Nothing else is raised, and what is read has a path."""
        with suppress(BadRequest):
            found = parse_head(data, b"")
            assert found.path.startswith("/")
            assert 0 <= body_size(found.headers) <= MAX_BODY


class TestLookups:
    def test_they_need_the_token_where_there_is_one(self, place: Place) -> None:
        """None, a wrong one, the right one; and none where none is set."""
        path = "/api/lookup?name=a.test"
        assert request(place.ports[0], path)[0] == 401
        assert request(place.ports[0], path, {"Authorization": "Bearer wrong"})[0] == 401
        assert request(place.ports[0], path, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert request(place.ports[1], path)[0] == 200

    def test_a_name_has_a_length_before_it_is_read(self, place: Place) -> None:
        """One that no name could have is refused without a look at it; so is a type."""
        for query in (f"name={'é' * (MAX_NAME + 1)}", f"name={'a.' * 3500}", "name=", "name=a.test&type=" + "A" * 40):
            path = f"/api/lookup?{query}".encode().decode("latin-1")
            got = raw(place.ports[1], f"GET {_quoted(path)} HTTP/1.1\r\nHost: {LOCAL}\r\n\r\n".encode())
            assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")), query[:30]

    def test_redis_is_not_walked_through(self, place: Place) -> None:
        """All variants are found by their keys; one of a type without a mnemonic by an index of such."""
        for rtype, do in (("A", False), ("A", True), ("TYPE65280", False), ("MX", False)):
            ask(place.nodes[1].port, "keys.lookup.test", rtype, tries=3, want_dnssec=do)
        wait_for(lambda: len(place.redis.keys("rdns:1:{keys.lookup.test.}*")) == 4)
        place.redis.config_resetstat()
        told = json.loads(request(place.ports[1], "/api/lookup?name=keys.lookup.test")[2])
        odd = json.loads(request(place.ports[1], "/api/lookup?name=keys.lookup.test&type=TYPE65280")[2])

        questions = {each["question"] for each in told["entries"]}
        assert questions == {f"keys.lookup.test. {each}" for each in ("A", "A do", "MX", "TYPE65280")}
        assert [each["question"] for each in odd["entries"]] == ["keys.lookup.test. TYPE65280"]
        assert "cmdstat_scan" not in place.redis.info("commandstats")

    def test_one_at_a_time(self, place: Place) -> None:
        """While one waits for a worker that says nothing, the others are told when to come again."""
        (worker,) = place.nodes[0].children()
        os.kill(worker, signal.SIGSTOP)
        try:
            links = [http.client.HTTPConnection(LOCAL, place.ports[1], timeout=20) for _ in range(5)]
            for link in links:
                link.request("GET", "/api/lookup?name=busy.test")
            replies = [link.getresponse() for link in links]
        finally:
            os.kill(worker, signal.SIGCONT)
        found = Counter(reply.status for reply in replies)
        assert set(found) == {200, 503}
        assert {reply.getheader("Retry-After") for reply in replies if reply.status == 503} == {"1"}

    def test_guessing_is_slow(self, upstream: Upstream) -> None:
        """After some wrong tokens a client has to wait, with the right one as well."""
        port = free_port()
        with Node([upstream.address], "none", 1, ("--admin", f"{LOCAL}:{port}", "--admin-token", TOKEN)):
            for path, method in (("/api/lookup?name=a.test", "GET"), ("/api/flush", "POST")) * (ATTEMPTS // 2):
                assert request(port, path, {"Authorization": "Bearer wrong"}, method, "{}")[0] == 401
            status, headers, _ = request(port, "/api/flush", {"Authorization": f"Bearer {TOKEN}"}, "POST", "{}")
            assert status == 429
            assert 0 < int(headers["Retry-After"]) <= ATTEMPT_TIME + 1
            assert request(port, "/readyz")[0] == 200

    def test_attempts_are_forgotten(self) -> None:
        """After their minute; and the oldest when there are too many clients to remember."""
        attempts = Attempts()
        for _ in range(ATTEMPTS):
            assert attempts.wait(b"me", 5.0) == 0
            attempts.note(b"me", 5.0)
        assert attempts.wait(b"me", 5.0) == ATTEMPT_TIME + 1
        assert attempts.wait(b"other", 5.0) == 0
        assert attempts.wait(b"me", 5.0 + ATTEMPT_TIME) == 0
        for number in range(CLIENTS_KEPT):
            attempts.note(number.to_bytes(4, "big"), 6.0)
        assert attempts.wait(b"me", 6.0) == 0


class TestReading:
    """With a read token."""

    def test_everything_but_health_needs_it(self, upstream: Upstream) -> None:
        """As a Bearer token or a password; the admin token does as well, and what it alone may do stays with it."""
        port = free_port()
        tokens = ("--admin-token", TOKEN, "--admin-read-token", "to-read")
        bearer, admin = {"Authorization": "Bearer to-read"}, {"Authorization": f"Bearer {TOKEN}"}
        basic = {"Authorization": f"Basic {base64.b64encode(b'anybody:to-read').decode()}"}
        with Node([upstream.address], "none", 1, ("--admin", f"{LOCAL}:{port}", *tokens)):
            wait_for(lambda: request(port, "/readyz")[0] == 200)
            assert request(port, "/healthz")[0] == 200
            for path in ("/metrics", "/", "/page.js", "/api/cluster", "/nothing"):
                status, headers, _ = request(port, path)
                assert (status, headers["WWW-Authenticate"].split(" ")[0]) == (401, "Basic"), path
            for path in ("/metrics", "/", "/page.js", "/api/cluster"):
                assert [request(port, path, each)[0] for each in (bearer, basic, admin)] == [200] * 3, path
            for path in ("/api/config", "/api/lookup?name=a.test"):  # a look is a look; there is no Redis to look into
                assert {request(port, path, each)[0] for each in (bearer, basic)} <= {200, 400, 503}, path
            for path in ("/api/clients", "/api/queries"):
                assert (request(port, path, bearer)[0], request(port, path, admin)[0]) == (401, 200), path
            assert request(port, "/api/flush", bearer, "POST", "{}")[0] == 401
            assert request(port, "/api/flush", admin, "POST", "{}")[0] in (400, 503)  # nothing is named, and no Redis
            for body in ("{", "nonsense", "[" * 5000, '{"rcode": ' + "9" * 5000 + "}"):
                status, _, told = request(port, "/api/reload", admin, "POST", body)
                assert (status, json.loads(told)) == (400, {"error": "the body is not JSON"}), body[:20]
            for _ in range(ATTEMPTS):
                request(port, "/metrics", {"Authorization": "Bearer wrong"})
            assert (request(port, "/metrics", bearer)[0], request(port, "/healthz")[0]) == (429, 200)

    def test_without_an_admin_token_nothing_else_is_right(self, upstream: Upstream) -> None:
        """An empty one above all."""
        port = free_port()
        with Node([upstream.address], "none", 1, ("--admin", f"{LOCAL}:{port}", "--admin-read-token", "to-read")):
            wait_for(lambda: request(port, "/readyz")[0] == 200)
            for given in ("", "Bearer ", "Bearer", "Basic ", "Basic Og==", "Basic !", "Digest to-read", "to-read"):
                assert request(port, "/metrics", {"Authorization": given})[0] in (401, 429), given

    def test_what_a_token_is(self) -> None:
        """Both ways to send it; what is not set is nobody's."""
        assert shown_token("bearer x", basic=False) == b"x"
        assert shown_token("Basic OmE6Yg==", basic=True) == b"a:b"
        assert shown_token("Basic OmE6Yg==", basic=False) == b""
        assert is_one_of(b"a", b"b", b"a") and not is_one_of(b"", b"", b"a")


def _quoted(path: str) -> str:
    return "".join(char if "!" <= char <= "~" else f"%{ord(char):02X}" for char in path)


BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}


class TestElsewhere:
    @pytest.mark.parametrize(
        ("headers", "allowed"),
        [
            ({}, True),
            ({"Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "none"}, True),
            ({"Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "same-site"}, False),
            ({"Sec-Fetch-Site": "same-site", "X-Rdnscache": "page"}, False),
            ({"Origin": "http://evil.example"}, False),
            ({"Origin": "null"}, False),
            (BROWSER, False),
            (BROWSER | {"X-Rdnscache": "page"}, True),
            (BROWSER | {"Sec-Fetch-Site": "same-origin"}, True),
        ],
    )
    def test_no_other_page_makes_a_browser_ask(self, place: Place, headers: dict[str, str], allowed: bool) -> None:
        """What browsers say of where a request is from counts for whatever is asked, reading included."""
        for path in ("/api/cluster", "/api/lookup?name=a.test"):
            assert request(place.ports[1], path, headers)[0] == (200 if allowed else 403)
        assert request(place.ports[1], "/", headers)[0] == 200
        assert request(place.ports[1], "/readyz", headers)[0] == 200

    @pytest.mark.parametrize(
        ("host", "allowed"),
        [
            ("evil.example", False), ("evil.example:9153", False), ("127.0.0.1.evil.example", False), ("", False),
            ("dns.example", True), ("DNS.example.:80", True), ("other.example", True), ("example", False),
            ("192.0.2.7:9153", True), ("[2001:db8::1]:9153", True), ("localhost", True), ("[localhost", False),
            ("a@dns.example", False),
        ],
    )  # fmt: skip
    def test_the_page_has_its_names(self, place: Place, host: str, allowed: bool) -> None:
        """Addresses, which nobody can make his own, and what --admin-host says; against DNS rebinding."""
        for path in ("/", "/page.js", "/api/cluster"):
            assert request(place.ports[0], path, {"Host": host})[0] == (200 if allowed else 421)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert request(place.ports[0], path, {"Host": host})[0] == 200

    def test_a_port_for_this_machine_has_its_addresses_only(self, upstream: Upstream) -> None:
        """And the names it is told of, for who puts a proxy in front."""
        port = free_port()
        args = ("--admin", f"{LOCAL}:{port}", "--admin-host", "dns.example")
        with Node([upstream.address], "none", 1, args):
            found = {host: request(port, "/", {"Host": host})[0]
                     for host in ("192.0.2.7", "127.0.0.2:80", "[::1]", "dns.example", "evil.example")}  # fmt: skip
        assert found == {"192.0.2.7": 421, "127.0.0.2:80": 200, "[::1]": 200, "dns.example": 200, "evil.example": 421}


class TestMembers:
    def test_a_hundred_thousand_forged_ones(self, place: Place) -> None:
        """Some are shown and a sentence says so; hits are answered meanwhile."""
        told = json.dumps({"version": "1", "config": {"ttl_max": 1}, "history": [[1e300] * 9], "slow": [{}] * 300})
        ask(place.nodes[0].port, "hit.members.test", tries=3)
        pipeline = place.redis.pipeline(transaction=False)
        try:
            for number in range(100_000):
                pipeline.zadd("rdns:1:nodes", {f"forged{number}.1a2b3c4d.0": time.time()})
                if number < 20_000:
                    pipeline.set(f"rdns:1:node:forged{number}.1a2b3c4d.0", told, ex=3600)
                if number % 5000 == 4999:
                    pipeline.execute()
            found = wait_for(lambda: (answer := page_status(place.ports[0]))["more"] and answer, 20)
            assert len(found["nodes"]) <= MAX_MEMBERS
            assert "more workers are registered in Redis" in found["more"]
            assert ask(place.nodes[0].port, "hit.members.test").answer
        finally:
            for start in range(0, 100_000, 5000):
                forged = [f"forged{number}.1a2b3c4d.0" for number in range(start, start + 5000)]
                place.redis.zrem("rdns:1:nodes", *forged)
                place.redis.unlink(*(f"rdns:1:node:{each}" for each in forged))
        wait_for(lambda: len(page_status(place.ports[0])["nodes"]) == 2, 20)

    def test_one_that_tells_too_much_is_not_read(self, place: Place) -> None:
        """Nor fetched as a whole; it is there all the same."""
        key = "rdns:1:node:talker.1a2b3c4d.0"
        place.redis.set(key, b'{"version": "' + b"x" * (4 << 20) + b'"}', ex=3600)
        place.redis.zadd("rdns:1:nodes", {"talker.1a2b3c4d.0": time.time()})
        try:
            versions = {}

            def three() -> bool:
                versions.update((each["node"], each["version"]) for each in page_status(place.ports[0])["nodes"])
                return len(versions) == 3

            wait_for(three, 10)
            assert versions["talker"] == "? (?)"
            assert place.nodes[0].process.poll() is None
        finally:
            place.redis.delete(key)
            place.redis.zrem("rdns:1:nodes", "talker.1a2b3c4d.0")

    def test_remarks_about_a_node_are_counted(self) -> None:
        """One that differs in everything has so many shown, and the rest as a number; breath is drawn on the way."""
        usual = {f"option{number}": 1 for number in range(100)}
        odd = {f"option{number}": 2 for number in range(100)}
        members = [Member(name, LIFE, 0, 0.0, {"config": usual}) for name in "abc"]
        members.append(Member("d", LIFE, 0, 0.0, {"config": odd}))
        breaths = []
        found = {each.node: each.remarks for each in summarize(members, lambda: breaths.append(1))}
        assert found["a"] == found["b"] == found["c"] == []
        assert len(found["d"]) == MAX_REMARKS + 1
        assert found["d"][0] == "option0 is 2, elsewhere 1"
        assert found["d"][-1] == "and 80 more"
        assert len(breaths) > 100

    def test_an_option_of_any_size_is_cut_before_it_is_compared(self) -> None:
        """Long lists and texts, and tables, are told apart by their beginning; names are counted up to a bound."""
        long = {"a": ["x" * 60_000] * 9, "b": "y" * 60_000, "c": {"z": 1}, "d": list(range(9000))}
        config = dict.fromkeys((f"o{number}" for number in range(5000)), 0) | long
        members = [Member(name, LIFE, 0, 0.0, {"config": told}) for name, told in
                   (("a", long), ("b", long), ("c", long | {"b": "z"}), ("d", config))]  # fmt: skip
        found = {each.node: each.remarks for each in summarize(members)}
        assert found["a"] == found["b"] == []
        assert found["c"] == [f"b is 'z', elsewhere '{'y' * 99}"]
        assert len(found["d"]) <= MAX_REMARKS + 1 and all(len(each) < 400 for each in found["d"])

    def test_a_flood_of_words_does_not_hold_up_the_rest(self, place: Place) -> None:
        """While a look-up and a flush listen to what anybody may say, others in that worker are answered."""
        ended = threading.Event()
        word = json.dumps({"event": "1-1", "node": "n9", "incarnation": LIFE, "worker": 0, "entries": 1})

        def shout() -> None:
            pipeline = place.redis.pipeline(transaction=False)
            while not ended.is_set():
                for _ in range(2000):
                    pipeline.publish("rdns:1:acks", word)
                pipeline.execute()

        thread = threading.Thread(target=shout)
        thread.start()
        try:
            turns, ears = [0], list[bytes]()

            def turn() -> None:
                while True:
                    turns[0] += 1
                    gevent.sleep(0)

            other = gevent.spawn(turn)
            with Members(place.redis, Names("rdns"), Breath().take).listening(1) as ear:
                while len(ears) < 20_000:
                    ears += ear.hear(1)
            other.kill()
            assert turns[0] > 20
        finally:
            ended.set()
            thread.join()

    def test_each_node_is_looked_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Twice the members are twice the work, not four times."""
        looked: list[int] = []
        monkeypatch.setattr(status, "number", lambda value: looked.append(1) or 0.0)
        work = []
        for count in (100, 200):
            looked.clear()
            summarize([Member(f"n{number}", LIFE, 0, 0.0, {"config": {"a": number}}) for number in range(count)])
            work.append(len(looked))
        assert work[1] == 2 * work[0]
