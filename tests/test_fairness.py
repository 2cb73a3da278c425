"""A worker's room is shared: no client, and no zone, takes it from the others."""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.name
import dns.rcode
import gevent
import pytest
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st
from support import Node, RedisServer, Upstream, answer, ask, failure, wait_for

from rdnscache import clock
from rdnscache.address import Address
from rdnscache.clients.networks import client_prefix
from rdnscache.clients.proxy import parse_proxy, proxy_end
from rdnscache.clients.shares import GREEDY, Holder, Share, Shares, zone_of
from rdnscache.crew import LASTING, Crew, Task
from rdnscache.departure import Departure
from rdnscache.errors import UpstreamFailed
from rdnscache.upstream.siblings import Siblings, header

pytestmark = pytest.mark.once

ROOM = 40
#: Nobody waits at the end for names that are not answered.
AT_ONCE = ("--drain", "0")
SMALL = ("--max-flights", str(ROOM), *AT_ONCE)


def silent(query: dns.message.Message, transport: str) -> dns.message.Message | None:
    """Names that begin with `dead` are never answered."""
    name = query.question[0].name.to_text()
    return None if name.startswith("dead") else answer(query, "300 A 192.0.2.1")


@contextmanager
def client(host: str, port: int) -> Iterator[socket.socket]:
    """A UDP client at an address of this machine; each counts as a client of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect(("127.0.0.1", port))
        sock.settimeout(5)
        yield sock


def send(sock: socket.socket, names: Iterable[str]) -> None:
    for ident, name in enumerate(names):
        sock.send(dns.message.make_query(name, "A", id=ident).to_wire())


def rcodes(sock: socket.socket, count: int) -> list[int]:
    """The RCODEs of so many replies."""
    return [sock.recv(4096)[3] & 15 for _ in range(count)]


def asked(upstream: Upstream, prefix: str, count: int) -> None:
    """Waits until upstream has heard so many names that begin so."""
    wait_for(lambda: sum(name.startswith(prefix) for name, _ in list(upstream.counts)) >= count)


def good(port: int, name: str, **how: Any) -> bool:
    return ask(port, name, timeout=4, **how).rcode() == dns.rcode.NOERROR


class TestShortMachine:
    """One client's flights begin late. The clock is ours."""

    CLIENT, ROOM = b"\x7f\0\0", 1000

    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [100.0]
        monkeypatch.setattr(clock, "now", lambda: now[0])
        return now

    def begin(self, crew: Crew, now: list[float], count: int, late: float) -> bool:
        """Have so many flights begin so late; whether one more of that client would be refused."""
        tasks = [Task(b"\1%c\4test\0\0\1\0\1\0" % (number % 200), now[0], self.CLIENT) for number in range(count)]
        for task in tasks:
            crew.start(task, now[0])
        now[0] += late
        gevent.sleep(0)
        return crew.refuses(self.CLIENT, tasks[0].key)

    def test_what_was_asked_during_a_pause_is_no_flood(self, now: list[float]) -> None:
        """A process is stopped for three seconds, with much on its way; all the rest is there when it goes on."""
        over = Event()
        crew = Crew(lambda task: over.wait(), lambda task, outcome: None, self.ROOM)
        assert not self.begin(crew, now, 300, late=3.0)
        assert not self.begin(crew, now, 300, late=0.1)
        over.set()

    def test_a_flood_is_refused_before_long(self, now: list[float]) -> None:
        """There is too much for this machine again and again, for longer than a pause would explain."""
        over = Event()
        crew = Crew(lambda task: over.wait(), lambda task, outcome: None, self.ROOM)
        self.begin(crew, now, 300, late=0.0)
        began = now[0]
        refused = [self.begin(crew, now, 4, late=0.05) for _ in range(40)]
        assert refused[0] is False
        assert refused[-1] is True
        assert now[0] - began > LASTING
        over.set()


