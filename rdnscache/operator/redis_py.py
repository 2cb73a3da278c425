"""Connections as redis-py makes them: for commands about a Redis Cluster, and for the look that `check-redis` takes.

Everything else goes without it (`store/connection.py`): it takes longer to load than most commands do.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import hiredis
import redis
import redis.cluster
import redis.sentinel
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.maint_notifications import MaintNotificationsConfig

from rdnscache.operator.parser import BoundedParser
from rdnscache.redis_url import CLUSTER, SERVER, Host, Login, RedisUrl
from rdnscache.store.sentinel import discover

_untyped: Any = redis


def client(url: RedisUrl, timeout: float) -> Any:
    """A client. Raises what redis-py does; for a cluster it connects at once."""
    told: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout} | _login(url.login)
    if url.kind == SERVER:
        return redis.Redis(connection_pool=_pool(url, **told))
    told |= url.tls_arguments | ({"ssl": True} if url.tls else {})
    if url.kind == CLUSTER:
        nodes = [_untyped.cluster.ClusterNode(*host) for host in url.hosts]
        return redis.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **told)
    sentinels: Any = _Sentinels(url)
    return sentinels.master_for(url.service, db=url.db, parser_class=BoundedParser, **told)


class Line:
    """One connection of a client. Where it is lost, no other takes its place, as redis-py has it.

    Every method raises what redis-py does.
    """

    def __init__(self, client: Any) -> None:
        self._pool = client.connection_pool

    def __enter__(self) -> Line:
        self._connection = self._pool.get_connection()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:  # replies may be on their way
            self._connection.disconnect()
        self._pool.release(self._connection)

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands together; their replies, errors as a link has them."""
        # numbers as texts: hiredis crashes where Ctrl-C comes while it makes one of a number
        told = [[str(part) if isinstance(part, int) else part for part in command] for command in commands]
        self._connection.send_packed_command(self._connection.pack_commands(told))
        return [self._reply() for _ in commands]

    def send(self, command: Sequence[Any]) -> None:
        """Ask, without waiting for the reply."""
        told = [str(part) if isinstance(part, int) else part for part in command]
        self._connection.send_packed_command(self._connection.pack_commands([told]))

    def send_packed(self, commands: bytes) -> None:
        """The same with commands that are packed already; see `connection.packed`."""
        self._connection.send_packed_command([commands])

    def receive(self) -> Any:
        """The next reply; an error is one as well."""
        return self._reply()

    def replies(self, count: int) -> list[Any]:
        """The next replies."""
        return [self._reply() for _ in range(count)]

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return hiredis.ReplyError(f"{error.status_code or ''} {error}".strip())


class _Sentinels(redis.sentinel.Sentinel):
    """redis-py's, but the latest election counts, as for links: it would believe the first sentinel that answers."""

    def __init__(self, url: RedisUrl) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self._url = url

    def discover_master(self, service_name: str) -> Host:
        return discover(self._url)[1]


class _Login(CredentialProvider):
    """Says who we are at every connection: the password's file may have changed."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> Any:
        return self._login.credentials()


def _login(login: Login) -> dict[str, Any]:
    return {"credential_provider": _Login(login)} if login.given else {}


def _pool(url: RedisUrl, **told: Any) -> ConnectionPool:
    kind = UnixDomainSocketConnection if url.socket else SSLConnection if url.tls else Connection
    ours: dict[str, Any] = {"parser_class": BoundedParser, "driver_info": None}
    quiet = MaintNotificationsConfig(enabled=False)
    return ConnectionPool(kind, maint_notifications_config=quiet, db=url.db, **ours | url.arguments() | told)
