"""The scripts of the contract on real servers: who leads, what a fill may store, and whom it wakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from support import RedisServer

from rdnscache.outcomes import Verdict
from rdnscache.store.contract import CLAIM, FILL, LEASE, NOTHING_FRESH, RENEW
from rdnscache.store.decoding import info_text
from rdnscache.store.script import Script

pytestmark = [pytest.mark.both, pytest.mark.once]

ROOT = "rdns:1:{a.example.}:"
KEYS = [ROOT + "A", ROOT + "A#lead", ROOT + "A#wait", ROOT + "NXDOMAIN"]
LEASE_MS = round(LEASE * 1000)
WIRE = b"\0\0wire"


class Store:
    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client

    def run(self, script: Script, *told: Any) -> Any:
        return self.client.eval(script.source, 4, *KEYS, *told)

    def claim(self, token: str, lease: int = LEASE_MS, followed: int = 0, left: int = 0) -> Any:
        return self.run(CLAIM, token, lease, f"wake:{token}", followed, left)

    def fill(self, token: str, kind: str = "store", info: bytes = b"rcode=NOERROR ttl=300 stale=3600") -> Any:
        return self.run(FILL, token, kind, 3_900_000, info, b"text", WIRE)

    def put(self, key: str, rcode: int, ttl: int = 300, left_ms: int = 3_900_000) -> None:
        info = info_text(rcode, ttl, 3600, "2026-11-23T07:00:00Z", "192.0.2.53", "n9")
        self.client.hset(key, mapping={"info": info, "answer": "", "wire": WIRE})
        self.client.pexpire(key, left_ms)


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Store]:
    with redis_server.client() as client:
        client.flushall()
        yield Store(client)


class TestClaim:
    def test_the_first_leads_and_others_follow(self, store: Store) -> None:
        """With what is left of the leader's lease."""
        assert store.claim("t1")[:2] == [Verdict.LEAD, LEASE_MS]
        verdict, rest = store.claim("t2")[:2]
        assert verdict == Verdict.FOLLOW and 0 < rest <= LEASE_MS
        assert store.client.smembers(KEYS[2]) == {b"wake:t2"}

    def test_a_claim_of_a_node_with_other_options_is_not_taken(self, store: Store) -> None:
        """A node with a shorter deadline asks for a shorter lease: it follows one with the longest all the same."""
        store.claim("t1")
        assert store.claim("t2", lease=400)[0] == Verdict.FOLLOW

    @pytest.mark.parametrize("expiry", [None, LEASE_MS + 2000])
    def test_one_that_would_hold_longer_is_nobodys(self, store: Store, expiry: int | None) -> None:
        """Without expiry, or with one that no node sets."""
        store.client.set(KEYS[1], "forged", px=expiry)
        assert store.claim("t1")[0] == Verdict.LEAD

    def test_the_nxdomain_of_the_name_answers_every_type(self, store: Store) -> None:
        """And says that it is the name's; an entry of the question's own that is stale does not hide it."""
        store.put(KEYS[0], 0, left_ms=1_000_000)
        store.put(KEYS[3], 3)
        verdict, _, _, for_name, wire, _ = store.claim("t1")[:6]
        assert (verdict, for_name, wire) == (Verdict.ENTRY, 1, WIRE)

    def test_a_fresh_entry_of_its_own_comes_first(self, store: Store) -> None:
        """Some servers deny a name for one type and have another."""
        store.put(KEYS[0], 0)
        store.put(KEYS[3], 3)
        assert store.claim("t1")[3] == 0

    def test_what_is_not_believed_does_not_keep_anybody_from_leading(self, store: Store) -> None:
        """The next claim of who does not believe it."""
        store.put(KEYS[0], 2)
        assert store.claim("t1")[0] == Verdict.ENTRY
        assert store.claim("t1", left=NOTHING_FRESH)[0] == Verdict.LEAD

    def test_a_value_too_large_to_be_an_entry_is_deleted_and_not_sent(self, store: Store) -> None:
        """A node would give up the connection over it, again and again."""
        store.client.hset(KEYS[0], mapping={"info": "rcode=NOERROR ttl=300 stale=3600", "wire": b"x" * 70_000})
        reply = store.claim("t1")
        assert reply[0] == Verdict.LEAD and reply[4] is None
        assert not store.client.exists(KEYS[0])

    def test_who_leads_by_plain_commands_is_the_leader(self, store: Store) -> None:
        """With the same token, the script says so, also where a stale entry is there; others follow."""
        store.put(KEYS[0], 0, left_ms=1_000_000)
        store.client.set(KEYS[1], "t1", nx=True, px=LEASE_MS)
        assert store.claim("t2")[0] == Verdict.FOLLOW
        verdict, rest, left, _, wire, _ = store.claim("t1")
        assert verdict == Verdict.LEAD and 0 < rest <= LEASE_MS
        assert 0 < left <= 1_000_000 and wire == WIRE
        assert store.fill("t1") == 1

    def test_who_leads_by_plain_commands_lets_go_where_there_is_an_entry(self, store: Store) -> None:
        """Nobody is to wait for a fill that never comes; the lead of somebody else stays."""
        store.put(KEYS[3], 3)
        store.client.set(KEYS[1], "t1", nx=True, px=LEASE_MS)
        assert store.claim("t2")[0] == Verdict.ENTRY
        assert store.client.get(KEYS[1]) == b"t1"
        assert store.claim("t1")[0] == Verdict.ENTRY
        assert not store.client.exists(KEYS[1])

    def test_what_nobody_has_asked_for_costs_little(self, store: Store) -> None:
        """A claim without an entry looks once for both that there might be, and no further; it still gets the lead."""
        store.client.config_resetstat()
        assert store.claim("t1")[0] == Verdict.LEAD
        calls = {name: told["calls"] for name, told in store.client.info("commandstats").items()}
        assert {name for name in calls if name not in ("cmdstat_eval", "cmdstat_config|resetstat")} == {
            "cmdstat_exists",
            "cmdstat_set",
        }