class TestFlights:
    """Every greenlet is taken by names that are never answered."""

    def test_others_are_answered_at_once(self) -> None:
        """One client asks for silent names in as many zones: its oldest give way, one for each other question."""
        with Upstream(silent) as upstream, Node([upstream.address], args=SMALL) as node:
            with client("127.0.1.1", node.port) as greedy:
                send(greedy, (f"dead.zone{n}.test" for n in range(ROOM)))
                asked(upstream, "dead", ROOM)
                for number in range(10):
                    assert good(node.port, f"n{number}.other")
                assert rcodes(greedy, 10) == [dns.rcode.SERVFAIL] * 10

    @pytest.mark.parametrize("bound", ["1000", str(ROOM)])
    def test_a_zone_is_told_from_others_behind_one_address(self, bound: str) -> None:
        """Who shares its address with them is spared when its name is in another zone."""
        args = (*SMALL, "--max-client-waiting", bound)
        with Upstream(silent) as upstream, Node([upstream.address], args=args) as node:
            with client("127.0.1.1", node.port) as shared:
                send(shared, (f"dead{n}.attacked.test" for n in range(ROOM)))
                asked(upstream, "dead", ROOM)
                send(shared, ("www.fine.example",))
                assert rcodes(shared, 2) == [dns.rcode.SERVFAIL, dns.rcode.NOERROR]

    def test_many_clients_that_ask_below_one_zone_are_greedy_together(self) -> None:
        """Each of them has a flight only; other zones are answered at once."""
        with Upstream(silent) as upstream, Node([upstream.address], args=SMALL) as node, ExitStack() as stack:
            for number in range(ROOM):
                sock = stack.enter_context(client(f"127.0.{number + 1}.1", node.port))
                send(sock, (f"dead{number}.attacked.test",))
            asked(upstream, "dead", ROOM)
            assert good(node.port, "www.fine.example")

    def test_the_greedy_wait_for_what_has_taken_long(self) -> None:
        """A client that has taken every greenlet itself gets one of them after a while, not an error."""
        with Upstream(silent) as upstream, Node([upstream.address], args=SMALL) as node:
            with client("127.0.1.1", node.port) as greedy:
                send(greedy, (f"dead.zone{n}.test" for n in range(ROOM)))
                asked(upstream, "dead", ROOM)
                send(greedy, ("www.fine.example",))
                assert sorted(rcodes(greedy, 2)) == [dns.rcode.NOERROR, dns.rcode.SERVFAIL]

    def test_who_only_asks_much_loses_nothing(self) -> None:
        """Five times as many names at once as there are greenlets: answers come soon, so all are."""
        bursts = itertools.count()

        def all_are() -> bool:
            with client("127.0.1.1", node.port) as busy:
                burst = next(bursts)
                send(busy, (f"n{n}.busy{burst}.test" for n in range(5 * ROOM)))
                return rcodes(busy, 5 * ROOM) == [dns.rcode.NOERROR] * 5 * ROOM

        with Upstream(delay=0.03) as upstream, Node([upstream.address], args=SMALL) as node:
            wait_for(all_are, 15)  # on a machine that has better to do, answers may come late, and then it is right

    def test_a_slow_upstream_is_no_reason_to_get_nothing(self) -> None:
        """Answers take longer than a flight may last when others stand in line: half of them are waited for."""
        with Upstream(delay=0.9) as upstream, Node([upstream.address], args=SMALL) as node:
            with client("127.0.1.1", node.port) as busy:
                send(busy, (f"n{n}.busy.test" for n in range(3 * ROOM)))
                assert rcodes(busy, 3 * ROOM).count(dns.rcode.NOERROR) >= ROOM // 2

    def test_clients_in_line_take_turns(self) -> None:
        """Two stand in line, one with many more questions: the other is not behind all of them."""
        with Upstream(delay=0.4) as upstream, Node([upstream.address], args=("--max-flights", "4", *AT_ONCE)) as node:
            with client("127.0.1.1", node.port) as greedy, client("127.0.2.1", node.port) as other:
                send(greedy, (f"n{n}.busy.test" for n in range(100)))
                asked(upstream, "n", 4)
                send(other, ("a.fine.example", "b.fine.example"))
                assert rcodes(other, 2) == [dns.rcode.NOERROR] * 2

    def test_a_stale_entry_is_better_than_giving_up(self) -> None:
        """Who gives way is answered with what there is, if it is of use."""
        dead: list[str] = []

        def handler(query: dns.message.Message, transport: str) -> dns.message.Message | None:
            return None if dead else answer(query, "1 A 192.0.2.1")

        args = (*SMALL, "--stale-after", "30", "--prefetch", "no")
        with Upstream(handler) as upstream, Node([upstream.address], args=args) as node:
            assert good(node.port, "old.test")
            wait_for(lambda: good(node.port, "old.test") and upstream.count("old.test.") == 2)
            dead.append("all")
            time.sleep(1.1)  # its TTL
            with client("127.0.1.1", node.port) as greedy, client("127.0.2.1", node.port) as other:
                send(greedy, ("old.test", *(f"dead.zone{n}.test" for n in range(ROOM - 1))))
                asked(upstream, "dead", ROOM - 1)
                send(other, ("dead.fine.example",))
                reply = dns.message.from_wire(greedy.recv(4096))
                assert (reply.rcode(), reply.answer[0].ttl) == (dns.rcode.NOERROR, 30)

    def test_greenlets_and_sockets_are_freed(self) -> None:
        """Thousands of silent names one after the other: sockets are no more than flights, and all works afterwards."""
        with Upstream(silent) as upstream, Node([upstream.address], args=SMALL) as node:
            (worker,) = node.children()
            before = descriptors(worker)
            with client("127.0.1.1", node.port) as greedy:
                for number in range(60):
                    send(greedy, (f"dead{n}.zone{number}.test" for n in range(20)))
                    assert good(node.port, f"n{number}.fine.example")
                assert descriptors(worker) <= before + ROOM + 2
            wait_for(lambda: descriptors(worker) <= before, 15)
            assert good(node.port, "after.example")
            assert "Traceback" not in node.log()

    def test_a_claim_is_given_back(self, redis_server: RedisServer) -> None:
        """A question that was given up can be led by whoever asks it next, without waiting for a lease."""
        with Upstream(silent) as upstream, Node([upstream.address], redis_server.url, args=SMALL) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            redis = redis_server.client()
            with client("127.0.1.1", node.port) as greedy:
                send(greedy, (f"dead.zone{n}.test" for n in range(ROOM)))
                asked(upstream, "dead", ROOM)
                wait_for(lambda: len(redis.keys("*#lead")) == ROOM)
                assert good(node.port, "www.fine.example")
                assert rcodes(greedy, 1) == [dns.rcode.SERVFAIL]
                wait_for(lambda: len(redis.keys("*#lead")) == ROOM - 1, 1)


