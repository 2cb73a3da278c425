"""How Redis shares a budget out, on real servers: slots in a row, shares that are lent and reserved, who is fair."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import redis
from support import RedisServer

from rdnscache.store.allotment import ALLOT, read_allotment
from rdnscache.upstream.allowance import Allotment

pytestmark = [pytest.mark.both, pytest.mark.once]

KEY = "rdns:1:{192.0.2.53:53}:budget"
RATE = 200.0


class Row:
    """A budget in Redis, and members of it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client

    def ask(
        self, member: str = "n0.0", want: int = 0, share: float = 0.0, weight: float = 1.0, rate: float = RATE,
        lend: float = 1.2, ahead: float = 0.0,
    ) -> Allotment:  # fmt: skip
        lent = round((self.now() + lend) * 1e6) if lend else 0
        told = self.client.eval(
            ALLOT.source, 1, KEY, f"{rate:.3f}", member, weight, share, lent, want, round(ahead * 1e6)
        )
        found = read_allotment(told)
        assert found is not None
        return found

    def now(self) -> float:
        seconds, micros = self.client.time()
        return float(seconds + micros / 1e6)

    def later(self, seconds: float) -> None:
        """As if as much time had passed: all moments move back."""
        fields = self.client.hgetall(KEY)
        for name, value in fields.items():
            numbers = [float(word) for word in value.split()]
            moments = {b".next": [0], b".used": [1], b".sums": [0]}.get(name, [0, 3, 4])
            for place in moments:
                numbers[place] = max(numbers[place] - seconds * 1e6, 0)
            text = [f"{each:.0f}" if place in moments else f"{each:.6f}" for place, each in enumerate(numbers)]
            self.client.hset(KEY, name, " ".join(text))


@pytest.fixture
def row(redis_server: RedisServer) -> Iterator[Row]:
    with redis_server.client() as client:
        client.flushall()
        yield Row(client)


class TestSlots:
    """One row for all."""

    def test_runs_follow_each_other(self, row: Row) -> None:
        """Whoever asks: the next run begins where the last one ends, and slots are as far apart as the rate says."""
        runs = [row.ask(f"n{number % 3}.0", 5) for number in range(6)]
        for run, following in pairwise(runs):
            assert run.apart == pytest.approx(1 / RATE) and run.count == 5
            assert following.start == pytest.approx(run.start + 5 / RATE, abs=1e-5)

    def test_a_new_row_begins_without_a_burst(self, row: Row) -> None:
        """The first slot is for now, not for before."""
        run = row.ask(want=3)
        assert run.start == pytest.approx(run.now, abs=1e-5)

    def test_a_rest_earns_little(self, row: Row) -> None:
        """The oldest slot after a pause is 25 ms old, however long it was."""
        row.ask(want=1)
        row.later(60)
        run = row.ask(want=10)
        assert run.now - run.start == pytest.approx(0.025, abs=1e-4)

    def test_slots_are_given_out_for_a_while_ahead_only(self, row: Row) -> None:
        """Who wants more asks again: others come in between."""
        run = row.ask(want=10_000)
        assert run.count <= RATE * 0.25
        assert row.ask("n1.0", 10_000).count <= RATE * 0.25
        assert row.ask("n2.0", 1).start < run.now + 0.6

    def test_who_asks_for_much_leaves_some_to_others(self, row: Row) -> None:
        """By nodes, whatever their workers are."""
        for _ in range(2):
            for member, weight in (("n0.0", 0.5), ("n0.1", 0.5), ("n1.0", 1.0)):
                row.ask(member, 1000, weight=weight)
        row.later(0.3)
        counts = [row.ask(member, 1000, weight=weight).count for member, weight in
                  (("n0.0", 0.5), ("n0.1", 0.5), ("n1.0", 1.0))]  # fmt: skip
        assert counts[0] == counts[1] and counts[2] == 2 * counts[0] == 20

    @pytest.mark.parametrize("rate", [0.1, 1.0, 7.0])
    def test_a_low_rate_has_single_slots(self, row: Row, rate: float) -> None:
        """Of which none is nearer to the last than the rate says."""
        first = row.ask(want=5, rate=rate)
        assert first.count >= 1
        row.later(1 / rate - 0.3)
        second = row.ask("n1.0", 5, rate=rate)
        assert second.count == 0 or second.start >= first.start - (1 / rate - 0.3) + first.count / rate - 1e-3

    def test_slots_for_a_member_far_away_are_for_when_it_can_use_them(self, row: Row) -> None:
        """An answer takes its time."""
        run = row.ask(want=1, ahead=0.05)
        assert run.start == pytest.approx(run.now + 0.05, abs=1e-5)

    def test_what_is_used_is_told_and_fades(self, row: Row) -> None:
        """In queries a second."""
        before = row.ask(want=20)
        assert before.used == pytest.approx(20)
        row.later(1)
        after = row.ask()
        assert after.used == pytest.approx(20 * math.exp(before.now - after.now - 1), rel=0.05)


