"""A primary managed by sentinels: it is looked up for every connection, and failovers are watched for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from itertools import cycle
from typing import Any

import gevent
from hiredis import ReplyError

from rdnscache.errors import StoreDown
from rdnscache.redis_url import SENTINEL, Host, RedisUrl
from rdnscache.store.complaint import may_not
from rdnscache.store.connect import CONNECT_TIMEOUT, AnyStream, OnData, OnEnd, Opener, as_stream
from rdnscache.store.connection import Connection

#: Seconds to wait for the other sentinels when one has answered; between two checks; before the next one is watched.
ALL_SENTINELS, SENTINEL_LOOK, SENTINEL_PAUSE = 0.3, 5.0, 0.5

#: The configuration epoch of a primary, and its address.
Found = tuple[int, Host]


class SentinelOpener(Opener):
    """Asks the sentinels for the primary's address for every connection, and listens to one of them for failovers."""

    def __init__(self, url: RedisUrl) -> None:
        super().__init__(url)
        self._found: Found | None = None
        self._watcher: gevent.Greenlet | None = None

    def open(self, client_name: str, on_data: OnData, on_end: OnEnd) -> AnyStream:
        """As `Opener.open`. Raises StoreDown if no sentinel knows a primary, or if the server named is a replica."""
        self._found = discover(self._url)
        primary = Connection(self._url, CONNECT_TIMEOUT, self._found[1], client_name)
        if not _leads(primary):
            primary.close()
            raise StoreDown("{}:{} is a replica, though sentinels call it the primary".format(*self._found[1]))
        return as_stream(primary, on_data, on_end)

    def watch(self, on_moved: Callable[[str], None]) -> None:
        self._watcher = gevent.spawn(self._listen, on_moved)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.kill(block=False)

    def _listen(self, on_moved: Callable[[str], None]) -> None:
        """Listen for +switch-master from one sentinel as long as it works, then from the next."""
        for host in cycle(self._url.hosts):
            try:
                with closing(_sentinel(self._url, host)) as sentinel, closing(_sentinel(self._url, host)) as ear:
                    ear.send_command("SUBSCRIBE", "+switch-master")
                    while True:
                        ear.wait(SENTINEL_LOOK)  # check after any message
                        known = _state_of(sentinel, self._url.service)
                        # a sentinel that was cut off reports an earlier epoch
                        if known and self._found and known[0] > self._found[0] and known[1] != self._found[1]:
                            on_moved("the primary is now {}:{}".format(*known[1]))
            except (StoreDown, ReplyError, ValueError):
                gevent.sleep(SENTINEL_PAUSE)


def opener(url: RedisUrl) -> Opener:
    """The opener for a URL that is not a cluster's."""
    return SentinelOpener(url) if url.kind == SENTINEL else Opener(url)


def discover(url: RedisUrl) -> Found:
    """The primary's address, from the sentinel with the latest epoch. Raises StoreDown.

    A silent sentinel is not waited for long once another has answered.
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
    except (StoreDown, ReplyError, ValueError) as error:
        return error


def _sentinel(url: RedisUrl, host: Host) -> Connection:
    return Connection(url, CONNECT_TIMEOUT, host, login=url.sentinel_login)


def _state_of(sentinel: Connection, service: str) -> Found | None:
    """The primary that a sentinel knows; None if it knows none that works. Raises the exceptions of `Connection`.

    After a promotion the sentinel that leads the failover still lists the old primary, but already names the new one.
    """
    masters, named = sentinel.ask([("SENTINEL", "MASTERS"), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)])
    for told in (masters, named):
        if isinstance(told, ReplyError):
            raise told
    try:
        states = [dict(zip(each[::2], each[1::2], strict=True)) for each in masters]
        state = next((each for each in states if each[b"name"] == service.encode()), None)
        if state is None or not named:
            return None
        host = named[0].decode(), int(named[1])
        flags = state[b"flags"].split(b",")
        listed = state[b"ip"].decode(), int(state[b"port"])
        if host == listed and (b"s_down" in flags or b"o_down" in flags or b"master" not in flags):
            return None
        return int(state[b"config-epoch"]), host
    except (KeyError, TypeError, AttributeError, IndexError):
        raise ValueError("the reply of a sentinel cannot be read") from None


def _leads(connection: Connection) -> bool:
    """Whether a server is a primary; assumed if the user may not ask. Raises StoreDown, ReplyError."""
    (told,) = connection.ask([("ROLE",)])
    if isinstance(told, ReplyError):
        if may_not(told):
            return True
        raise told
    return bool(isinstance(told, list) and told and told[0] == b"master")
