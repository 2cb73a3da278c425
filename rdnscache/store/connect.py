"""Connections as redis-py opens them: found, over TLS where wanted, authenticated. The only place that knows how.

The links take a connection's socket over; commands of people use redis-py's clients as they come.
"""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import cycle
from types import TracebackType
from typing import Any

import gevent
import hiredis
import redis
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.driver_info import DriverInfo
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.utils import str_if_bytes

from rdnscache import __version__
from rdnscache.errors import StoreDown
from rdnscache.redis_url import CLUSTER, SENTINEL, SERVER, Host, Login, RedisUrl
from rdnscache.store.parser import BoundedParser
from rdnscache.stream import Stream, TlsStream

CONNECT_TIMEOUT = 1.0
#: Bytes that may wait to be sent before a link ends.
MAX_UNSENT = 16 << 20
#: Seconds to wait for all sentinels, when one has answered; between two looks at one; before the next one is heard.
ALL_SENTINELS, SENTINEL_LOOK, SENTINEL_PAUSE = 0.3, 5.0, 0.5

#: What CLIENT LIST shows of us. redis-py looks its own up for every connection, and leaves garbage behind.
WHO = DriverInfo("rdnscache", __version__)

OnData = Callable[[bytes], None]
OnEnd = Callable[[str], None]
AnyStream = Stream | TlsStream
_untyped: Any = redis
#: The election a primary comes from, and where it is.
Found = tuple[int, Host]


class Opener:
    """Opens the connections of a link to one server; `host` is one of several in a cluster."""

    def __init__(self, url: RedisUrl, host: Host | None = None) -> None:
        self._url = url
        self._host = host
        #: Whether another attempt may lead to another server.
        self.movable = url.movable
        #: Which of several links it is for, in the log.
        self.name = ""

    def open(self, client_name: str, on_data: OnData, on_end: OnEnd) -> AnyStream:
        """Raises what redis-py does, ValueError when the password cannot be read."""
        return _take(connection(self._url, self._host, client_name), on_data, on_end)

    def watch(self, on_moved: Callable[[str], None]) -> None:
        """From now on, `on_moved(where)` when it is learnt that the server is to be found elsewhere."""

    def close(self) -> None:
        """Watch no longer."""


class SentinelOpener(Opener):
    """Asks the sentinels where the primary is, for every connection, and listens to one of them meanwhile."""

    def __init__(self, url: RedisUrl) -> None:
        super().__init__(url)
        self._found: Found | None = None
        self._watcher: gevent.Greenlet | None = None

    def open(self, client_name: str, on_data: OnData, on_end: OnEnd) -> AnyStream:
        """As above. Raises StoreDown when no sentinel knows a primary, or the server it names is not one."""
        self._found = discover(self._url)
        primary = connection(self._url, self._found[1], client_name)
        if not _leads(primary):
            primary.disconnect()
            raise StoreDown("{}:{} is a replica, though sentinels call it the primary".format(*self._found[1]))
        return _take(primary, on_data, on_end)

    def watch(self, on_moved: Callable[[str], None]) -> None:
        self._watcher = gevent.spawn(self._listen, on_moved)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.kill(block=False)

    def _listen(self, on_moved: Callable[[str], None]) -> None:
        """Hear +switch-master from a sentinel as long as it lives, then from the next."""
        for host in cycle(self._url.hosts):
            try:
                with closing(_sentinel(self._url, host)) as sentinel, sentinel.pubsub() as ear:
                    ear.subscribe("+switch-master")
                    while True:
                        ear.get_message(timeout=SENTINEL_LOOK)  # whatever it brings: look
                        known = _state_of(sentinel, self._url.service)
                        # a sentinel that was cut off tells of an earlier election
                        if known and self._found and known[0] > self._found[0] and known[1] != self._found[1]:
                            on_moved("the primary is now {}:{}".format(*known[1]))
            except (redis.RedisError, OSError, ValueError):
                gevent.sleep(SENTINEL_PAUSE)


def opener(url: RedisUrl) -> Opener:
    """For a URL that is no cluster."""
    return SentinelOpener(url) if url.kind == SENTINEL else Opener(url)


