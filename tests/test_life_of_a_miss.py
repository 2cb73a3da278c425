"""The resolver with an upstream that answers when it is told to: flushes, stale answers, renewals, false leaders."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import gevent
import pytest
from gevent.event import AsyncResult

from rdnscache import clock
from rdnscache.aliases import Aliases
from rdnscache.cache import Cache
from rdnscache.crew import GivenUp
from rdnscache.decider import Decider
from rdnscache.dns.entry import Entry
from rdnscache.dns.policy import Limits
from rdnscache.dns.wire import Query, Reply, parse_query, parse_reply
from rdnscache.dns.zones import Zones
from rdnscache.errors import SAID, UNREACHABLE, UpstreamFailed
from rdnscache.flights import Flights
from rdnscache.metrics import Board
from rdnscache.outcomes import SHED_CROWDED, Verdict
from rdnscache.policy.answers import AnswerTerms
from rdnscache.policy.blocking import BlockAnswer
from rdnscache.policy.dns64 import Dns64
from rdnscache.policy.lists import Lists
from rdnscache.policy.rules import Policy, no_policy
from rdnscache.query_log import QueryLog
from rdnscache.resolution import Sources, Terms
from rdnscache.resolver import Resolver
from rdnscache.store.interface import Claim, NullStore, OnLate
from rdnscache.store.scope import Scope
from rdnscache.upstream import fitness
from rdnscache.upstream.routes import Route, Routes

pytestmark = pytest.mark.pure

NAME = "www.example.com."
OLD, NEW = "192.0.2.1", "192.0.2.2"
STALE_AFTER = 0.05


def query() -> Query:
    asked = parse_query(dns.message.make_query(NAME, "A").to_wire(), False)
    assert asked is not None
    return asked


KEY = query().key


def reply_of(address: str, ttl: int = 300) -> Reply:
    message = dns.message.make_response(dns.message.make_query(NAME, "A"))
    message.answer.append(dns.rrset.from_text(NAME, ttl, "IN", "A", address))
    read = parse_reply(message.to_wire())
    assert read is not None
    return read


def entry_of(address: str, age: float = 0.0, ttl: int = 300) -> Entry:
    return Entry(KEY, reply_of(address, ttl), clock.now() - age, ttl, 3600, "from=192.0.2.53 node=n1")


class Upstream:
    """Each question waits until somebody sets its result: a reply, or what is to be raised."""

    budgeted = False

    def __init__(self) -> None:
        self.asked: list[AsyncResult] = []
        self.on_trouble: Callable[[], None] = lambda: None

    def short(self) -> bool:
        return False

    def ask(
        self, key: bytes, on_trouble: Callable[[Any, float], None], thrift: object, claim: Claim
    ) -> tuple[Reply, str]:
        self.asked.append(AsyncResult())
        self.on_trouble = partial(on_trouble, claim, time.monotonic())
        return self.asked[-1].get(), "192.0.2.53"

    def answer(self, number: int, reply: Reply) -> None:
        self.asked[number].set(reply)

    def fail(self, number: int, why: str = UNREACHABLE) -> None:
        self.asked[number].set_exception(UpstreamFailed("it fails", why=why))


class Siblings:
    """Nobody, until there is a reply."""

    several = True

    def __init__(self) -> None:
        self.reply: Reply | None = None

    def ask(self, key: bytes, client: bytes) -> Reply | None:
        return self.reply


class Scripted(NullStore):
    """A store whose entry and verdicts are set by the test."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.verdict = Verdict.LEAD
        self.fills: list[bytes] = []

    def claim(self, key: bytes, flight: Any, on_late: OnLate) -> Claim:
        store = self

        class Mine(Claim):
            @property
            def alone(self) -> bool:
                return True

            def read(self, last: bool = False) -> Entry | None:
                return store.entry

            def acquire(self, renewal: int = 0) -> Verdict:
                self.entry, self.lease_left = store.entry, 0.0
                return store.verdict

            def wait(self, seconds: float) -> Entry | None:
                gevent.sleep(seconds)
                return None

            def fill(self, kind: bytes, *told: Any) -> None:
                store.fills.append(kind)

        return Mine(key, flight, on_late)


class Client:
    """Notes what it is answered with."""

    def __init__(self) -> None:
        self.answers: list[Entry] = []

    def answer(self, query: Query, client: Any, entry: Entry, layer: int) -> None:
        self.answers.append(entry)

    @property
    def addresses(self) -> list[str]:
        return [".".join(map(str, entry.tail[-4:])) for entry in self.answers if entry.ancount]