class TestWaiting:
    """How many clients may wait."""

    BOUND = ("--max-client-waiting", "10", *AT_ONCE)

    def test_a_client_waits_for_so_much(self) -> None:
        """Of 30 queries for a slow name 10 wait, the others are refused at once; another client may still join."""
        with Upstream(delay=1.0) as upstream, Node([upstream.address], args=self.BOUND) as node:
            with client("127.0.1.1", node.port) as greedy, client("127.0.2.1", node.port) as other:
                send(greedy, ("slow.test",) * 30)
                assert rcodes(greedy, 20) == [dns.rcode.SERVFAIL] * 20
                send(other, ("slow.test",))
                assert rcodes(greedy, 10) == [dns.rcode.NOERROR] * 10
                assert rcodes(other, 1) == [dns.rcode.NOERROR]
                send(greedy, (f"next{n}.test" for n in range(10)))
                assert rcodes(greedy, 10) == [dns.rcode.NOERROR] * 10

    def test_over_tcp_as_well(self) -> None:
        """Queries of all its connections count."""
        query = dns.message.make_query("slow.test", "A").to_wire()
        framed = len(query).to_bytes(2, "big") + query
        with Upstream(delay=1.0) as upstream, Node([upstream.address], args=self.BOUND) as node, ExitStack() as stack:
            found = []
            connections = [stack.enter_context(socket.create_connection(("127.0.0.1", node.port), 5)) for _ in range(3)]
            for sock in connections:
                sock.sendall(framed * 8)
            for sock in connections:
                stream = stack.enter_context(sock.makefile("rb"))
                for _ in range(8):
                    found.append(stream.read(int.from_bytes(stream.read(2), "big"))[3] & 15)
            assert sorted(found) == [dns.rcode.NOERROR] * 10 + [dns.rcode.SERVFAIL] * 14

    def test_a_repeated_query_gets_one_reply(self) -> None:
        """The same datagram from the same port while it waits; another ID is another query."""
        with Upstream(delay=0.5) as upstream, Node([upstream.address], args=self.BOUND) as node:
            with client("127.0.1.1", node.port) as sock:
                for ident in (1, 2, 1, 1, 2, 3):
                    sock.send(dns.message.make_query("slow.test", "A", id=ident).to_wire())
                assert sorted(int.from_bytes(sock.recv(4096)[:2], "big") for _ in range(3)) == [1, 2, 3]
                sock.send(dns.message.make_query("last.test", "A", id=9).to_wire())
                assert sock.recv(4096)[:2] == b"\0\x09"

    def test_all_places_taken_by_one_name(self) -> None:
        """Many clients wait for one silent name: after a while it gives way to others."""
        args = ("--max-waiting", "100", "--max-flights", "50", *AT_ONCE)
        with Upstream(silent) as upstream, Node([upstream.address], args=args) as node, ExitStack() as stack:
            for number in range(10):
                sock = stack.enter_context(client(f"127.0.{number + 1}.1", node.port))
                send(sock, ("dead.test",) * 10)
            wait_for(lambda: ask(node.port, "www.fine.example", timeout=4).rcode() == dns.rcode.NOERROR, 3)

    def test_everybody_on_a_flight_is_answered(self) -> None:
        """However many they are."""
        with Upstream(delay=1.0) as upstream, Node([upstream.address]) as node:
            with client("127.0.1.1", node.port) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                send(sock, ("slow.test",) * 950)
                assert {int.from_bytes(sock.recv(4096)[:2], "big") for _ in range(950)} == set(range(950))

    def test_the_other_workers_tell_for_whom_they_ask(self) -> None:
        """Without Redis they forward to each other: one client floods both, and none of the others is refused."""
        with Upstream(delay=0.5) as upstream, Node([upstream.address], workers=2, args=self.BOUND) as node:
            with ExitStack() as stack:
                greedy = [stack.enter_context(client("127.0.99.1", node.port)) for _ in range(8)]
                for number, sock in enumerate(greedy):
                    send(sock, (f"x{number}-{n}.test" for n in range(30)))
                socks = [stack.enter_context(client(f"127.0.{n + 1}.1", node.port)) for n in range(60)]
                for number, sock in enumerate(socks):
                    send(sock, (f"slow{number}.test",))
                assert [rcodes(sock, 1) for sock in socks] == [[dns.rcode.NOERROR]] * 60

    @pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8:0:100::1", "127.0.0.9"])
    def test_what_they_say_means_the_same_client(self, address: str) -> None:
        """The header has the prefix only."""
        prefix = client_prefix(ipaddress.ip_address(address).packed)
        proxied = parse_proxy(header(prefix))
        assert proxied is not None and client_prefix(proxied.source) == prefix
        nobody = parse_proxy(header(b""))
        assert nobody is not None and nobody.source == bytes(4)