class TestShares:
    """What a member may send when it is cut off."""

    def test_all_shares_together_are_the_budget_at_most(self, row: Row) -> None:
        """At any time: who comes later waits until the others know of it."""
        share = {"n0.0": 0.0}
        share["n0.0"] = row.ask("n0.0", share=RATE * 0.1).share
        assert share["n0.0"] == RATE
        for member in ("n1.0", "n2.0"):
            share[member] = row.ask(member).share
            assert sum(share.values()) <= RATE + 1e-3
        for _ in range(3):
            for member, known in share.items():
                share[member] = row.ask(member, share=known).share
                assert sum(share.values()) <= RATE + 1e-3
        assert list(share.values()) == pytest.approx([RATE / 3] * 3, abs=1e-3)

    def test_a_nodes_workers_have_one_share(self, row: Row) -> None:
        """Which they divide among themselves."""
        members = {"n0.0": 0.5, "n0.1": 0.5, "n1.0": 1.0}
        share = dict.fromkeys(members, 0.0)
        for _ in range(4):
            for member, weight in members.items():
                share[member] = row.ask(member, share=share[member], weight=weight).share
        assert share == pytest.approx({"n0.0": 50, "n0.1": 50, "n1.0": 100}, abs=1e-3)

    def settled(self, row: Row) -> None:
        share = dict.fromkeys(("n0.0", "n1.0", "n2.0"), 0.0)
        for _ in range(4):
            for member in share:
                share[member] = row.ask(member, share=share[member]).share

    def test_the_share_of_who_may_be_cut_off_is_reserved(self, row: Row) -> None:
        """As soon as what it has lent ends: the others have the rest."""
        self.settled(row)
        assert row.ask("n0.0", 1, RATE / 3).apart == pytest.approx(1 / RATE, rel=1e-3)
        row.later(0.8)
        row.ask("n1.0", share=RATE / 3)
        run = row.ask("n0.0", 1, RATE / 3)
        assert run.reserved == pytest.approx(RATE / 3, rel=1e-3)
        assert run.apart == pytest.approx(1 / (RATE * 2 / 3), rel=1e-3)
        row.ask("n2.0", share=RATE / 3)
        row.later(0.11)
        assert row.ask("n0.0", 1, RATE / 3).reserved == pytest.approx(0, abs=1e-3)

    def test_who_does_not_know_the_clock_lends_nothing(self, row: Row) -> None:
        """Its first request."""
        row.ask("n0.0", share=50.0, lend=0)
        assert row.ask("n1.0", 1).reserved >= 50.0

    def test_who_has_not_been_heard_of_for_an_hour_is_forgotten(self, row: Row) -> None:
        """Its share is for others."""
        self.settled(row)
        row.later(3601)
        assert row.ask("n0.0", 1, RATE / 3).reserved == 0.0
        assert not row.client.hexists(KEY, "n1.0")

    def test_when_all_others_may_be_cut_off_a_member_has_its_share(self, row: Row) -> None:
        """And no more, since they use theirs."""
        self.settled(row)
        row.later(5)
        assert row.ask("n0.0", 1, RATE / 3).apart == pytest.approx(3 / RATE, rel=1e-3)


class TestOddValues:
    """Somebody else has written there."""

    @pytest.mark.parametrize("value", ["", "nan", "inf inf inf inf inf", "-1 -1 -1 -1 -1", "1e99 1 1 1 1", "x" * 100])
    def test_nonsense_counts_as_absent(self, row: Row, value: str) -> None:
        """In any field."""
        for field in (".next", ".used", ".sums", "n0.0", "n1.0", ".other"):
            row.client.hset(KEY, field, value)
        run = row.ask(want=2)
        assert run.count == 2 and run.share == RATE

    def test_a_value_of_another_type_makes_room(self, row: Row) -> None:
        """As everywhere in the contract."""
        row.client.set(KEY, "x")
        assert row.ask(want=1).count == 1

    def test_a_clock_that_is_set_back_stops_nothing(self, row: Row) -> None:
        """What lies far ahead cannot be true."""
        row.ask(want=1)
        row.client.hset(KEY, ".next", f"{(time.time() + 3600) * 1e6:.0f}")
        run = row.ask(want=1)
        assert run.count == 1 and run.start < run.now + 0.1

    def test_the_key_expires_by_itself(self, row: Row) -> None:
        """When nobody has a budget for that server any more."""
        row.ask()
        assert 3500 < row.client.ttl(KEY) <= 3600