class Worker:
    def __init__(self, policy: Policy | None = None) -> None:
        self.cache, self.store, self.upstream = Cache(100, 1 << 20), Scripted(), Upstream()
        self.siblings = Siblings()
        upstreams: Any = self.upstream
        self.route = Route(upstreams, Limits(failure_ttl=5), 0.2)
        parts: Any = (self.cache, self.store, self.siblings, Routes(self.route, {}, []), Aliases(self.cache, None))
        terms = Terms(STALE_AFTER, "n1", Decider(policy or no_policy(), self.cache, "n1"))
        self.resolver = Resolver(Sources(*parts), terms, QueryLog(0), Board.scrap())
        self.flights = Flights(self.resolver, 100, 1000, 1000)
        self.resolver.flights = self.flights

    def ask(self) -> Client:
        client = Client()
        self.flights.join(client, query(), None, clock.now())
        gevent.sleep(0)
        return client

    def flush(self) -> None:
        """As a control event is applied: flights first, then L1."""
        self.resolver.begin_flush(Scope(name=KEY[:-5]))
        self.sweep()

    def sweep(self) -> None:
        self.cache.set_aside()
        self.resolver.end_flush(Scope(name=KEY[:-5]))

    def until(self, condition: Callable[[], Any]) -> None:
        with gevent.Timeout(5):
            while not condition():
                gevent.sleep(0.005)


@pytest.fixture
def worker() -> Worker:
    return Worker()


class TestFlush:
    def test_who_asks_after_it_starts_anew(self, worker: Worker) -> None:
        """The flight from before answers its own clients; newcomers get what is asked for after the flush."""
        before = worker.ask()
        worker.flush()
        after = worker.ask()
        worker.until(lambda: len(worker.upstream.asked) == 2)
        worker.upstream.answer(0, reply_of(OLD))
        worker.until(lambda: before.answers)
        assert (before.addresses, after.addresses) == ([OLD], [])
        assert worker.cache.kept(KEY) is None
        worker.upstream.answer(1, reply_of(NEW))
        worker.until(lambda: after.answers)
        assert after.addresses == [NEW]
        kept = worker.cache.get(KEY, clock.now())
        assert kept is not None and kept.tail.endswith(bytes((192, 0, 2, 2)))
        assert worker.store.fills == [b"store"]  # the first is for nobody else

    def test_the_late_one_does_not_replace_the_new(self, worker: Worker) -> None:
        """Whichever order they end in."""
        before = worker.ask()
        worker.flush()
        worker.ask()
        worker.until(lambda: len(worker.upstream.asked) == 2)
        worker.upstream.answer(1, reply_of(NEW))
        worker.until(lambda: worker.cache.kept(KEY))
        worker.upstream.answer(0, reply_of(OLD))
        worker.until(lambda: before.answers)
        kept = worker.cache.kept(KEY)
        assert kept is not None and kept.tail.endswith(bytes((192, 0, 2, 2)))

    def test_what_a_sibling_says_soon_after_is_not_kept(self, worker: Worker) -> None:
        """Without Redis: the sibling may have heard of the flush later than we, and its answer be from before."""
        worker.siblings.reply = reply_of(OLD)
        assert worker.ask().addresses == [OLD]
        assert worker.cache.kept(KEY) is not None
        worker.flush()
        assert worker.ask().addresses == [OLD]
        assert worker.cache.kept(KEY) is None

    def test_a_pause_before_a_flight_begins_is_not_too_long_a_wait(self, worker: Worker, monkeypatch: Any) -> None:
        """The process is stopped for three seconds just when it is a flight's turn."""
        client = Client()
        worker.flights.join(client, query(), None, clock.now())
        now = clock.now() + 3
        monkeypatch.setattr(clock, "now", lambda: now)
        worker.until(lambda: worker.upstream.asked)
        worker.upstream.answer(0, reply_of(NEW))
        worker.until(lambda: client.answers)
        assert client.addresses == [NEW]

    def test_a_stale_answer_is_not_offered_any_more(self, worker: Worker) -> None:
        """The upstream is silent beyond the time for stale answers: nothing of before the flush is given or kept."""
        worker.cache.put(entry_of(OLD, age=400), clock.now())
        client = worker.ask()
        worker.flush()
        gevent.sleep(3 * STALE_AFTER)
        assert client.answers == []
        assert worker.cache.kept(KEY) is None
        worker.upstream.fail(0)
        worker.until(lambda: client.answers)
        assert client.addresses == []

    def test_nor_by_a_flight_that_begins_before_l1_is_swept(self, worker: Worker) -> None:
        """Between the announcement and the sweep the old entry is still there to be picked up."""
        worker.cache.put(entry_of(OLD, age=400), clock.now())
        worker.resolver.begin_flush(Scope(name=KEY[:-5]))
        client = worker.ask()
        worker.sweep()
        gevent.sleep(3 * STALE_AFTER)
        assert client.answers == []
        assert worker.cache.kept(KEY) is None
        worker.upstream.answer(0, reply_of(NEW))
        worker.until(lambda: client.answers)
        assert client.addresses == [NEW]

    def test_other_names_are_left_alone(self, worker: Worker) -> None:
        """A flush of another name takes nothing out of the way."""
        first = worker.ask()
        worker.resolver.begin_flush(Scope(name=b"\5other\0"))
        second = worker.ask()
        worker.upstream.answer(0, reply_of(NEW))
        worker.until(lambda: first.answers and second.answers)
        assert len(worker.upstream.asked) == 1
        assert worker.cache.kept(KEY) is not None

    def test_flights_out_of_the_way_are_still_counted(self, worker: Worker) -> None:
        """A worker that ends waits for them too."""
        worker.ask()
        worker.flush()
        worker.ask()
        worker.until(lambda: len(worker.upstream.asked) == 2)
        assert len(worker.flights) == 2
        for number in range(2):
            worker.upstream.answer(number, reply_of(NEW))
        worker.until(lambda: len(worker.flights) == 0)