CLIENT = b"\xc0\0\2"


@pytest.mark.parametrize(("code", "passed_over"), [(dns.edns.EDECode.NOT_READY, True), (None, False)])
def test_a_worker_that_sheds_is_passed_over(code: dns.edns.EDECode | None, passed_over: bool) -> None:
    """What it says then is no fact about the name; any other failure is."""
    key = dns.name.from_text("a.test").to_digestable() + b"\0\1\0\1\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))

        def refuse() -> None:
            while (data := other.recvfrom(4096))[0]:
                reply = failure(dns.message.from_wire(data[0][proxy_end(data[0]) :]))
                if code is not None:
                    reply.use_edns(options=[dns.edns.EDEOption(code)])
                other.sendto(reply.to_wire(), data[1])

        thread = threading.Thread(target=refuse)
        thread.start()
        place = Address("127.0.0.1", other.getsockname()[1])
        siblings = Siblings(1 - zlib.crc32(key) % 2, [place, place], 5.0, Departure())
        if passed_over:
            assert siblings.ask(key, CLIENT) is None
        else:
            with pytest.raises(UpstreamFailed):
                siblings.ask(key, CLIENT)
        other.sendto(b"", other.getsockname())
        thread.join()


def descriptors(pid: int) -> int:
    return len(os.listdir(Path(f"/proc/{pid}/fd")))


