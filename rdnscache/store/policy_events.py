"""This worker's part in a change of policy: it reads the cluster's document, applies it and confirms that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gevent

from rdnscache.errors import StoreDown
from rdnscache.store.contract import Names
from rdnscache.store.local import Local
from rdnscache.store.policy_document import LONGEST_DOCUMENT, policy_key
from rdnscache.store.servers import Servers

#: Seconds between two attempts, doubled up to the second value: this node may not have all lists yet.
AGAIN, LAST_AGAIN = 0.05, 2.0
#: Events that wait to be confirmed.
MOST_EVENTS = 1000


class PolicyEvents:
    """`confirm(events, entries, learnt)` publishes that events are applied."""

    def __init__(
        self, names: Names, servers: Servers, local: Local, confirm: Callable[[Sequence[bytes], int, bool], None]
    ) -> None:
        self._key = policy_key(names)
        self._servers = servers
        self._local = local
        self._confirm = confirm
        self._waiting: list[bytes] = []
        self._reader: gevent.Greenlet | None = None

    def order(self, events: Sequence[bytes]) -> None:
        """Read the document, because events announced a change. Called in the hub."""
        self._waiting += events
        del self._waiting[:-MOST_EVENTS]
        if self._reader is None:
            self._reader = gevent.spawn(self._read_on)

    def learn(self) -> None:
        """Read the document while attaching, before L1 answers again. Raises StoreDown if Redis cannot tell now."""
        if self._local.order_policy(self._value()) is None or self._waiting:
            self.order(())

    def _read_on(self) -> None:
        """Read until no event waits, or the connection is lost: then `learn` is called while attaching."""
        pause = AGAIN
        try:
            while True:
                events = list(self._waiting)
                count = self._local.order_policy(self._value())
                if count is not None:
                    self._confirm(events, count, False)
                    del self._waiting[: len(events)]
                    if not self._waiting:
                        return
                else:
                    gevent.sleep(pause)
                    pause = min(pause * 2, LAST_AGAIN)
        except StoreDown:
            return
        finally:
            self._reader = None

    def _value(self) -> bytes:
        (reply,) = self._servers.setup((b"GETRANGE", self._key, 0, LONGEST_DOCUMENT))
        found: Any = reply
        return found if isinstance(found, bytes) else b""