class TestFill:
    def test_the_holder_of_the_claim_stores(self, store: Store) -> None:
        """And frees it."""
        store.claim("t1")
        assert store.fill("t1") == 0
        assert store.client.hget(KEYS[0], "wire") == WIRE
        assert 3_800_000 < store.client.pttl(KEYS[0]) <= 3_900_000
        assert not store.client.exists(KEYS[1])

    @pytest.mark.parametrize("kind", ["store", "name", "failure", "pass", "release"])
    @pytest.mark.parametrize("owner", ["nobody", "another"])
    def test_who_has_lost_the_claim_does_nothing(self, store: Store, owner: str, kind: str) -> None:
        """It may bring an answer from before a flush: it is not stored, and those who wait now do not hear it."""
        if owner == "another":
            store.claim("t2")
        store.client.sadd(KEYS[2], "wake:t3")
        with store.client.pubsub() as ear:
            ear.subscribe("wake:t3")
            ear.get_message(timeout=1)
            assert store.fill("t1", kind) == -1
            assert store.client.publish("wake:t3", "end") == 1
            assert ear.get_message(timeout=1)["data"] == b"end"
        assert not store.client.exists(KEYS[0], KEYS[3])
        assert store.client.smembers(KEYS[2]) == {b"wake:t3"}

    @pytest.mark.parametrize("kind", ["store", "name", "failure", "pass", "release"])
    def test_after_a_flush_it_only_wakes(self, store: Store, kind: str) -> None:
        """Who hears it may have come after the flush, so nothing is said: they claim anew."""
        store.claim("t1")
        store.claim("t2")
        store.client.set(KEYS[1], "flushed", xx=True, keepttl=True)
        with store.client.pubsub() as ear:
            ear.subscribe("wake:t2")
            ear.get_message(timeout=1)
            assert store.fill("t1", kind) == 1
            assert ear.get_message(timeout=1)["data"] == KEYS[0].encode() + b"\n"
        assert not store.client.exists(KEYS[0], KEYS[3])
        assert store.claim("t2", followed=1)[0] == Verdict.LEAD

    def test_who_comes_after_a_flush_leads(self, store: Store) -> None:
        """And the old leader's fill is nothing then."""
        store.claim("t1")
        store.client.set(KEYS[1], "flushed", xx=True, keepttl=True)
        assert store.claim("t2")[0] == Verdict.LEAD
        assert store.fill("t1") == -1
        assert store.fill("t2") == 0
        assert store.client.exists(KEYS[0])

    def test_a_claim_given_back_wakes_its_followers_to_claim(self, store: Store) -> None:
        """Nothing is stored, and the first to claim leads."""
        store.claim("t1")
        store.claim("t2")
        with store.client.pubsub() as ear:
            ear.subscribe("wake:t2")
            ear.get_message(timeout=1)
            assert store.fill("t1", "release") == 1
            assert ear.get_message(timeout=1)["data"] == KEYS[0].encode() + b"\n"
        assert store.claim("t2", followed=1)[0] == Verdict.LEAD

    def test_nxdomain_and_answers_take_each_others_place(self, store: Store) -> None:
        """What is known of a name is in one place."""
        store.claim("t1")
        store.fill("t1")
        store.claim("t2", left=NOTHING_FRESH)
        store.fill("t2", "name")
        assert (store.client.exists(KEYS[0]), store.client.exists(KEYS[3])) == (0, 1)
        store.claim("t3", left=NOTHING_FRESH)
        store.fill("t3")
        assert (store.client.exists(KEYS[0]), store.client.exists(KEYS[3])) == (1, 0)

    @pytest.mark.parametrize("there", ["nothing", "failure", "answer", "nxdomain"])
    def test_a_failure_replaces_a_failure_at_most(self, store: Store, there: str) -> None:
        """Stale or fresh, an answer is worth more."""
        if there != "nothing":
            rcode = {"failure": 2, "answer": 0, "nxdomain": 3}[there]
            store.put(KEYS[3] if there == "nxdomain" else KEYS[0], rcode)
        store.claim("t1", left=NOTHING_FRESH)
        store.fill("t1", "failure", b"rcode=SERVFAIL ttl=5 stale=0 mine")
        info = store.client.hget(KEYS[0], "info") or b""
        assert info.endswith(b"mine") is (there in ("nothing", "failure"))

    def test_a_leader_at_work_renews_what_it_has(self, store: Store) -> None:
        """And nothing else."""
        store.claim("t1", lease=100)
        store.run(RENEW, "t2", LEASE_MS)
        assert store.client.pttl(KEYS[1]) <= 100
        store.run(RENEW, "t1", LEASE_MS)
        assert store.client.pttl(KEYS[1]) > 100