class Model:
    """Shares, counted anew each time."""

    def __init__(self) -> None:
        self.held: list[tuple[Holder, bytes, bytes]] = []

    def greediest(self, room: int) -> int:
        """The weight of the greediest; 0 without."""
        most = 0
        for _, client, zone in self.held:
            same = [(c == client, z == zone) for _, c, z in self.held]
            counts = (sum(c for c, _ in same), sum(z for _, z in same), sum(c and z for c, z in same))
            most = max(most, *(n * w for n, w in zip(counts, (1, 1, 2), strict=True) if n > room // GREEDY), 0)
        return most


@pytest.mark.pure
class TestShares:
    """The bookkeeping."""

    STEP = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4))

    @given(st.lists(STEP, max_size=120), st.integers(1, 60))
    def test_it_agrees_with_counting_anew(self, steps: list[tuple[int, int, int]], room: int) -> None:
        """Who is oldest, of all and of each client; how much the greediest have, and that they mean their oldest.

        Some are counted and not in the room yet: they are nobody's oldest.
        """
        shares, model = Shares(room), Model()
        outside: set[Holder] = set()
        for what, one, other in steps:
            if what:
                holder, client, zone = Holder(), bytes((one,)) * 3, bytes((1, 97 + other))
                holder.firm = what == 2
                shares.add(holder, client, zone)
                model.held.append((holder, client, zone))
                if what == 3:
                    outside.add(holder)
                else:
                    shares.enter(holder)
            elif model.held:
                holder, _, _ = model.held.pop((one * 5 + other) % len(model.held))
                shares.remove(holder)
                shares.remove(holder)  # does nothing
            assert len(shares) == len(model.held)
            for firm in (True, False):
                inside = [each for each in model.held if each[0] not in outside and (firm or not each[0].firm)]
                held = [holder for holder, _, _ in inside]
                assert shares.oldest(firm) is (held[0] if held else None)
                for number in range(5):
                    client = bytes((number,)) * 3
                    own = [holder for holder, whose, _ in inside if whose == client]
                    assert shares.oldest_of(client, firm) is (own[0] if own else None)
            greediest = shares.greediest()
            assert (greediest.count * greediest.weight if greediest else 0) == model.greediest(room)
            if greediest is not None:
                meant = [holder for holder, client, zone in model.held if greediest.means(client, zone)]
                there = [holder for holder in meant if holder not in outside]
                assert len(meant) == greediest.count
                assert greediest.oldest(True) is (there[0] if there else None)

    @pytest.mark.parametrize(
        ("client", "zone", "text"),
        [
            (b"\xc0\0\2", None, "192.0.2.0/24"),
            (b"\x7f\0\0\1", None, "127.0.0.1"),
            (bytes.fromhex("20010db8000100"), None, "2001:db8:1::/56"),
            (None, b"\7example\3com", "example.com."),
            (b"", b"\1\n\3com", "this node itself in \\010.com."),
        ],
    )
    def test_they_are_told_in_words(self, client: bytes | None, zone: bytes | None, text: str) -> None:
        """For the log."""
        assert str(Share({}, client, zone)) == text

    def test_what_has_left_is_not_kept(self) -> None:
        """One that stays, and a hundred thousand that come and go behind it."""
        shares, stays = Shares(1000), Holder()
        shares.add(stays, b"abc", b"\1z")
        shares.enter(stays)
        for _ in range(100_000):
            passing = Holder()
            shares.add(passing, b"abc", b"\1z")
            shares.enter(passing)
            shares.remove(passing)
        began = time.process_time()
        for _ in range(10_000):
            assert shares.oldest(True) is stays
        assert time.process_time() - began < 5

    @pytest.mark.parametrize(
        ("name", "zone"),
        [
            (".", "."),
            ("com.", "com."),
            ("example.com.", "example.com."),
            ("a.b.c.example.com.", "example.com."),
            ("co.uk.", "co.uk."),
            ("example.co.uk.", "example.co.uk."),
            ("a.b.example.co.uk.", "example.co.uk."),
            ("a.b.example.de.", "example.de."),
            ("www.com.com.", "com.com."),
            ("9.2.0.192.in-addr.arpa.", "0.192.in-addr.arpa."),
            ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."),
            ("in-addr.arpa.", "in-addr.arpa."),
        ],
    )
    def test_zones(self, name: str, zone: str) -> None:
        """What somebody registers, by rule of thumb."""
        key = dns.name.from_text(name).to_digestable() + b"\0\1\0\1\0"
        assert zone_of(key) == dns.name.from_text(zone).to_digestable()[:-1]
