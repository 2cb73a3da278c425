"""Clients of Redis for commands: our own for a single server, redis-py's for a Redis Cluster.

redis-py is imported only if it is needed. Both kinds of clients have the same methods.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hiredis

from rdnscache.errors import StoreDown
from rdnscache.redis_url import SENTINEL, SERVER, RedisUrl
from rdnscache.store.complaint import sentence
from rdnscache.store.direct import Direct, DirectLine


def connect(url: RedisUrl, timeout: float) -> Any:
    """A client. For a cluster it connects at once. Raises the client's errors."""
    if url.kind == SERVER:
        return Direct(url, timeout)
    if url.kind == SENTINEL:
        from rdnscache.store.sentinel import discover

        return Direct(url, timeout, lambda: discover(url)[1])
    from rdnscache.operator.redis_py import client

    return client(url, timeout)


def has_slots(client: Any) -> bool:
    """Whether it is a client of a cluster, where a command or transaction may only have keys of one slot."""
    return hasattr(client, "nodes_manager")


def primaries(client: Any) -> list[Any]:
    """A client for each primary: of a cluster, one for each; otherwise the client itself."""
    if not has_slots(client):
        return [client]
    return [client.get_redis_connection(node) for node in client.get_primaries()]


def some_primary(client: Any) -> Any:
    """A client for any one primary, which is sufficient for messages."""
    return client.get_redis_connection(client.get_random_primary_node()) if has_slots(client) else client


def slotted(client: Any) -> list[tuple[Any, int | None]]:
    """The current primaries, each with its first slot; None when it is not a cluster."""
    if not has_slots(client):
        return [(client, None)]
    client.nodes_manager.initialize(disconnect_startup_nodes_pools=False)
    firsts: dict[str, int] = {}
    for slot, nodes in sorted(client.nodes_manager.slots_cache.items()):
        firsts.setdefault(nodes[0].name, slot)
    known = [(node, firsts.get(node.name)) for node in client.get_primaries()]
    return [(client.get_redis_connection(node), slot) for node, slot in known]


def line(client: Any) -> Any:
    """A context with one connection of a client; if it is lost, it is not replaced by another."""
    if isinstance(client, Direct):
        return DirectLine(client)
    from rdnscache.operator.redis_py import Line

    return Line(client)


@contextmanager
def redis_errors() -> Iterator[None]:
    """The client's errors as our own."""
    try:
        yield
    except (OSError, ValueError, hiredis.ReplyError) as error:
        raise StoreDown(sentence(error)) from None
    except Exception as error:
        if isinstance(error, StoreDown) or not _is_of_redis_py(error):
            raise
        raise StoreDown(sentence(error)) from None


def _is_of_redis_py(error: Exception) -> bool:
    redis: Any = sys.modules.get("redis")
    return redis is not None and isinstance(error, (redis.RedisError, redis.exceptions.RedisClusterException))
