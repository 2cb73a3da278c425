"""Hearing the workers' words: all of them, in order, and again after the connection was lost."""

from __future__ import annotations

import time

import pytest
from support import RedisServer, wait_for

from rdnscache.errors import StoreDown
from rdnscache.operator.ear import Ear

CHANNEL = b"rdns:1:acks"


def heard(ear: Ear, count: int, seconds: float = 10) -> list[bytes]:
    """What is said until so much has been."""
    found: list[bytes] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and (left := deadline - time.monotonic()) > 0:
        found += ear.hear(left)
    return found


def test_all_is_heard_in_order(redis_server: RedisServer) -> None:
    """However much comes at once, and however it is cut into packets; what is too large is passed over."""
    client = redis_server.client()
    with Ear(client, CHANNEL, 5) as ear:
        assert ear.hear(0) == []
        said = [b"%d " % number + b"x" * (number % 700) for number in range(3000)]
        pipeline = client.pipeline(transaction=False)
        for number, text in enumerate(said):
            pipeline.publish(CHANNEL, text)
            if number == 1000:
                pipeline.publish(CHANNEL, b"x" * (3 << 20))
        pipeline.execute()
        assert heard(ear, len(said)) == said
        assert ear.hear(0) == []


def test_a_lost_connection_is_opened_anew(redis_server: RedisServer) -> None:
    """What is said after that is heard; without a Redis there is an error, not silence."""
    client = redis_server.client()
    with Ear(client, CHANNEL, 5) as ear:
        client.client_kill_filter(_type="pubsub")
        wait_for(lambda: ear.hear(0.1) == [] and client.pubsub_numsub(CHANNEL)[0][1] == 1)
        client.publish(CHANNEL, "again")
        assert heard(ear, 1) == [b"again"]
        redis_server.kill()
        with pytest.raises(StoreDown):
            heard(ear, 1)