class TestStale:
    def test_one_from_l2_is_held_for_who_comes_later(self, worker: Worker) -> None:
        """L1 has an older object: later clients are answered from what was held, at once."""
        worker.cache.put(entry_of(OLD, age=500), clock.now())
        worker.store.entry = entry_of(NEW, age=400)
        client = worker.ask()
        worker.until(lambda: client.answers)
        held = worker.cache.get(KEY, clock.now())
        assert client.addresses == [NEW]
        assert held is not None and held.tail.endswith(bytes((192, 0, 2, 2)))

    def test_who_joins_a_renewal_gets_it_too(self, worker: Worker) -> None:
        """The entry ends while it is being asked for anew: who comes then does not wait for the upstream's deadline."""
        worker.cache.put(entry_of(OLD, age=301), clock.now())
        assert worker.flights.renew(KEY, 31)
        worker.until(lambda: worker.upstream.asked)
        client = worker.ask()
        worker.until(lambda: client.answers)
        assert client.addresses == [OLD]

    def test_a_failure_gives_way_to_it(self, worker: Worker) -> None:
        """At once, and for a while."""
        worker.cache.put(entry_of(OLD, age=400), clock.now())
        client = worker.ask()
        worker.upstream.fail(0, SAID)
        worker.until(lambda: client.answers)
        assert client.addresses == [OLD]
        assert worker.cache.get(KEY, clock.now()) is not None


class TestRenewal:
    def renewed(self, worker: Worker, ttl: int) -> Entry:
        worker.cache.put(entry_of(OLD, age=280), clock.now())
        worker.flights.renew(KEY, 31)
        worker.until(lambda: worker.upstream.asked)
        worker.upstream.answer(-1, reply_of(NEW, ttl))
        worker.until(lambda: len(worker.flights) == 0)
        kept = worker.cache.kept(KEY)
        assert kept is not None
        return kept

    def test_the_rest_of_an_old_life_is_not_renewed_again(self, worker: Worker) -> None:
        """An upstream that is a cache gives what is left: asking it before the end gains nothing, so it is given up."""
        assert not self.renewed(worker, 20).renews
        worker.cache.put(entry_of(NEW), clock.now())
        later = worker.cache.kept(KEY)
        assert later is not None and not later.renews and later.renew_at > clock.now() + 10_000

    def test_a_new_life_is(self, worker: Worker) -> None:
        """From an authoritative server, or a cache that has asked anew."""
        kept = self.renewed(worker, 300)
        assert kept.renews and kept.renew_at < clock.now() + 300


def test_a_claim_that_nobody_fills_is_not_followed_for_ever(worker: Worker) -> None:
    """Whoever holds it: when patience is over the upstream is asked, and the next name waits for less."""
    worker.store.verdict = Verdict.FOLLOW
    client = worker.ask()
    worker.until(lambda: worker.upstream.asked)
    worker.upstream.answer(0, reply_of(NEW))
    worker.until(lambda: client.answers)
    assert client.addresses == [NEW]
    assert worker.store.fills == [b"store"]  # which Redis does not take: the claim is somebody else's


