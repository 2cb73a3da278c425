"""The marks of a cluster's primaries: which flushes a worker finds missing, and the slots the marks are in."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from support import RedisServer

from rdnscache.dns.names import parse_name
from rdnscache.operator.redis_py import Line
from rdnscache.store.contract import Names
from rdnscache.store.flushes import MOST_MISSED, REMEMBERED, Flushes
from rdnscache.store.marks import read, write
from rdnscache.store.scope import Scope
from rdnscache.store.slots import tag_of
from rdnscache.store.steering import LONGEST_MARK, MARKS_KEPT

NAMES = Names("rdns")


def scope(number: int) -> Scope:
    return Scope(name=parse_name(f"n{number}.test."))


def flushes(*heard: tuple[bytes, bytes]) -> Flushes:
    """Announcements, each with the first one of its flush; every flush is of a name of its own."""
    found = Flushes()
    for event, first in heard:
        found.note(event, scope(int(first.partition(b"-")[0])), first)
    return found


def test_every_slot_has_a_tag() -> None:
    """The mark's key is in the slot it was made for, and is no entry's."""
    for slot in range(REDIS_CLUSTER_HASH_SLOTS):
        assert key_slot(NAMES.swept(tag_of(slot))) == slot
    assert NAMES.question(NAMES.swept(tag_of(5)).decode()) is None


class TestOwed:
    def test_what_is_marked_is_not_owed(self) -> None:
        """A flush that is done is owed unless it is marked; whoever knows of none owes nothing."""
        known = flushes((b"1-0", b"1-0"), (b"2-0", b"1-0"), (b"3-0", b"3-0"), (b"4-0", b"3-0"))
        assert known.owed([b"3-0", b"1-0"]).scopes == []
        assert known.owed([b"1-0"]) == ([scope(3)], [b"3-0"])
        assert known.owed([]) == ([scope(1), scope(3)], [b"1-0", b"3-0"])
        assert Flushes().owed([]).scopes == []
        assert not Flushes()

    def test_a_flush_under_way_is_owed_again_when_it_is_done(self) -> None:
        """What a worker deleted before the flush itself did may be stored again in between."""
        under_way = flushes((b"1-0", b"1-0"))
        assert under_way.owed([]) == ([scope(1)], [b"1-0?"])
        assert under_way.owed([b"1-0?"]).scopes == under_way.owed([b"1-0"]).scopes == []
        under_way.note(b"2-0", scope(1), b"1-0")
        assert under_way.owed([b"1-0?"]) == ([scope(1)], [b"1-0"])

    def test_many_or_forgotten_flushes_mean_everything(self) -> None:
        """Above a few scopes everything is deleted at once; so it is when flushes have been forgotten meanwhile."""
        many = flushes(*((b"%d-0" % number, b"%d-0" % number) for number in range(1, MOST_MISSED + 2)))
        assert many.owed([]).scopes == [Scope()]
        full = flushes(*((b"%d-0" % number, b"%d-0" % number) for number in range(1, REMEMBERED + 9)))
        later = [b"%d-0" % number for number in range(REMEMBERED + 8, 9, -1)]
        assert full.owed(later).scopes == [Scope()]
        assert full.owed([*later, b"9-0"]).scopes == []

    def test_what_a_full_mark_has_dropped_is_not_owed(self) -> None:
        """A worker that was away for long remembers flushes that are older than all that the mark still has."""
        known = flushes((b"1-0", b"1-0"))
        assert known.owed([b"%d-0" % number for number in range(MARKS_KEPT + 1, 1, -1)]).scopes == []
        assert known.owed([b"%d-0" % number for number in range(MARKS_KEPT, 1, -1)]).scopes == [scope(1)]

    def test_flushes_from_before_we_began(self) -> None:
        """The stream told of them: they are owed as well, also when the stream has been lost since."""
        known = Flushes()
        known.begin(b"9-0", b"9-0")
        assert not known
        known.note_done(b"1-0", scope(1))
        known.begin(b"3-0", b"9-0")
        assert known
        assert known.owed([]) == ([scope(1)], [b"1-0"])


class TestMark:
    @pytest.mark.parametrize("before", [None, "rubbish of somebody's", ["a", "list"], "1-0 " * 5000])
    def test_it_is_written_and_read(self, redis_server: RedisServer, before: Any) -> None:
        """The newest flush is in front; whatever stood there before, it is bounded and can be read."""
        client, key = redis_server.client(), NAMES.swept(tag_of(7))
        if isinstance(before, list):
            client.rpush(key, *before)
        elif before is not None:
            client.set(key, before)
        with Line(client) as line:
            read(line.ask, key)
            write(line.ask, key, [b"7-0"])
            for number in range(8, 8 + MARKS_KEPT * 2):
                write(line.ask, key, [b"%d-%d" % (10**18 + number, 10**18)])
            write(line.ask, key, [b"8-0?", b"9-0"])
            assert read(line.ask, key)[:2] == [b"9-0", b"8-0?"]
            assert len(read(line.ask, key)) == MARKS_KEPT
        assert client.strlen(key) <= LONGEST_MARK

    def test_a_line_is_not_replaced(self, redis_server: RedisServer) -> None:
        """Errors are told like replies, in their place; a connection that is lost is not opened anew unseen."""
        client = redis_server.client()
        with Line(client) as line:
            one, error, two = line.ask((b"PING",), (b"NOSUCH",), (b"ECHO", b"2"))
            assert (one, two) == (b"PONG", b"2")
            assert isinstance(error, hiredis.ReplyError)
            assert str(error).startswith("ERR")
        with Line(client) as line:
            client.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(redis.ConnectionError):
                line.ask((b"PING",))
