"""Receives the replies of workers to operators: on a separate connection, and all pending messages at once.

redis-py's subscription reads one message at a time, and polls the socket for each; in a large cluster many come at
once.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rdnscache.breath import Breathe, go_on
from rdnscache.errors import StoreDown
from rdnscache.operator.redis_clients import redis_errors, some_primary
from rdnscache.store.complaint import sentence
from rdnscache.store.resp import MORE, Push, Reader

#: Octets read at once: some hundred messages.
ROOM = 1 << 16


class Ear:
    """A subscription to a channel, through a redis-py client. Every method raises StoreDown.

    `breathe` is called before each message is processed, since there may be many, from anybody. If the connection is
    lost another one is opened; messages sent in between are missed.
    """

    def __init__(self, client: Any, channel: bytes, patience: float, breathe: Breathe = go_on) -> None:
        self._client = client
        self._breathe = breathe
        self._channel = channel
        self._patience = patience
        self._pool: Any = None
        self._connection: Any = None

    def __enter__(self) -> Ear:
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close()

    def hear(self, seconds: float) -> list[bytes]:
        """The messages that have arrived; if there are none, waits for them for up to `seconds`."""
        try:
            return [part[2] for part in self._take(seconds) if part[0] == b"message" and isinstance(part[2], bytes)]
        except StoreDown:
            self._close()
            self._open()
            return []

    def _open(self) -> None:
        deadline = time.monotonic() + self._patience
        with redis_errors():
            self._pool = some_primary(self._client).connection_pool
            self._connection = self._pool.get_connection()
            self._connection.send_command("SUBSCRIBE", self._channel)
        self._reader = Reader()
        while not any(message[0] == b"subscribe" for message in self._take(deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise StoreDown("Redis did not confirm the subscription")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None

    def _take(self, seconds: float) -> list[Push]:
        """The messages that have arrived."""
        with redis_errors():
            sock = self._connection._sock  # private, as for links: see docs/decisions.md
            sock.settimeout(max(seconds, 0.0))
            try:
                data = sock.recv(ROOM)
            except (BlockingIOError, TimeoutError):
                return []
            except OSError as error:
                if _wants_more(error):
                    return []
                raise
            if not data:
                raise StoreDown("closed by the peer")
            self._reader.feed(data)
            found = []
            while (value := self._reader.gets()) is not MORE:
                self._breathe()
                if isinstance(value, Exception):
                    raise StoreDown(sentence(value))
                if isinstance(value, Push) and len(value) == 3:
                    found.append(value)
            return found


def _wants_more(error: OSError) -> bool:
    """Whether the error means that TLS has no complete record yet; ssl is imported only if it is used."""
    ssl: Any = sys.modules.get("ssl")
    return ssl is not None and isinstance(error, ssl.SSLWantReadError)