def client(url: RedisUrl, timeout: float) -> Any:
    """redis-py's own client, for what is rare. Raises what redis-py does; for a cluster it connects at once."""
    told: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout} | _login(url.login)
    if url.kind == SERVER:
        return redis.Redis(connection_pool=_pool(url, None, url.db, **told))
    told |= url.tls_arguments | ({"ssl": True} if url.tls else {})
    if url.kind == CLUSTER:
        nodes = [_untyped.cluster.ClusterNode(*host) for host in url.hosts]
        return redis.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **told)
    sentinels: Any = _Sentinels(url)
    return sentinels.master_for(url.service, db=url.db, parser_class=BoundedParser, **told)


class Line:
    """One connection of a redis-py client. Where it is lost, no other takes its url, as redis-py has it.

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

    def receive(self) -> Any:
        """The next reply; an error is one as well."""
        return self._reply()

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return hiredis.ReplyError(f"{error.status_code or ''} {error}".strip())


def connection(url: RedisUrl, host: Host | None, client_name: str) -> Any:
    """A new connection that has said who we are and speaks RESP3. Raises what redis-py does."""
    found: Any = _pool(
        url,
        host,
        url.db,
        **_login(url.login),
        protocol=3,
        client_name=client_name,
        retry=Retry(NoBackoff(), 0),
    ).make_connection()
    found.connect()
    return found


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


def _pool(url: RedisUrl, host: Host | None, db: int, **told: Any) -> ConnectionPool:
    # what earlier attempts left: cycles, 40 KB for each, and a worker's collector hardly ever runs (node.GC_THRESHOLD)
    gc.collect(0)
    kind = UnixDomainSocketConnection if url.socket else SSLConnection if url.tls else Connection
    times = {"socket_timeout": CONNECT_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    ours: dict[str, Any] = {"parser_class": BoundedParser, "driver_info": WHO}
    quiet = MaintNotificationsConfig(enabled=False)
    return ConnectionPool(kind, maint_notifications_config=quiet, db=db, **ours | times | url.arguments(host) | told)


def _take(connection: Any, on_data: OnData, on_end: OnEnd) -> AnyStream:
    """Its socket, as a stream of ours."""
    sock, connection._sock = connection._sock, None  # private: see docs/decisions.md, and the version bound
    kind = TlsStream if isinstance(sock, ssl.SSLSocket) else Stream
    return kind(sock, on_data, on_end, MAX_UNSENT)


def _leads(connection: Any) -> bool:
    """Whether a server is a primary; also when we may not ask."""
    connection.send_command("ROLE")
    try:
        return str_if_bytes(connection.read_response()[0]) == "master"
    except redis.exceptions.NoPermissionError:
        return True


def _sentinel(url: RedisUrl, host: Host) -> Any:
    told = _login(url.sentinel_login) | {"retry": Retry(NoBackoff(), 0)}
    return redis.Redis(connection_pool=_pool(url, host, 0, **told))


def _state_of(sentinel: Any, service: str) -> Found | None:
    """What a sentinel knows of the primary; None when it knows none that works. Raises what redis-py does.

    The one that leads a failover still lists the old primary when its replica has been promoted, but names the new one.
    """
    state = sentinel.sentinel_masters().get(service)
    named = sentinel.sentinel_get_master_addr_by_name(service)
    if not state or not named:
        return None
    host = str_if_bytes(named[0]), int(named[1])
    if host == (state["ip"], state["port"]) and (state["is_sdown"] or state["is_odown"] or not state["is_master"]):
        return None
    return state["config-epoch"], host


def discover(url: RedisUrl) -> Found:
    """Where the primary is, by the sentinel that has heard of the latest election. Raises StoreDown.

    One that is silent is not waited for long when others have answered.
    """

    def ask(host: Host) -> Found | None:
        with closing(_sentinel(url, host)) as sentinel:
            return _state_of(sentinel, url.service)

    asked = [gevent.Greenlet(_or_error, ask, host) for host in url.hosts]
    for each in asked:
        each.start()
    gevent.joinall(asked, ALL_SENTINELS)
    if not any(isinstance(each.value, tuple) for each in asked):
        gevent.joinall(asked, CONNECT_TIMEOUT)
    gevent.killall(asked, block=False)
    known = [each.value for each in asked if isinstance(each.value, tuple)]
    if known:
        return max(known)
    problems = {f": {each.value}" for each in asked if isinstance(each.value, Exception)}
    raise StoreDown(f"no sentinel knows a primary {url.service!r} that works{''.join(sorted(problems))[:200]}")


def _or_error(ask: Callable[[Host], Found | None], host: Host) -> Any:
    try:
        return ask(host)
    except (redis.RedisError, OSError, ValueError) as error:
        return error