def test_a_round_of_silence_leaves_the_next_lead_to_others(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that was asked may be led by others now, and new ones are not claimed, until an upstream answers."""
    monkeypatch.setattr(fitness, "FAILING", 0.0)
    worker.ask()
    worker.upstream.on_trouble()
    worker.flush()
    worker.store.verdict = Verdict.FOLLOW  # not asked for any more
    worker.ask()
    assert len(worker.upstream.asked) == 2
    worker.upstream.answer(1, reply_of(NEW))
    worker.until(lambda: worker.cache.kept(KEY))
    worker.flush()
    worker.ask()
    assert len(worker.upstream.asked) == 2


def test_a_node_that_reaches_nobody_leaves_the_lead_to_others(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some failures, some time apart, it does not claim; the first answer makes it fit again."""
    monkeypatch.setattr(fitness, "FAILING", 0.0)
    worker.cache.max_entries = 1
    for number in range(fitness.FAILURES_BEFORE_UNFIT):
        client = worker.ask()
        worker.upstream.fail(number)
        worker.until(lambda client=client: client.answers)
        assert client.answers[0].rcode == dns.rcode.SERVFAIL
        worker.cache.set_aside()
    assert worker.route.fitness.stands_back
    worker.store.verdict = Verdict.FOLLOW  # not asked for any more
    client = worker.ask()
    worker.until(lambda: len(worker.upstream.asked) == number + 2)
    worker.upstream.answer(-1, reply_of(NEW))
    worker.until(lambda: client.answers)
    assert not worker.route.fitness.stands_back


class TestAnotherQuestionFirst:
    """DNS64: where there is no AAAA, A has to be asked before clients have an answer."""

    @pytest.fixture
    def worker(self) -> Worker:
        terms = Zones(AnswerTerms(dns64=Dns64.of("64:ff9b::/96")), {})
        return Worker(Policy(None, (), Lists(), BlockAnswer(), terms=terms))

    def ask(self, worker: Worker) -> tuple[Client, Reply]:
        """A client that asks for AAAA, and the reply that there is none."""
        message = dns.message.make_query(NAME, "AAAA")
        asked, none = parse_query(message.to_wire(), False), parse_reply(dns.message.make_response(message).to_wire())
        assert asked is not None
        assert none is not None
        client = Client()
        worker.flights.join(client, asked, None, clock.now())
        worker.until(lambda: worker.upstream.asked)
        return client, none

    def test_others_need_not_wait_for_it(self, worker: Worker) -> None:
        """What the upstream said is stored before A is asked for; whoever asks for A joins that flight."""
        client, none = self.ask(worker)
        worker.upstream.answer(0, none)
        worker.until(lambda: len(worker.upstream.asked) == 2)
        assert (worker.store.fills, client.answers) == ([b"store"], [])
        other = worker.ask()
        worker.upstream.answer(1, reply_of(OLD))
        worker.until(lambda: client.answers and other.answers)
        assert client.answers[0].tail[-16:] == bytes.fromhex("0064ff9b0000000000000000c0000201")
        assert (other.addresses, len(worker.upstream.asked)) == ([OLD], 2)

    def test_a_late_entry_is_left_to_the_flight(self, worker: Worker) -> None:
        """It comes from Redis in the hub, where nothing may wait; one that needs nothing else lands."""
        client, none = self.ask(worker)
        (flight,) = worker.flights.meant(lambda key: True)
        entry = Entry(flight.key, none, clock.now(), 60, 0, "from=192.0.2.53 node=n2")
        worker.resolver._late(flight, entry)
        assert (flight.up, client.answers) == (True, [])
        entry.origin += " dns64=none"
        worker.resolver._late(flight, entry)
        assert (flight.up, client.answers) == (False, [entry])

    def test_rules_that_change_meanwhile(self, worker: Worker) -> None:
        """What is made of the one by the old rules, and of the other by the new ones, is not kept."""
        client, none = self.ask(worker)
        worker.upstream.answer(0, none)
        worker.until(lambda: len(worker.upstream.asked) == 2)
        worker.resolver.change_policy()
        worker.upstream.answer(1, reply_of(OLD))
        worker.until(lambda: client.answers)
        assert client.answers[0].ancount == 1
        assert worker.cache.kept(client.answers[0].key) is None

    def test_it_makes_way(self, worker: Worker) -> None:
        """When its greenlet is taken from it, nobody is left waiting, whether for AAAA or for A."""
        client, none = self.ask(worker)
        worker.upstream.answer(0, none)
        worker.until(lambda: len(worker.upstream.asked) == 2)
        other = worker.ask()
        flights = {flight.key: flight for flight in worker.flights.meant(lambda key: True)}
        (parent,) = (flight for key, flight in flights.items() if key != KEY)
        worker.resolver.shed(parent, SHED_CROWDED)
        gevent.get_hub().loop.run_callback(parent.flyer.throw, GivenUp)
        worker.until(lambda: client.answers and other.answers)
        assert [each.rcode for each in (*client.answers, *other.answers)] == [dns.rcode.SERVFAIL] * 2
        assert (len(worker.flights), worker.flights.waiting) == (0, 0)
